"""Money that moves between accounts under faults: transactions end to end."""

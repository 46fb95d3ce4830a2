"""Share groups (KIP-932): which records of a partition are whose, and what is known of that."""

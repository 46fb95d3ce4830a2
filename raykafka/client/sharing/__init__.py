"""A share consumer's parts: what it has, what became of it, whom it asks."""

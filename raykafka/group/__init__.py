"""The consumer-group machine: membership, assignment and committed offsets. Pure."""

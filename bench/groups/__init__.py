"""How consumer groups bear changes, commits, and coordinators that are killed."""

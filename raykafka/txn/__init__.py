"""The transaction coordinator's machine: pure, no clock, no randomness, no I/O."""

"""The cluster-metadata machine: pure state, no I/O."""

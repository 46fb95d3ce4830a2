"""The replica machines: pure state, integers only."""

"""Breaks a real cluster on real Ray nodes of this machine, and asks the oracle what came of it."""

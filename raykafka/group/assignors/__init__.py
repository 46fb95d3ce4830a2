"""Assignors: who of a group's members gets which partitions."""

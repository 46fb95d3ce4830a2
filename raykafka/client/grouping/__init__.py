"""Clients of the coordinators: how they are found, membership of groups, committed offsets."""

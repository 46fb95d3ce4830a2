"""Bytes at a path, made durable."""

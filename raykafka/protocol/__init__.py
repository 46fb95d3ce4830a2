"""What a frame says: bytes in, requests out; no I/O, no Arrow."""

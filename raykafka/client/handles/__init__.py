"""Inside a topic handle: bounds of a read, the read itself, clients that handles share."""

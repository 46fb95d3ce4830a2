"""The systems that are compared: how each is started, and how each client library is driven."""

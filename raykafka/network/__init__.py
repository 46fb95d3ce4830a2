"""The data plane: frames over sockets, and mapped reads."""

"""Inside a partition actor: replicas, the handlers of its listener, and upkeep."""

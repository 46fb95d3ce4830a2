"""Judges what clients were told, in the manner of the Jepsen Kafka workload."""

"""What operators do with a cluster: moving replicas and leaders, looking after brokers."""

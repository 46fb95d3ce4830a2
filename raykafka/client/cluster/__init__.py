"""How a client finds the cluster: bootstrap, metadata, connections to controller and leaders."""

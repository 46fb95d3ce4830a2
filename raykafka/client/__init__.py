"""Producer, Consumer, Admin and topic handles."""

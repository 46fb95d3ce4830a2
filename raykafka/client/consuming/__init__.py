"""Inside the consumer: plans, sessions, queues, lazy records and tables."""

"""One replica of a quorum at work: its log's queue, its connections, its timers."""

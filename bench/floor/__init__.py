"""raykafka beside a bare-socket floor, and how it scales; ``python -m bench.floor --help``."""

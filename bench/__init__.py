"""Benchmarks of raykafka against a bare-socket floor; ``python -m bench --help``."""

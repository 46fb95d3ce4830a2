"""The rows by which raykafka is judged against Apache Kafka; ``make bench``."""

"""Test kit for raykafka and for those who build on it."""

"""Inside the producer: chunks, cutting into batches, sequences, delivery."""

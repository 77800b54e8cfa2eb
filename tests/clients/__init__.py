"""One small program per Kafka client, all with one contract, and the matrix that runs each against the others."""

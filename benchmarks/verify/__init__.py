"""`weir verify`: a workload against any Kafka cluster, its history, and the checkers that judge it."""

"""Kafka semantics over protocol, s3stream and balancer: the only package that sees them all."""

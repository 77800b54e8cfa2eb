"""Bytes to values of the Kafka wire protocol and back. No I/O, no clock."""

"""Kafka partitions on streams: producer state, batch rules, offsets by time."""

"""Kafka's classic group coordinator: groups, committed offsets, their internal topic. See README.md."""

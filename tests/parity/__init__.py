"""Sends every served API at every version, valid and invalid, to two brokers and compares fields and error codes."""

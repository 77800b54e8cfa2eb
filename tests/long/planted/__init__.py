"""Planted bugs: what the simulated world must catch. `python -m tests.long.planted`."""

"""The simulated world: the unmodified broker on a deterministic event loop, with every fault decided by one seed."""

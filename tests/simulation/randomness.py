"""Random streams of one run: each named stream is derived from the run's integer seed.

Streams are independent of one another: drawing more numbers in one (say the network) does not shift
another (say the workload). Names are hashed with BLAKE2, never with hash(), which differs per process.
"""

from __future__ import annotations

import hashlib
import random


def stream(seed: int, name: str) -> random.Random:
    """A generator for (seed, name); the same pair gives the same numbers in every process."""
    digest = hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest()
    return random.Random(int.from_bytes(digest, "big"))

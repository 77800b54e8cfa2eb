"""The records that a producer sends, built before the run: values, keys, partitions. Pure given its seed.

A pool holds a power of two of records, at most 32 MiB of them, and is sent over and over. What compression finds in
it depends on the payload shape; a pool of many records keeps a codec from finding whole records again in its window.
"""

from __future__ import annotations

import bisect
import itertools
import json
import struct
import zlib
from dataclasses import dataclass
from random import Random

from benchmarks.bench.workload import Load

POOL_BYTES = 32 << 20
POOL_RECORDS = 1 << 16
STAMP = struct.Struct("<8sq")
"""The head of a stamped value: the run's mark, then the moment it was due in ns of the machine's monotonic clock."""

_WORDS = [
    "accepted",
    "account",
    "backend",
    "batch",
    "broker",
    "cache",
    "checkout",
    "client",
    "commit",
    "connection",
    "container",
    "deadline",
    "degraded",
    "delivery",
    "disk",
    "error",
    "exceeded",
    "failed",
    "fetch",
    "gateway",
    "handler",
    "health",
    "host",
    "image",
    "index",
    "invalid",
    "latency",
    "leader",
    "limit",
    "memory",
    "message",
    "node",
    "offset",
    "order",
    "partition",
    "payment",
    "pod",
    "queue",
    "quota",
    "read",
    "refused",
    "region",
    "replica",
    "request",
    "response",
    "retry",
    "route",
    "scheduler",
    "server",
    "service",
    "session",
    "shard",
    "slow",
    "socket",
    "status",
    "stream",
    "timeout",
    "token",
    "trace",
    "upstream",
    "user",
    "value",
    "volume",
    "warning",
    "worker",
    "write",
    "zone",
]


@dataclass(frozen=True, slots=True)
class Pool:
    """`values` is all values in a row, each `size` bytes; `keys[i]` (or None) and `places[i]` belong to value i."""

    size: int
    values: bytearray
    keys: list[bytes] | None
    places: list[tuple[int, int]]  # topic index, partition

    def __len__(self) -> int:
        return len(self.places)


def _json_line(rng: Random) -> bytes:
    words = " ".join(rng.choices(_WORDS, k=8))
    line = {
        "ts": 1_700_000_000_000 + rng.randrange(10**9),
        "level": rng.choice(("debug", "info", "info", "info", "warn", "error")),
        "service": rng.choice(_WORDS),
        "trace_id": f"{rng.getrandbits(128):032x}",
        "duration_ms": round(rng.expovariate(0.1), 3),
        "message": words,
    }
    return json.dumps(line).encode()


def _text_line(rng: Random) -> bytes:
    words = " ".join(rng.choices(_WORDS, k=12))
    head = f"<{rng.randrange(192)}>{rng.randrange(10**10)} host-{rng.randrange(100)} app[{rng.randrange(9999)}]"
    return f"{head}: {words}\n".encode()


def _values(load: Load, count: int, rng: Random) -> bytearray:
    size = load.record_size
    if load.payload == "zeros":
        return bytearray(size * count)
    if load.payload == "random":
        return bytearray(rng.randbytes(size * count))
    line = _json_line if load.payload == "json" else _text_line
    lines = b"".join(line(rng) for _ in range(2048))
    out = bytearray()
    while len(out) < size * count:  # starts at another place each time, so that records differ
        cut = rng.randrange(len(lines))
        out += lines[cut:]
        out += lines[:cut]
    return out[: size * count]


def pick_keys(load: Load, count: int, rng: Random) -> list[bytes] | None:
    """One key per record of the pool, or None. Keys are `key-` and a number below `load.keys`."""
    if load.key == "none":
        return None
    if load.key == "sequential":
        numbers = [i % load.keys for i in range(count)]
    elif load.key == "random":
        numbers = [rng.randrange(load.keys) for _ in range(count)]
    else:  # Zipf with exponent 1: the k-th key has weight 1/k
        weights = list(itertools.accumulate(1 / k for k in range(1, load.keys + 1)))
        numbers = [bisect.bisect_left(weights, rng.random() * weights[-1]) for _ in range(count)]
    return [b"key-%d" % number for number in numbers]


def pool_records(load: Load, partitions: int) -> int:
    """How many records the pool has: as many as fit, and enough for each partition to get one."""
    fitting = max(1, POOL_BYTES // max(1, load.record_size))
    count = 1 << (min(POOL_RECORDS, fitting).bit_length() - 1)
    while count < partitions:
        count <<= 1
    return count


def build(load: Load, topics: int, partitions: int, run: int, rng: Random) -> Pool:
    """The pool of one producer. Without keys, `run` records in a row go to one partition, then to the next one.

    With keys, a key's partition is its CRC-32 modulo the partitions of all topics, as librdkafka does within one.
    """
    places = topics * partitions
    count = pool_records(load, places * run if places > 1 and load.key == "none" else 1)
    if count * load.record_size > 4 * POOL_BYTES:
        count = max(1, 4 * POOL_BYTES // load.record_size)
    keys = pick_keys(load, count, rng)
    first = rng.randrange(places)  # producers start at different partitions
    numbers = [(first + i // run) % places if keys is None else zlib.crc32(keys[i]) % places for i in range(count)]
    return Pool(load.record_size, _values(load, count, rng), keys, [divmod(n, partitions) for n in numbers])

"""Counters of the engine: plain integers, added to in the hot path; who exposes them decides on names and formats."""

from __future__ import annotations

from bisect import bisect_left

SECONDS_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZE_BOUNDS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Histogram:
    """Counts per bucket: `counts[i]` holds values up to `bounds[i]`, the last one everything above."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self.counts)


class EngineMetrics:
    """Everything counts up from 0 but the gauges, which are read from the engine when asked for."""

    def __init__(self) -> None:
        self.appends = 0  # durable ones
        self.append_bytes = 0
        self.wal_groups = 0
        self.wal_group_entries = Histogram(SIZE_BOUNDS)
        self.ack_seconds = Histogram(SECONDS_BOUNDS)  # oldest append of a group to its durability
        self.wal_failures = 0

        self.uploads = 0
        self.upload_objects = 0
        self.upload_bytes = 0
        self.upload_seconds = Histogram(SECONDS_BOUNDS)
        self.upload_failures = 0  # tries that failed and were repeated
        self.dead_runs = 0  # runs that a commit turned down: the stream was deleted or trimmed meanwhile

        self.hot_reads = 0
        self.cold_reads = 0
        self.cold_read_seconds = Histogram(SECONDS_BOUNDS)
        self.block_cache_hits = 0
        self.block_cache_misses = 0
        self.store_reads = 0
        self.store_read_bytes = 0
        self.read_ahead_wasted = 0  # blocks evicted before anyone read them
        self.read_retries = 0
        self.corrupt_blocks = 0

        self.back_pressure_begins = 0
        self.back_pressure_seconds = 0.0

        self.retention_rounds = 0
        self.retention_trims = 0
        self.retention_bytes = 0
        self.gc_objects_deleted = 0
        self.gc_failures = 0
        self.duty_failures = 0

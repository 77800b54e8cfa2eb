"""Rare paths of the broker that a search has to have taken, counted from the outside: from its own metrics.

A broker that was killed is read where it stands: its counters are what it did in its life.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from broker.app import Broker
from broker.services import Services

_PATHS: dict[str, Callable[[Services], int]] = {
    "rare: back-pressure": lambda services: services.engine.metrics.back_pressure_begins,
    "rare: produce held back": lambda services: services.counters.produce_held,
    "rare: fetch session evicted": lambda services: services.fetch_sessions.evictions,
    "rare: upload": lambda services: services.engine.metrics.uploads,
    "rare: upload retried": lambda services: services.engine.metrics.upload_failures,
    "rare: run dead at its commit": lambda services: services.engine.metrics.dead_runs,
    "rare: cold read": lambda services: services.engine.metrics.cold_reads,
    "rare: block cache miss": lambda services: services.engine.metrics.block_cache_misses,
    "rare: read retried": lambda services: services.engine.metrics.read_retries,
    "rare: corrupt block found": lambda services: services.engine.metrics.corrupt_blocks,
    "rare: read ahead in vain": lambda services: services.engine.metrics.read_ahead_wasted,
    "rare: object deleted": lambda services: services.engine.metrics.gc_objects_deleted,
    "rare: object deletion failed": lambda services: services.engine.metrics.gc_failures,
    "rare: retention trim": lambda services: services.engine.metrics.retention_trims,
    "rare: duty failed": lambda services: services.engine.metrics.duty_failures,
}


class RarePaths:
    """Adds what one broker did to `fired`, once, at the end of its life."""

    def __init__(self, fired: Counter[str]) -> None:
        self._fired = fired
        self.broker: Broker | None = None  # the one that is watched

    def watch(self, broker: Broker) -> None:
        """From now on this is the broker of the world; the one before has ended."""
        self.collect()
        self.broker = broker

    def collect(self) -> None:
        """Read the counters of the broker that is watched, and let it go."""
        broker, self.broker = self.broker, None
        if broker is None or broker.services is None:
            return
        for name, read in _PATHS.items():
            count = read(broker.services)
            if count:
                self._fired[name] += count

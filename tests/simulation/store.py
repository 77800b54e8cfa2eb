"""The simulated object store: a bucket in memory, which outlives every process, and what is wrong with it just now.

`client()` gives one process its `ObjectStore` (`store_client.py`).
"""

from __future__ import annotations

import random
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from s3stream.errors import AlreadyExists
from s3stream.ports import Clock
from tests.simulation.loop import SimulatedLoop
from tests.simulation.store_client import SimulatedObjectStore


@dataclass
class StoreSettings:
    """Latencies in seconds, shares of the calls from 0 to 1."""

    latency_min_s: float = 0.005
    latency_max_s: float = 0.05
    bandwidth_bytes_per_s: float = 100e6
    error_share: float = 0.0  # refused, not applied
    lost_reply_share: float = 0.0  # applied, outcome unknown
    late_apply_share: float = 0.0  # outcome unknown, applied some time after the answer
    own_conflict_share: float = 0.0  # put-if-absent applied, and refused as existing by a repeat on the way
    short_body_share: float = 0.0  # the connection ends early and the adapter sees it: Retry
    truncated_body_share: float = 0.0  # fewer bytes come than were asked for, and nobody on the way notices
    corrupt_body_share: float = 0.0  # one bit of what comes is wrong
    missing_share: float = 0.0  # of the keys read: not found for a while, nor listed, although they are there
    missing_max_s: float = 2.0
    stale_list_share: float = 0.0  # of the pages listed: the newest keys are not in it yet
    request_timeout_s: float = 10.0
    late_apply_max_s: float = 30.0
    page_max_keys: int = 100


@dataclass(frozen=True)
class StoredObject:
    body: bytes
    modified_ms: int


class Bucket:
    """Keys and bodies, and the faults of every way to them."""

    def __init__(
        self,
        loop: SimulatedLoop,
        rng: random.Random,
        clock: Clock,
        fired: Counter[str],
        settings: StoreSettings | None = None,
    ) -> None:
        self.loop = loop
        self.rng = rng
        self.clock = clock
        self.fired = fired
        self.settings = settings if settings is not None else StoreSettings()
        self.objects: dict[str, StoredObject] = {}
        self.put_at_s: dict[str, float] = {}  # when a key was there for the first time
        self.deleted_keys: set[str] = set()
        self.revived_keys: set[str] = set()  # deleted, then brought back by a late apply: nobody knows of them
        self.late_keys: set[str] = set()  # put at a moment that nobody waited for
        self._hidden_until_s: dict[str, float] = {}
        self._slow_until_s = 0.0
        self._down_until_s = 0.0

    def client(self) -> SimulatedObjectStore:
        return SimulatedObjectStore(self)

    def slow_down(self, duration_s: float) -> None:
        """Answer most requests with a slow-down for a while."""
        self._slow_until_s = max(self._slow_until_s, self.loop.time() + duration_s)

    def go_down(self, duration_s: float) -> None:
        """Answer nothing for a while: each call ends by its time-out."""
        self._down_until_s = max(self._down_until_s, self.loop.time() + duration_s)

    def end_troubles(self) -> None:
        self._slow_until_s = self._down_until_s = 0.0
        self._hidden_until_s.clear()
        self.settings = StoreSettings()

    def hidden(self, key: str, *, may_begin: bool = False) -> bool:
        """Whether the store says just now that `key` is not there, although it is."""
        if may_begin and self.rng.random() < self.settings.missing_share:
            self._hidden_until_s[key] = self.loop.time() + self.rng.uniform(0, self.settings.missing_max_s)
        return self.loop.time() < self._hidden_until_s.get(key, 0.0)

    def slow(self) -> bool:
        return self.loop.time() < self._slow_until_s and self.rng.random() < 0.8

    def down(self) -> bool:
        return self.loop.time() < self._down_until_s

    def latency_s(self, size: int) -> float:
        settings = self.settings
        return self.rng.uniform(settings.latency_min_s, settings.latency_max_s) + size / settings.bandwidth_bytes_per_s

    def put_now(self, key: str, body: bytes, if_absent: bool) -> None:
        if if_absent and key in self.objects:
            self.fired["store: put-if-absent refused"] += 1
            raise AlreadyExists(f"{key} exists")
        self.loop.trace.add(f"  store put {key} {len(body)} {zlib.crc32(body):08x}")
        self.objects[key] = StoredObject(body, self.clock.now_ms())
        self.put_at_s.setdefault(key, self.loop.time())
        self.deleted_keys.discard(key)

    def put_late(self, key: str, body: bytes, if_absent: bool) -> None:
        """Long after the sender gave up. It may have sent it again, or have had it removed, in the meantime."""
        self.late_keys.add(key)
        if key in self.objects:
            self.fired["rare: late apply after its repeat"] += 1
        elif key in self.deleted_keys:
            self.fired["rare: late apply of a deleted key"] += 1
            self.revived_keys.add(key)
        try:
            self.put_now(key, body, if_absent)
        except AlreadyExists:
            pass  # nobody waits for the answer any more

    def delete_now(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.loop.trace.add(f"  store delete {key}")
            if self.objects.pop(key, None) is not None:
                self.deleted_keys.add(key)
                self.revived_keys.discard(key)

"""The simulated object store: a bucket in memory behind a network that loses requests and replies.

A `Bucket` outlives every process. `client()` gives one process its `ObjectStore`. A request that is under way takes
effect (or not) whatever happens to the process that sent it.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from typing_extensions import Buffer

from s3stream.errors import AlreadyExists, Invalid, NotFound, OutcomeUnknown, Retry, StreamError
from s3stream.ports import Clock, ObjectInfo
from tests.simulation.errors import SimulationFailure
from tests.simulation.loop import SimulatedLoop
from tests.simulation.nodes import CURRENT, Node, NodeState


@dataclass
class StoreSettings:
    """Latencies in seconds, shares of the calls from 0 to 1."""

    latency_min_s: float = 0.005
    latency_max_s: float = 0.05
    bandwidth_bytes_per_s: float = 100e6
    error_share: float = 0.0  # refused, not applied
    lost_reply_share: float = 0.0  # applied, outcome unknown
    late_apply_share: float = 0.0  # outcome unknown, applied some time after the answer
    short_body_share: float = 0.0
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
        self.deleted_keys: set[str] = set()
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
        self.deleted_keys.discard(key)

    def delete_now(self, keys: Sequence[str]) -> None:
        for key in keys:
            self.loop.trace.add(f"  store delete {key}")
            if self.objects.pop(key, None) is not None:
                self.deleted_keys.add(key)


class SimulatedObjectStore:
    """One process's `ObjectStore`."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def put(self, key: str, body: Sequence[Buffer], *, if_absent: bool = False) -> None:
        views = [memoryview(each).cast("B") for each in body]
        before = b"".join(views)

        def apply() -> None:
            if b"".join(views) != before:
                self._bucket.loop.fail(SimulationFailure(f"the body of {key} changed while it was being put"))
            self._bucket.put_now(key, before, if_absent)

        await self._write(f"put {key}", apply, len(before))

    async def delete(self, keys: Sequence[str]) -> None:
        wanted = list(keys)
        await self._write(f"delete of {len(wanted)} keys", lambda: self._bucket.delete_now(wanted), 0)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> memoryview:
        bucket = self._bucket
        await self._reach(f"get {key}")
        stored = bucket.objects.get(key)
        if stored is None:
            raise NotFound(f"{key} does not exist")
        size = len(stored.body)
        stop = size if end is None else end
        if not 0 <= start <= stop <= size:
            raise Invalid(f"range [{start}, {stop}) of {key}, which has {size} bytes")
        await asyncio.sleep((stop - start) / bucket.settings.bandwidth_bytes_per_s)
        if bucket.rng.random() < bucket.settings.short_body_share:
            bucket.fired["store: short body"] += 1
            raise Retry(f"get {key}: short body")
        return memoryview(stored.body)[start:stop]

    async def list(self, prefix: str, start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        bucket = self._bucket
        after = start_after
        while True:
            await self._reach(f"list {prefix}")
            keys = sorted(key for key in bucket.objects if key.startswith(prefix))
            page = keys[bisect_right(keys, after) :][: bucket.rng.randint(1, bucket.settings.page_max_keys)]
            if not page:
                return
            yield [ObjectInfo(key, len(bucket.objects[key].body), bucket.objects[key].modified_ms) for key in page]
            after = page[-1]

    async def close(self) -> None:
        await asyncio.sleep(0)

    async def _reach(self, what: str) -> None:
        """Wait for the way there and back; raise what a read can meet."""
        bucket, settings = self._bucket, self._bucket.settings
        if bucket.down():
            bucket.fired["store: down"] += 1
            await asyncio.sleep(settings.request_timeout_s)
            raise Retry(f"{what}: timed out")
        await asyncio.sleep(bucket.latency_s(0))
        if bucket.slow():
            bucket.fired["store: slow-down"] += 1
            raise Retry(f"{what}: slow down", retry_after_ms=bucket.rng.randint(50, 500))
        if bucket.rng.random() < settings.error_share:
            bucket.fired["store: error before apply"] += 1
            raise Retry(f"{what}: 500")

    async def _write(self, what: str, apply: Callable[[], None], size: int) -> None:
        bucket, settings = self._bucket, self._bucket.settings
        outcome: asyncio.Future[None] = bucket.loop.create_future()
        node = CURRENT.get()
        fate = bucket.rng.random()
        if bucket.down():
            bucket.fired["store: down"] += 1
            await asyncio.sleep(settings.request_timeout_s)
            raise OutcomeUnknown(f"{what}: timed out")
        if bucket.slow():
            bucket.fired["store: slow-down"] += 1
            await asyncio.sleep(bucket.latency_s(0))
            raise Retry(f"{what}: slow down", retry_after_ms=bucket.rng.randint(50, 500))
        if fate < settings.error_share:
            bucket.fired["store: error before apply"] += 1
            await asyncio.sleep(bucket.latency_s(size))
            raise Retry(f"{what}: 503")
        fate -= settings.error_share
        if fate < settings.late_apply_share:
            bucket.fired["store: late apply"] += 1
            delay_s = settings.request_timeout_s + bucket.rng.uniform(0, settings.late_apply_max_s)
            bucket.loop.call_world(delay_s, self._apply_late, apply)
            await asyncio.sleep(settings.request_timeout_s)
            raise OutcomeUnknown(f"{what}: timed out")
        lost = fate - settings.late_apply_share < settings.lost_reply_share
        bucket.loop.call_world(bucket.latency_s(size), self._apply, what, apply, outcome, node, lost)
        await outcome

    def _apply(
        self, what: str, apply: Callable[[], None], outcome: asyncio.Future[None], node: Node | None, lost: bool
    ) -> None:
        """The request reached the store; the answer goes back over the same way."""
        bucket = self._bucket
        if node is not None and node.state is NodeState.DEAD and bucket.rng.random() < 0.5:
            bucket.fired["store: request cut off by a kill"] += 1
            return
        error: StreamError | None = None
        try:
            apply()
        except AlreadyExists as refusal:
            error = refusal
        if lost:
            bucket.fired["store: reply lost"] += 1
            error = OutcomeUnknown(f"{what}: connection lost before the reply")
        bucket.loop.call_world(bucket.rng.uniform(0, bucket.settings.latency_max_s), _settle, outcome, error)

    @staticmethod
    def _apply_late(apply: Callable[[], None]) -> None:
        try:
            apply()
        except AlreadyExists:
            pass  # nobody waits for the answer any more


def _settle(outcome: asyncio.Future[None], error: StreamError | None) -> None:
    if outcome.done():
        return  # cancelled by its caller
    if error is None:
        outcome.set_result(None)
    else:
        outcome.set_exception(error)

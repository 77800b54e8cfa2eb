"""What one broker process has of the bucket: the `ObjectStore` of the ports, behind every fault on the way to it.

A request that is under way takes effect (or not) whatever happens to the process that sent it.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

from typing_extensions import Buffer

from s3stream.errors import AlreadyExists, Invalid, NotFound, OutcomeUnknown, Retry, StreamError
from s3stream.ports import ObjectInfo
from tests.simulation.errors import SimulationFailure
from tests.simulation.nodes import CURRENT, Node, NodeState

if TYPE_CHECKING:
    from tests.simulation.store import Bucket


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

        conflict = if_absent and self._bucket.rng.random() < self._bucket.settings.own_conflict_share
        await self._write(
            f"put {key}",
            apply,
            lambda: self._bucket.put_late(key, before, if_absent),
            len(before),
        )
        if conflict:
            self._bucket.fired["store: own put-if-absent refused"] += 1
            raise AlreadyExists(f"{key} exists")

    async def delete(self, keys: Sequence[str]) -> None:
        wanted = list(keys)
        what = f"delete of {len(wanted)} keys"
        await self._write(what, lambda: self._bucket.delete_now(wanted), lambda: self._bucket.delete_now(wanted), 0)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> memoryview:
        bucket = self._bucket
        await self._reach(f"get {key}")
        stored = bucket.objects.get(key)
        if stored is not None and bucket.hidden(key, may_begin=True):
            bucket.fired["store: key missing for a while"] += 1
            raise NotFound(f"{key} does not exist (yet)")
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
        return self._as_it_came(stored.body[start:stop])

    def _as_it_came(self, body: bytes) -> memoryview:
        """What reached the process of a body, which nobody on the way checked."""
        bucket, settings = self._bucket, self._bucket.settings
        fate = bucket.rng.random()
        if body and fate < settings.truncated_body_share:
            bucket.fired["store: truncated body"] += 1
            return memoryview(body[: bucket.rng.randrange(len(body))])
        if body and fate < settings.truncated_body_share + settings.corrupt_body_share:
            bucket.fired["store: corrupt body"] += 1
            wrong = bytearray(body)
            wrong[bucket.rng.randrange(len(wrong))] ^= 1 << bucket.rng.randrange(8)
            return memoryview(bytes(wrong))
        return memoryview(body)

    async def list(self, prefix: str, start_after: str = "") -> AsyncIterator[Sequence[ObjectInfo]]:
        bucket = self._bucket
        after = start_after
        while True:
            await self._reach(f"list {prefix}")
            keys = sorted(key for key in bucket.objects if key.startswith(prefix) and not bucket.hidden(key))
            if keys and bucket.rng.random() < bucket.settings.stale_list_share:
                bucket.fired["store: stale listing"] += 1
                keys.remove(max(keys, key=lambda key: bucket.objects[key].modified_ms))
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

    async def _write(self, what: str, apply: Callable[[], None], apply_late: Callable[[], None], size: int) -> None:
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
            bucket.loop.call_world(delay_s, apply_late)
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


def _settle(outcome: asyncio.Future[None], error: StreamError | None) -> None:
    if outcome.done():
        return  # cancelled by its caller
    if error is None:
        outcome.set_result(None)
    else:
        outcome.set_exception(error)

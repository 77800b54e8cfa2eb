"""Retention: decides from range rows and the tail how far a stream's start may move; a duty carries it out.

As Kafka's log cleaner: whole runs go, oldest first, when their newest record is too old or when enough stays without
them. The tail (what is in no object yet) counts as the newest segment: it goes by time only when all of it is too old.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from s3stream.errors import OutcomeUnknown, Retry, StreamError
from s3stream.meta.rows import RetentionLimit
from s3stream.meta.store import MetaStore
from s3stream.metrics import EngineMetrics
from s3stream.ports import Clock
from s3stream.stream import Stream
from s3stream.tail_cache import TailCache

_log = logging.getLogger(__name__)
_SLICE_STREAMS = 200


class RetentionPolicy(NamedTuple):
    """Kafka's retention.ms and retention.bytes of one stream; None: no limit."""

    retention_ms: int | None
    retention_bytes: int | None


PolicyOf = Callable[[int], RetentionPolicy | None]
"""By stream id; None: this stream is not to be touched."""


class TailFacts(NamedTuple):
    """What a decision needs to know of a stream beyond its rows. `too_old`: every batch of the tail is past the time
    limit (one without a timestamp never is: it is about to become a row, which counts by its commit)."""

    uploaded_end: int
    durable_end: int
    next_offset: int
    too_old: bool


def limit_of(stream_id: int, policy: RetentionPolicy, tail_bytes: int, now_ms: int) -> RetentionLimit:
    """The question to the metadata: the tail counts towards the bytes that stay."""
    drop_before_ms = None if policy.retention_ms is None else now_ms - policy.retention_ms
    keep_bytes = None if policy.retention_bytes is None else max(0, policy.retention_bytes - tail_bytes)
    return RetentionLimit(stream_id, drop_before_ms, keep_bytes)


def new_start(start: int, policy: RetentionPolicy, tail: TailFacts) -> int:
    """The start offset after retention; `start` is where rows alone let it go."""
    everything_durable = tail.durable_end == tail.next_offset
    if start < tail.uploaded_end or not everything_durable or start >= tail.durable_end:
        return start
    return tail.durable_end if tail.too_old or policy.retention_bytes == 0 else start


class RetentionDuty:
    """One loop for all streams of this broker, in slices; idle streams without data cost one comparison."""

    def __init__(
        self,
        streams: Callable[[], Iterable[Stream]],
        policy_of: PolicyOf,
        meta: MetaStore,
        tail: TailCache,
        clock: Clock,
        metrics: EngineMetrics,
    ) -> None:
        self._streams, self._policy_of = streams, policy_of
        self._meta, self._tail, self._clock, self._metrics = meta, tail, clock, metrics

    async def run(self, interval_ms: int) -> None:
        """For ever. A metadata outage costs a round, not the duty."""
        while True:
            await asyncio.sleep(interval_ms / 1000)
            try:
                await self.run_once()
            except (Retry, OutcomeUnknown) as error:
                self._metrics.duty_failures += 1
                _log.warning("retention waits for its next round: %s", error)

    async def run_once(self) -> int:
        """Trim what is past its limits now; the number of streams trimmed."""
        trimmed = 0
        streams = [stream for stream in self._streams() if stream.start_offset < stream.next_offset]
        for begin in range(0, len(streams), _SLICE_STREAMS):
            trimmed += await self._trim_slice(streams[begin : begin + _SLICE_STREAMS])
            await asyncio.sleep(0)
        self._metrics.retention_rounds += 1
        return trimmed

    async def _trim_slice(self, streams: Sequence[Stream]) -> int:
        now_ms = self._clock.now_ms()
        limited: list[tuple[Stream, RetentionPolicy]] = []
        for stream in streams:
            policy = self._policy_of(stream.stream_id) if stream.gone is None else None
            if policy is not None and policy != (None, None):
                limited.append((stream, policy))
        if not limited:
            return 0
        limits = [limit_of(stream.stream_id, policy, stream.tail_bytes, now_ms) for stream, policy in limited]
        rows_go_to = dict(await self._meta.retention_candidates(limits))
        trimmed = 0
        for stream, policy in limited:
            start = max(stream.start_offset, rows_go_to.get(stream.stream_id, 0))
            target = new_start(start, policy, self._tail_facts(stream, start, policy, now_ms))
            if stream.gone is None and target > stream.start_offset:
                trimmed += await self._trim(stream, target)
        return trimmed

    async def _trim(self, stream: Stream, target: int) -> int:
        before_bytes = stream.committed_bytes
        try:
            await stream.trim(target)
        except (Retry, OutcomeUnknown):
            raise
        except StreamError as error:
            if stream.gone is None:
                raise
            _log.info("retention leaves stream %d alone: %s", stream.stream_id, error)
            return 0
        self._metrics.retention_trims += 1
        self._metrics.retention_bytes += max(0, before_bytes - stream.committed_bytes)
        return 1

    def _tail_facts(self, stream: Stream, start: int, policy: RetentionPolicy, now_ms: int) -> TailFacts:
        too_old = policy.retention_ms is not None and start >= stream.uploaded_end
        if too_old and policy.retention_ms is not None:
            before_ms = now_ms - policy.retention_ms
            batches = self._tail.timestamps(stream.stream_id, stream.uploaded_end, stream.next_offset)
            too_old = all(0 <= timestamp_ms < before_ms for _, timestamp_ms in batches)  # stops at the first young one
        return TailFacts(stream.uploaded_end, stream.durable_end, stream.next_offset, too_old)

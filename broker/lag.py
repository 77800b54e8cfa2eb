"""How far consumer groups are behind, in records and in seconds, sampled for the metrics.

Seconds = now minus the timestamp of the first unread record: what an operator of telemetry asks. A group at the end of
a partition has lag 0 in both. Samples are taken by one task, a slice of the loop at a time; what memory does not hold
is read from the store, at most `_COLD_READS` per round, so that a stalled group makes no catch-up reader of it.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from broker.groups.coordinator import GroupCoordinator
from broker.partitions.log import PartitionLog
from broker.partitions.registry import Partitions
from protocol.record_batch import parse_batch_header
from s3stream.errors import StreamError
from s3stream.ports import Clock

_COLD_READS = 32
_SLICE = 200


class GroupLag(NamedTuple):
    """Sum of records and the worst seconds over the partitions of one topic that a group has committed in."""

    group_id: str
    topic: str
    records: int
    seconds: float


class LagSampler:
    """`samples` is replaced whole after every round."""

    def __init__(self, groups: GroupCoordinator, partitions: Partitions, clock: Clock, interval_ms: int) -> None:
        self._groups = groups
        self._partitions = partitions
        self._clock = clock
        self._interval_s = interval_ms / 1000
        self._first_unread: dict[tuple[str, int, int], int] = {}
        self.samples: tuple[GroupLag, ...] = ()

    async def run(self) -> None:
        """For ever."""
        while True:
            await asyncio.sleep(self._interval_s)
            self.samples = await self.sample()

    async def sample(self) -> tuple[GroupLag, ...]:
        """One round over all committed offsets."""
        now_ms = self._clock.now_ms()
        found: dict[tuple[str, str], tuple[int, float]] = {}
        known: dict[tuple[str, int, int], int] = {}
        cold_reads = 0
        for number, committed in enumerate(list(self._groups.committed_offsets()), 1):
            if number % _SLICE == 0:
                await asyncio.sleep(0)
            log = self._partitions.get(committed.topic, committed.partition)
            if log is None:
                continue
            first = max(committed.offset, log.log_start_offset)
            records = max(log.high_watermark - first, 0)
            seconds = 0.0
            if records:
                place = (committed.topic, committed.partition, first)
                timestamp = self._first_unread.get(place)
                if timestamp is None:
                    timestamp = _timestamp_in_memory(log, first)
                if timestamp is None and cold_reads < _COLD_READS:
                    cold_reads += 1
                    timestamp = await _timestamp_in_store(log, first)
                if timestamp is not None:
                    known[place] = timestamp
                    seconds = max(now_ms - timestamp, 0) / 1000
            key = (committed.group_id, committed.topic)
            total, worst = found.get(key, (0, 0.0))
            found[key] = (total + records, max(worst, seconds))
        self._first_unread = known
        return tuple(GroupLag(group, topic, *lag) for (group, topic), lag in found.items())


def _timestamp_in_memory(log: PartitionLog, offset: int) -> int | None:
    batches = log.stream.read_hot(offset, 1, log.high_watermark)
    return parse_batch_header(batches[0]).base_timestamp if batches else None


async def _timestamp_in_store(log: PartitionLog, offset: int) -> int | None:
    """None when the store does not answer: the next round asks again."""
    try:
        batches = await log.stream.read(offset, 1, log.high_watermark)
    except StreamError:
        return None
    return parse_batch_header(batches[0]).base_timestamp if batches else None

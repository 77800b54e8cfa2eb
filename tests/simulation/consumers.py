"""Readers of the workload: tailing consumers, lookers at the offsets, and the final read of everything."""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Iterator
from typing import Any

from benchmarks.verify.history import Bounds, History, Outcome, Partition, Read
from protocol.records import crc_is_valid, iter_batches, iter_records
from tests.simulation import outcomes
from tests.simulation.client import AnswerLost, Client, NotSent
from tests.simulation.errors import SimulationFailure
from tests.simulation.requests import EARLIEST, FETCH, LATEST, LIST_OFFSETS, fetch_body, list_offsets_body


class Reader:
    """Fetches from all partitions of a topic and records every answer."""

    def __init__(self, client: Client, rng: random.Random, history: History, topic: str, partitions: int) -> None:
        self.client = client
        self.rng = rng
        self.history = history
        self.topic = topic
        self.partitions = partitions
        self.positions = dict.fromkeys(range(partitions), 0)
        self.records_read = 0
        self._refused = 0  # positions so far
        self._lost: list[int] = []  # partitions whose position was refused: it is below the start or above the end

    async def tail(self, until_s: float) -> None:
        """Read on and on; now and then go back to an earlier offset."""
        loop = asyncio.get_running_loop()
        while loop.time() < until_s:
            try:
                await self.fetch()
            except (NotSent, AnswerLost):
                self.client.abort()
                await asyncio.sleep(self.rng.uniform(0.05, 0.5))
            if self.rng.random() < 0.05:
                partition = self.rng.randrange(self.partitions)
                self.positions[partition] = max(0, self.positions[partition] - self.rng.randint(1, 300))
            await asyncio.sleep(self.rng.uniform(0, 0.8))

    async def look(self, until_s: float) -> None:
        """Ask for the earliest and latest offsets now and then."""
        loop = asyncio.get_running_loop()
        while loop.time() < until_s:
            try:
                await self.bounds(self.rng.randrange(self.partitions), self.rng.choice((EARLIEST, LATEST)))
            except (NotSent, AnswerLost):
                self.client.abort()
            await asyncio.sleep(self.rng.uniform(0, 1))

    async def bounds(self, partition: int, which: int) -> int | None:
        """One ListOffsets; None when it was refused."""
        now = asyncio.get_running_loop().time
        look = Bounds(client=self.client.name, partition=Partition(self.topic, partition))
        await self.client.connect()
        self.history.invoke(look, now())
        answer = await self.client.request(LIST_OFFSETS, list_offsets_body(self.topic, partition, which))
        part = answer.topics[0].partitions[0]
        outcome = read_outcome(part.error_code, look.partition)
        offset = int(part.offset)
        if outcome is Outcome.OK and which == EARLIEST:
            look.log_start = offset
        elif outcome is Outcome.OK:
            look.high_watermark = offset
        self.history.end(look, outcome, now(), repr(part.error_code))
        return offset if outcome is Outcome.OK else None

    async def read_everything(self) -> None:
        """The final read: each partition from its first offset to its end. The broker must be up."""
        for partition in range(self.partitions):
            start, end = None, None
            while start is None or end is None:
                start = await self._patiently(self.bounds, partition, EARLIEST)
                end = await self._patiently(self.bounds, partition, LATEST)
            self.positions = {partition: start}
            while True:
                refused = self._refused
                await self._patiently(self._fetch_finally)
                # Retention may pass the start between the question for it and the read.
                if self.positions[partition] >= end and self._refused == refused:
                    break

    async def _patiently(self, call: Any, *args: Any) -> Any:
        while True:
            try:
                return await call(*args)
            except (NotSent, AnswerLost):
                self.client.abort()
                await asyncio.sleep(0.2)

    async def _fetch_finally(self) -> None:
        await self.fetch(final=True)

    async def fetch(self, *, final: bool = False) -> None:
        """One Fetch of all positions; what it brought moves them."""
        now = asyncio.get_running_loop().time
        await self.client.connect()
        asked = [
            Read(client=self.client.name, partition=Partition(self.topic, partition), offset=offset, final=final)
            for partition, offset in self.positions.items()
        ]
        for read in asked:
            self.history.invoke(read, now())
        body = fetch_body(
            self.topic,
            list(self.positions.items()),
            max_wait_ms=0 if final else self.rng.choice((0, 100, 500)),
            max_bytes=1_000_000 if final else self.rng.choice((1_000, 30_000, 300_000)),
        )
        answer = await self.client.request(FETCH, body)
        if read_outcome(answer.error_code, asked[0].partition) is not Outcome.OK:
            await asyncio.sleep(0.1)
            return
        parts = {int(part.partition_index): part for topic in answer.responses for part in topic.partitions}
        for read in asked:
            self.record(read, parts[read.partition.index], now())
        await self.find_positions()

    async def find_positions(self) -> None:
        """Begin again at the start where a position was refused."""
        while self._lost:
            start = await self.bounds(self._lost[-1], EARLIEST)
            if start is None:
                return
            self.positions[self._lost.pop()] = start

    def record(self, read: Read, part: Any, now_s: float) -> None:
        """Put what a fetch said about one partition into the history and go on behind it."""
        outcome = read_outcome(part.error_code, read.partition)
        read.high_watermark, read.log_start = int(part.high_watermark), int(part.log_start_offset)
        if int(part.error_code) == outcomes.OFFSET_OUT_OF_RANGE:
            self._lost.append(read.partition.index)
            self._refused += 1
        if outcome is Outcome.OK:
            # The first batch may begin before the offset asked for.
            read.records = tuple(
                pair for pair in _records(part.records or b"", read.partition) if pair[0] >= read.offset
            )
            if read.records:
                self.positions[read.partition.index] = read.records[-1][0] + 1
                self.records_read += len(read.records)
        self.history.end(read, outcome, now_s, repr(part.error_code))


def _records(data: bytes, partition: Partition) -> Iterator[tuple[int, bytes]]:
    """(offset, value) of every record of whole batches; each batch must verify."""
    for batch in iter_batches(memoryview(data)):
        records = _records_of(bytes(batch))
        if records is None:
            raise SimulationFailure(f"a batch read from {partition} does not match its checksum")
        yield from records


@functools.lru_cache(maxsize=512)
def _records_of(batch: bytes) -> tuple[tuple[int, bytes], ...] | None:
    """(offset, value) of each record; None if the batch does not verify. Every reader gets the same bytes."""
    if not crc_is_valid(memoryview(batch)):
        return None
    return tuple((record.offset, record.value or b"") for record in iter_records(memoryview(batch)))


def read_outcome(error_code: Any, partition: Partition) -> Outcome:
    """What an error code of a read says; SimulationFailure for one that no correct broker gives."""
    outcome = outcomes.of_read(int(error_code))
    if outcome is None:
        raise SimulationFailure(f"a read of {partition} was answered with error {error_code!r}")
    return outcome

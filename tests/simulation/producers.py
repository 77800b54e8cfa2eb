"""Producers of the workload: plain ones and idempotent ones, each attempt recorded in the history."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.verify.history import History, Outcome, Partition, Produce
from protocol.records import CODEC_LZ4, CODEC_NONE, CODEC_ZSTD, Record, encode_batch
from tests.simulation import outcomes
from tests.simulation.client import AnswerLost, Client, NotSent
from tests.simulation.errors import SimulationFailure
from tests.simulation.pace import Pace
from tests.simulation.requests import INIT_PRODUCER_ID, PRODUCE, init_producer_id_body, produce_body

_CODECS = (CODEC_NONE, CODEC_NONE, CODEC_NONE, CODEC_LZ4, CODEC_ZSTD)


@dataclass
class ProducerSettings:
    """What one producer sends. `blind_share` of a plain one's batches go with acks=0; `twice_share` of an idempotent
    one's are sent a second time at once, over the same connection or another one."""

    topic: str
    partitions: int
    batch_max_records: int = 12
    record_max_bytes: int = 400
    window: int = 5
    idempotent: bool = False
    blind_share: float = 0.0
    twice_share: float = 0.0


@dataclass
class _Batch:
    """One batch and its attempts. `sequence` only for idempotent producers."""

    partition: int
    values: tuple[bytes, ...]
    sequence: int = -1
    attempts: int = 0
    attempt: Produce | None = None
    answer: asyncio.Future[Any] | None = field(default=None, repr=False)


class Producer:
    """Keeps up to `window` batches under way and sends what is not acknowledged again, in order.

    An idempotent producer repeats a batch until it is acknowledged. A plain one repeats it half of the times, so that
    both a lost batch and a double one are legal outcomes of its unknown attempts.
    """

    def __init__(
        self, client: Client, rng: random.Random, history: History, now_ms: Any, settings: ProducerSettings, pace: Pace
    ) -> None:
        self.client = client
        self.pace = pace
        self._twin = Client(f"{client.name}-twin", client.host, client.port, client.timeout_s)
        self._echoes: list[tuple[Produce, asyncio.Future[Any]]] = []
        self.rng = rng
        self.history = history
        self.now_ms = now_ms
        self.settings = settings
        self._made = 0
        self._sequences: dict[int, int] = defaultdict(int)
        self._producer_id: int | None = None
        self._producer_epoch = -1
        self._open: list[_Batch] = []
        self._acked_in: set[int] = set()

    async def run(self, until_s: float) -> None:
        """Produce until the virtual time `until_s`, then end once everything under way is settled."""
        loop = asyncio.get_running_loop()
        while loop.time() < until_s or self._open or self._echoes:
            try:
                await self._connect()
                self._top_up(loop.time() < until_s)
                self._send_unsent()
                await self._settle_oldest()
                await self._settle_echoes()
            except (NotSent, AnswerLost):
                await self._settle_all()
                self.client.abort()
                self._twin.abort()
                await self._settle_echoes()
                await asyncio.sleep(self.rng.uniform(0.05, 0.5))
            if loop.time() < until_s:
                await asyncio.sleep(self.pace.pause_s(loop.time(), self.rng))

    async def _connect(self) -> None:
        await self.client.connect()
        if self.settings.twice_share:
            await self._twin.connect()
        while self.settings.idempotent and self._producer_id is None:
            answer = await self.client.request(INIT_PRODUCER_ID, init_producer_id_body())
            if int(answer.error_code) == outcomes.NONE:
                self._producer_id, self._producer_epoch = int(answer.producer_id), int(answer.producer_epoch)
            elif outcomes.of_write(int(answer.error_code)) is None:
                raise SimulationFailure(f"InitProducerId was answered with error {answer.error_code!r}")
            else:
                await asyncio.sleep(0.2)

    def _top_up(self, more: bool) -> None:
        settings = self.settings
        while more and len(self._open) < self.rng.randint(1, settings.window):
            self._made += 1
            partition = self.rng.randrange(settings.partitions)
            count = self.rng.randint(1, settings.batch_max_records)
            padding = self.rng.randrange(settings.record_max_bytes)
            values = tuple(
                f"{self.client.name}/{self._made}/{place}|".encode() + bytes(padding) for place in range(count)
            )
            sequence = -1
            if settings.idempotent:
                sequence = self._sequences[partition]
                self._sequences[partition] += count
            self._open.append(_Batch(partition, values, sequence))

    def _send_unsent(self) -> None:
        for batch in list(self._open):
            if batch.answer is None:
                self._send(batch)

    def _send(self, batch: _Batch) -> None:
        settings, now_s = self.settings, asyncio.get_running_loop().time()
        timestamp_ms = self.now_ms()
        records = encode_batch(
            [Record(None, value, timestamp_ms=timestamp_ms) for value in batch.values],
            self.rng.choice(_CODECS),
            producer_id=-1 if self._producer_id is None else self._producer_id,
            producer_epoch=self._producer_epoch,
            base_sequence=batch.sequence,
        )
        batch.attempts += 1
        if self.rng.random() < settings.blind_share:
            self.client.send_blind(PRODUCE, produce_body(settings.topic, batch.partition, bytes(records), 0))
            self.history.invoke(self._attempt_at(batch), now_s)  # it never ends
            self._open.remove(batch)
            return
        acks = -1 if settings.idempotent else self.rng.choice((1, -1))
        body = produce_body(settings.topic, batch.partition, bytes(records), acks)
        batch.answer = self.client.send(PRODUCE, body)
        batch.attempt = self._attempt_at(batch)
        self.history.invoke(batch.attempt, now_s)
        if self.rng.random() < settings.twice_share:
            self._send_again(batch, body)

    def _attempt_at(self, batch: _Batch) -> Produce:
        return Produce(
            client=self.client.name,
            partition=Partition(self.settings.topic, batch.partition),
            values=batch.values,
            producer_id=self._producer_id,
            producer_epoch=self._producer_epoch,
            base_sequence=batch.sequence,
        )

    def _send_again(self, batch: _Batch, body: Mapping[str, Any]) -> None:
        """The same batch while the first is on its way; over the other connection it may even come first. Not so before
        the partition knows the producer: whatever comes first then is taken for its beginning, as in Kafka."""
        other = self._twin if batch.partition in self._acked_in else self.client
        try:
            answer = self.rng.choice((self.client, other)).send(PRODUCE, body)
        except NotSent:
            return
        echo = self._attempt_at(batch)
        self.history.invoke(echo, asyncio.get_running_loop().time())
        self._echoes.append((echo, answer))

    async def _settle_echoes(self) -> None:
        """Record the answers to what was sent twice."""
        now = asyncio.get_running_loop().time
        while self._echoes:
            echo, answer = self._echoes.pop(0)
            try:
                response = await answer
            except AnswerLost as error:
                self.history.end(echo, Outcome.UNKNOWN, now(), str(error))
                continue
            part = response.responses[0].partition_responses[0]
            code = int(part.error_code)
            outcome = Outcome.FAIL if code == outcomes.DUPLICATE_SEQUENCE_NUMBER else outcomes.of_write(code)
            if outcome is None:
                raise SimulationFailure(f"a repeat to {echo.partition} was answered with error {part.error_code!r}")
            echo.base_offset = int(part.base_offset) if outcome is Outcome.OK else None
            self.history.end(echo, outcome, now(), repr(part.error_code))

    async def _settle_oldest(self) -> None:
        """Await one answer; after an error await all of them, so that what is sent again is in order."""
        if self._open and not await self._settle(self._open[0]):
            await self._settle_all()
            await asyncio.sleep(self.rng.uniform(0.05, 0.3))

    async def _settle_all(self) -> None:
        for batch in list(self._open):
            if batch.answer is not None:
                try:
                    await self._settle(batch)
                except AnswerLost:
                    continue

    async def _settle(self, batch: _Batch) -> bool:
        """Wait for the answer to one batch and record it; False when it was refused. AnswerLost when there is none."""
        answer, attempt, now = batch.answer, batch.attempt, asyncio.get_running_loop().time
        batch.answer = batch.attempt = None
        if answer is None or attempt is None:
            raise SimulationFailure("a batch without an attempt was settled")
        try:
            response = await answer
        except AnswerLost as error:
            self.history.end(attempt, Outcome.UNKNOWN, now(), str(error))
            self._maybe_give_up(batch)
            raise
        part = response.responses[0].partition_responses[0]
        code = int(part.error_code)
        outcome = outcomes.of_write(code)
        if outcome is None:
            raise SimulationFailure(f"produce to {attempt.partition} was answered with error {part.error_code!r}")
        attempt.base_offset = int(part.base_offset) if outcome is Outcome.OK else None
        self.history.end(attempt, outcome, now(), repr(part.error_code))
        if outcome is Outcome.OK:
            self.pace.acked_batches += 1
            self._acked_in.add(batch.partition)
            self._open.remove(batch)
            return True
        if code == outcomes.OUT_OF_ORDER_SEQUENCE_NUMBER and self._first_of_its_partition(batch):
            raise SimulationFailure(
                f"sequence {batch.sequence} of producer {self._producer_id} in {attempt.partition} was called out of "
                "order although all before it were acknowledged"
            )
        self._maybe_give_up(batch)
        return False

    def _first_of_its_partition(self, batch: _Batch) -> bool:
        return next(each for each in self._open if each.partition == batch.partition) is batch

    def _maybe_give_up(self, batch: _Batch) -> None:
        if not self.settings.idempotent and self.rng.random() < 0.5:
            self._open.remove(batch)

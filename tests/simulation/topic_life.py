"""Topics of one name that come and go: created, grown, written, read, deleted by name or by id, and created again.

Everything but creation goes by topic id, so that each answer belongs to one incarnation; in the history each of them is
a topic of its own. What is written to an id that is gone must be refused, whatever stands under the name now.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any
from uuid import UUID

from benchmarks.verify.history import Delete, History, Outcome, Partition, Produce, Read
from protocol.records import Record, encode_batch
from tests.simulation import outcomes, requests
from tests.simulation.client import AnswerLost, Client, NotSent
from tests.simulation.consumers import Reader
from tests.simulation.errors import SimulationFailure
from tests.simulation.pace import Pace

_GONE = (outcomes.UNKNOWN_TOPIC_OR_PARTITION, outcomes.UNKNOWN_TOPIC_ID)


def label(name: str, topic_id: UUID) -> str:
    """What one incarnation is called in the history."""
    return f"{name}:{topic_id}"


class _Incarnation:
    """One topic under the name. `index` counts partitions from 0."""

    def __init__(self, name: str, topic_id: UUID, partitions: int) -> None:
        self.topic_id = topic_id
        self.partitions = partitions
        self.label = label(name, topic_id)
        self.deletes: list[Delete] = []
        self.opened = False  # until its logs are open, as after a creation while the metadata is away, it is unknown

    def partition(self, index: int) -> Partition:
        return Partition(self.label, index)


class TopicLife:
    """One client that leads topics through their lives until a time; the last one is deleted as well."""

    def __init__(
        self, client: Client, rng: random.Random, history: History, now_ms: Any, name: str, pace: Pace
    ) -> None:
        self.client = client
        self.rng = rng
        self.history = history
        self.now_ms = now_ms
        self.name = name
        self.pace = pace
        self.lives = 0
        self._made = 0
        self._gone: list[_Incarnation] = []
        self._strays = 0  # deletions by name that nobody answered: they may still hit the next topic of the name

    async def run(self, until_s: float) -> None:
        now = asyncio.get_running_loop().time
        while now() < until_s:
            topic = await self._create(self.rng.randint(1, 2))
            self.lives += 1
            reader = Reader(self.client, self.rng, self.history, topic.label, topic.partitions)
            for _ in range(self.rng.randint(5, 60)):
                if now() >= until_s:
                    break
                await self._live(topic, reader)
                await asyncio.sleep(self.pace.pause_s(now(), self.rng))
            await self._delete(topic)
            self._gone = [*self._gone[-3:], topic]

    async def _live(self, topic: _Incarnation, reader: Reader) -> None:
        """One step in the life of a topic."""
        fate = self.rng.random()
        try:
            if fate < 0.1 and self._gone:
                await self._produce(self.rng.choice(self._gone), 0)
            elif fate < 0.13 and topic.partitions < 4:
                await self._grow(topic)
            elif fate < 0.4:
                await self._read(topic, reader, self.rng.randrange(topic.partitions))
            else:
                await self._produce(topic, self.rng.randrange(topic.partitions))
        except (NotSent, AnswerLost):
            self.client.abort()
            await asyncio.sleep(self.rng.uniform(0.05, 0.5))

    async def _patiently(self, api_key: int, body: Any) -> Any:
        """The answer to a request that may be repeated."""
        while True:
            try:
                return await self.client.request(api_key, body)
            except (NotSent, AnswerLost):
                self.client.abort()
                await asyncio.sleep(self.rng.uniform(0.05, 0.5))

    async def _create(self, partitions: int) -> _Incarnation:
        while True:
            body = requests.create_topic_body(self.name, partitions, {})
            answer = (await self._patiently(requests.CREATE_TOPICS, body)).topics[0]
            code = int(answer.error_code)
            if code == outcomes.TOPIC_ALREADY_EXISTS:
                found = await self._find()
                if found is not None:
                    return found
            elif code == outcomes.NONE:
                return _Incarnation(self.name, UUID(str(answer.topic_id)), partitions)
            elif outcomes.of_write(code) is None:
                raise SimulationFailure(f"CreateTopics was answered with {answer.error_code!r}")
            await asyncio.sleep(0.2)

    async def _find(self) -> _Incarnation | None:
        """What stands under the name: a creation whose answer was lost."""
        answer = (await self._patiently(requests.METADATA, requests.metadata_body([self.name]))).topics[0]
        if int(answer.error_code) != outcomes.NONE:
            return None
        return _Incarnation(self.name, UUID(str(answer.topic_id)), len(answer.partitions))

    async def _grow(self, topic: _Incarnation) -> None:
        count = topic.partitions + 1
        answer = await self.client.request(
            requests.CREATE_PARTITIONS, requests.create_partitions_body(self.name, count)
        )
        code = int(answer.results[0].error_code)
        if code in (outcomes.NONE, outcomes.INVALID_PARTITIONS):  # the latter after a lost answer
            topic.partitions = count
        elif outcomes.of_write(code) is None:
            raise SimulationFailure(f"CreatePartitions was answered with {answer.results[0].error_code!r}")

    async def _produce(self, topic: _Incarnation, partition: int) -> None:
        now = asyncio.get_running_loop().time
        await self.client.connect()
        self._made += 1
        count = self.rng.randint(1, 5)
        values = tuple(f"{self.client.name}/{self._made}/{place}|".encode() for place in range(count))
        attempt = Produce(client=self.client.name, partition=topic.partition(partition), values=values)
        records = encode_batch([Record(None, value, timestamp_ms=self.now_ms()) for value in values], 0)
        self.history.invoke(attempt, now())
        body = requests.produce_by_id_body(topic.topic_id, partition, bytes(records), -1)
        try:
            answer = await self.client.request(requests.PRODUCE, body, requests.PRODUCE_BY_ID)
        except AnswerLost as error:
            self.history.end(attempt, Outcome.UNKNOWN, now(), str(error))
            raise
        part = answer.responses[0].partition_responses[0]
        outcome = self._outcome(int(part.error_code), topic)
        if outcome is Outcome.OK:
            attempt.base_offset = int(part.base_offset)
            self.pace.acked_batches += 1
        self.history.end(attempt, outcome, now(), repr(part.error_code))

    async def _read(self, topic: _Incarnation, reader: Reader, partition: int) -> None:
        now = asyncio.get_running_loop().time
        await self.client.connect()
        offset = reader.positions.setdefault(partition, 0)
        read = Read(client=self.client.name, partition=topic.partition(partition), offset=offset)
        self.history.invoke(read, now())
        body = requests.fetch_by_id_body(topic.topic_id, [(partition, offset)], max_wait_ms=100, max_bytes=50_000)
        answer = await self.client.request(requests.FETCH, body, requests.FETCH_BY_ID)
        part = answer.responses[0].partitions[0]
        if int(part.error_code) in _GONE:
            self._outcome(int(part.error_code), topic)
        else:
            reader.record(read, part, now())

    async def _delete(self, topic: _Incarnation) -> None:
        """Until it is surely gone."""
        now = asyncio.get_running_loop().time
        topic.deletes = [Delete(client=self.client.name, partition=topic.partition(index)) for index in range(4)]
        for delete in topic.deletes:
            self.history.invoke(delete, now())
        by_id = self.rng.random() < 0.7
        while True:
            body = requests.delete_topic_body(None if by_id else self.name, topic.topic_id if by_id else None)
            try:
                answer = (await self.client.request(requests.DELETE_TOPICS, body)).responses[0]
            except (NotSent, AnswerLost) as error:
                self.client.abort()
                self._strays += isinstance(error, AnswerLost) and not by_id
                by_id = True
                await asyncio.sleep(self.rng.uniform(0.05, 0.5))
                continue
            code = int(answer.error_code)
            if code == outcomes.NONE or code in _GONE:
                break
            if outcomes.of_write(code) is None:
                raise SimulationFailure(f"DeleteTopics was answered with {answer.error_code!r}")
            await asyncio.sleep(0.2)
        for delete in topic.deletes:
            self.history.end(delete, Outcome.OK, now())

    def _outcome(self, code: int, topic: _Incarnation) -> Outcome:
        topic.opened = topic.opened or code == outcomes.NONE
        if code == outcomes.UNKNOWN_TOPIC_ID and topic.opened and not topic.deletes and not self._strays:
            raise SimulationFailure(f"the topic {topic.label} is unknown and was never deleted")
        if code in _GONE:
            return Outcome.FAIL
        outcome = outcomes.of_write(code)
        if outcome is None:
            raise SimulationFailure(f"a produce to {topic.label} was answered with error {code}")
        return outcome

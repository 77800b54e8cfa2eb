"""The administrator of a topic with retention: changes its limits, deletes records, gives it more partitions."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.verify.history import Bounds, History, Outcome, Partition
from tests.simulation import outcomes, requests
from tests.simulation.client import AnswerLost, Client, NotSent
from tests.simulation.errors import SimulationFailure


def some_retention(rng: random.Random) -> dict[str, str]:
    """Limits by time and by size that a minute of writing goes beyond; -1 is none."""
    return {
        "retention.ms": str(rng.choice((-1, 4_000, 15_000))),
        "retention.bytes": str(rng.choice((-1, 10_000, 60_000))),
    }


class Administrator:
    """One client that administers until a time. `offsets[partition]` tells how far records may be deleted."""

    def __init__(
        self, client: Client, rng: random.Random, history: History, topic: str, offsets: dict[int, int]
    ) -> None:
        self.client = client
        self.rng = rng
        self.history = history
        self.topic = topic
        self.offsets = offsets

    async def run(self, until_s: float) -> None:
        loop = asyncio.get_running_loop()
        actions: list[Callable[[], Awaitable[Any]]] = [self._alter, self._alter, self._delete_records]
        while loop.time() < until_s:
            try:
                await self.rng.choice(actions)()
            except (NotSent, AnswerLost):
                self.client.abort()
            await asyncio.sleep(self.rng.uniform(1, 8))

    async def create(self, topic: str, partitions: int, configs: dict[str, str]) -> None:
        """Until the topic is there."""
        while True:
            try:
                body = requests.create_topic_body(topic, partitions, configs)
                answer = (await self.client.request(requests.CREATE_TOPICS, body)).topics[0]
            except (NotSent, AnswerLost):
                self.client.abort()
                await asyncio.sleep(0.1)
                continue
            code = int(answer.error_code)
            if code in (outcomes.NONE, outcomes.TOPIC_ALREADY_EXISTS):
                return
            if outcomes.of_write(code) is None:
                raise SimulationFailure(f"CreateTopics was answered with {answer.error_code!r}")
            await asyncio.sleep(0.1)

    async def _alter(self) -> None:
        body = requests.alter_topic_body(self.topic, some_retention(self.rng))
        answer = (await self.client.request(requests.INCREMENTAL_ALTER_CONFIGS, body)).responses[0]
        if outcomes.of_write(int(answer.error_code)) is None:
            raise SimulationFailure(f"AlterConfigs was answered with {answer.error_code!r}: {answer.error_message}")

    async def _delete_records(self) -> None:
        now = asyncio.get_running_loop().time
        partition = self.rng.choice(sorted(self.offsets))
        offset = self.offsets[partition] - self.rng.randint(0, 20)
        if offset <= 0:
            return
        await self.client.connect()
        look = Bounds(client=self.client.name, partition=Partition(self.topic, partition))
        self.history.invoke(look, now())
        body = requests.delete_records_body(self.topic, partition, offset)
        part = (await self.client.request(requests.DELETE_RECORDS, body)).topics[0].partitions[0]
        code = int(part.error_code)
        outcome = outcomes.of_read(code)
        if outcome is None:
            raise SimulationFailure(f"DeleteRecords was answered with {part.error_code!r}")
        if outcome is Outcome.OK:
            look.log_start = int(part.low_watermark)
        self.history.end(look, outcome, now(), str(code))

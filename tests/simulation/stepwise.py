"""The workload of a world, one step at a time: each client does one thing when it is told to, and then waits.

For callers that choose what comes next themselves: a rule machine, a script. What a client has begun goes on in the
background when its caller does not wait for the end of it, so a fault can fall into the middle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

from tests.simulation.client import AnswerLost, Client, NotSent
from tests.simulation.producers import Producer, ProducerSettings
from tests.simulation.requests import EARLIEST, LATEST
from tests.simulation.topic_life import TopicLife
from tests.simulation.workload import EVENTS, PASSING, RETAINED, Workload
from tests.simulation.world import BROKER, PORT, World

_TIMEOUT_S = 2.0
_MEMBER_S = 15.0  # a join waits for the sessions of members that are gone
_LEAST_SETTLE_S = 1.0


class BurstProducer(Producer):
    """A producer that sends some batches and waits until each of them is settled."""

    async def burst(self, batches: int) -> None:
        """From 1 to `batches` batches, pipelined."""
        self.settings.window = batches
        made = False
        while not made or self._open or self._echoes:
            try:
                await self._connect()
                self._top_up(not made)
                made = True
                self._send_unsent()
                await self._settle_oldest()
                await self._settle_echoes()
            except (NotSent, AnswerLost):
                await self._settle_all()
                self.client.abort()
                self._twin.abort()
                await self._settle_echoes()
                await asyncio.sleep(self.rng.uniform(0.05, 0.5))


class StepwiseLife(TopicLife):
    """Topics of one name that are made, used and deleted on demand."""

    alive = False

    async def create(self) -> None:
        """A topic of the name, unless there is one."""
        if not self.alive:
            self._topic = await self._create(self.rng.randint(1, 2))
            self.alive = True
            self.lives += 1

    async def write(self) -> None:
        """One batch to the topic, or to one that is gone."""
        if self.alive:
            await self._produce(self._topic, self.rng.randrange(self._topic.partitions))
        elif self._gone:
            await self._produce(self._gone[-1], 0)

    async def delete(self) -> None:
        """Until it is surely gone."""
        if self.alive:
            self.alive = False
            await self._delete(self._topic)
            self._gone = [*self._gone[-3:], self._topic]


class Stepwise(Workload):
    """All clients of one world. `finish` must come last; `judge` says what was wrong."""

    def __init__(self, world: World) -> None:
        super().__init__(world, 60.0)
        self.writers = {
            "plain": self._burst("plain", EVENTS, idempotent=False),
            "idempotent": self._burst("idempotent", EVENTS, idempotent=True),
            "twice": self._burst("twice", EVENTS, idempotent=True, twice_share=1.0),
            "retained": self._burst("retained", RETAINED, idempotent=False),
        }
        self.life: StepwiseLife = StepwiseLife(
            Client("passing", BROKER, PORT, _TIMEOUT_S),
            world.rng("passing"),
            world.history,
            world.clock.now_ms,
            PASSING,
            self.pace,
        )
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def _burst(self, name: str, topic: str, *, idempotent: bool, twice_share: float = 0.0) -> BurstProducer:
        partitions = 2 if topic == RETAINED else self.partitions
        settings = ProducerSettings(topic, partitions, idempotent=idempotent, twice_share=twice_share)
        client, world = Client(name, BROKER, PORT, _TIMEOUT_S), self.world
        return BurstProducer(client, world.rng(name), world.history, world.clock.now_ms, settings, self.pace)

    async def begin(self) -> None:
        """The broker is up and the lasting topics are there."""
        self.world.start_broker()
        await self._on_host("admin", self._create_topics())

    # -- steps: each waits `stay_s` for its client, which goes on when that is over

    async def produce(self, kind: str, batches: int, stay_s: float) -> None:
        writer = self.writers[kind]
        await self._do(writer.client, lambda: writer.burst(batches), stay_s)

    async def consume(self, stay_s: float, *, retained: bool = False) -> None:
        reader = self.readers[-1 if retained else 0]
        await self._do(reader.client, reader.fetch, stay_s)

    async def look(self, *, earliest: bool, stay_s: float) -> None:
        which = EARLIEST if earliest else LATEST
        await self._do(self.looker.client, lambda: self.looker.bounds(0, which), stay_s)

    async def commit(self, number: int, stay_s: float) -> None:
        """The member joins its group, reads on and commits once."""
        member = self.members[number % len(self.members)]

        async def once() -> None:
            member.settings = replace(member.settings, commits_wanted=member.commits + 1)
            await member.run(self.world.loop.time() + _MEMBER_S)

        await self._do(member.client, once, stay_s)

    async def create_topic(self, stay_s: float) -> None:
        await self._do(self.life.client, self.life.create, stay_s)

    async def write_to_topic(self, stay_s: float) -> None:
        await self._do(self.life.client, self.life.write, stay_s)

    async def delete_topic(self, stay_s: float) -> None:
        await self._do(self.life.client, self.life.delete, stay_s)

    async def administer(self, action: str, stay_s: float) -> None:
        """`action`: "limits" changes the retention of a topic, "delete records" removes what was read of it."""
        actions = {"limits": self.administrator._alter, "delete records": self.administrator._delete_records}
        await self._do(self.administrator.client, actions[action], stay_s)

    async def _do(self, client: Client, call: Callable[[], Awaitable[Any]], stay_s: float) -> None:
        """Have a client do something, unless it is still busy with what it was told before."""
        task = self._tasks.get(client.name)
        if task is None or await self._ended(task, stay_s):
            task = self._on_host(client.name, _once(client, call))
            self._tasks[client.name] = task
        await self._ended(task, stay_s)
        self._raise_what_failed()

    @staticmethod
    async def _ended(task: asyncio.Task[None], stay_s: float) -> bool:
        await asyncio.wait({task}, timeout=stay_s)
        return task.done()

    def _raise_what_failed(self) -> None:
        for name, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[name]
                task.result()

    # -- the end

    async def finish(self) -> None:
        """Heal everything, let it come to rest, and read everything. The caller limits the time it may take."""
        world = self.world
        world.disk.when_next_written(lambda: None)
        world.heal()
        world.start_broker()
        await asyncio.gather(*self._tasks.values())
        await self._on_host("passing", self.life.delete())
        await asyncio.sleep(_LEAST_SETTLE_S)
        await asyncio.sleep(self.inside.settle_s)
        await self._probe()
        for final in self.finals:
            await self._on_host(final.client.name, final.read_everything())


def _once(client: Client, call: Callable[[], Awaitable[Any]]) -> Coroutine[Any, Any, None]:
    async def attempt() -> None:
        try:
            await call()
        except (NotSent, AnswerLost):
            client.abort()

    return attempt()

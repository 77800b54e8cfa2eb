"""What clients do in a run: everything that a broker serves, each client on a host of its own, drawn from the seed."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from benchmarks.verify.checkers import CHECKERS, liveness
from benchmarks.verify.history import Anomaly
from tests.simulation.administrator import Administrator, some_retention
from tests.simulation.client import Client
from tests.simulation.consumers import Reader
from tests.simulation.errors import SimulationFailure
from tests.simulation.group_member import GroupMember, GroupSettings
from tests.simulation.inside import Inside
from tests.simulation.pace import Pace
from tests.simulation.producers import Producer, ProducerSettings
from tests.simulation.scenarios import Scenario
from tests.simulation.session_reader import SessionReader
from tests.simulation.topic_life import TopicLife
from tests.simulation.world import BROKER, PORT, World

EVENTS, RETAINED, PASSING = "events", "retained", "passing"
GROUP = "group"

_PROBE_S = 1.0
_ANSWER_S = 5.0
_PROBE_GROUP_S = 20.0
_BATCHES_PER_S = 20.0  # acknowledged, of all producers together: a run of a minute has more than the 1,000 it needs


class Workload:
    """All clients of one run. `basic`: producers, readers and lookers of one topic only, for the model broker."""

    def __init__(self, world: World, duration_s: float, *, basic: bool = False) -> None:
        self.world = world
        self.rng = world.rng("workload")
        self.basic = basic
        self.partitions = self.rng.randint(1, 4)
        count = self.rng.randint(2, 4)
        began_s = world.loop.time()
        writers = count if basic else count + 2
        self.pace = Pace(int(_BATCHES_PER_S * duration_s), began_s, began_s + duration_s, writers)
        self.producers = [self._producer(f"producer-{number}", EVENTS, number) for number in range(1, count + 1)]
        self.readers = [self._reader(f"reader-{number}") for number in range(1, self.rng.randint(1, 2) + 1)]
        self.looker = self._reader("looker")
        self.finals = [self._reader("final")]
        self.administrator = Administrator(self._client("admin"), world.rng("admin"), world.history, RETAINED, {})
        self.members: list[GroupMember] = []
        self.inside = Inside(world, PASSING)
        self.probed_from_s = 0.0
        if not basic:
            self._add_the_rest()

    def _add_the_rest(self) -> None:
        world = self.world
        restart_share = world.rng("session restarts").choice((0.0, 0.05))
        self.readers.append(
            SessionReader(
                self._client("sessions"), world.rng("sessions"), world.history, EVENTS, self.partitions, restart_share
            )
        )
        self.producers.append(self._producer("producer-r", RETAINED, self.rng.randint(1, 2), partitions=2))
        retained = Reader(self._client("reader-r"), world.rng("reader-r"), world.history, RETAINED, 2)
        self.readers.append(retained)
        self.administrator.offsets = retained.positions
        self.finals.append(Reader(self._client("final-r"), world.rng("final-r"), world.history, RETAINED, 2))
        for number in range(1, self.rng.randint(2, 3) + 1):
            name = f"member-{number}"
            instance = "static-1" if number == 1 and self.rng.random() < 0.5 else None
            settings = GroupSettings(GROUP, EVENTS, self.partitions, instance)
            client = Client(name, BROKER, PORT, timeout_s=12.0)  # a join is answered when the others have joined
            self.members.append(GroupMember(client, world.rng(name), world.history, settings))
        self.life = TopicLife(
            self._client("passing"), world.rng("passing"), world.history, world.clock.now_ms, PASSING, self.pace
        )

    def _client(self, name: str) -> Client:
        return Client(name, BROKER, PORT, timeout_s=self.rng.choice((2.0, 10.0)))

    def _producer(self, name: str, topic: str, number: int, *, partitions: int | None = None) -> Producer:
        idempotent = number % 2 == 0
        settings = ProducerSettings(
            topic=topic,
            partitions=partitions or self.partitions,
            batch_max_records=self.rng.choice((1, 5, 20)),
            record_max_bytes=self.rng.choice((10, 400, 4_000)),
            window=self.rng.randint(1, 5),
            idempotent=idempotent,
            blind_share=0.0 if idempotent or self.basic else self.rng.choice((0.0, 0.05)),
            twice_share=0.0 if not idempotent or self.basic else self.rng.choice((0.0, 0.1)),
        )
        world = self.world
        return Producer(self._client(name), world.rng(name), world.history, world.clock.now_ms, settings, self.pace)

    def _reader(self, name: str) -> Reader:
        return Reader(self._client(name), self.world.rng(name), self.world.history, EVENTS, self.partitions)

    @property
    def records_read(self) -> int:
        return sum(reader.records_read for reader in [*self.readers, *self.finals])

    async def run(self, scenario: Scenario, duration_s: float) -> None:
        """All of it. The caller's time limit covers healing and the final read as well."""
        world, loop = self.world, self.world.loop
        world.start_broker()
        until_s = loop.time() + duration_s
        await self._on_host("admin", self._create_topics())
        work = [
            *(self._on_host(each.client.name, each.run(until_s)) for each in self.producers),
            *(self._on_host(each.client.name, each.tail(until_s)) for each in self.readers),
            *(self._on_host(each.client.name, each.run(until_s)) for each in self.members),
            self._on_host(self.looker.client.name, self.looker.look(until_s)),
        ]
        if not self.basic:
            work.append(self._on_host("passing", self.life.run(until_s)))
            work.append(self._on_host("admin", self.administrator.run(until_s)))
        chaos = loop.create_task(scenario.chaos(world, world.rng("scenario"), until_s), name="chaos")
        loop.call_world(until_s - loop.time(), world.heal)
        await asyncio.gather(*work, chaos)
        if not self.basic:
            await asyncio.sleep(self.inside.settle_s)
            await self._probe()
        for final in self.finals:
            await self._on_host(final.client.name, final.read_everything())

    async def judge(self) -> list[Anomaly]:
        """What the checkers say of the run, after its end."""
        history = self.world.history
        anomalies = [anomaly for check in CHECKERS for anomaly in check(history)]
        if self.basic:
            return anomalies
        return [
            *anomalies,
            *await self.inside.check(),
            *liveness.check(history, self.probed_from_s, 0.0, _ANSWER_S),
        ]

    async def _probe(self) -> None:
        """Everything is healed and had time to recover: now each partition must take and give records, and the group a
        member."""
        loop = self.world.loop
        self.probed_from_s = loop.time()
        until_s = loop.time() + _PROBE_S
        for topic, partitions in ((EVENTS, self.partitions), (RETAINED, 2)):
            settings = ProducerSettings(topic=topic, partitions=partitions, window=1, idempotent=topic == EVENTS)
            pace = Pace(10 * partitions, loop.time(), until_s, 1)
            name = f"probe-{topic}"
            prober = Producer(
                self._client(name), self.world.rng(name), self.world.history, self.world.clock.now_ms, settings, pace
            )
            await self._on_host(name, prober.run(until_s))
        group = GroupSettings(GROUP, EVENTS, self.partitions, commits_wanted=1)
        client = Client("probe-group", BROKER, PORT, timeout_s=12.0)
        member = GroupMember(client, self.world.rng("probe-group"), self.world.history, group)
        # The members of before are gone without a word: their sessions end first.
        await self._on_host("probe-group", member.run(loop.time() + _PROBE_GROUP_S))
        if not member.commits:
            raise SimulationFailure(
                f"no commit to {GROUP} within {_PROBE_GROUP_S:.0f} s although all faults have ended"
            )

    def _on_host(self, name: str, program: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        nodes = self.world.loop.nodes
        node = nodes[name] if name in nodes else self.world.loop.start_node(name)
        return self.world.loop.spawn(node, program, name=name)

    async def _create_topics(self) -> None:
        await self.administrator.create(EVENTS, self.partitions, {})
        if not self.basic:
            await self.administrator.create(RETAINED, 2, some_retention(self.rng))

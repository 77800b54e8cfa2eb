"""One run: a scenario under a seed, from an empty world to a verdict."""

from __future__ import annotations

import asyncio
import gc
import logging
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.verify.checkers import CHECKERS
from tests.simulation import outcomes
from tests.simulation.broker_process import broker_process
from tests.simulation.client import CREATE_TOPICS, AnswerLost, Client, NotSent, create_topic_body
from tests.simulation.consumers import Reader
from tests.simulation.errors import SimulationFailure
from tests.simulation.producers import Producer, ProducerSettings
from tests.simulation.randomness import stream
from tests.simulation.scenarios import Scenario
from tests.simulation.trace import Trace
from tests.simulation.world import BROKER, PORT, Process, World, WorldSettings

HEALING_LIMIT_S = 300.0  # after the last fault everything must settle within this much virtual time
TOPIC = "events"


@dataclass
class RunResult:
    """What a run came to. `failure` is empty for a good run."""

    scenario: str
    seed: int
    digest: str
    failure: str
    steps: int
    simulated_s: float
    acked_batches: int
    records_read: int
    fired: Counter[str] = field(default_factory=Counter)


class Workload:
    """Producers, readers and lookers, each on a host of its own; sizes drawn from the seed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.rng("workload")
        self.partitions = self.rng.randint(1, 4)
        count = self.rng.randint(2, 4)
        self.producers = [self._producer(number, count) for number in range(1, count + 1)]
        self.readers = [self._reader(f"reader-{number}") for number in range(1, self.rng.randint(1, 2) + 1)]
        self.looker = self._reader("looker")
        self.final = self._reader("final")

    def _client(self, name: str) -> Client:
        return Client(name, BROKER, PORT, timeout_s=self.rng.choice((2.0, 10.0)))

    def _producer(self, number: int, number_of_producers: int) -> Producer:
        name = f"producer-{number}"
        settings = ProducerSettings(
            topic=TOPIC,
            partitions=self.partitions,
            batch_max_records=self.rng.choice((1, 5, 20)),
            record_max_bytes=self.rng.choice((10, 400, 4_000)),
            pause_max_s=self.rng.uniform(1, 3) * number_of_producers / self.world.settings.batches_per_s,
            window=self.rng.randint(1, 5),
            idempotent=number % 2 == 0,
        )
        return Producer(self._client(name), self.world.rng(name), self.world.history, self.world.clock.now_ms, settings)

    def _reader(self, name: str) -> Reader:
        return Reader(self._client(name), self.world.rng(name), self.world.history, TOPIC, self.partitions)

    async def run(self, scenario: Scenario, duration_s: float) -> None:
        """All of it. The caller's time limit covers healing and the final read as well."""
        world, loop = self.world, self.world.loop
        world.start_broker()
        await self._on_host("admin", self._create_topic())
        until_s = loop.time() + duration_s
        work = [
            *(self._on_host(each.client.name, each.run(until_s)) for each in self.producers),
            *(self._on_host(each.client.name, each.tail(until_s)) for each in self.readers),
            self._on_host(self.looker.client.name, self.looker.look(until_s)),
        ]
        chaos = loop.create_task(scenario.chaos(world, world.rng("scenario"), until_s), name="chaos")
        loop.call_world(duration_s, world.heal)
        await asyncio.gather(*work, chaos)
        await self._on_host(self.final.client.name, self.final.read_everything())

    def _on_host(self, name: str, program: Any) -> asyncio.Task[Any]:
        nodes = self.world.loop.nodes
        node = nodes[name] if name in nodes else self.world.loop.start_node(name)
        return self.world.loop.spawn(node, program, name=name)

    async def _create_topic(self) -> None:
        client = self._client("admin")
        while True:
            try:
                answer = await client.request(CREATE_TOPICS, create_topic_body(TOPIC, self.partitions, {}))
            except (NotSent, AnswerLost):
                client.abort()
                await asyncio.sleep(0.1)
                continue
            code = int(answer.topics[0].error_code)
            if code in (outcomes.NONE, outcomes.TOPIC_ALREADY_EXISTS):
                return
            if outcomes.of_write(code) is None:
                raise SimulationFailure(f"CreateTopics was answered with {answer.topics[0].error_code!r}")
            await asyncio.sleep(0.1)


def run_scenario(
    scenario: Scenario,
    seed: int,
    *,
    duration_s: float = 60.0,
    process: Process = broker_process,
    adjust: Callable[[WorldSettings], None] | None = None,
    trace: Trace | None = None,
    log: bool = False,
) -> RunResult:
    """Run and judge. `adjust(settings)` may change the world's settings: planted bugs, other sizes. `log`: let the
    broker's log through."""
    settings = scenario.make_settings(stream(seed, "world settings"))
    if adjust is not None:
        adjust(settings)
    world = World(seed, process, settings, trace)
    workload = Workload(world)
    failure = ""
    began_s = world.loop.time()
    logging_was_off = logging.root.manager.disable
    if not log:
        logging.disable()
    try:
        world.loop.run_until_complete(workload.run(scenario, duration_s), limit_s=duration_s + HEALING_LIMIT_S)
        gc.collect()  # a failed task that nobody looked at speaks up when it is freed
        world.loop.raise_failure()
        anomalies = [anomaly for check in CHECKERS for anomaly in check(world.history)]
        failure = "\n".join(str(anomaly) for anomaly in anomalies[:20])
    except SimulationFailure:
        failure = traceback.format_exc()
    finally:
        logging.disable(logging_was_off)
    result = RunResult(
        scenario=scenario.name,
        seed=seed,
        digest=world.loop.trace.digest(),
        failure=failure,
        steps=world.loop.steps,
        simulated_s=world.loop.time() - began_s,
        acked_batches=sum(producer.acked_batches for producer in workload.producers),
        records_read=sum(reader.records_read for reader in [*workload.readers, workload.final]),
        fired=world.fired,
    )
    world.close()
    return result

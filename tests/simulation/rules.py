"""The rule machine: Hypothesis chooses workload and faults step by step, and shrinks what fails to a few steps.

Every step runs in a simulated world with the unmodified broker; at the end all faults are ended and the checkers judge.
`search` runs many examples and returns what was found. A finding is the shortest list of steps that still fails.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from benchmarks.verify.checkers import CHECKERS
from tests.simulation.broker_process import broker_process
from tests.simulation.errors import SimulationFailure
from tests.simulation.stepwise import Stepwise
from tests.simulation.world import BROKER, World, WorldSettings

_STEP_LIMIT_S = 60.0
_HEALING_LIMIT_S = 300.0

Adjust = Callable[[WorldSettings], None]

_PATIENT, _BRIEFLY, _AT_ONCE = 5.0, 0.05, 0.003
STAYS_S = st.sampled_from((_PATIENT, _BRIEFLY, _AT_ONCE))
"""How long the machine stays with a step that a client was told to do: to its end, or until it has just begun."""
SPELLS_S = st.sampled_from((0.1, 1.0, 4.0))
"""How long a fault that lasts does."""
STORE_FAULTS = {
    "refuses": "error_share",
    "loses replies": "lost_reply_share",
    "applies late": "late_apply_share",
    "breaks off bodies": "short_body_share",
    "corrupts bodies": "corrupt_body_share",
    "refuses its own put": "own_conflict_share",
}
METADATA_FAULTS = {
    "refuses transactions": "conflict_share",
    "is lost before the commit": "lost_before_commit_share",
    "loses the answer to the commit": "unknown_commit_share",
}


class Broken(AssertionError):
    """A run broke a promise. Says after which steps."""


@dataclass
class Tally:
    """What the examples of a search came to; `steps` are those of the last failing example, `failure` what it broke."""

    examples: int = 0
    acked_batches: int = 0
    records_read: int = 0
    fired: Counter[str] = field(default_factory=Counter)
    steps: list[str] = field(default_factory=list)
    failure: str = ""


class Rules(RuleBasedStateMachine):
    """One example: a world and what is done in it. `search` makes a machine of its own of it."""

    tally = Tally()
    adjust: Adjust | None = None
    outside_only = False

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []
        self._failed = False
        # Between two steps, too: the collector would run finalizers at moments that no choice decides.
        self._collecting = gc.isenabled()
        gc.disable()
        self._logging_was_off = logging.root.manager.disable
        logging.disable()

    def _step(self, text: str, step: Coroutine[Any, Any, Any] | None = None, limit_s: float = _STEP_LIMIT_S) -> None:
        if text:
            self.steps.append(text)
        try:
            if step is not None:
                self.world.loop.run_until_complete(step, limit_s=limit_s)
            self.world.loop.raise_failure()
        except SimulationFailure as failure:
            self._fail(str(failure), failure)

    def _fail(self, text: str, cause: Exception | None = None) -> None:
        self._failed = True
        self.tally.steps, self.tally.failure = list(self.steps), text
        lines = [f"  {number}. {step}" for number, step in enumerate(self.steps, start=1)]
        raise Broken("\n".join([text, "after", *lines])) from cause

    @initialize(seed=st.integers(0, 99), slow_disk=st.booleans(), small_wal=st.booleans())
    def begin(self, seed: int, slow_disk: bool, small_wal: bool) -> None:
        settings = WorldSettings()
        settings.disk.sync_max_s = 0.06 if slow_disk else 0.004
        settings.disk.stall_share = 0.0
        if small_wal:
            settings.segment_size_bytes = 64 * 1024
            settings.disk.recycle_share = 0.2
        if self.adjust is not None:
            self.adjust(settings)
        self.world = World(seed, broker_process, settings)
        self.clients = Stepwise(self.world)
        self._step(f"begin with seed {seed}, slow disk {slow_disk}, small WAL {small_wal}", self.clients.begin())

    # -- the workload

    @rule(retained=st.booleans(), batches=st.integers(1, 5), stay_s=STAYS_S)
    def produce_plain(self, retained: bool, batches: int, stay_s: float) -> None:
        self._produce("retained" if retained else "plain", batches, stay_s)

    @rule(batches=st.integers(1, 5), stay_s=STAYS_S)
    def produce_idempotent(self, batches: int, stay_s: float) -> None:
        self._produce("idempotent", batches, stay_s)

    @rule(batches=st.integers(1, 5), stay_s=STAYS_S)
    def produce_twice(self, batches: int, stay_s: float) -> None:
        """Each batch and its duplicate at once."""
        self._produce("twice", batches, stay_s)

    def _produce(self, kind: str, batches: int, stay_s: float) -> None:
        text = f"produce 1 to {batches} batches, {kind}, for {stay_s} s"
        self._step(text, self.clients.produce(kind, batches, stay_s))

    @rule(retained=st.booleans(), stay_s=STAYS_S)
    def consume(self, retained: bool, stay_s: float) -> None:
        what = " of the topic with retention" if retained else ""
        self._step(f"consume{what} for {stay_s} s", self.clients.consume(stay_s, retained=retained))

    @rule(earliest=st.booleans())
    def look(self, earliest: bool) -> None:
        self._step(
            f"ask for the {'first' if earliest else 'last'} offset",
            self.clients.look(earliest=earliest, stay_s=_PATIENT),
        )

    @rule(member=st.integers(0, 1), stay_s=STAYS_S)
    def commit(self, member: int, stay_s: float) -> None:
        self._step(f"member {member} commits, for {stay_s} s", self.clients.commit(member, stay_s))

    @rule(stay_s=STAYS_S)
    def topic(self, stay_s: float) -> None:
        """Delete the passing topic, or make it when there is none."""
        if self.clients.life.alive:
            self._step(f"delete the topic, for {stay_s} s", self.clients.delete_topic(stay_s))
        else:
            self._step(f"create a topic, for {stay_s} s", self.clients.create_topic(stay_s))

    @precondition(lambda self: self.clients.life.lives > 0)
    @rule(stay_s=STAYS_S)
    def write_to_topic(self, stay_s: float) -> None:
        self._step(f"produce to the created topic, for {stay_s} s", self.clients.write_to_topic(stay_s))

    @rule(action=st.sampled_from(("limits", "delete records")), stay_s=STAYS_S)
    def administer(self, action: str, stay_s: float) -> None:
        self._step(f"administer: {action}, for {stay_s} s", self.clients.administer(action, stay_s))

    @rule(seconds=st.sampled_from((0.01, 0.5, 3.0, 15.0)))
    def wait(self, seconds: float) -> None:
        self._step(f"let {seconds} s pass", asyncio.sleep(seconds))

    # -- the process and its host

    @precondition(lambda self: self.world.broker() is not None)
    @rule(power_cut=st.booleans(), stays_down=st.booleans())
    def kill(self, power_cut: bool, stays_down: bool) -> None:
        self.world.kill_broker(power_cut=power_cut, restart=not stays_down)
        text = "cut the power" if power_cut else "kill the broker"
        self._step(f"{text}, it {'stays down' if stays_down else 'starts again'}")

    @precondition(lambda self: self.world.broker() is not None)
    @rule(power_cut=st.booleans(), delay_ms=st.sampled_from((0, 1, 5, 30)))
    def kill_at_next_write(self, power_cut: bool, delay_ms: int) -> None:
        """Aimed at the moments between a write to the WAL and the acks that follow; it starts again by itself."""
        world = self.world

        def strike() -> None:
            if not self.over:
                world.kill_broker(power_cut=power_cut)

        world.disk.when_next_written(lambda: world.loop.call_world(delay_ms / 1000, strike))
        self._step(f"{'cut the power' if power_cut else 'kill the broker'} {delay_ms} ms after the next write begins")

    over = False

    @precondition(lambda self: self.world.broker() is None)
    @rule()
    def restart(self) -> None:
        self.world.start_broker()
        self._step("start the broker")

    @precondition(lambda self: (node := self.world.broker()) is not None and node.running())
    @rule(seconds=SPELLS_S)
    def pause(self, seconds: float) -> None:
        """It goes on after a while, or is killed meanwhile."""
        self.world.pause_broker(seconds)
        self._step(f"pause the broker for {seconds} s")

    # -- its devices

    @rule(what=st.sampled_from(sorted(STORE_FAULTS)), seconds=SPELLS_S)
    def store(self, what: str, seconds: float) -> None:
        self._spell(self.world.bucket.settings, STORE_FAULTS[what], seconds)
        self.world.bucket.settings.request_timeout_s = 1.0
        self.world.bucket.settings.late_apply_max_s = 5.0
        self._step(f"the store {what} for {seconds} s")

    @rule(down=st.booleans(), seconds=SPELLS_S)
    def slow_store(self, down: bool, seconds: float) -> None:
        if down:
            self.world.bucket.go_down(seconds)
        else:
            self.world.bucket.slow_down(seconds)
        self._step(f"the store {'is away' if down else 'asks to slow down'} for {seconds} s")

    @rule(what=st.sampled_from(sorted(METADATA_FAULTS)), seconds=SPELLS_S)
    def metadata(self, what: str, seconds: float) -> None:
        self._spell(self.world.metadata.settings, METADATA_FAULTS[what], seconds)
        self.world.metadata.settings.request_timeout_s = 0.5
        self._step(f"the metadata database {what} for {seconds} s")

    @rule(seconds=SPELLS_S)
    def metadata_outage(self, seconds: float) -> None:
        self.world.metadata.go_down(seconds)
        self._step(f"the metadata database is away for {seconds} s")

    def _spell(self, settings: Any, share: str, seconds: float) -> None:
        """Every second call fails: some go through, so that a fault may fall on each part of what takes many calls."""
        setattr(settings, share, 0.5)
        self.world.loop.call_world(seconds, setattr, settings, share, 0.0)

    @rule()
    def fail_sync(self) -> None:
        self.world.disk.fail_next_sync = True
        self._step("the next sync of the WAL fails")

    @rule(seconds=SPELLS_S)
    def fill_disk(self, seconds: float) -> None:
        self.world.disk.fill(seconds)
        self._step(f"the disk is full for {seconds} s")

    @rule(seconds=st.sampled_from((-600, -2, 2, 600)))
    def jump(self, seconds: int) -> None:
        self.world.clock.jump(seconds * 1000)
        self._step(f"the clock jumps by {seconds} s")

    # -- the network

    @rule()
    def reset(self) -> None:
        self.world.network.reset_one(BROKER)
        self._step("reset a connection")

    @rule(name=st.sampled_from(("plain", "idempotent", "twice", "member-1")), to_broker=st.booleans(), seconds=SPELLS_S)
    def partition(self, name: str, to_broker: bool, seconds: float) -> None:
        ends = (name, BROKER) if to_broker else (BROKER, name)
        self.world.network.block(*ends)
        self.world.loop.call_world(seconds, self.world.network.heal, *ends)
        self._step(f"nothing crosses from {ends[0]} to {ends[1]} for {seconds} s")

    # -- the end

    def teardown(self) -> None:
        """Heal, settle, read everything, judge."""
        try:
            if hasattr(self, "clients"):
                self._judge()
        finally:
            logging.disable(self._logging_was_off)
            if self._collecting:
                gc.enable()

    def _judge(self) -> None:
        world, tally = self.world, self.tally
        try:
            if self._failed:
                return
            self.over = True
            self._step("", self.clients.finish(), _HEALING_LIMIT_S)
            gc.collect()  # a failed task that nobody looked at speaks up when it is freed
            self._step("")
            if self.outside_only:
                anomalies = [anomaly for check in CHECKERS for anomaly in check(world.history)]
            else:
                anomalies = world.loop.run_until_complete(self.clients.judge())
            if anomalies:
                self._fail("\n".join(str(anomaly) for anomaly in anomalies[:20]))
            tally.examples += 1
        finally:
            world.close()
            tally.acked_batches += self.clients.pace.acked_batches
            tally.records_read += self.clients.records_read
            tally.fired.update(world.fired)


def search(
    examples: int,
    *,
    seed: int | None = None,
    steps: int = 25,
    adjust: Adjust | None = None,
    outside_only: bool = False,
    shrink: bool = True,
) -> Tally:
    """Run so many examples of at most `steps` steps; without a seed always the same ones. A failing one is shrunk, and
    then `failure` and `steps` of the result tell of it. `adjust`: plant a bug. `outside_only`: judge by what clients
    were told and nothing else."""
    tally = Tally()
    members = {"tally": tally, "outside_only": outside_only, "adjust": None if adjust is None else staticmethod(adjust)}
    machine = type("ChosenRules", (Rules,), members)
    chosen = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=steps,
        derandomize=seed is None,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        verbosity=hypothesis.Verbosity.quiet,
    )
    if seed is not None:
        machine = hypothesis.seed(seed)(machine)
    try:
        run_state_machine_as_test(machine, settings=chosen)
    except Broken:
        pass  # the tally tells
    return tally

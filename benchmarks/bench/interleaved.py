"""Several brokers measured in turn: every round runs a case on each of them, one right after the other.

The order turns with the round, so that no broker is always the one that finds a warm machine. The brokers may be
started here, pinned to given CPUs; their start is then measured, too.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks.bench import environment, noise, server
from benchmarks.bench.brokers import Broker, Started, start_broker, stop_broker
from benchmarks.bench.errors import BenchError
from benchmarks.bench.result import Result
from benchmarks.bench.run import run
from benchmarks.bench.table import Case, Row, Table, figures_of
from benchmarks.bench.target import Target
from benchmarks.bench.workload import Load, Workload

_WARM_UP = Workload(name="warm-up", duration_s=10, warmup_s=0, load=Load(rate=0, batch_size=16384))
"""A JIT compiler that shares one core with what it compiles begins at a fifteenth of the speed that it comes to, and
takes minutes: brokers that are started here do this, uncounted, until they are no more than a tenth faster."""
_WARM_UPS = 12
_WARM_RATIO = 1.1
_LEAST_FREE_BYTES = 4 << 30
"""For the brokers' data. What deleted topics held stays for a while: a matrix may need tens of GB."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A case: what is run, under its name and goals."""

    case: Case
    workload: Workload


@dataclass(slots=True)
class Gathered:
    """The rounds of one case on one broker."""

    figures: list[dict[str, float]] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Interleaved:
    """Runs plans on brokers in turn. Use as a context manager: brokers started here end with it."""

    def __init__(self, brokers: Sequence[Broker], server_cpus: set[int], say: Callable[[str], None]) -> None:
        names = [broker.name for broker in brokers]
        if len(set(names)) < len(names):
            raise BenchError(f"two brokers have the same name: {', '.join(names)}")
        self._brokers = list(brokers)
        self._cpus = server_cpus
        self._say = say
        self._started: dict[str, Started] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="weir-bench-")
        self._others: list[float] = []
        self._startups: dict[str, list[Started]] = {}

    def __enter__(self) -> Interleaved:
        return self

    def __exit__(self, *_: object) -> None:
        for started in self._started.values():
            stop_broker(started.process)
        self._folder.cleanup()

    def start(self, rounds: int) -> None:
        """Start the brokers that have a command, each this many times, in turn; the last ones stay."""
        to_start = [broker for broker in self._brokers if broker.start and not broker.like]
        for number in range(rounds):
            for broker in to_start:
                started = start_broker(broker, self._cpus, Path(self._folder.name) / f"{broker.name}-{number}")
                self._startups.setdefault(broker.name, []).append(started)
                self._say(f"{broker.name} started in {started.start_ms / 1000:.2f} s, {started.memory_mb:.0f} MB")
                if number + 1 < rounds:
                    stop_broker(started.process)
                else:
                    self._started[broker.name] = started
        for broker in self._brokers:
            if self._cpus and not broker.like and broker.name not in self._started:
                server.pin(self._target(broker).server_pids(), self._cpus)

    def _target(self, broker: Broker) -> Target:
        return Target(
            bootstrap=broker.bootstrap,
            name=broker.name,
            pids=broker.pids,
            metrics_url=broker.metrics,
            client=broker.client,
        )

    def _check_usable(self, broker: Broker) -> None:
        """BenchError when the rest of the cases could not be measured: a broker of ours has ended, or is about to."""
        started = self._started.get(broker.like or broker.name)
        if started is None:
            return
        if started.process.poll() is not None:
            code, tail = started.process.returncode, started.output_tail()
            raise BenchError(f"{broker.name}: its process ended with status {code}. The end of its output:\n{tail}")
        free = shutil.disk_usage(self._folder.name).free
        if free < _LEAST_FREE_BYTES:
            raise BenchError(
                f"{free / 1e9:.1f} GB are free where the brokers keep their data ({self._folder.name}), at least "
                f"{_LEAST_FREE_BYTES / 1e9:.1f} are needed: set TMPDIR to a larger disk, or let them delete sooner"
            )

    def _warm_up(self) -> None:
        for broker in self._brokers:
            best = 0.0
            for number in range(_WARM_UPS if broker.name in self._started else 0):
                self._check_usable(broker)
                reached = run(_WARM_UP, self._target(broker)).bytes_per_s / 1e6
                self._say(f"{broker.name}: warm-up {number + 1}, {reached:.1f} MB/s")
                if reached < _WARM_RATIO * best:
                    break
                best = max(best, reached)

    def _once(self, plan: Plan, broker: Broker, gathered: Gathered) -> Result | None:
        configs = plan.workload.topic_configs | broker.topic_configs
        workload = msgspec.structs.replace(plan.workload, topic_configs=configs, name=plan.case.name)
        self._check_usable(broker)
        try:
            result = run(workload, self._target(broker))
        except BenchError as error:
            gathered.failures.append(str(error))
            self._say(f"  {broker.name}: {error}")
            return None
        lost = [each for each in result.warnings if each.startswith("LOST")]
        gathered.failures.extend(lost)
        gathered.figures.append(figures_of(result))
        gathered.limits.append(result.limited_by)
        self._others.append(result.environment.others_share)
        return result

    def measure(
        self,
        plans: Sequence[Plan],
        rounds: int,
        save: Callable[[Table], None],
        name: str,
        text: str = "",
    ) -> Table:
        """All plans, `rounds` times on each broker; `save` gets the table after every case."""
        noted = environment.before()
        if not plans:
            raise BenchError("no case is selected")
        rows: list[Row] = self._startup_rows(rounds)
        self._warm_up()
        cases = (
            [
                Case(
                    name="start",
                    text="From the command to the first connection and the first acknowledged record; memory then.",
                    section="start",
                    goals=STARTUP_GOALS,
                )
            ]
            if rows
            else []
        )
        table: Table | None = None
        for plan in plans:
            gathered = {broker.name: Gathered() for broker in self._brokers}
            for number in range(rounds):
                turn = number % len(self._brokers)
                for broker in self._brokers[turn:] + self._brokers[:turn]:
                    self._say(f"{plan.case.name}, round {number + 1} of {rounds}: {broker.name}")
                    result = self._once(plan, broker, gathered[broker.name])
                    if result is not None:
                        self._say("  " + brief(figures_of(result), result.limited_by))
            cases.append(plan.case)
            rows.extend(self._rows(plan.case, gathered, rounds))
            pids = tuple(pid for broker in self._brokers for pid in self._target(broker).server_pids())
            others = statistics.median(self._others) if self._others else 0.0
            where = environment.environment(noted, ", ".join(b.name for b in self._brokers), pids, others)
            table = Table(
                name=name,
                text=text,
                measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
                environment=where,
                brokers=tuple(broker.name for broker in self._brokers),
                cases=tuple(cases),
                rows=tuple(rows),
            )
            save(table)
        assert table is not None
        return table

    def _rows(self, case: Case, gathered: dict[str, Gathered], rounds: int) -> list[Row]:
        first = gathered[self._brokers[0].name].figures
        rows = []
        for number, broker in enumerate(self._brokers):
            found = gathered[broker.name]
            metrics = (
                [metric for metric in found.figures[0] if all(metric in each for each in found.figures)]
                if found.figures
                else []
            )
            figures = {metric: noise.figure([each[metric] for each in found.figures]) for metric in metrics}
            ratios = {}
            if number:
                for metric in metrics:
                    if first and all(metric in each for each in first):
                        made = noise.ratio([each[metric] for each in first], [each[metric] for each in found.figures])
                        if made is not None:
                            ratios[metric] = made
            rows.append(
                Row(
                    case=case.name,
                    broker=broker.name,
                    rounds=len(found.figures),
                    figures=figures,
                    ratios=ratios,
                    limited_by=max(found.limits, key=found.limits.count) if found.limits else "",
                    failure="; ".join(dict.fromkeys(found.failures)),
                )
            )
        return rows

    def _startup_rows(self, rounds: int) -> list[Row]:
        if not self._startups:
            return []
        values = {
            name: [
                {"start_ms": each.start_ms, "first_ack_ms": each.first_ack_ms, "memory_mb": each.memory_mb}
                for each in found
            ]
            for name, found in self._startups.items()
        }
        gathered = {broker.name: Gathered(figures=values.get(broker.name, [])) for broker in self._brokers}
        rows = self._rows(Case(name="start"), gathered, rounds)
        return [row for row in rows if row.figures]


STARTUP_GOALS = {"*": {"start_ms": 0.25, "first_ack_ms": 0.25, "memory_mb": 0.2}}


def brief(figures: dict[str, float], limited_by: str) -> str:
    """One line of a run's figures."""
    shown = (
        "mb_per_s",
        "ack_p50_ms",
        "ack_p99_ms",
        "end_to_end_p99_ms",
        "catch_up_mb_per_s",
        "cpu_us_per_mb",
        "memory_mb",
    )
    return ", ".join(f"{name} {figures[name]:,.4g}" for name in shown if name in figures) + f", limited by {limited_by}"

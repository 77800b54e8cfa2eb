"""Several brokers measured in turn: every round runs a case on each of them, one right after the other.

The order turns with the round, so that no broker is always the one that finds a warm machine. The brokers may be
started here, pinned to given CPUs; their start is then measured, too.
"""

from __future__ import annotations

import os
import shlex
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from benchmarks.bench import environment, noise, server
from benchmarks.bench.errors import BenchError
from benchmarks.bench.result import Result
from benchmarks.bench.run import run
from benchmarks.bench.table import Case, Row, Table, figures_of
from benchmarks.bench.target import Target
from benchmarks.bench.workload import Workload


class Broker(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """One broker to measure. With `start` it is started here: a command that stays in the foreground; `{dir}` in it
    becomes an empty folder. `topic_configs` are added to every case's, such as `flush.messages=1`. `like` names
    another broker whose process this one shares, with other topic settings."""

    name: str
    bootstrap: str
    prepare: str = ""  # run before it is started, and not timed
    start: str = ""
    like: str = ""
    metrics: str = ""
    pids: tuple[int, ...] = ()
    topic_configs: dict[str, str] = {}
    client: dict[str, str] = {}
    limit_s: float = 90.0  # to start


@dataclass(frozen=True, slots=True)
class Plan:
    """A case: what is run, under its name and goals."""

    case: Case
    workload: Workload


@dataclass(slots=True)
class Started:
    """A broker's process and what its start took."""

    process: subprocess.Popen[bytes]
    start_ms: float
    memory_mb: float


@dataclass(slots=True)
class Gathered:
    """The rounds of one case on one broker."""

    figures: list[dict[str, float]] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def start_broker(broker: Broker, cpus: set[int], folder: Path) -> Started:
    """Run the broker's command until its port answers. BenchError with the end of its output when it does not."""
    host, _, port = broker.bootstrap.rpartition(":")
    if _answers(host, int(port)):
        raise BenchError(f"{broker.name}: something already listens on {broker.bootstrap}")
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "output.log"
    if broker.prepare:
        _prepare(broker, folder)
    command = shlex.split(broker.start.replace("{dir}", str(folder)))
    with log.open("wb") as output:
        began = time.monotonic()
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=(lambda: os.sched_setaffinity(0, cpus)) if cpus else None,
            )
        except OSError as error:
            raise BenchError(f"{broker.name}: {command[0]}: {error.strerror}") from None
    while not _answers(host, int(port)):
        if process.poll() is not None or time.monotonic() - began > broker.limit_s:
            stop_broker(process)
            tail = log.read_text(errors="replace")[-1000:]
            raise BenchError(f"{broker.name} did not start within {broker.limit_s:g} s:\n{tail}")
        time.sleep(0.005)
    took_ms = (time.monotonic() - began) * 1000
    time.sleep(1.0)
    pids = server.listening_pids(int(port)) or (process.pid,)
    return Started(process, took_ms, server.usage(pids).rss / 1e6)


def _prepare(broker: Broker, folder: Path) -> None:
    command = shlex.split(broker.prepare.replace("{dir}", str(folder)))
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{broker.name}: {broker.prepare}: {error}") from None
    if done.returncode:
        raise BenchError(f"{broker.name}: {broker.prepare} failed:\n{done.stdout}{done.stderr}"[-1000:])


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def stop_broker(process: subprocess.Popen[bytes]) -> None:
    """End a broker that was started here: politely, after 20 seconds not."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


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

    def _once(self, plan: Plan, broker: Broker, gathered: Gathered) -> Result | None:
        configs = plan.workload.topic_configs | broker.topic_configs
        workload = msgspec.structs.replace(plan.workload, topic_configs=configs, name=plan.case.name)
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
        rows: list[Row] = self._startup_rows(rounds)
        cases = (
            [
                Case(
                    name="start",
                    text="From the command to the first connection; resident memory a second later.",
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
        if table is None:
            raise BenchError("no case is selected")
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
            name: [{"start_ms": each.start_ms, "memory_mb": each.memory_mb} for each in found]
            for name, found in self._startups.items()
        }
        gathered = {broker.name: Gathered(figures=values.get(broker.name, [])) for broker in self._brokers}
        rows = self._rows(Case(name="start"), gathered, rounds)
        return [row for row in rows if row.figures]


STARTUP_GOALS = {"*": {"start_ms": 0.25, "memory_mb": 0.2}}


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

"""`python -m benchmarks.cost_model`: the CPU time of a Produce request, beside the least it could cost.

Starts `benchmarks.floor` and Weir and asks them in turn, a quarter of a second each, so that a machine that is shared
slows all of them: microseconds of CPU for a request, for a further partition in it and for a KiB (medians), and the
ratio to the floor (median over rounds of the ratio in one round). `--also NAME=PYTHON` adds a Weir that another Python
has installed, as a compiled one in a venv.

Weir's log is in memory, and its store keeps nothing: what a store costs is no part of a request. Once with uploads put
off, as the floor has none, and once with everything on. A KiB is measured with uploads only: the log would fill up
without them.

Servers run on core 0, this program on core 1. Memory for all of them: 3 GB.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from typing_extensions import Buffer

from benchmarks.hot_path import BrokerError, Client, Producer, create_topic, run
from benchmarks.instructions import free_port
from broker.adapters import Adapters, SystemClock
from broker.cli.serve import run_broker
from broker.settings import Settings, settings_of
from s3stream.meta.sqlite import open_sqlite
from s3stream.stores.memory import MemoryObjectStore
from s3stream.wal.device_memory import MemoryWalDevice

_PARTITIONS = 50
_CASES = {"small": (1 << 10, 1, 16), "many": (1 << 10, _PARTITIONS, 4), "large": (1 << 20, 1, 4)}
"""Bytes of a batch, partitions, requests in flight."""
_START_S = 30
_SETTLE_S = 3
_STEADY_S = 1.0
"""Of each case before the first round: until memory is used again and not new."""
_SERVER_CORE, _CLIENT_CORE = "0", 1
_WEIR = {"data.dir": "memory:", "http.port": -1, "cache.tail.bytes": 64 << 20}
_PUT_OFF = {
    "upload.interval.ms": 3_600_000,
    "upload.size.bytes": 500 << 20,
    "upload.backlog.max.bytes": 2000 << 20,
    "cache.tail.bytes": 2000 << 20,
}


class NoStore(MemoryObjectStore):
    """Takes objects and keeps their names."""

    async def put(self, key: str, body: Sequence[Buffer], *, if_absent: bool = False) -> None:
        await super().put(key, (), if_absent=if_absent)


async def _adapters(settings: Settings) -> Adapters:
    rng = random.SystemRandom()
    device = MemoryWalDevice(settings.wal.segment_size_bytes)
    return Adapters(SystemClock(), rng, "cost-model", device, NoStore(), await open_sqlite(":memory:"))


def serve(port: int, put_off: bool) -> int:
    """Weir without disk and store, until it is told to stop."""
    settings = {**_WEIR, "listeners": f"PLAINTEXT://127.0.0.1:{port}", **(_PUT_OFF if put_off else {})}
    return run_broker(settings_of(settings), _adapters)


class Server:
    """One that is measured, with a producer to it."""

    def __init__(self, client: Client, pid: int, cases: Sequence[str]) -> None:
        create_topic(client, "cost-model", _PARTITIONS)
        self._producer = Producer(client, "cost-model", _PARTITIONS)
        self._pid = pid
        self.cases = cases
        self.rounds: list[dict[str, float]] = []

    def measure(self, case: str, seconds: float) -> float:
        """Microseconds of CPU for a request."""
        size, partitions, in_flight = _CASES[case]
        return run(self._producer, size, partitions, in_flight, seconds, self._pid).cpu_us


@contextmanager
def started(python: str, arguments: Sequence[str], port: int, cases: Sequence[str]) -> Iterator[Server]:
    """A server in a process of its own. BrokerError with its last words if it does not listen."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        # In a folder of its own: a checkout that is the current one would come before what `python` has installed.
        command = ["taskset", "-c", _SERVER_CORE, python, "-m", *arguments]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            yield Server(_connect(process, port, Path(folder) / "log"), process.pid, cases)
        finally:
            process.kill()
            process.wait()


def _connect(process: subprocess.Popen[bytes], port: int, log: Path) -> Client:
    until = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < until:
        try:
            return Client(f"127.0.0.1:{port}")
        except OSError:
            time.sleep(0.1)
    raise BrokerError(f"a server does not listen: {log.read_text()[-500:]}")


def costs(us: dict[str, float], kib_us: float) -> tuple[float, float]:
    """Of a request and of a further partition in it, without their KiB."""
    return us["small"] - kib_us, (us["many"] - us["small"]) / (_PARTITIONS - 1) - kib_us


def terms(servers: dict[str, Server], name: str, number: int) -> tuple[float, ...]:
    """A request, a further partition and, where it was measured, a KiB in one round; else the floor's is taken off."""
    us, floor = servers[name].rounds[number], servers["floor"].rounds[number]
    large = us if "large" in us else floor
    kib_us = (large["large"] - large["small"]) / (_CASES["large"][0] / 1024 - 1)
    return (*costs(us, kib_us), kib_us)[: len(us)]


def report(servers: dict[str, Server], rounds: int) -> None:
    """A line for each server."""
    floor = [terms(servers, "floor", number) for number in range(rounds)]
    print(f"{'us of CPU (x floor)':<28}{'a request':>16}{'a partition':>16}{'a KiB':>16}")
    for name in servers:
        found = [terms(servers, name, number) for number in range(rounds)]
        cells = []
        for column in range(len(found[0])):
            ratio = median(mine[column] / least[column] for mine, least in zip(found, floor, strict=True))
            cells.append(f"{median(each[column] for each in found):.1f} ({ratio:.2f}x)")
        print(f"{name:<28}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost_model", description=__doc__)
    parser.add_argument("--also", action="append", default=[], metavar="NAME=PYTHON", help="another Weir")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=0.25, help="of a case in a round")
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    parser.add_argument("--put-off", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(arguments.serve, arguments.put_off)
    os.sched_setaffinity(0, {_CLIENT_CORE})
    pythons = {"Weir": sys.executable, **dict(each.split("=", 1) for each in arguments.also)}
    servers: dict[str, Server] = {}
    with ExitStack() as stack:
        port = free_port()
        served = started(sys.executable, ["benchmarks.floor", str(port)], port, list(_CASES))
        servers["floor"] = stack.enter_context(served)
        for name, python in pythons.items():
            for uploads, options, cases in (
                ("uploads put off", ["--put-off"], ["small", "many"]),
                ("everything on", [], list(_CASES)),
            ):
                port = free_port()
                served = started(python, ["benchmarks.cost_model", "--serve", str(port), *options], port, cases)
                servers[f"{name}, {uploads}"] = stack.enter_context(served)
        time.sleep(_SETTLE_S)
        for case in _CASES:
            for server in servers.values():
                if case in server.cases:
                    server.measure(case, _STEADY_S)
        for _ in range(arguments.rounds):
            for server in servers.values():
                server.rounds.append({})
            for case in _CASES:
                for server in servers.values():
                    if case in server.cases:
                        server.rounds[-1][case] = server.measure(case, arguments.seconds)
        report(servers, arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())

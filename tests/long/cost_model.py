"""`python -m tests.long.cost_model`: the CPU time of a Produce request, beside the least it could cost.

Starts `benchmarks.floor` and Weir and asks them in turn, some hundredths of a second each, so that a machine that is
shared slows all of them: microseconds of CPU for a request, for a further partition in it and for a KiB (medians), and
the ratio to the floor (median over rounds of the ratio in one round). `--also NAME=PYTHON` adds a Weir that another
Python has installed, as a compiled one in a venv.

Weir's log is in memory, its store keeps nothing (`storeless_broker.py`): what a store costs is no part of a request.
Uploads, which the floor does not have, are counted apart: what the slices of a case have appended is uploaded after
them, before the next case begins. That is more than uploads cost in use, where their fixed part is shared by 30 s or
32 MiB of records.

Servers run on core 0, this program on core 1. Each Weir takes about 0.5 GB.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

from benchmarks.hot_path import BrokerError, Client, Figures, Producer, cpu_seconds, create_topic, run
from benchmarks.instructions import free_port
from tests.long.storeless_broker import UPLOAD_AFTER_S, UPLOAD_BYTES

_PARTITIONS = 50
_CASES = {
    "small": (1 << 10, 1, 16, 0.04, 4),
    "many": (1 << 10, _PARTITIONS, 4, 0.02, 4),
    "large": (1 << 20, 1, 4, 0.01, 1),
}
"""Bytes of a batch, partitions, requests in flight, for how many seconds requests are sent in a slice, slices in a
round: all of them append less than one upload holds."""
_START_S = 30
_SETTLE_S = 3
_STEADY_S = 1.5
"""Of each case before the first round: until most memory is used again and not new."""
_UPLOADED_S = UPLOAD_AFTER_S + 0.6
"""From the last slice of a case to the end of what it has to upload."""
_IDLE_SAMPLES = 5
_SERVER_CORE, _CLIENT_CORE = "0", 1
_STORELESS = Path(__file__).with_name("storeless_broker.py")
_CHECKOUT = Path(__file__).parents[2]


class Server:
    """One that is measured, with a producer to it. `rounds` has the CPU of a request in us by case, `uploads` what its
    upload took."""

    def __init__(self, client: Client, pid: int) -> None:
        create_topic(client, "cost-model", _PARTITIONS)
        self._producer = Producer(client, "cost-model", _PARTITIONS)
        self._pid = pid
        self._before_s = self._began_s = 0.0
        self._idle_s: list[float] = []
        self._slices: list[Figures] = []
        self.rounds: list[dict[str, float]] = []
        self.uploads: list[dict[str, float]] = []

    def warm_up(self) -> None:
        """Until memory is used again."""
        for case in _CASES:
            self._run(case, _STEADY_S)

    def measure(self, case: str) -> None:
        """A slice."""
        if not self._slices:
            self._began_s = time.monotonic()
        self._slices.append(self._run(case, _CASES[case][3]))

    def pause(self) -> None:
        """From now on the server does nothing but to upload what the slices have appended. BrokerError if that may
        have begun before."""
        if self._slices and time.monotonic() - self._began_s >= UPLOAD_AFTER_S:
            raise BrokerError(f"the slices of a case took longer than {UPLOAD_AFTER_S} s: too many servers, or a stall")
        self._before_s = cpu_seconds(self._pid)

    def paused(self, case: str | None) -> None:
        """The upload is over: note what the slices of `case` have cost; without one, what it costs to do nothing.
        BrokerError if more was appended than is held back from uploads."""
        used_s = cpu_seconds(self._pid) - self._before_s
        if case is None:
            self._idle_s.append(used_s)
            return
        slices, self._slices = self._slices, []
        requests = sum(each.requests for each in slices)
        if requests * slices[0].kib * 1024 >= UPLOAD_BYTES * 0.9:  # headers come on top
            raise BrokerError(f"{requests} requests of the case {case!r} do not fit one upload of {UPLOAD_BYTES} bytes")
        self.rounds[-1][case] = sum(each.cpu_us * each.requests for each in slices) / requests
        self.uploads[-1][case] = (used_s - median(self._idle_s)) / requests * 1e6

    def _run(self, case: str, seconds: float) -> Figures:
        size, partitions, in_flight, _, _ = _CASES[case]
        return run(self._producer, size, partitions, in_flight, seconds, self._pid)


def pause(servers: Sequence[Server], case: str | None = None) -> None:
    """All of them upload what they have."""
    for server in servers:
        server.pause()
    time.sleep(_UPLOADED_S)
    for server in servers:
        server.paused(case)


@contextmanager
def started(python: str, arguments: Sequence[str], port: int) -> Iterator[Server]:
    """A server in a process of its own. Our own Python runs the checkout, another one what it has installed.
    BrokerError with the server's last words if it does not listen."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        environment = {**os.environ, "PYTHONPATH": str(_CHECKOUT) if python == sys.executable else ""}
        command = ["taskset", "-c", _SERVER_CORE, os.path.abspath(python), "-P", *arguments]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env=environment)
        try:
            yield Server(_connect(process, port, Path(folder) / "log"), process.pid)
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


def terms(us: dict[str, float]) -> tuple[float, float, float]:
    """A request, a further partition in it, a KiB."""
    kib_us = (us["large"] - us["small"]) / (_CASES["large"][0] / 1024 - 1)
    return us["small"] - kib_us, (us["many"] - us["small"]) / (_PARTITIONS - 1) - kib_us, kib_us


def report(servers: dict[str, Server]) -> None:
    """A line for each server."""
    columns = ("a request", "a partition", "a KiB")
    print("us of CPU (x floor) + upload " + "".join(f"{column:>24}" for column in columns))
    floor = list(map(terms, servers["floor"].rounds))
    for name, server in servers.items():
        found, uploads = list(map(terms, server.rounds)), list(map(terms, server.uploads))
        cells = []
        for column in range(len(columns)):
            ratio = median(mine[column] / least[column] for mine, least in zip(found, floor, strict=True))
            cell = f"{median(each[column] for each in found):.2f} ({ratio:.2f}x)"
            cells.append(f"{cell} + {median(each[column] for each in uploads):.2f}")
        print(f"{name:<29}" + "".join(f"{cell:>24}" for cell in cells), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long.cost_model", description=__doc__)
    parser.add_argument("--also", action="append", default=[], metavar="NAME=PYTHON", help="another Weir")
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {_CLIENT_CORE})
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it ends the servers, too
    pythons = {"Weir": sys.executable, **dict(each.split("=", 1) for each in arguments.also)}
    servers: dict[str, Server] = {}
    with ExitStack() as stack:
        port = free_port()
        served = started(sys.executable, ["-m", "benchmarks.floor", str(port)], port)
        servers["floor"] = stack.enter_context(served)
        for name, python in pythons.items():
            port = free_port()
            served = started(python, [str(_STORELESS), str(port)], port)
            servers[name] = stack.enter_context(served)
        time.sleep(_SETTLE_S)
        for server in servers.values():
            server.warm_up()
        order = list(servers.values())
        time.sleep(_UPLOADED_S)
        for _ in range(_IDLE_SAMPLES):
            pause(order)
        for _ in range(arguments.rounds):
            for server in order:
                server.rounds.append({})
                server.uploads.append({})
            for case, (*_, slices) in _CASES.items():
                for server in order * slices:
                    server.measure(case)
                pause(order, case)
            order = [*order[1:], order[0]]
        report(servers)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokerError as error:
        sys.exit(f"cost_model: {error}")

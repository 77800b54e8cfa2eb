"""`python -m tests.long.cost_model`: the CPU time of a Produce request, beside the least it could cost.

Starts `benchmarks.floor` and Weir and asks them in turn, a fifth of a second each, so that a machine that is shared
slows all of them: microseconds of CPU for a request, for a further partition in it and for a KiB (medians), and the
ratio to the floor (median over rounds of the ratio in one round). `--also NAME=PYTHON` adds a Weir that another Python
has installed, as a compiled one in a venv.

Weir's log is in memory, its store keeps nothing (`storeless_broker.py`): what a store costs is no part of a request.
Uploads, which the floor does not have, are counted apart: what a slice has appended is uploaded after it, before the
next one begins.

Servers run on core 0, this program on core 1. Each Weir takes about 1 GB.
"""

from __future__ import annotations

import argparse
import os
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

_PARTITIONS = 50
_CASES = {"small": (1 << 10, 1, 16), "many": (1 << 10, _PARTITIONS, 4), "large": (1 << 20, 1, 4)}
"""Bytes of a batch, partitions, requests in flight."""
_START_S = 30
_SETTLE_S = 3
_STEADY_S = 1.5
"""Of each case before the first round: until memory is used again and not new."""
_UPLOADED_S = 1.0
"""From the end of a slice to that of its upload, which begins `UPLOAD_AFTER_S` after the slice's first record."""
_SERVER_CORE, _CLIENT_CORE = "0", 1
_STORELESS = Path(__file__).with_name("storeless_broker.py")


class Server:
    """One that is measured, with a producer to it. `rounds` has the CPU of a request in us by case, `uploads` what its
    upload took."""

    def __init__(self, client: Client, pid: int, uploads: bool) -> None:
        create_topic(client, "cost-model", _PARTITIONS)
        self._producer = Producer(client, "cost-model", _PARTITIONS)
        self._pid, self._has_uploads = pid, uploads
        self._idle = 0.0
        self.rounds: list[dict[str, float]] = []
        self.uploads: list[dict[str, float]] = []

    def warm_up(self) -> None:
        """Until memory is used again, and what it costs to do nothing is known."""
        for case in _CASES:
            self._run(case, _STEADY_S)
        if self._has_uploads:
            time.sleep(_UPLOADED_S)
            before = cpu_seconds(self._pid)
            time.sleep(_UPLOADED_S)
            self._idle = cpu_seconds(self._pid) - before

    def measure(self, case: str, seconds: float) -> None:
        """A slice, and the upload of it."""
        figures = self._run(case, seconds)
        self.rounds[-1][case] = figures.cpu_us
        before = cpu_seconds(self._pid)
        if self._has_uploads:
            time.sleep(_UPLOADED_S)
        uploading = max(0.0, cpu_seconds(self._pid) - before - self._idle)
        self.uploads[-1][case] = uploading / figures.requests * 1e6

    def _run(self, case: str, seconds: float) -> Figures:
        size, partitions, in_flight = _CASES[case]
        return run(self._producer, size, partitions, in_flight, seconds, self._pid)


@contextmanager
def started(python: str, arguments: Sequence[str], port: int, *, uploads: bool) -> Iterator[Server]:
    """A server in a process of its own. BrokerError with its last words if it does not listen."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+") as log:
        # In a folder of its own: a checkout that is the current one would come before what `python` has installed.
        command = ["taskset", "-c", _SERVER_CORE, python, "-P", *arguments]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
        try:
            yield Server(_connect(process, port, Path(folder) / "log"), process.pid, uploads)
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
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=0.2, help="of a case in a round")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {_CLIENT_CORE})
    pythons = {"Weir": sys.executable, **dict(each.split("=", 1) for each in arguments.also)}
    servers: dict[str, Server] = {}
    with ExitStack() as stack:
        port = free_port()
        served = started(sys.executable, ["-m", "benchmarks.floor", str(port)], port, uploads=False)
        servers["floor"] = stack.enter_context(served)
        for name, python in pythons.items():
            port = free_port()
            served = started(python, [str(_STORELESS), str(port)], port, uploads=True)
            servers[name] = stack.enter_context(served)
        time.sleep(_SETTLE_S)
        for server in servers.values():
            server.warm_up()
        for _ in range(arguments.rounds):
            for server in servers.values():
                server.rounds.append({})
                server.uploads.append({})
            for case in _CASES:
                for server in servers.values():
                    server.measure(case, arguments.seconds)
        report(servers)
    return 0


if __name__ == "__main__":
    sys.exit(main())

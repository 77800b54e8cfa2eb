"""`python -m benchmarks.instructions`: what a Produce request costs in instructions, beside the least it could cost.

Runs the broker in memory, then `benchmarks.floor`, each under callgrind (Debian: valgrind), and counts the
instructions of a fixed number of requests. Unlike times these repeat, whatever else the machine does: a request and a
partition within 3 %, a KiB within 10 %. Not in them: the kernel, and what caches and memory cost. Uploads are put off
but for those that the size of the records demands. Takes two minutes or more.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.hot_path import BrokerError, Client, Producer, Request, create_topic, error_of

_CASES = ((1 << 10, 1, 16, 1200), (1 << 10, 50, 4, 150), (1 << 20, 1, 4, 60))
"""Bytes of a batch, partitions, requests in flight, requests."""
_BROKER = ["data.dir=memory:", "http.port=-1", "upload.interval.ms=3600000"]
_SETTLE_S = 12
"""Under callgrind a start takes its time; what it still does then would be counted."""
_WAIT_S = 120


class Counted:
    """A server under callgrind that counts only when told to."""

    def __init__(self, command: list[str], port: int, folder: Path) -> None:
        self._folder, self._port = folder, port
        out = f"--callgrind-out-file={folder}/out"
        valgrind = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no", out]
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen([*valgrind, *command], stdout=self._log, stderr=self._log)

    def connect(self) -> Client:
        """Once it listens. BrokerError with its last words if it ends before that."""
        until = time.monotonic() + _WAIT_S
        while time.monotonic() < until and self._process.poll() is None:
            try:
                client = Client(f"127.0.0.1:{self._port}")
            except OSError:
                time.sleep(0.2)
            else:
                client.socket.settimeout(_WAIT_S)
                return client
        raise BrokerError(f"the server does not listen: {(self._folder / 'log').read_text()[-500:]}")

    def _control(self, *options: str) -> None:
        subprocess.run(["callgrind_control", *options, str(self._process.pid)], check=True, capture_output=True)

    def begin(self) -> None:
        self._control("--instr=on")
        self._control("--zero")

    def end(self) -> int:
        """Instructions since `begin`."""
        before = set(self._folder.glob("out.*"))
        self._control("--dump=case")
        until = time.monotonic() + _WAIT_S
        while time.monotonic() < until:
            for path in set(self._folder.glob("out.*")) - before:
                if found := re.search(r"^totals: (\d+)", path.read_text(), re.MULTILINE):
                    self._control("--instr=off")
                    return int(found[1])
            time.sleep(0.1)
        raise BrokerError("callgrind wrote no figures")

    def stop(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._log.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def send(producer: Producer, size_bytes: int, partitions: int, in_flight: int, count: int) -> None:
    """`count` requests. BrokerError if one is refused."""
    client, request = producer.client, Request(producer, size_bytes, partitions)
    sent = 0
    for received in range(count):
        while sent < count and sent - received < in_flight:
            request.renew(sent)
            client.socket.sendall(request.frame)
            sent += 1
        answer = client.receive()
        # One that is refused breaks the sequence: so is the last one then.
        if received in (0, count - 1) and (code := error_of(answer)):
            raise BrokerError(f"Produce answered error {code}")


def measure(command: list[str], port: int) -> tuple[float, float, float]:
    """Thousands of instructions for a request, a further partition in it, a KiB."""
    with tempfile.TemporaryDirectory() as folder:
        server = Counted(command, port, Path(folder))
        try:
            client = server.connect()
            partitions = max(case[1] for case in _CASES)
            create_topic(client, "instructions", partitions)
            producer = Producer(client, "instructions", partitions)
            time.sleep(_SETTLE_S)
            costs = []
            for size, number, in_flight, count in _CASES:
                send(producer, size, number, in_flight, 50)
                server.begin()
                send(producer, size, number, in_flight, count)
                costs.append(server.end() / count / 1000)
        finally:
            server.stop()
    small, many, large = costs
    kib = (large - small) / (_CASES[2][0] / 1024 - 1)
    return small - kib, (many - small) / (partitions - 1) - kib, kib


def main() -> int:
    port = free_port()
    settings = [*_BROKER, f"listeners=PLAINTEXT://127.0.0.1:{port}"]
    weir = [sys.executable, "-m", "broker", "serve", *(part for each in settings for part in ("--set", each))]
    figures = {}
    for name, command, at in (
        ("Weir", weir, port),
        ("floor", [sys.executable, "-m", "benchmarks.floor", str(free := free_port())], free),
    ):
        figures[name] = measure(command, at)
        request, partition, kib = figures[name]
        costs = f"{request:.1f} a request + {partition:.1f} a further partition + {kib:.2f} a KiB"
        print(f"{name:<6} {costs} (thousand instructions)", flush=True)
    ratios = [ours / least for ours, least in zip(figures["Weir"], figures["floor"], strict=True)]
    print("ratio  {:.2f}, {:.2f}, {:.2f}".format(*ratios))
    return 0


if __name__ == "__main__":
    sys.exit(main())

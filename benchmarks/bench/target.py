"""The broker to measure, and its processes."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from benchmarks.bench import server
from benchmarks.bench.errors import BenchError
from benchmarks.bench.prices import DEFAULT


@dataclass(frozen=True, slots=True)
class Target:
    """The broker to measure. `pids` empty: found from the listening port when the address is of this machine."""

    bootstrap: str
    name: str = ""
    pids: tuple[int, ...] = ()
    metrics_url: str = ""
    client: dict[str, str] = field(default_factory=dict)  # librdkafka properties for all clients: security, for one
    prices: dict[str, float] = field(default_factory=lambda: dict(DEFAULT))
    keep_topics: bool = False

    def server_pids(self) -> tuple[int, ...]:
        """The broker's processes."""
        if self.pids:
            for pid in self.pids:
                if not os.path.exists(f"/proc/{pid}"):
                    raise BenchError(f"--server-pid {pid}: there is no such process")
            return self.pids
        found: set[int] = set()
        for address in self.bootstrap.split(","):
            host, _, port = address.strip().rpartition(":")
            if (host.startswith("127.") or host in ("localhost", "[::1]")) and port.isdigit():
                found.update(server.listening_pids(int(port)))
        return tuple(sorted(found))


def broker_name(pids: tuple[int, ...]) -> str:
    """What the command line of the processes says they are; empty when it says nothing."""
    for pid in pids:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read()
        except OSError:
            continue
        if b"kafka.Kafka" in line:
            return "Apache Kafka"
        if b"weir" in line or b"broker" in line:
            return "Weir"
    return ""

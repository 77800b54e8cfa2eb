"""What the broker's processes use, from /proc, and what its metrics page says: nothing inside the broker is touched."""

from __future__ import annotations

import os
import re
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """Sums over the processes, at one moment."""

    cpu_s: float = 0.0
    rss: int = 0
    context_switches: int = 0


def usage(pids: Iterable[int], *, switches: bool = False) -> Usage:
    """What these processes have used; one that has ended counts as nothing. Switches cost a file per thread."""
    cpu_s, rss, count = 0.0, 0, 0
    for pid in pids:
        root = Path(f"/proc/{pid}")
        try:
            fields = (root / "stat").read_text().rpartition(") ")[2].split()
            cpu_s += (int(fields[11]) + int(fields[12])) / _TICKS
            rss += int(fields[21]) * _PAGE
            if switches:
                count += sum(_switches(task) for task in (root / "task").iterdir())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return Usage(cpu_s, rss, count)


def _switches(task: Path) -> int:
    try:
        text = (task / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(each) for each in re.findall(r"voluntary_ctxt_switches:\s+(\d+)", text))


def ended(pids: Iterable[int]) -> bool:
    """Whether one of these processes is there no longer."""
    return any(not os.path.exists(f"/proc/{pid}") for pid in pids)


def listening_pids(port: int) -> tuple[int, ...]:
    """The processes that listen on this TCP port of this machine, as far as we may see."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except FileNotFoundError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return ()
    return tuple(sorted(pid for pid in _all_pids() if _holds(pid, inodes)))


def _all_pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def _holds(pid: int, inodes: set[str]) -> bool:
    try:
        for entry in os.listdir(f"/proc/{pid}/fd"):
            try:
                if os.readlink(f"/proc/{pid}/fd/{entry}") in inodes:
                    return True
            except FileNotFoundError:
                continue
    except (PermissionError, FileNotFoundError, ProcessLookupError):
        return False
    return False


def pin(pids: Iterable[int], cpus: set[int]) -> None:
    """Bind every thread of these processes to these CPUs, as `taskset -a -p` does."""
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            try:
                os.sched_setaffinity(int(task), cpus)
            except ProcessLookupError:
                continue


def cpuset(pids: Iterable[int]) -> str:
    """The CPUs these processes may use, like `0-1,4`; empty when there are none."""
    cpus: set[int] = set()
    for pid in pids:
        try:
            cpus |= os.sched_getaffinity(pid)
        except ProcessLookupError:
            continue
    return spans(cpus)


def spans(cpus: Iterable[int]) -> str:
    """A set of numbers as `0-1,4`."""
    parts: list[list[int]] = []
    for cpu in sorted(cpus):
        if parts and cpu == parts[-1][1] + 1:
            parts[-1][1] = cpu
        else:
            parts.append([cpu, cpu])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def parse_spans(text: str) -> set[int]:
    """The numbers of `0-1,4`; ValueError when it is not of that form."""
    cpus: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        cpus.update(range(int(first), int(last if dash else first) + 1))
    return cpus


@dataclass(frozen=True, slots=True)
class StoreUse:
    """Object-store requests and bytes by class, as Weir counts them."""

    requests: dict[str, int] = field(default_factory=dict)
    request_bytes: dict[str, int] = field(default_factory=dict)

    def since(self, earlier: StoreUse) -> StoreUse:
        """The difference."""
        return StoreUse(
            {name: n - earlier.requests.get(name, 0) for name, n in self.requests.items()},
            {name: n - earlier.request_bytes.get(name, 0) for name, n in self.request_bytes.items()},
        )


class MetricsError(Exception):
    """The metrics page could not be read."""


def store_use(url: str, timeout_s: float = 5.0) -> StoreUse:
    """Read Weir's metrics page."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:
            text = answer.read().decode()
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise MetricsError(f"metrics at {url}: {error}") from None
    return parse_store_use(text)


def parse_store_use(text: str) -> StoreUse:
    """The counters of the object store in a metrics page; requests of all outcomes are added."""
    use = StoreUse()
    for name, into in (("weir_store_requests_total", use.requests), ("weir_store_bytes_total", use.request_bytes)):
        for labels, value in re.findall(rf"^{name}\{{([^}}]*)\}}\s+(\S+)", text, re.MULTILINE):
            operation = re.search(r'operation="([^"]*)"', labels)
            if operation:
                into[operation[1]] = into.get(operation[1], 0) + int(float(value))
    return use

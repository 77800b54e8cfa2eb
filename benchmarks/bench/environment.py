"""Where a run was measured, and how quiet the machine was meanwhile."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import librdkafka, server
from benchmarks.bench.result import Environment


@dataclass(frozen=True, slots=True)
class Clock:
    """Jiffies of all CPUs since the machine started."""

    total: int
    stolen: int
    idle: int


def cpu_clock() -> Clock:
    """Read /proc/stat."""
    fields = [int(each) for each in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return Clock(sum(fields[:8]), fields[7], fields[3] + fields[4])


def loop_ns(turns: int = 1_000_000) -> float:
    """How long one turn of an empty counting loop takes: tells a slow machine, or a slow moment, from a slow broker."""
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter_ns()
        for _ in range(turns // 3):
            pass
        best = min(best, (time.perf_counter_ns() - started) / (turns // 3))
    return round(best, 2)


def memory_bytes() -> int:
    """The machine's memory, or less where a control group limits it."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total
    return min(total, int(limit)) if limit.isdigit() else total


def machine() -> str:
    """The kind of machine: CPU model, cores, memory."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    found = re.search(r"model name\s*:\s*(.+)", text)
    model = found[1].strip() if found else platform.machine()
    return f"{model} x {os.cpu_count()}, {memory_bytes() / 2**30:.0f} GiB"


def machine_kind(described: str) -> str:
    """The same as a name of a folder."""
    return re.sub(r"[^a-z0-9.]+", "-", described.lower()).strip("-")


def commit() -> str:
    """The commit of the tree that this file is in, with "+" when it is changed; "" outside of a repository."""
    root = Path(__file__).resolve().parent
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=root, capture_output=True, text=True, timeout=10
        )
        if head.returncode:
            return ""
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=root,
            capture_output=True,
            text=True,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


@dataclass(frozen=True, slots=True)
class Before:
    """What is noted before a run and compared after it."""

    load: float
    loop_ns: float
    clock: Clock


def before() -> Before:
    """Calibrate; takes a few tens of milliseconds."""
    return Before(os.getloadavg()[0], loop_ns(), cpu_clock())


def others_share(first: Clock, last: Clock, ours_s: float) -> float:
    """The share of all CPUs' time between two moments that was used by others than those who used `ours_s`. Pure."""
    total = max(1, last.total - first.total)
    busy = total - (last.idle - first.idle)
    return round(max(0.0, busy - ours_s * os.sysconf("SC_CLK_TCK")) / total, 4)


def environment(noted: Before, broker: str, pids: tuple[int, ...], others: float = 0.0) -> Environment:
    """The environment of a run that has just ended."""
    clock = cpu_clock()
    total = max(1, clock.total - noted.clock.total)
    return Environment(
        machine=machine(),
        cores=os.cpu_count() or 1,
        memory_bytes=memory_bytes(),
        kernel=platform.release(),
        python=f"{platform.python_implementation()} {sys.version.split()[0]}",
        librdkafka=librdkafka.version(),
        commit=commit(),
        broker=broker,
        cpuset_client=server.cpuset([os.getpid()]),
        cpuset_server=server.cpuset(pids),
        load_before=round(noted.load, 2),
        python_loop_ns=max(noted.loop_ns, loop_ns()),
        steal_share=round((clock.stolen - noted.clock.stolen) / total, 4),
        others_share=others,
    )

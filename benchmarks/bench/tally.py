"""Adds up what the client processes report, second by second. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.bench.histogram import Counts, add, merged, quantiles
from benchmarks.bench.messages import Tick
from benchmarks.bench.result import Sample
from benchmarks.bench.server import Usage

_CLIENT_FULL = 0.9
_RATE_REACHED = 0.98
_BEHIND_MS = 100.0


@dataclass(slots=True)
class Second:
    """The sum of all processes' ticks of one second."""

    due: int = 0
    acked: int = 0
    failed: int = 0
    read: int = 0
    read_bytes: int = 0
    commits: int = 0
    cpu_s: float = 0.0
    busiest_by_worker: dict[int, float] = field(default_factory=dict)
    late_ms: float = 0.0
    own_late_ms: float = 0.0
    ack: Counts = field(default_factory=dict)
    end_to_end: Counts = field(default_factory=dict)
    commit: Counts = field(default_factory=dict)
    read_by_group: dict[int, int] = field(default_factory=dict)

    @property
    def busiest_thread_s(self) -> float:
        """CPU of the busiest thread of any process."""
        return max(self.busiest_by_worker.values(), default=0.0)


class Tally:
    """`seconds[at]` for each second from the measured start on; warm-up has negative numbers."""

    def __init__(self, record_size: int, groups: int) -> None:
        self._record_size = record_size
        self.seconds: dict[int, Second] = {}
        self.errors: dict[str, int] = {}
        self.acked_total = 0
        self.failed_total = 0
        self.read_by_group = dict.fromkeys(range(groups), 0)
        self.server: dict[int, Usage] = {}  # at the beginning of each second

    def add(self, tick: Tick) -> None:
        """Take one process's tick."""
        second = self.seconds.setdefault(tick.at, Second())
        second.due += tick.due
        second.acked += tick.acked
        second.failed += tick.failed
        second.read += tick.read
        second.read_bytes += tick.read_bytes
        second.commits += tick.commits
        second.cpu_s += tick.cpu_s
        busiest = second.busiest_by_worker
        busiest[tick.worker] = busiest.get(tick.worker, 0.0) + tick.busiest_thread_s
        second.late_ms = max(second.late_ms, tick.late_ms)
        second.own_late_ms = max(second.own_late_ms, tick.own_late_ms)
        add(second.ack, tick.ack)
        add(second.end_to_end, tick.end_to_end)
        add(second.commit, tick.commit)
        for group, count in tick.read_by_group.items():
            second.read_by_group[group] = second.read_by_group.get(group, 0) + count
            self.read_by_group[group] = self.read_by_group.get(group, 0) + count
        for name, count in tick.errors.items():
            self.errors[name] = self.errors.get(name, 0) + count
        self.acked_total += tick.acked
        self.failed_total += tick.failed

    @property
    def read_by_slowest(self) -> int:
        """Records that even the slowest group has read."""
        return min(self.read_by_group.values(), default=0)

    def within(self, first: int, end: int) -> list[Second]:
        """The seconds `first <= at < end`."""
        return [self.seconds[at] for at in sorted(self.seconds) if first <= at < end]

    def ack(self, first: int = 0, end: int = 1 << 40) -> Counts:
        """Latencies of the acknowledgements that came in these seconds."""
        return merged(second.ack for second in self.within(first, end))

    def sample(self, at: int) -> Sample:
        """One second as it stands in the result."""
        second = self.seconds.get(at, Second())
        before, after = self.server.get(at), self.server.get(at + 1)
        p50, p99 = quantiles(second.ack, (0.5, 0.99))
        e50, e99 = quantiles(second.end_to_end, (0.5, 0.99))
        return Sample(
            at_s=at,
            due=second.due,
            acked=second.acked,
            acked_bytes=second.acked * self._record_size,
            failed=second.failed,
            read=second.read,
            read_bytes=second.read_bytes,
            lag_records=self._lag(at),
            ack_p50_ms=p50 / 1000,
            ack_p99_ms=p99 / 1000,
            end_to_end_p50_ms=e50 / 1000,
            end_to_end_p99_ms=e99 / 1000,
            server_cpu_s=round(after.cpu_s - before.cpu_s, 3) if before and after else 0.0,
            server_rss=before.rss if before else 0,
            client_cpu_s=round(second.cpu_s, 3),
            late_ms=round(second.late_ms, 3),
        )

    def _lag(self, at: int) -> int:
        if not self.read_by_group:
            return 0
        past = self.within(-(1 << 40), at + 1)
        acked = sum(second.acked for second in past)
        slowest = min(sum(second.read_by_group.get(g, 0) for second in past) for g in self.read_by_group)
        return max(0, acked - slowest)


def limited_by(seconds: list[Second], wanted: float, client_cores: int) -> str:
    """What kept a run from being faster: "rate" when the wanted records were all acknowledged in time, "client" when
    one of its threads, or all its CPUs together, were busy nine tenths of the time, or when it fell behind its schedule
    by itself in most seconds (the machine is too busy for it), else "broker". `wanted` is how many
    records were to be acknowledged in these seconds; 0: as many as possible."""
    if not seconds:
        return "broker"
    acked = sum(second.acked for second in seconds)
    if wanted and acked >= _RATE_REACHED * wanted:
        return "rate"
    busiest = sum(second.busiest_thread_s for second in seconds) / len(seconds)
    whole = sum(second.cpu_s for second in seconds) / len(seconds) / max(1, client_cores)
    behind = sum(second.own_late_ms >= _BEHIND_MS for second in seconds) > len(seconds) / 2
    return "client" if behind or max(busiest, whole) >= _CLIENT_FULL else "broker"

"""Conducts the client processes through the phases of one run, and makes the result of what they report."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from benchmarks.bench import environment, histogram, messages, payload, server
from benchmarks.bench.clients import Clients, client_cores
from benchmarks.bench.errors import BenchError
from benchmarks.bench.prices import dollars
from benchmarks.bench.result import CatchUp, Environment, Result, Sample, Server
from benchmarks.bench.tally import Tally, limited_by
from benchmarks.bench.target import Target
from benchmarks.bench.workload import Workload

_NS = 1_000_000_000
_NEVER = 1 << 62
_READ_OUT_S = 15.0
_GB = 1e9
_LATE_MS = 10.0


Progress = Callable[[str, Sample | None], None]
"""Called with the phase, and with each finished second."""


class Conductor:
    """One run's phases: warm-up, the measured time, with a backlog the filling and the catching up, the last reads."""

    def __init__(self, workload: Workload, target: Target, pids: tuple[int, ...], tell: Progress) -> None:
        self._workload = workload
        self._target = target
        self._pids = pids
        self._tell = tell
        self.tally = Tally(workload.load.record_size, workload.readers.groups)
        self._unacknowledged = 0
        self._unread = 0
        self._opened_s: float | None = None  # the backlog phase: when reading began, how much was behind
        self._behind = 0
        self._caught_s: float | None = None
        self._catch_up_cpu_s = 0.0
        self._read_out_of_backlog = 0
        self._filled = True
        self._store: tuple[server.StoreUse, server.StoreUse] | None = None
        self._shown = -1
        self._notes: list[str] = []

    def conduct(self, work: list[messages.Job]) -> None:
        """Start the clients and go through all phases."""
        workload = self._workload
        with Clients(work) as clients:
            self._clients = clients
            self._tell("connecting", None)
            clients.wait_ready()
            control = clients.control
            self._start_ns = time.monotonic_ns() + int((workload.warmup_s + 0.2) * _NS)
            self._end_ns = _NEVER if workload.backlog.bytes else self._start_ns + int(workload.duration_s) * _NS
            control[messages.END] = self._end_ns
            control[messages.START] = self._start_ns
            self._tell("warming up", None)
            self._until(lambda: time.monotonic_ns() >= self._start_ns)
            self._before = server.usage(self._pids, switches=True)
            self._clock_before, self._own_before_s = environment.cpu_clock(), time.process_time()
            self._store_before = self._store_use()
            self._started_at = datetime.now(UTC)
            self._tell("measuring", None)
            if workload.backlog.bytes:
                self._catch_up()
            self._until(lambda: time.monotonic_ns() >= self._end_ns)
            if server.ended(self._pids):
                self._notes.append("the broker's process ended during the run: there are no figures of it")
                self._pids = ()
                self._before = server.usage(())
            self._after = server.usage(self._pids, switches=True)
            self._clock_after, self._own_after_s = environment.cpu_clock(), time.process_time()
            self._store_after = self._store_use()
            self._tell("waiting for the last acknowledgements", None)
            self._until(lambda: clients.done("produce"))
            self._read_out()

    def _store_use(self) -> server.StoreUse | None:
        if not self._target.metrics_url:
            return None
        try:
            return server.store_use(self._target.metrics_url)
        except server.MetricsError as error:
            raise BenchError(str(error)) from None

    def _at_s(self) -> float:
        return (time.monotonic_ns() - self._start_ns) / _NS

    def _until(self, reached: Callable[[], bool], limit_s: float = 1e9) -> bool:
        """Take what the clients say until this holds; whether it did within the limit."""
        until = time.monotonic() + limit_s
        while not reached():
            if time.monotonic() >= until:
                return False
            at_s = self._at_s()
            second = int(at_s // 1)
            if at_s >= 0 and second not in self.tally.server:
                self.tally.server[second] = server.usage(self._pids)
                if second >= 2 and second - 2 > self._shown:
                    self._shown = second - 2
                    self._tell("", self.tally.sample(self._shown))
            wait_s = min(second + 1 - at_s, 0.05 if self._opened_s is None else 0.01)
            wait_s = min(wait_s, max(0.0, (self._end_ns - time.monotonic_ns()) / _NS) or 0.05)
            for message in self._clients.receive(max(0.001, wait_s)):
                if isinstance(message, messages.Second):
                    self.tally.add(message.tick)
                elif isinstance(message, messages.Done):
                    self._unacknowledged += message.unacknowledged
        return True

    def _catch_up(self) -> None:
        """Fill, open the gate, wait until the slowest group is there."""
        backlog, size = self._workload.backlog, self._workload.load.record_size
        tally = self.tally
        self._tell("filling the backlog", None)
        self._filled = self._until(lambda: tally.acked_total * size >= backlog.bytes, backlog.limit_s)
        if not backlog.produce_during:
            self._clients.control[messages.END] = time.monotonic_ns()
            self._until(lambda: self._clients.done("produce"))
        self._behind = tally.acked_total
        self._clients.control[messages.READ] = time.monotonic_ns()
        self._opened_s = self._at_s()
        opened = server.usage(self._pids)
        self._tell("catching up", None)
        slack = self._workload.load.rate * 1.5 if backlog.produce_during else 0

        def caught() -> bool:
            return tally.read_by_slowest >= tally.acked_total - slack

        if self._until(caught, backlog.limit_s):
            self._caught_s = self._at_s()
        self._read_out_of_backlog = sum(tally.read_by_group.values())
        self._catch_up_cpu_s = server.usage(self._pids).cpu_s - opened.cpu_s
        after_ns = 2 * _NS if backlog.produce_during else 0
        self._end_ns = self._start_ns + -(-(time.monotonic_ns() + after_ns - self._start_ns) // _NS) * _NS
        if backlog.produce_during:
            self._clients.control[messages.END] = self._end_ns

    def _read_out(self) -> None:
        """Let the readers come to the end, then stop them."""
        if not self._workload.readers.groups:
            return
        tally = self.tally
        self._tell("reading the last records", None)
        self._until(lambda: tally.read_by_slowest >= tally.acked_total, _READ_OUT_S)
        self._clients.stop_readers()
        self._until(lambda: self._clients.done("read"), 30.0)
        self._unread = max(0, tally.acked_total - tally.read_by_slowest)

    @property
    def seconds(self) -> int:
        """Whole seconds measured."""
        return max(1, round((self._end_ns - self._start_ns) / _NS))

    def others_share(self) -> float:
        """How much of the machine others used while measuring."""
        clients_s = sum(second.cpu_s for second in self.tally.within(0, self.seconds))
        ours_s = clients_s + self._after.cpu_s - self._before.cpu_s + self._own_after_s - self._own_before_s
        return environment.others_share(self._clock_before, self._clock_after, ours_s)

    def warnings(self) -> list[str]:
        """What makes the figures doubtful."""
        out = list(self._notes)
        seconds = self.tally.within(0, self.seconds)
        late = max((second.late_ms for second in seconds), default=0.0)
        load = self._workload.load
        if load.rate and late > _LATE_MS:
            out.append(
                f"the producers were up to {late:.0f} ms behind their schedule; latencies count from the schedule"
            )
        if self._unacknowledged:
            out.append(f"{self._unacknowledged} records were not acknowledged within 30 s after the end")
        if self._unread:
            out.append(f"{self._unread} acknowledged records were not read by the slowest group")
        if not self._filled:
            out.append("the backlog was not filled within its limit")
        if self._opened_s is not None and self._caught_s is None:
            out.append("the readers did not catch up within the limit")
        if self._workload.readers.groups and load.record_size < payload.STAMP.size:
            out.append(f"records below {payload.STAMP.size} bytes carry no time: no end-to-end latency")
        return out

    def result(self, where: Environment, warnings: list[str]) -> Result:
        """The figures of the run that `conduct` has finished."""
        workload, tally, size = self._workload, self.tally, self._workload.load.record_size
        seconds = tally.within(0, self.seconds)
        acked = sum(second.acked for second in seconds)
        read, read_bytes = sum(s.read for s in seconds), sum(s.read_bytes for s in seconds)
        span = self.seconds
        end_to_end = histogram.merged(second.end_to_end for second in tally.seconds.values())
        if workload.backlog.bytes:
            end_to_end = {}  # it would say how long the gate was shut
        due = sum(second.due for second in seconds)
        if self._opened_s is None:
            limit = limited_by(seconds, due if workload.load.rate else 0, client_cores())
        else:  # what kept the readers from catching up faster
            limit = limited_by(tally.within(int(self._opened_s), self.seconds), 0, client_cores())
        if where.others_share > 0.1 and (self._pids or where.others_share > 0.5):
            warnings.append(f"other processes used {where.others_share:.0%} of the machine's CPU time meanwhile")
        if where.steal_share > 0.02:
            warnings.append(f"{where.steal_share:.0%} of the CPU time was taken by other guests of the host")
        return Result(
            started_at=self._started_at.isoformat(timespec="seconds"),
            bootstrap=self._target.bootstrap,
            workload=workload,
            environment=where,
            seconds=span,
            records_acked=acked,
            bytes_acked=acked * size,
            records_failed=tally.failed_total + self._unacknowledged,
            records_read=read,
            bytes_read=read_bytes,
            records_per_s=round(acked / span, 1),
            bytes_per_s=round(acked * size / span, 1),
            read_bytes_per_s=round(read_bytes / span, 1),
            ack=histogram.latency(tally.ack()),
            end_to_end=histogram.latency(end_to_end),
            commits=sum(second.commits for second in seconds),
            commit=histogram.latency(histogram.merged(second.commit for second in seconds)),
            catch_up=self._catch_up_figures(),
            server=self._server(acked * size + read_bytes),
            errors=tally.errors,
            limited_by=limit,
            warnings=tuple(warnings),
            samples=tuple(tally.sample(at) for at in range(span)),
        )

    def _catch_up_figures(self) -> CatchUp | None:
        if self._opened_s is None:
            return None
        size, tally = self._workload.load.record_size, self.tally
        end_s = self._caught_s if self._caught_s is not None else self._at_s()
        took = max(1e-3, end_s - self._opened_s)
        read = self._read_out_of_backlog * size
        opened, closed = int(self._opened_s), max(int(self._opened_s) + 1, int(end_s) + 1)
        return CatchUp(
            backlog_records=self._behind,
            backlog_bytes=self._behind * size,
            seconds=round(took, 3),
            read_bytes_per_s=round(read / took, 1),
            complete=self._caught_s is not None,
            server_cpu_s=round(self._catch_up_cpu_s, 3),
            ack_before=histogram.latency(tally.ack(0, opened)),
            ack_during=histogram.latency(tally.ack(opened, closed)) if self._workload.backlog.produce_during else None,
        )

    def _server(self, moved: int) -> Server | None:
        if not self._pids:
            return None
        before, after = self._before, self._after
        store = None
        if self._store_before is not None and self._store_after is not None:
            store = self._store_after.since(self._store_before)
        gb = moved / _GB
        cpu_s = after.cpu_s - before.cpu_s
        return Server(
            pids=self._pids,
            cpu_s=round(cpu_s, 3),
            cpu_s_per_gb=round(cpu_s / gb, 4) if gb else None,
            rss_max=max([after.rss, before.rss, *(each.rss for each in self.tally.server.values())]),
            context_switches=after.context_switches - before.context_switches,
            requests=store.requests if store else {},
            request_bytes=store.request_bytes if store else {},
            dollars_per_gb=round(dollars(store.requests, self._target.prices) / gb, 6) if store and gb else None,
            prices=self._target.prices if store else {},
        )

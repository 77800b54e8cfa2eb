"""The terminal's view: live progress of a run and its summary."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from benchmarks.bench import figures
from benchmarks.bench.result import Latency, Result, Sample
from benchmarks.bench.workload import Workload

_LIMIT = {
    "rate": "the wanted rate was reached: nothing was the limit",
    "broker": "the broker",
    "client": "the CLIENT: the broker could do more; give the client more cores or processes",
}


class Progress:
    """A line that says what is going on and the last seconds as a table. A plain line per second without a terminal."""

    def __init__(self, workload: Workload, broker: str, console: Console) -> None:
        self._workload = workload
        self._broker = broker
        self._console = console
        self._phase = "starting"
        self._samples: list[Sample] = []
        self._began = time.monotonic()
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def __call__(self, phase: str, sample: Sample | None) -> None:
        if sample is None:
            self._phase = phase
            if not self._console.is_terminal:
                self._console.print(f"{self._workload.name}: {phase}", highlight=False)
            return
        self._samples = [*self._samples[-11:], sample]
        if not self._console.is_terminal and int(sample.at_s) % 10 == 9:
            self._console.print(
                f"  {sample.at_s + 1:.0f} s: {figures.rate(sample.acked)}, {figures.megabytes(sample.acked_bytes)}, "
                f"ack p50 {figures.ms(sample.ack_p50_ms)} p99 {figures.ms(sample.ack_p99_ms)}",
                highlight=False,
            )

    def _render(self) -> RenderableType:
        passed = time.monotonic() - self._began
        head = Text(f"{self._workload.name} on {self._broker}: {self._phase} ({passed:.0f} s)", style="bold")
        table = Table(box=None, padding=(0, 2, 0, 0))
        readers = self._workload.readers.groups > 0
        wide = self._console.width >= 130
        cells = [_cells(s, readers) for s in self._samples] or [_cells(Sample(at_s=0), readers)]
        for name in cells[0]:
            if wide or name not in _WIDE_ONLY:
                table.add_column(name, justify="right", no_wrap=True)
        for row in cells if self._samples else []:
            table.add_row(*(text for name, text in row.items() if wide or name not in _WIDE_ONLY))
        return Group(head, table)


_WIDE_ONLY = ("records", "read", "memory", "late")


def _cells(s: Sample, readers: bool) -> dict[str, str]:
    """One line of the progress by column; CPU is in cores."""
    reading = {
        "read": figures.megabytes(s.read_bytes),
        "lag": f"{s.lag_records:,}",
        "e2e p99": figures.ms(s.end_to_end_p99_ms),
    }
    return {
        "s": f"{s.at_s:.0f}",
        "records": figures.rate(s.acked),
        "written": figures.megabytes(s.acked_bytes),
        "ack p50": figures.ms(s.ack_p50_ms),
        "p99": figures.ms(s.ack_p99_ms),
        **(reading if readers else {}),
        "server": f"{s.server_cpu_s:.2f}",
        "memory": figures.size(s.server_rss),
        "client": f"{s.client_cpu_s:.2f}",
        "late": figures.ms(s.late_ms),
    }


def _latency_row(table: Table, name: str, latency: Latency | None) -> None:
    if latency is not None:
        table.add_row(
            name,
            *(figures.ms(v) for v in (latency.p50, latency.p90, latency.p99, latency.p999, latency.p9999, latency.max)),
        )


def show(result: Result, console: Console) -> None:
    """Print the summary of one run."""
    where = result.environment
    console.print()
    console.print(
        f"[bold]{result.workload.name}[/bold] on {where.broker or 'the broker'} at {result.bootstrap}, "
        f"{result.seconds:g} s measured",
        highlight=False,
    )
    if result.workload.text:
        console.print(f"[dim]{result.workload.text}[/dim]", highlight=False)
    facts = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    facts.add_row("written", f"{figures.megabytes(result.bytes_per_s)}, {figures.rate(result.records_per_s)}")
    if result.workload.readers.groups:
        facts.add_row(
            "read", f"{figures.megabytes(result.read_bytes_per_s)} by {result.workload.readers.groups} groups"
        )
    if result.commits:
        facts.add_row("offset commits", figures.rate(result.commits / result.seconds))
    if result.catch_up is not None:
        caught = result.catch_up
        facts.add_row(
            "catch-up",
            f"{figures.size(caught.backlog_bytes)} behind, {'caught up' if caught.complete else 'NOT caught up'} in "
            f"{caught.seconds:.1f} s at {figures.megabytes(caught.read_bytes_per_s)}",
        )
    if result.server is not None:
        _server(facts, result)
    facts.add_row("limited by", _LIMIT[result.limited_by])
    if result.records_failed:
        facts.add_row("[red]not acknowledged[/red]", f"{result.records_failed:,} records")
    console.print(facts, highlight=False)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("latency", "p50", "p90", "p99", "p99.9", "p99.99", "max"):
        table.add_column(name, justify="left" if name == "latency" else "right")
    _latency_row(table, "acknowledgement", result.ack)
    _latency_row(table, "end to end", result.end_to_end)
    _latency_row(table, "offset commit", result.commit)
    if result.catch_up is not None:
        _latency_row(table, "ack before catch-up", result.catch_up.ack_before)
        _latency_row(table, "ack during catch-up", result.catch_up.ack_during)
    console.print(table, highlight=False)
    for name, count in sorted(result.errors.items(), key=lambda item: -item[1])[:10]:
        console.print(f"[red]error[/red] {name}: {count:,}", highlight=False)
    for warning in result.warnings:
        console.print(f"[yellow]note[/yellow] {warning}", highlight=False)
    console.print(
        f"[dim]{where.machine}; client on CPUs {where.cpuset_client}, "
        f"server on {where.cpuset_server or 'unknown'}[/dim]",
        highlight=False,
    )


def _server(facts: Table, result: Result) -> None:
    server = result.server
    if server is None:
        return
    per_gb = f", {server.cpu_s_per_gb:.2f} s per GB moved" if server.cpu_s_per_gb is not None else ""
    facts.add_row(
        "server",
        f"{server.cpu_s:.1f} s CPU ({server.cpu_s / result.seconds:.0%} of a core){per_gb}, "
        f"{figures.size(server.rss_max)} memory, {server.context_switches:,} context switches",
    )
    if server.requests:
        asked = ", ".join(f"{count:,} {name}" for name, count in sorted(server.requests.items()) if count)
        sent = ", ".join(
            f"{figures.size(count)} {name}" for name, count in sorted(server.request_bytes.items()) if count
        )
        facts.add_row("object store", f"{asked or 'no requests'}; {sent or 'no bytes'}")
    if server.dollars_per_gb is not None:
        prices = ", ".join(f"{name.replace('_', ' ')} ${price:g}" for name, price in server.prices.items())
        facts.add_row("requests cost", f"${server.dollars_per_gb:.6f} per GB moved (prices: {prices})")

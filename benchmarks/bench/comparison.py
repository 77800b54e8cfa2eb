"""Results and tables side by side: in the terminal, and as a list of what has become worse."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as Grid

from benchmarks.bench import figures, noise
from benchmarks.bench.errors import BenchError
from benchmarks.bench.result import Result
from benchmarks.bench.table import Case, Figure, Ratio, Row, Table, figures_of

METRICS = {
    "mb_per_s": "written MB/s",
    "records_per_s": "records/s",
    "read_mb_per_s": "read MB/s",
    "catch_up_mb_per_s": "catch-up MB/s",
    "ack_p50_ms": "ack p50 ms",
    "ack_p99_ms": "ack p99 ms",
    "ack_p999_ms": "ack p99.9 ms",
    "ack_p99_during_ms": "ack p99 ms while others catch up",
    "end_to_end_p50_ms": "end-to-end p50 ms",
    "end_to_end_p99_ms": "end-to-end p99 ms",
    "end_to_end_p999_ms": "end-to-end p99.9 ms",
    "commit_p50_ms": "commit p50 ms",
    "commit_p99_ms": "commit p99 ms",
    "commit_p999_ms": "commit p99.9 ms",
    "commits_per_s": "commits/s",
    "cpu_us_per_mb": "server CPU us/MB",
    "catch_up_cpu_us_per_mb": "server CPU us/MB read",
    "memory_mb": "memory MB",
    "start_ms": "start to first connection ms",
    "first_ack_ms": "start to first ack ms",
}


def goal_of(case: Case, broker: str, metric: str) -> float | None:
    """The ratio hoped for, or None."""
    goals = {**case.goals.get("*", {}), **case.goals.get(broker, {})}
    return goals.get(metric)


def shown(value: float) -> str:
    """A figure with three significant digits and thousands."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def plus_minus(noise_share: float) -> str:
    """The noise, when there are rounds enough to know one."""
    return f" ±{noise_share:.0%}" if noise_share else ""


def ratio_text(metric: str, ratio: Ratio | None, goal: float | None) -> str:
    """`1.52x ±4 %`, with how it stands to the goal."""
    if ratio is None:
        return ""
    text = f"{figures.ratio(ratio.value)}{plus_minus(ratio.noise)}"
    if goal is None:
        return text
    met = noise.meets(metric, ratio.value, goal)
    sign = "≥" if metric in noise.HIGHER_IS_BETTER else "≤"
    return f"{text} {'✓' if met else '✗'} ({sign}{goal:g})"


def show_table(table: Table, console: Console) -> None:
    """Every case with each broker's figures and the ratios."""
    first = table.brokers[0]
    for case in table.cases:
        grid = Grid(title=f"{case.name}: {case.text}", title_justify="left", box=None, padding=(0, 2, 0, 0))
        grid.add_column("")
        for broker in table.brokers:
            grid.add_column(broker, justify="right")
        for broker in table.brokers[1:]:
            grid.add_column(f"{first} / {broker}")
        rows = {broker: table.row(case.name, broker) for broker in table.brokers}
        for metric, label in METRICS.items():
            cells = [_cell(rows[broker], metric) for broker in table.brokers]
            if not any(cells):
                continue
            for broker in table.brokers[1:]:
                row = rows[broker]
                cells.append(ratio_text(metric, row.ratios.get(metric) if row else None, goal_of(case, broker, metric)))
            grid.add_row(label, *cells)
        grid.add_row("limited by", *(row.limited_by if row else "" for row in rows.values()))
        console.print(grid, highlight=False)
        for row in rows.values():
            if row is not None and row.failure:
                console.print(f"[red]{row.broker}:[/red] {row.failure}", highlight=False)
        console.print()


def _cell(row: Row | None, metric: str) -> str:
    found = row.figures.get(metric) if row else None
    return f"{shown(found.median)}{plus_minus(found.noise)}" if found else ""


def as_table(found: Result | Table) -> Table:
    """One run as a table of one round, so that it can be compared with another."""
    if isinstance(found, Table):
        return found
    values = {m: Figure(median=v, low=v, high=v) for m, v in figures_of(found).items()}
    broker = found.environment.broker or "broker"
    name = found.workload.name
    return Table(
        name=name,
        text=found.workload.text,
        measured_at=found.started_at,
        environment=found.environment,
        brokers=(broker,),
        cases=(Case(name=name, text=found.workload.text),),
        rows=(Row(case=name, broker=broker, rounds=1, figures=values, limited_by=found.limited_by),),
    )


def show_compared(before: Result | Table, after: Result | Table, console: Console) -> None:
    """Both figures of each case and broker, and the second over the first."""
    one, two = as_table(before), as_table(after)
    single = len(one.rows) == len(two.rows) == 1
    shared = False
    for row in two.rows:
        other = one.rows[0] if single else one.row(row.case, row.broker)
        if other is None:
            continue
        shared = True
        title = (
            f"{other.case} on {other.broker} → {row.case} on {row.broker}" if single else f"{row.case} on {row.broker}"
        )
        grid = Grid(title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))
        for name in ("", "first", "second", "second / first", ""):
            grid.add_column(name, justify="right" if name else "left")
        for metric, label in METRICS.items():
            a, b = other.figures.get(metric), row.figures.get(metric)
            if a is None or b is None or not a.median:
                continue
            worse = noise.worse_by(metric, a.median, b.median)
            allowed = max(noise.FLOOR, a.noise + b.noise)
            verdict = "" if abs(worse) <= allowed else "worse" if worse > 0 else "better"
            grid.add_row(label, shown(a.median), shown(b.median), figures.ratio(b.median / a.median), verdict)
        grid.add_row("limited by", other.limited_by, row.limited_by, "", "")
        console.print(grid, highlight=False)
    if not shared:
        raise BenchError("the two have no case and broker in common")
    for name in ("machine", "kernel", "librdkafka", "cpuset_client", "cpuset_server"):
        was, now = getattr(one.environment, name), getattr(two.environment, name)
        if was != now:
            console.print(f"[yellow]note[/yellow] {name} differs: {was} → {now}", highlight=False)


@dataclass(frozen=True, slots=True)
class Regression:
    """A figure that is worse than the tracked one by more than both measurements' noise."""

    case: str
    broker: str
    metric: str
    before: float
    now: float
    worse_by: float
    allowed: float

    def __str__(self) -> str:
        return (
            f"{self.case}, {self.broker}: {METRICS.get(self.metric, self.metric)} "
            f"{shown(self.before)} → {shown(self.now)}, "
            f"{self.worse_by:.0%} worse where {self.allowed:.0%} is noise"
        )


def regressions(tracked: Table, now: Table, floor: float) -> list[Regression]:
    """What has become worse. Where there is a peer, its ratio is judged and not the figure: that the machine is slower
    today is no regression. `floor` is the least noise that is granted to any figure."""
    found = []
    peers = len(tracked.brokers) > 1 and tracked.brokers[0] == now.brokers[0]
    for row in now.rows:
        old = tracked.row(row.case, row.broker)
        if old is None or (peers and row.broker == tracked.brokers[0] and _has_peer(now, row.case)):
            continue
        for metric in METRICS:
            pair = _pair(old, row, metric, peers and row.broker != tracked.brokers[0])
            if pair is None:
                continue
            before, after, noises = pair
            worse = noise.worse_by(metric, before, after)
            allowed = max(floor, 2 * noises)
            if worse > allowed:
                label = f"{now.brokers[0]} / {row.broker}" if peers else row.broker
                found.append(Regression(row.case, label, metric, before, after, worse, allowed))
    return found


def _has_peer(table: Table, case: str) -> bool:
    return any(row.case == case and row.ratios for row in table.rows)


def _pair(old: Row, new: Row, metric: str, ratios: bool) -> tuple[float, float, float] | None:
    a: Figure | Ratio | None
    b: Figure | Ratio | None
    if ratios:
        a, b = old.ratios.get(metric), new.ratios.get(metric)
        return (a.value, b.value, a.noise + b.noise) if a and b else None
    c, d = old.figures.get(metric), new.figures.get(metric)
    return (c.median, d.median, c.noise + d.noise) if c and d else None

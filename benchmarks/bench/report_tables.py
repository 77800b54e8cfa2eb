"""The part of the report page that shows tables: brokers side by side, with ratios and goals. Pure."""

from __future__ import annotations

import html
import math
import statistics

from benchmarks.bench import figures, noise
from benchmarks.bench.charts import Bar, Line, bars, lines
from benchmarks.bench.charts import number as axis_number
from benchmarks.bench.comparison import METRICS, goal_of, shown
from benchmarks.bench.table import Case, Row, Table

_SECTIONS = {
    "start": "Starting",
    "produce": "Writing as fast as possible",
    "latency": "Latency at a fixed rate",
    "read": "Reading",
    "": "Cases",
}
_DRAWN = {
    "start": ("start_ms", "first_ack_ms", "memory_mb"),
    "produce": ("mb_per_s", "cpu_us_per_mb"),
    "latency": ("ack_p99_ms", "end_to_end_p99_ms"),
    "read": ("read_mb_per_s", "catch_up_mb_per_s", "end_to_end_p99_ms"),
}
_ANY = ("mb_per_s", "ack_p99_ms", "cpu_us_per_mb")
_BETTER = {True: "more is better", False: "less is better"}


def section(table: Table) -> str:
    """A table as a part of the page."""
    out = [f"<h2>{html.escape(title(table))}</h2>"]
    out.append(f"<p>{html.escape(table.text)}</p>")
    out.append(_measured(table))
    out.append(overview(table))
    names = list(dict.fromkeys(case.section for case in table.cases))
    for name in names:
        cases = [case for case in table.cases if case.section == name]
        out.append(f"<h3>{_SECTIONS.get(name, name.capitalize())}</h3>")
        draw = _curve if len(cases) > 2 and all(case.x is not None for case in cases) else _bars
        charts = [draw(table, cases, metric) for metric in _DRAWN.get(name, _ANY)]
        out.append(f'<div class="charts">{"".join(charts)}</div>')
        out.extend(_case(table, case) for case in cases)
    out.append(scoreboard(table))
    return "\n".join(out)


def _measured(table: Table) -> str:
    where = table.environment
    rounds = max((row.rounds for row in table.rows), default=0)
    text = (
        f"Medians of {rounds} round{'s' if rounds != 1 else ''}; in each round every broker ran the same case, one "
        f"right after the other. Measured {table.measured_at[:10]} on {where.machine} (a turn of a Python loop: "
        f"{where.python_loop_ns:.0f} ns) with clients on CPUs {where.cpuset_client} and brokers on CPUs "
        f"{where.cpuset_server or 'unknown'}."
    )
    again = {row.case: row.measured_at[:10] for row in table.rows if row.measured_at}
    if again:
        days = sorted(set(again.values()))
        text += f" Measured again on {', '.join(days)}: {', '.join(again)}."
    note = ""
    if where.others_share > 0.1:
        note = (
            f'<p class="note">Other processes used {where.others_share:.0%} of the machine\'s CPU time meanwhile: '
            "ratios are noisy, figures low.</p>"
        )
    return f'<p class="soft">{html.escape(text)}</p>{note}'


_OVERVIEW = {
    "mb_per_s": "written per second, as fast as possible",
    "catch_up_mb_per_s": "read per second when catching up",
    "ack_p99_ms": "ack p99 at a fixed rate",
    "end_to_end_p99_ms": "end-to-end p99 at a fixed rate",
    "cpu_us_per_mb": "server CPU per MB",
    "memory_mb": "memory",
    "start_ms": "time to start",
}


_OVERVIEW_SECTIONS = {
    "mb_per_s": ("produce", ""),
    "ack_p99_ms": ("latency", ""),
    "end_to_end_p99_ms": ("latency", ""),
    "memory_mb": ("produce", "latency", "read", ""),
}


def middle_ratios(table: Table, broker: str) -> dict[str, tuple[float, int]]:
    """By metric, the geometric mean over the cases in which it is the point, and their number."""
    out = {}
    for metric in _OVERVIEW:
        found = []
        for case in table.cases:
            row = table.row(case.name, broker)
            ratio = row.ratios.get(metric) if row else None
            if ratio is not None and ratio.value > 0 and case.section in _OVERVIEW_SECTIONS.get(metric, _SECTIONS):
                found.append(ratio.value)
        if found:
            out[metric] = (statistics.geometric_mean(found), len(found))
    return out


def overview(table: Table) -> str:
    """What it comes to, a few large numbers for each other broker."""
    out = []
    for broker in table.brokers[1:]:
        tiles = []
        for metric, (value, count) in middle_ratios(table, broker).items():
            better = value >= 1 if metric in noise.HIGHER_IS_BETTER else value <= 1
            cases = f"{count} case{'s' if count > 1 else ''}"
            tiles.append(
                f'<div class="tile"><b class="{"good" if better else "bad"}">{figures.ratio(value)}</b>'
                f"<span>{_OVERVIEW[metric]} ({cases})</span></div>"
            )
        if tiles:
            first, other = html.escape(table.brokers[0]), html.escape(broker)
            out.append(f"<p><b>{first} over {other}</b>, the mean of the cases' ratios (green: {first} is ahead)</p>")
            out.append(f'<div class="tiles">{"".join(tiles)}</div>')
    return "".join(out)


def title(table: Table) -> str:
    """The brokers, the first one first."""
    if len(table.brokers) == 1:
        return f"{table.name}: {table.brokers[0]}"
    return f"{table.name}: {table.brokers[0]} beside {', '.join(table.brokers[1:])}"


def goals(table: Table) -> list[tuple[Case, str, str, float, float, bool]]:
    """Every ratio for which there is a goal: case, other broker, metric, ratio, goal, whether it is met."""
    out = []
    for case in table.cases:
        for broker in table.brokers[1:]:
            row = table.row(case.name, broker)
            if row is None:
                continue
            for metric, ratio in row.ratios.items():
                goal = goal_of(case, broker, metric)
                if goal is not None:
                    out.append((case, broker, metric, ratio.value, goal, noise.meets(metric, ratio.value, goal)))
    return out


def scoreboard(table: Table) -> str:
    """How many goals are met, and the rows in which they are not."""
    found = goals(table)
    if not found:
        return ""
    met = sum(each[-1] for each in found)
    missed = [each for each in found if not each[-1]]
    tile = f"<h3>Goals</h3><p>{met} of {len(found)} are met.</p>"
    if not missed:
        return tile
    rows = "".join(
        f"<tr><td>{html.escape(case.name)}</td><td>{html.escape(broker)}</td>"
        f"<td>{html.escape(METRICS.get(metric, metric))}</td>"
        f'<td class="bad">{figures.ratio(value)}</td>'
        f"<td>{'≥' if metric in noise.HIGHER_IS_BETTER else '≤'} {goal:g}x</td></tr>"
        for case, broker, metric, value, goal, _ in missed
    )
    return (
        f"{tile}<details open><summary>Where {html.escape(table.brokers[0])} is behind its goal</summary>"
        f"<table><tr><th>case</th><th>beside</th><th>figure</th><th>ratio</th><th>goal</th></tr>{rows}</table></details>"
    )


def _bars(table: Table, cases: list[Case], metric: str) -> str:
    groups = []
    for case in cases:
        group = []
        for number, broker in enumerate(table.brokers):
            row = table.row(case.name, broker)
            found = row.figures.get(metric) if row else None
            if found is not None:
                group.append(Bar(broker, found.median, shown(found.median), number))
        if group:
            groups.append((case.name, group))
    return bars(groups, f"{METRICS.get(metric, metric)} ({_BETTER[metric in noise.HIGHER_IS_BETTER]})")


def _curve(table: Table, cases: list[Case], metric: str) -> str:
    """The figure over the cases' places, in powers of ten on both axes."""
    drawn = []
    for number, broker in enumerate(table.brokers):
        points = []
        for case in sorted(cases, key=lambda each: each.x or 0.0):
            row = table.row(case.name, broker)
            found = row.figures.get(metric) if row else None
            if found is not None and case.x:
                points.append((math.log10(case.x), found.median))
        if points:
            drawn.append(Line(broker, points, number))
    ticks = [(math.log10(case.x), axis_number(case.x)) for case in cases if case.x]
    label = f"{METRICS.get(metric, metric)} ({_BETTER[metric in noise.HIGHER_IS_BETTER]})"
    return lines(drawn, x_label=cases[0].section, y_label=label, log_y=True, x_ticks=ticks)


def _case(table: Table, case: Case) -> str:
    rows = {broker: table.row(case.name, broker) for broker in table.brokers}
    others = table.brokers[1:]
    head = "".join(
        f"<th>{html.escape(each)}</th>" for each in ("", *table.brokers, *(f"{table.brokers[0]} / {o}" for o in others))
    )
    body = []
    for metric, label in METRICS.items():
        cells = [_figure(rows[broker], metric) for broker in table.brokers]
        if not any(cells):
            continue
        cells += [_ratio(case, rows[broker], broker, metric) for broker in others]
        body.append(f"<tr><td>{html.escape(label)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    limits = "".join(f"<td>{html.escape(row.limited_by) if row else ''}</td>" for row in rows.values())
    body.append(f"<tr><td>limited by</td>{limits}{'<td></td>' * len(others)}</tr>")
    failures = "".join(
        f'<p class="note">{html.escape(row.broker)}: {html.escape(row.failure)}</p>'
        for row in rows.values()
        if row and row.failure
    )
    return (
        f"<details><summary>{html.escape(case.name)}: {html.escape(case.text)}</summary>"
        f'<div class="scroll"><table><tr>{head}</tr>{"".join(body)}</table></div>{failures}</details>'
    )


def _figure(row: Row | None, metric: str) -> str:
    found = row.figures.get(metric) if row else None
    return f"{shown(found.median)}{_noise(found.noise)}" if found else ""


def _noise(share: float) -> str:
    return f" <span class='soft'>±{share:.0%}</span>" if share else ""


def _ratio(case: Case, row: Row | None, broker: str, metric: str) -> str:
    ratio = row.ratios.get(metric) if row else None
    if ratio is None:
        return ""
    goal = goal_of(case, broker, metric)
    text = f"{figures.ratio(ratio.value)}{_noise(ratio.noise)}"
    if goal is None:
        return text
    met = noise.meets(metric, ratio.value, goal)
    return f'<span class="{"good" if met else "bad"}">{text} {"✓" if met else "✗"}</span>'

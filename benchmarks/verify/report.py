"""The report of a run for a person: what came of it, and each kind of violation with its events."""

from __future__ import annotations

import re
from collections import Counter

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from benchmarks.verify.evidence import evidence, told
from benchmarks.verify.figures import Fates, Figures
from benchmarks.verify.history import Anomaly
from benchmarks.verify.stored import Run
from benchmarks.verify.verdict import Result, Verdict

_MOST_VIOLATIONS = 10
_MOST_OF_A_KIND = 2
_MOST_LINES = 10
_VALUES = re.compile(r"""b'(?:[^'\\]|\\.)*'|b"(?:[^"\\]|\\.)*\"""")
_GROUP = re.compile(r"\bgroup \S+:")
_FILLER = re.compile(r" #[0-9a-f]*(?=['\"])")
_NUMBERS = re.compile(r"\[?\d+(?:, \d+)*\]?")


def show(console: Console, run: Run, verdict: Verdict) -> None:
    """Print it."""
    console.print(_title(run))
    for heading, body in (
        ("Records", _records(verdict.figures)),
        ("Not acknowledged", _errors(verdict.figures)),
        ("Availability", _availability(verdict.figures)),
        ("Chaos", _chaos(run)),
        ("Errors the clients were told of apart from their requests", _client_errors(run)),
        ("Read and committed", _read(run, verdict.figures)),
    ):
        if body is not None:
            console.print(Text(f"\n{heading}", style="bold"))
            console.print(Padding(body, (0, 0, 0, 2), expand=False))
    if verdict.violations:
        _violations(console, run, verdict.violations)
    console.print()
    console.print(_verdict(verdict))


def _title(run: Run) -> str:
    plan = run.plan
    if not plan:
        return "A history without its options"
    return escape(
        f"{plan['bootstrap']}: {plan['producers']} producers, {plan['rate_per_s']:g} records/s for "
        f"{plan['duration_s']:g} s to {plan['topics']} x {plan['partitions']} partitions ({plan.get('prefix', '')}-*), "
        f"seed {plan['seed']}"
    )


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", show_header=any(columns))
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if place else "left", overflow="fold")
    return table


def _records(figures: Figures) -> RenderableType:
    table = _table("producers", "sent", "acknowledged", "refused", "unknown", "of these found")
    rows = sorted(figures.kinds.items())
    for name, fates in [*rows, *([("all", figures.total)] if len(rows) > 1 else [])]:
        table.add_row(name, *(f"{each:,}" for each in _columns(fates)))
    if not rows:
        return "none were sent"
    p50, p99, largest = figures.ack_ms
    return Group(table, f"acknowledged after {p50:.1f} ms (p50), {p99:.1f} ms (p99), {largest:,.0f} ms at most")


def _columns(fates: Fates) -> tuple[int, ...]:
    return fates.sent, fates.acked, fates.refused, fates.unknown, fates.unknown_found


def _errors(figures: Figures) -> RenderableType | None:
    if not figures.errors:
        return None
    table = _table("error", "outcome", "records")
    for (outcome, error), count in figures.errors.most_common(_MOST_LINES):
        table.add_row(error, outcome, f"{count:,}")
    if (left := len(figures.errors) - _MOST_LINES) > 0:
        table.add_row(f"and {left} more", "", "")
    return table


def _availability(figures: Figures) -> RenderableType:
    outages = figures.outages
    longest = max((each.seconds for each in outages), default=0.0)
    lines = []
    if outages:
        total = sum(each.seconds for each in outages)
        lines.append(
            f"{_count(len(outages), 'outage')} (no acknowledgement for 1 s or more), longest {longest:.1f} s, "
            f"{total:.1f} s of {figures.load_s:.1f} s in all"
        )
        spans = [f"{each.began_s:.1f}-{each.ended_s:.1f} s" for each in outages[:_MOST_LINES]]
        more = [f"and {len(outages) - _MOST_LINES} more"] if len(outages) > _MOST_LINES else []
        lines.append("at " + ", ".join(spans + more))
    else:
        lines.append(f"no outage in {figures.load_s:.1f} s: never a second without an acknowledgement")
    if figures.longest_partition is not None:
        lines.append(
            f"longest without one in a single partition: {figures.longest_partition_s:.1f} s, "
            f"{figures.longest_partition}"
        )
    return Text("\n".join(lines))


def _chaos(run: Run) -> RenderableType | None:
    chaos = run.chaos
    if not chaos:
        return None
    failed = [each for each in chaos if each.exit_code != 0]
    took = sum(each.ended_s - each.began_s for each in chaos) / len(chaos)
    lines = [
        run.plan.get("chaos", ""),
        f"ran {_count(len(chaos), 'time')}, {took:.1f} s each, {len(failed)} of them failed",
    ]
    for each in failed[:3]:
        why = "was killed after its time" if each.exit_code is None else f"ended with {each.exit_code}"
        lines.append(
            f"at {each.began_s:.1f} s it {why}: {each.output.splitlines()[-1] if each.output else 'no output'}"
        )
    return Text("\n".join(lines), style="yellow" if failed else "")


def _client_errors(run: Run) -> RenderableType | None:
    if not run.client_errors:
        return None
    counts: Counter[str] = Counter()
    clients: dict[str, set[str]] = {}
    for (client, error), count in run.client_errors.items():
        counts[error] += count
        clients.setdefault(error, set()).add(client)
    table = _table("error", "times", "clients")
    for error, count in counts.most_common(_MOST_LINES):
        table.add_row(error, f"{count:,}", f"{len(clients[error])}")
    return table


def _read(run: Run, figures: Figures) -> RenderableType:
    lines = [f"{figures.followed:,} records read while the load ran, {figures.read_back:,} at the end"]
    if run.plan.get("members", 1):
        lines.append(
            f"{figures.commits:,} offset commits acknowledged, {figures.commits_unknown:,} of unknown outcome, "
            f"read {figures.commits_read:,} times"
        )
    return Text("\n".join(lines))


def _violations(console: Console, run: Run, violations: list[Anomaly]) -> None:
    console.print(Text(f"\n{_count(len(violations), 'violation')}", style="bold red"))
    kinds: dict[tuple[str, str], list[Anomaly]] = {}
    for each in violations:
        kinds.setdefault((each.checker, _kind(each.text)), []).append(each)
    table = _table("checker", "what", "times", "partitions")
    table.columns[1].justify = "left"
    for (checker, kind), found in kinds.items():
        table.add_row(checker, escape(kind), f"{len(found):,}", f"{len({each.partition for each in found})}")
    console.print(Padding(table, (0, 0, 0, 2), expand=False))
    # One of every kind before a second of any.
    ranked = sorted(
        ((place, kind, each) for kind, found in enumerate(kinds.values()) for place, each in enumerate(found)),
        key=lambda one: one[:2],
    )
    shown = [each for place, _, each in ranked if place < _MOST_OF_A_KIND][:_MOST_VIOLATIONS]
    for number, each in enumerate(shown, 1):
        _violation(console, run, number, each)
    if len(violations) > len(shown):
        console.print(f"\n... and {len(violations) - len(shown):,} more")


def _violation(console: Console, run: Run, number: int, violation: Anomaly) -> None:
    head = (f"\n{number}. {violation.checker}: ", "bold")
    console.print(Text.assemble(head, f"{violation.partition}: {_FILLER.sub('', violation.text)}"))
    for each in evidence(run.history, violation):
        times = f"{each.invoked_s:9.3f} to {'never' if each.ended_s is None else f'{each.ended_s:.3f} s':11}"
        console.print(Text(f"   {times} #{each.number:<7}{told(each)}", style="dim"))


def _kind(text: str) -> str:
    """The sentence without what differs from one finding to the next."""
    return _NUMBERS.sub("N", _GROUP.sub("the group:", _VALUES.sub("...", text)))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _verdict(verdict: Verdict) -> Text:
    total = verdict.figures.total
    match verdict.result:
        case Result.NOTHING_FOUND:
            return Text(
                f"Nothing found: {total.acked:,} acknowledged records are where they were said to be.", "bold green"
            )
        case Result.VIOLATIONS:
            return Text(f"{_count(len(verdict.violations), 'violation')}: the cluster broke its promises.", "bold red")
        case Result.VACUOUS:
            return Text("No verdict: " + "; ".join(verdict.reasons) + ".", "bold yellow")

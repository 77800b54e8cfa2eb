"""The report page: complete, self-contained, and safe against what names contain."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmarks.bench import charts
from benchmarks.bench.cli_results import report
from benchmarks.bench.options import RESULTS
from benchmarks.bench.report import page, percentile_points
from tests.unit.bench import made

pytest.importorskip("hdrh")
_VOID = {"meta", "line", "rect", "circle", "br"}


class Balanced(HTMLParser):
    """Fails on a tag that is closed out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_is_whole_and_needs_nothing_from_outside() -> None:
    text = page([made.table([10, 12, 11], [20, 22, 21]), made.result(), made.result(p99_ms=50)])
    parser = Balanced()
    parser.feed(text)
    assert parser.stack == []
    assert not re.search(r"""(src|href)\s*=|url\(|@import|<script""", text)
    shown = " ".join(parser.texts)
    for wanted in (
        "a & b",
        "late & slow",
        "Weir <1>",
        "<MSG>",
        "0 of 1 are met",
        "weir over kafka",
        "0.52x",
        "side by side",
        "put",
    ):
        assert wanted in shown
    assert "nan" not in shown.lower().split()


def test_latency_curve_ends_where_there_are_too_few_records() -> None:
    latency = made.result().ack
    assert latency is not None
    points = percentile_points(latency)
    assert points[0] == (0.0, 1.0)
    assert points[-1] == (3.0, 5.0)
    assert [y for _, y in points] == sorted(y for _, y in points)


@pytest.mark.parametrize(("top", "last"), [(0.0, 1.0), (1.0, 1.0), (97.0, 100.0), (0.013, 0.015), (1234.0, 1500.0)])
def test_axes_end_above_the_highest_value(top: float, last: float) -> None:
    ticks = charts.linear_ticks(top)
    assert ticks[0] == 0
    assert ticks[-1] == pytest.approx(last)
    assert len(ticks) <= 6


def test_charts_stand_empty_and_single_values() -> None:
    assert charts.lines([charts.Line("none", [])], x_label="x", y_label="y") == ""
    assert charts.bars([("a", [charts.Bar("b", 0.0, "0")])], "t") == ""
    one = charts.lines([charts.Line("one", [(1.0, 5.0)])], x_label="x", y_label="y", log_y=True)
    assert "circle" in one
    zero = charts.lines([charts.Line("z", [(0.0, 0.0), (1.0, 0.0)])], x_label="x", y_label="y", log_y=True)
    assert zero == ""


def test_the_tracked_page_is_made_from_the_tracked_results(tmp_path: Path) -> None:
    """If not: `python -m benchmarks.bench report -o benchmarks/results/report.html`."""
    report(None, tmp_path / "report.html", "Benchmark report")
    assert (tmp_path / "report.html").read_text() == (RESULTS / "report.html").read_text()

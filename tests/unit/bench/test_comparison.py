"""Medians, noise, ratios, and what counts as a regression."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bench import comparison, noise, tracking
from benchmarks.bench.errors import BenchError
from benchmarks.bench.table import read_any
from tests.unit.bench import made


def test_a_figure_is_the_median_with_half_the_distance_of_the_quartiles() -> None:
    found = noise.figure([10, 12, 11, 100, 9])
    assert (found.median, found.low, found.high) == (11, 9, 100)
    assert found.noise == pytest.approx(1 / 11, abs=1e-3)
    assert noise.figure([8, 12]).noise == pytest.approx(0.2)
    assert noise.figure([8]).noise == 0


def test_a_ratio_is_of_rounds_and_not_of_medians() -> None:
    # both brokers are slow in the second round: the ratio stays what it is
    found = noise.ratio([20, 2, 20], [10, 1, 10])
    assert found is not None
    assert (found.value, found.noise) == (2.0, 0.0)
    assert noise.ratio([1], [0]) is None
    assert noise.ratio([], [1]) is None


def test_goals_go_both_ways() -> None:
    assert noise.meets("mb_per_s", 1.5, 1.5)
    assert not noise.meets("mb_per_s", 1.4, 1.5)
    assert noise.meets("memory_mb", 0.2, 0.2)
    assert not noise.meets("memory_mb", 0.3, 0.2)
    assert noise.worse_by("mb_per_s", 100, 80) == pytest.approx(0.2)
    assert noise.worse_by("ack_p99_ms", 100, 80) == pytest.approx(-0.2)


def test_a_slower_machine_is_no_regression_but_a_worse_ratio_is() -> None:
    tracked = made.table([100, 101, 102], [50, 51, 50])
    assert comparison.regressions(tracked, made.table([50, 50, 51], [25, 25, 25]), 0.1) == []
    found = comparison.regressions(tracked, made.table([60, 61, 60], [50, 50, 51]), 0.1)
    assert [(each.metric, each.broker) for each in found] == [("mb_per_s", "weir / kafka")]
    assert "worse" in str(found[0])


def test_noisy_figures_are_granted_their_noise() -> None:
    tracked = made.table([60, 100, 140], [50, 50, 50])
    assert comparison.regressions(tracked, made.table([70, 70, 70], [50, 50, 50]), 0.1) == []


def test_without_a_peer_the_figures_themselves_are_judged() -> None:
    before, after = comparison.as_table(made.result()), comparison.as_table(made.result(p99_ms=50.0, mb_per_s=4.0))
    worse = {each.metric for each in comparison.regressions(before, after, 0.15)}
    assert {"mb_per_s", "ack_p99_ms"} <= worse
    assert comparison.regressions(before, before, 0.15) == []


def test_tracked_results_are_found_again(tmp_path: Path) -> None:
    table = made.table([100.0, 100.0], [50.0, 50.0])
    path = tracking.track(tmp_path, table, "")
    assert path == tmp_path / "processor-x-2-4-gib" / "made.json"
    assert read_any(path) == table
    assert tracking.check(tmp_path, table, "", 0.1)[1] == []
    assert len(tracking.check(tmp_path, made.table([70.0, 70.0], [50.0, 50.0]), "", 0.1)[1]) == 1
    with pytest.raises(BenchError, match="nothing is tracked"):
        tracking.check(tmp_path, table, "other", 0.1)


def test_files_that_are_no_results_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    for text, message in (("{", "x.json"), ('{"kind": "table"}', "missing"), ('{"schema": 99}', "schema 99")):
        path.write_text(text)
        with pytest.raises(BenchError, match=message):
            read_any(path)
    with pytest.raises(BenchError, match="No such file"):
        read_any(tmp_path / "none.json")

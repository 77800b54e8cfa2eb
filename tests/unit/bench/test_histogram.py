"""Latency counts: rounding never flatters, merging adds, quantiles are exact on small sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bench import histogram

LATENCIES = st.lists(st.integers(0, 10_000_000), min_size=1, max_size=200)


@given(st.integers(1, histogram.HIGHEST_US))
def test_rounding_goes_up_by_a_thousandth_at_most(us: int) -> None:
    rounded = histogram.quantise(us)
    assert us <= rounded <= us * 1.001
    assert histogram.quantise(rounded) == rounded


def counted(values: list[int]) -> histogram.Counts:
    counts: histogram.Counts = {}
    for value in values:
        histogram.add(counts, {histogram.quantise(value): 1})
    return counts


@given(LATENCIES, st.floats(0, 1))
def test_a_quantile_is_the_smallest_value_that_enough_records_do_not_exceed(values: list[int], q: float) -> None:
    counts = counted(values)
    found = histogram.quantile(counts, q)
    total = len(values)
    assert sum(count for value, count in counts.items() if value <= found) >= q * total - 1e-6
    below = sum(count for value, count in counts.items() if value < found)
    assert below < max(1, q * total)


@given(LATENCIES, LATENCIES)
def test_merging_is_recording_everything_in_one(one: list[int], two: list[int]) -> None:
    assert histogram.merged([counted(one), counted(two)]) == counted(one + two)


def test_the_encoded_histogram_holds_the_same_records() -> None:
    pytest.importorskip("hdrh")
    counts = counted([5, 5, 900, 123_456, 7_000_000])
    again = histogram.decode(histogram.encode(counts))
    assert again == counts


def test_figures_of_a_histogram() -> None:
    pytest.importorskip("hdrh")
    assert histogram.latency({}) is None
    found = histogram.latency({1000: 98, 2000: 1, 50_048: 1})
    assert found is not None
    assert (found.count, found.p50, found.p99, found.p999, found.max) == (100, 1.0, 2.0, 50.048, 50.048)
    assert found.mean == pytest.approx(1.5, abs=0.01)

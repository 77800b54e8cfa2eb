"""The search for the highest sustainable rate, on brokers whose limit is known."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bench.sustain import Search, judge
from tests.unit.bench import made


@given(limit=st.floats(200, 5e6), start=st.floats(100, 1e5))
def test_the_limit_is_found(limit: float, start: float) -> None:
    search = Search(start, precision=0.05, most_runs=200)
    while not search.finished:
        search.tried(search.rate <= limit)
    assert limit / 1.05 <= search.good <= limit


def test_one_bad_run_is_tried_again() -> None:
    search = Search(1000.0)
    search.tried(False)
    assert search.rate == 1000.0
    search.tried(True)
    assert search.good == 1000.0
    assert search.rate == 2000.0


def test_runs_are_bounded() -> None:
    search = Search(1000.0, most_runs=7)
    while not search.finished:
        search.tried(True)
    assert search.runs == 7


def test_a_broker_that_sustains_nothing_ends_the_search() -> None:
    search = Search(1000.0, most_runs=100)
    while not search.finished:
        search.tried(False)
    assert search.good == pytest.approx(0.0)
    assert search.runs < 20


def test_a_run_is_judged_by_latency_and_by_what_was_acknowledged() -> None:
    pytest.importorskip("hdrh")
    good = made.result(p99_ms=5.0)
    assert judge(good, 10.0)[0]
    assert judge(good, 4.0) == (False, "p99 5.0 ms")
    assert judge(good, 0.99, "p50") == (False, "p50 1.0 ms")
    assert not judge(msgspec.structs.replace(good, records_acked=400), 10.0)[0]
    assert not judge(msgspec.structs.replace(good, records_failed=1), 10.0)[0]

"""When records are due: counts and moments agree, for every shape of the rate and every arrival."""

from __future__ import annotations

import itertools
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bench.schedule import Schedule, schedule
from benchmarks.bench.workload import Load


def made(load: Load, warmup_s: float = 2.0, duration_s: float = 9.0, share: float = 1.0) -> Schedule:
    return schedule(load, warmup_s, duration_s, share, Random(1))


LOADS = [
    Load(rate=100.0),
    Load(rate=100.0, ramp_to=1000.0),
    Load(rate=1000.0, ramp_to=10.0),
    Load(rate=50.0, spike_rate=500.0),
    Load(rate=100.0, arrival="poisson"),
    Load(rate=100.0, arrival="burst", burst_interval_s=3.0),
    Load(rate=50.0, spike_rate=500.0, arrival="burst", burst_interval_s=0.7),
]


@pytest.mark.parametrize("load", LOADS)
def test_a_record_is_counted_from_its_moment_on(load: Load) -> None:
    plan = made(load)
    total = plan.count(9.0)
    plan = made(load)
    moments = [plan.due(number) for number in range(total)]
    assert moments == sorted(moments)
    assert moments[0] >= -2.0
    counting = made(load)
    for number in range(0, total, 37):
        if number == 0 or moments[number] > moments[number - 1]:
            assert counting.count(moments[number] - 1e-6) <= number
        assert counting.count(moments[number] + 1e-6) > number


def test_a_constant_rate_is_kept() -> None:
    plan = made(Load(rate=100.0))
    assert plan.count(-2.0) == 0
    assert plan.count(0.0) == 200
    assert plan.count(9.0) == 1100
    assert plan.due(0) == pytest.approx(-1.99)
    assert plan.count(20.0) == 2200  # goes on for as long as the run does


def test_a_ramp_reaches_its_end() -> None:
    plan = made(Load(rate=100.0, ramp_to=300.0), warmup_s=0.0, duration_s=10.0)
    assert plan.count(10.0) == 2000
    assert plan.count(5.0) == 750
    assert plan.count(11.0) == 2300


def test_a_spike_is_the_middle_third() -> None:
    plan = made(Load(rate=10.0, spike_rate=100.0), warmup_s=0.0)
    assert [plan.count(at) for at in (3.0, 6.0, 9.0)] == [30, 330, 360]


def test_a_burst_is_due_at_the_start_of_its_interval() -> None:
    plan = made(Load(rate=100.0, arrival="burst", burst_interval_s=3.0), warmup_s=1.0)
    assert plan.count(-1.0) == 100  # the warm-up's part
    assert plan.count(-0.001) == 100
    assert plan.count(0.0) == 400
    assert plan.count(2.999) == 400
    assert [plan.due(number) for number in (0, 99, 100, 399, 400)] == [-1.0, -1.0, 0.0, 0.0, 3.0]


def test_poisson_arrivals_have_the_rate_and_are_uneven() -> None:
    plan = made(Load(rate=1000.0, arrival="poisson"))
    assert plan.count(9.0) == pytest.approx(11_000, rel=0.05)
    again = made(Load(rate=1000.0, arrival="poisson"))
    moments = [again.due(number) for number in range(2000)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert min(gaps) < 0.0002 < 0.003 < max(gaps)


@given(share=st.sampled_from([0.25, 0.5, 1.0]), at=st.floats(-2.0, 30.0))
def test_processes_share_the_load(share: float, at: float) -> None:
    load = Load(rate=400.0, ramp_to=800.0)
    assert made(load, share=share).count(at) == pytest.approx(made(load).count(at) * share, abs=1)

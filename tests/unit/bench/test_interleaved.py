"""Brokers that are started here: what ends a matrix early, and says why."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.bench import interleaved
from benchmarks.bench.brokers import Broker, Started
from benchmarks.bench.errors import BenchError
from benchmarks.bench.interleaved import Gathered, Interleaved, Plan
from benchmarks.bench.table import Case
from benchmarks.bench.target import Target
from benchmarks.bench.workload import Workload

BROKERS = (Broker(name="one", bootstrap="127.0.0.1:1", start="x"), Broker(name="two", bootstrap="", like="one"))
PLAN = Plan(Case(name="case"), Workload(name="case"))
Usage = namedtuple("Usage", "total used free")


def _measured(tmp_path: Path, program: str) -> Interleaved:
    measured = Interleaved(BROKERS, set(), lambda line: None)
    output = tmp_path / "output.log"
    with output.open("wb") as file:
        process = subprocess.Popen([sys.executable, "-c", program], stdout=file, start_new_session=True)
    measured._started["one"] = Started(process, 1.0, 1.0, 1.0, output)
    return measured


@pytest.mark.parametrize("broker", BROKERS)
def test_a_broker_that_ended_ends_the_matrix_with_its_last_words(tmp_path: Path, broker: Broker) -> None:
    with _measured(tmp_path, "print('disk full'); exit(3)") as measured:
        measured._started["one"].process.wait()
        with pytest.raises(BenchError, match=f"{broker.name}: its process ended with status 3(.|\n)*disk full"):
            measured._once(PLAN, broker, Gathered())


def test_a_disk_that_is_nearly_full_ends_the_matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(1, 1, interleaved._LEAST_FREE_BYTES - 1))
    with (
        _measured(tmp_path, "import time; time.sleep(60)") as measured,
        pytest.raises(BenchError, match="GB are free where the brokers keep their data"),
    ):
        measured._once(PLAN, BROKERS[0], Gathered())


@pytest.mark.parametrize(
    ("rates", "runs"), [([10, 20, 40, 42, 99], 4), ([50, 49, 99], 2), ([2**number for number in range(30)], 12)]
)
def test_only_brokers_started_here_are_warmed_up_until_they_get_no_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rates: Sequence[float], runs: int
) -> None:
    asked: list[str] = []

    def run(workload: Workload, target: Target) -> SimpleNamespace:
        asked.append(target.name)
        return SimpleNamespace(bytes_per_s=rates[len(asked) - 1] * 1e6)

    monkeypatch.setattr(interleaved, "run", run)
    with _measured(tmp_path, "import time; time.sleep(60)") as measured:
        measured._warm_up()
    assert asked == ["one"] * runs

"""A fixed small set of seeds in every test run, and the proof that a seed decides everything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.simulation.broker_process import broker_process
from tests.simulation.model_broker import model_process
from tests.simulation.regressions import REGRESSIONS, Regression
from tests.simulation.run import run_scenario
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.world import Process, WorldSettings

SECONDS = 10.0


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_the_broker_keeps_its_promises(scenario: str, seed: int) -> None:
    result = run_scenario(SCENARIOS[scenario], seed, duration_s=SECONDS, process=broker_process)
    assert not result.failure, f"replay: python -m tests.simulation {scenario} --seed {seed} --seconds {SECONDS:g}"
    assert result.acked_batches > 20
    assert result.records_read > 20


@pytest.mark.parametrize("scenario", list(SCENARIOS))
def test_the_model_broker_keeps_them_too(scenario: str) -> None:
    result = run_scenario(SCENARIOS[scenario], 1, duration_s=SECONDS, process=model_process, basic=True)
    assert not result.failure
    assert result.acked_batches > 20


def ack_before_sync(settings: WorldSettings) -> None:
    settings.disk.planted_ack_before_sync = True


def ack_before_write(settings: WorldSettings) -> None:
    settings.disk.planted_ack_before_write = True


def seeds_until_caught(
    process: Process, scenario: str, adjust: Callable[[WorldSettings], None], most: int, seconds: float = SECONDS
) -> int:
    """How many seeds it takes until a run fails; more than `most` when none does."""
    for seed in range(1, most + 1):
        if run_scenario(
            SCENARIOS[scenario],
            seed,
            duration_s=seconds,
            process=process,
            basic=process is model_process,
            adjust=adjust,
        ).failure:
            return seed
    return most + 1


@pytest.mark.parametrize(
    ("planted", "scenario"),
    [(ack_before_sync, "power-cuts"), (ack_before_write, "kills"), (ack_before_write, "power-cuts")],
)
@pytest.mark.parametrize("process", [model_process, broker_process])
def test_a_planted_early_ack_is_caught(
    process: Process, planted: Callable[[WorldSettings], None], scenario: str
) -> None:
    assert seeds_until_caught(process, scenario, planted, 10) <= 10


@pytest.mark.parametrize("entry", REGRESSIONS, ids=lambda entry: f"{entry.scenario}-{entry.seed}")
def test_what_was_found_once_stays_mended(entry: Regression) -> None:
    result = run_scenario(SCENARIOS[entry.scenario], entry.seed, duration_s=entry.seconds)
    assert not result.failure, entry.reason


def _digests(hash_seed: str) -> str:
    """Of one short run of every scenario, in a process of their own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "all", "--seed", "3", "--seconds", "5"],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=110,
    )
    return done.stdout


def test_a_seed_decides_everything_whatever_the_hash_seed() -> None:
    first, second = _digests("1"), _digests("2")
    assert first.count("digest") == len(SCENARIOS)
    assert first.splitlines() == second.splitlines()

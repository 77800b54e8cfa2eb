"""A few power cuts of a whole broker; `python -m tests.faults.broker_power_cut` makes as many as you like."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.broker_power_cut import findings, run
from tests.faults.power_cut import compiler

pytestmark = pytest.mark.skipif(compiler() is None, reason="the recorder needs gcc or cc")


def test_a_broker_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    rng = random.Random(1)
    events, promises = run(tmp_path, 600, rng)
    assert len(promises.records) == 600
    assert len(promises.commits) == 6
    assert list(findings(events, promises, 16, rng, tmp_path)) == []


def test_a_broker_that_acknowledges_before_the_sync_is_caught(tmp_path: Path) -> None:
    rng = random.Random(1)
    events, promises = run(tmp_path, 400, rng, lying=True)
    found = next(findings(events, promises, 40, rng, tmp_path), None)
    assert found is not None, "the power cuts did not notice it"
    assert "was acknowledged" in found

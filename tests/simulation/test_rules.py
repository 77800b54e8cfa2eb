"""The rule machine finds nothing in the broker, and a planted bug in a few steps."""

from __future__ import annotations

from tests.simulation.rules import search
from tests.simulation.world import WorldSettings


def test_a_few_examples_are_sound() -> None:
    tally = search(20)
    assert not tally.failure, "\n".join([tally.failure, "after", *tally.steps])
    assert tally.examples >= 20
    assert tally.acked_batches > 20
    assert tally.records_read > 200
    for name in ("process kill", "broker: started", "network: reset", "rare: upload"):
        assert tally.fired[name]


def ack_before_write(settings: WorldSettings) -> None:
    settings.disk.planted_ack_before_write = True


def test_a_planted_early_ack_is_shrunk_to_a_few_steps() -> None:
    """Told from the outside: something was acknowledged, and after a kill it is not there."""
    tally = search(100, steps=8, adjust=ack_before_write, outside_only=True)
    assert "acked is readable" in tally.failure
    assert len(tally.steps) <= 5, tally.steps

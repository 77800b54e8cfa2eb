"""The rule machine finds nothing in the broker, and a planted bug."""

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


def ack_before_sync(settings: WorldSettings) -> None:
    settings.disk.planted_ack_before_sync = True


def test_a_planted_early_ack_is_found() -> None:
    """By what was seen inside. By what clients were told alone, and what it shrinks to, takes longer:
    `python -m tests.long.rules --plant planted_ack_before_write`."""
    assert "durable before ack" in search(20, adjust=ack_before_sync, shrink=False).failure

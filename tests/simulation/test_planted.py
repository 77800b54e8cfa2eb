"""A bug planted in the unmodified broker is caught, and the same run without it is good."""

from __future__ import annotations

from tests.long.planted.trying import run_with


def test_an_acknowledgement_ahead_of_the_wal_is_caught() -> None:
    found = run_with("ack-before-flush", "kills", 1, 3.0)
    assert found.times
    assert "durable before ack" in found.by
    assert not run_with("", "kills", 1, 3.0).failure

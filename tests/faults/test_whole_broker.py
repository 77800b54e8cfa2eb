"""A sample of the n-th failures; `python -m tests.long.nth_failure` takes all of them."""

from __future__ import annotations

import pytest

from tests.faults.whole_broker import KILLED_BEFORE, PORTS, run

_SAMPLE = {
    "wal-write": (7,),
    "wal-create": (2,),
    "wal-remove": (2,),
    "store-put": (2,),
    "store-get": (2,),
    "store-delete": (1,),
    "store-list": (1,),
    "metadata": (40,),
    "network": (30,),
}


@pytest.mark.parametrize(
    ("port", "mode", "n"),
    [
        (port, mode, n)
        for port, modes in PORTS.items()
        for mode in modes
        if mode != KILLED_BEFORE
        for n in _SAMPLE[port]
    ],
)
def test_promises_are_kept_after_the_nth_failure(port: str, mode: str, n: int) -> None:
    outcome = run(port, mode, n)
    assert outcome.fired
    assert not outcome.failure, f"again: python -m tests.long.nth_failure --port {port} --mode '{mode}' --n {n}"

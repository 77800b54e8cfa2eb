"""The kill loop's checker finds each kind of broken promise, and nothing in a sound log."""

from __future__ import annotations

import pytest

from tests.long.kill_loop import Fates, Key, violations

Log = dict[int, list[tuple[int, Key]]]


def sound() -> tuple[Fates, Log]:
    """Two partitions with three acknowledged records each; of two records of unknown fate one is there."""
    log: Log = {p: [(i, (0, p, i)) for i in range(3)] for p in (0, 1)}
    fates = Fates(acknowledged={key: offset for records in log.values() for offset, key in records})
    log[0].append((3, (0, 0, 3)))
    fates.unknown |= {(0, 0, 3), (0, 0, 4)}
    fates.refused.add((0, 1, 3))
    return fates, log


def test_sound_log() -> None:
    assert violations(*sound()) == []


@pytest.mark.parametrize("fault", ["lost", "twice", "reordered", "gap", "refused", "moved", "elsewhere"])
def test_fault_is_found(fault: str) -> None:
    fates, log = sound()
    if fault == "lost":
        log[1].pop()
    elif fault == "twice":
        log[1].append((3, (0, 1, 2)))
    elif fault == "reordered":
        log[0][2:] = [(2, (0, 0, 3)), (3, (0, 0, 2))]
        fates.acknowledged[0, 0, 2] = 3
    elif fault == "gap":
        log[0][3] = (4, (0, 0, 3))
    elif fault == "refused":
        log[1].append((3, (0, 1, 3)))
    elif fault == "moved":
        fates.acknowledged[0, 1, 1] = 7
    else:
        log[0][3] = (3, (0, 1, 9))
    assert violations(fates, log)

"""Checkers: pure functions from a history to what is wrong with it. One file each.

CHECKERS need nothing but the history. The others are called with what was seen inside as well, as plain values
(`inside.py`): `durable_before_ack`, `fenced_epochs`, `objects`, `ranges`, `ceilings`; `liveness` with the time of
healing.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.verify.checkers import (
    acked_is_readable,
    deleted_topics,
    fenced_epochs,
    group_offsets,
    group_owners,
    linearizable,
    offsets_and_watermarks,
)
from benchmarks.verify.history import Anomaly, History

CHECKERS: tuple[Callable[[History], list[Anomaly]], ...] = (
    acked_is_readable.check,
    offsets_and_watermarks.check,
    linearizable.check,
    group_offsets.check,
    group_owners.check,
    fenced_epochs.check,
    deleted_topics.check,
)

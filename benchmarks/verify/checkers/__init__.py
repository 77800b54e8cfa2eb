"""Checkers: pure functions from a history to what is wrong with it. One file each."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.verify.checkers import acked_is_readable, offsets_and_watermarks
from benchmarks.verify.history import Anomaly, History

CHECKERS: tuple[Callable[[History], list[Anomaly]], ...] = (acked_is_readable.check, offsets_and_watermarks.check)

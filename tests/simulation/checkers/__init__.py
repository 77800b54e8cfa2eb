"""Checkers: pure functions from a history to what is wrong with it. One file each."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulation.checkers import acked_is_readable, offsets_and_watermarks
from tests.simulation.history import Anomaly, History

CHECKERS: tuple[Callable[[History], list[Anomaly]], ...] = (acked_is_readable.check, offsets_and_watermarks.check)

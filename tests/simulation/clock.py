"""The wall clock of a simulated machine: virtual time plus an offset that may jump."""

from __future__ import annotations

from tests.simulation.loop import START_TIME_S, SimulatedLoop

EPOCH_MS = 1_750_000_000_000  # what the wall shows when a run begins


class WallClock:
    """`Clock` of the ports. `offset_ms` is the skew; change it to make the clock jump."""

    def __init__(self, loop: SimulatedLoop, offset_ms: int = 0) -> None:
        self._loop = loop
        self.offset_ms = offset_ms

    def now_ms(self) -> int:
        return EPOCH_MS + self.offset_ms + int((self._loop.time() - START_TIME_S) * 1000)

"""The wall clock of a simulated machine: virtual time plus an offset that may jump."""

from __future__ import annotations

from collections import Counter

from tests.simulation.loop import START_TIME_S, SimulatedLoop

EPOCH_MS = 1_750_000_000_000  # what the wall shows when a run begins


class WallClock:
    """`Clock` of the ports. `offset_ms` is the skew against true time; the loop's own time is not touched by it."""

    def __init__(self, loop: SimulatedLoop, offset_ms: int = 0, fired: Counter[str] | None = None) -> None:
        self._loop = loop
        self.offset_ms = offset_ms
        self.fired = fired if fired is not None else Counter()

    def now_ms(self) -> int:
        return EPOCH_MS + self.offset_ms + int((self._loop.time() - START_TIME_S) * 1000)

    def jump(self, by_ms: int) -> None:
        """Step forward or back, as a clock that is set by hand or by a first NTP answer."""
        self.offset_ms += by_ms
        self.fired["clock: jump forward" if by_ms >= 0 else "clock: jump back"] += 1
        self._loop.trace.add(f"{self._loop.time()!r} clock {by_ms:+}")

"""Waiting between tries of a call that may succeed later: doubling, with full jitter."""

from __future__ import annotations

import random

from s3stream.errors import OutcomeUnknown, Retry


class Backoff:
    """Delays of one chain of tries. Full jitter, so that brokers that failed together do not return together."""

    __slots__ = ("_base_ms", "_max_ms", "_rng", "tries")

    def __init__(self, base_ms: int, max_ms: int, rng: random.Random) -> None:
        self._base_ms, self._max_ms, self._rng = base_ms, max_ms, rng
        self.tries = 0

    def next_delay_s(self, error: Retry | OutcomeUnknown) -> float:
        """Seconds to wait before the next try; what the other side asked for is respected, within the maximum."""
        ceiling_ms = min(self._max_ms, self._base_ms << min(self.tries, 20))
        self.tries += 1
        delay_ms = self._rng.uniform(0, ceiling_ms)
        asked_ms = getattr(error, "retry_after_ms", None)
        if asked_ms is not None:
            delay_ms = max(delay_ms, min(asked_ms, self._max_ms))
        return delay_ms / 1000

"""How fast the producers of a run go: together they aim at a number of acknowledged batches over its whole time.

After an outage they catch up and without one they take their time: a run has enough in it whatever happened, and no
more than that, since every batch costs real time.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass
class Pace:
    """`target` acknowledged batches between `began_s` and `until_s`, of all `producers` together."""

    target: int
    began_s: float
    until_s: float
    producers: int
    acked_batches: int = 0

    def pause_s(self, now_s: float, rng: random.Random) -> float:
        """How long one producer waits before its next turn: longer when all are ahead of time, hardly at all when they
        are far behind."""
        interval_s = self.producers * (self.until_s - self.began_s) / self.target
        due = self.target * (now_s - self.began_s) / (self.until_s - self.began_s)
        ahead = self.acked_batches - due
        if ahead < 0:
            return rng.uniform(0, 0.5) * interval_s * max(0.05, 1 + ahead / 30)
        return rng.uniform(0.5, 1.5) * interval_s * (1 + ahead / 20)

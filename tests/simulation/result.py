"""What one run came to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class RunResult:
    """What a run came to. `failure` is empty for a good run."""

    scenario: str
    seed: int
    digest: str
    failure: str
    steps: int
    simulated_s: float
    acked_batches: int
    records_read: int
    fired: Counter[str] = field(default_factory=Counter)

"""Judges a run: what the checkers find, and whether there was enough to find anything in. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from benchmarks.verify.checkers import CHECKERS, offsets_and_watermarks
from benchmarks.verify.figures import Figures, figures
from benchmarks.verify.history import Anomaly
from benchmarks.verify.implicit import placed
from benchmarks.verify.stored import READ_BACK, Run


class Result(enum.IntEnum):
    """The exit codes of `weir verify`; 2 is wrong usage."""

    NOTHING_FOUND = 0
    VIOLATIONS = 1
    VACUOUS = 3


@dataclass(frozen=True)
class Verdict:
    """`reasons`: why finding nothing would prove nothing."""

    figures: Figures
    violations: list[Anomaly]
    reasons: list[str]

    @property
    def result(self) -> Result:
        if self.violations:
            return Result.VIOLATIONS
        return Result.VACUOUS if self.reasons else Result.NOTHING_FOUND


def judge(run: Run, min_acked: int) -> Verdict:
    """Run the checkers. Of a run that broke off before the final read, only what needs none."""
    complete = READ_BACK in run.phases
    checkers = CHECKERS if complete else (offsets_and_watermarks.check,)
    history, lost = placed(run.history)
    violations = (lost if complete else []) + [found for check in checkers for found in check(history)]
    counted = figures(run)
    reasons = []
    if not complete:
        reasons.append(
            "the history ends before everything was read back: whether acknowledged records are there is open"
        )
    if counted.total.acked < min_acked:
        reasons.append(f"only {counted.total.acked:,} records were acknowledged, at least {min_acked:,} are wanted")
    if complete and not counted.followed:
        reasons.append("no record was read while the load ran")
    if silent := [partition for partition, fates in sorted(counted.partitions.items()) if not fates.acked]:
        reasons.append(f"nothing was ever acknowledged by {', '.join(map(str, silent))}")
    if run.plan.get("members") and complete and not counted.commits:
        reasons.append("the group never committed")
    if run.plan.get("chaos") and not any(each.exit_code == 0 for each in run.chaos):
        reasons.append(f"the chaos command ran {len(run.chaos)} times and never succeeded")
    return Verdict(counted, violations, reasons)

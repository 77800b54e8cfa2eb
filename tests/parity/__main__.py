"""`python -m tests.parity --kafka HOST:PORT --weir HOST:PORT`: run every case on both and report what differs.

Status 0 when each difference is in allowed.toml and each entry of it still occurs; else 1.
`--repeat` compares a broker with itself (give it as --kafka): the check that the cases and the normalising are sound.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
import time
import tomllib
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.parity.cases import Case, load
from tests.parity.compare import Difference, differences, normalise
from tests.parity.target import Target
from tests.parity.wire import Plain

NULL = "(null)"  # how allowed.toml writes a null; a field left out there means any value
ALLOWED = Path(__file__).with_name("allowed.toml")


@dataclass
class Allowed:
    """One accepted difference: patterns (`*`, `?`) for case and path, and why."""

    case: str
    path: str
    reason: str
    kafka: Any = None
    weir: Any = None
    seen: list[Difference] = field(default_factory=list)

    def covers(self, difference: Difference) -> bool:
        """Whether this entry is about that difference."""
        return (
            fnmatch.fnmatchcase(difference.case, self.case)
            and fnmatch.fnmatchcase(_escaped(difference.path), _escaped(self.path))
            and self.kafka in (None, NULL if difference.kafka is None else difference.kafka)
            and self.weir in (None, NULL if difference.weir is None else difference.weir)
        )


def _escaped(path: str) -> str:
    """Brackets are part of paths, not patterns."""
    return path.replace("[", "(").replace("]", ")")


def read_allowed(path: Path = ALLOWED) -> list[Allowed]:
    """The entries of allowed.toml; an unknown field is an error."""
    if not path.exists():
        return []
    return [Allowed(**entry) for entry in tomllib.loads(path.read_text()).get("difference", [])]


def observe(case: Case, target: Target) -> Plain:
    """Run one case; what it raises is an observation too, so that the other cases go on."""
    own = target.for_case(case.id)
    try:
        return normalise(case.body(own, case.version), target)
    except Exception as error:  # noqa: BLE001 - reported as the case's result
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return {"raised": f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"}
    finally:
        own.end_case()


def _raised(answer: Plain) -> bool:
    return isinstance(answer, dict) and "raised" in answer


def _suspicious(case: Case, kafka: Plain, weir: Plain, allowed: list[Allowed]) -> bool:
    """Whether the case is to be run once more, alone: on a busy machine a wait may end early or late on one side. What
    differs in truth differs both times."""
    found = differences(case.id, kafka, weir)
    return _raised(kafka) or _raised(weir) or any(not any(entry.covers(d) for entry in allowed) for d in found)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
    parser.add_argument("--kafka", required=True, metavar="HOST:PORT", help="Apache Kafka")
    parser.add_argument("--weir", metavar="HOST:PORT", help="the broker compared with it")
    parser.add_argument("--repeat", action="store_true", help="compare --kafka with itself")
    parser.add_argument("--only", default="*", metavar="PATTERN", help="only cases like this, e.g. 'fetch.*@13'")
    parser.add_argument("--show", action="store_true", help="print what Kafka answered, as JSON lines")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write all differences as JSON lines")
    parser.add_argument("--jobs", type=int, default=12, help="requests' cases run side by side (both brokers together)")
    given = parser.parse_args()
    if not given.repeat and not given.weir:
        parser.error("--weir is needed (or --repeat)")
    return given


def print_table(title: str, found: list[Difference]) -> None:
    """The differences, one line each."""
    table = Table(title=f"{title}: {len(found)}", title_justify="left", expand=False)
    for name in ("case", "path", "kafka", "weir"):
        table.add_column(name, overflow="fold")
    for d in found:
        table.add_row(d.case, d.path, _short(d.kafka), _short(d.weir))
    Console(width=200, markup=False).print(table)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 240 else text[:240] + "..."


def targets(given: argparse.Namespace) -> tuple[Target, Target]:
    """Kafka and what it is compared with, under a name that nothing on them has yet."""
    token = uuid.uuid4().hex[:6]
    other = given.kafka if given.repeat else given.weir
    return Target("kafka", given.kafka, f"p{token}a"), Target("weir", other, f"p{token}b")


def main() -> int:
    given = arguments()
    cases = [c for c in load() if fnmatch.fnmatchcase(c.id, given.only)]
    left, right = targets(given)
    allowed = [] if given.repeat else read_allowed()
    found: list[Difference] = []
    failed: list[Difference] = []
    again = 0
    started = time.monotonic()
    with ThreadPoolExecutor(given.jobs) as pool:
        answers = {case: [pool.submit(observe, case, target) for target in (left, right)] for case in cases}
    for case, pair in answers.items():
        kafka, weir = (answer.result() for answer in pair)
        if _suspicious(case, kafka, weir, allowed):
            again += 1
            kafka, weir = (observe(case, target) for target in targets(given))  # with names of their own
        if given.show:
            print(json.dumps({"case": case.id, "kafka": kafka}))
        if _raised(kafka):
            failed.append(Difference(case.id, "", kafka, weir))
        found += differences(case.id, kafka, weir)
    open_ones = []
    for d in found:
        owners = [entry for entry in allowed if entry.covers(d)]
        for entry in owners:
            entry.seen.append(d)
        if not owners:
            open_ones.append(d)
    stale = [entry for entry in allowed if not entry.seen] if given.only == "*" else []
    if given.report:
        given.report.write_text("".join(json.dumps(d.__dict__) + "\n" for d in found))
    if open_ones:
        print_table("Differences that are not in allowed.toml", open_ones)
    if failed:
        print_table("Cases that failed on Kafka", failed)
    for entry in stale:
        print(f"allowed.toml: no longer occurs: {entry.case} {entry.path} ({entry.reason})")
    listed = sum(1 for entry in allowed if entry.seen)
    names = len({c.id.split("@")[0] for c in cases})
    print(
        f"{len(cases)} cases ({names} exchanges at their versions) in {time.monotonic() - started:.0f} s: "
        f"{len(found)} differences, {len(found) - len(open_ones)} covered by {listed} entries of allowed.toml, "
        f"{len(open_ones)} not; {len(stale)} stale entries; {len(failed)} cases failed on Kafka; "
        f"{again} looked at twice"
    )
    return 1 if open_ones or stale or failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Tables: cases that are measured again take their place among the others."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmarks.bench.errors import BenchError
from benchmarks.bench.report import page
from benchmarks.bench.table import Case, Table, merged, read_any, write
from tests.unit.bench import made


def of_cases(*names: str, value: float = 1.0, measured_at: str = "2026-01-01", commit: str = "abc") -> Table:
    one = made.table([value] * 3, [2.0] * 3)
    return msgspec.structs.replace(
        one,
        measured_at=measured_at,
        environment=msgspec.structs.replace(one.environment, commit=commit),
        cases=tuple(Case(name=name, text=f"measured at {value}", section="produce") for name in names),
        rows=tuple(msgspec.structs.replace(row, case=name) for name in names for row in one.rows),
    )


def test_cases_measured_again_replace_their_own_rows_only(tmp_path: Path) -> None:
    found = merged(
        of_cases("a", "b", "c"), of_cases("b", "d", value=5.0, measured_at="2026-02-02T10:00:00", commit="def")
    )
    assert [case.name for case in found.cases] == ["a", "b", "c", "d"]
    assert [(row.case, row.broker) for row in found.rows] == [
        (case, broker) for case in "abcd" for broker in ("weir", "kafka")
    ]
    again = {row.case: (row.figures["mb_per_s"].median, row.measured_at, row.commit) for row in found.rows[::2]}
    assert again == {
        "a": (1.0, "", ""),
        "b": (5.0, "2026-02-02T10:00:00", "def"),
        "c": (1.0, "", ""),
        "d": (5.0, "2026-02-02T10:00:00", "def"),
    }
    assert found.measured_at == "2026-01-01"
    write(tmp_path / "table.json", found)
    assert read_any(tmp_path / "table.json") == found
    assert "Measured again on 2026-02-02: b, d." in page([found])


@pytest.mark.parametrize("what", ["machine", "cpuset_client", "cpuset_server"])
def test_what_was_measured_elsewhere_does_not_stand_beside_it(what: str) -> None:
    kept = of_cases("a")
    other = msgspec.structs.replace(kept, environment=msgspec.structs.replace(kept.environment, **{what: "other"}))
    with pytest.raises(BenchError, match="these: other"):
        merged(kept, other)
    with pytest.raises(BenchError, match=r"brokers: weir, kafka; these: weir, redpanda"):
        merged(kept, msgspec.structs.replace(kept, brokers=("weir", "redpanda")))

"""Id lists of any length become few different statements that cover each id."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from s3stream.meta.bulk import in_lists


@given(st.lists(st.integers(), unique=True, max_size=2100))
def test_lists_cover_the_ids(ids: list[int]) -> None:
    covered: list[int] = []
    for sql, arguments in in_lists("x = $1 AND id IN ({ids})", ids, "fixed"):
        assert arguments[0] == "fixed"
        places = sql.removeprefix("x = $1 AND id IN (").removesuffix(")").split(", ")
        assert places == [f"${number}" for number in range(2, 2 + len(places))]
        assert len(places) == len(arguments) - 1
        assert len(places) in (1, 16, 256, 1024)
        covered += dict.fromkeys(arguments[1:])
    assert covered == ids

"""A shard bench per test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.groups.driver import Driver


@pytest.fixture
def driver() -> Iterator[Driver]:
    bench = Driver()
    yield bench
    bench.close()

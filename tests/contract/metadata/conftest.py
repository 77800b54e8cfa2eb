"""The databases that the contract runs on: SQLite in a file with its writer thread, SQLite in memory, inline."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from s3stream.meta import InlineRunner, MetaStore, SqliteDatabase, ThreadRunner
from tests.contract.metadata.world import World


@pytest.fixture(params=["sqlite-file", "sqlite-memory"])
async def meta(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MetaStore]:
    if request.param == "sqlite-file":
        store = MetaStore(SqliteDatabase(str(tmp_path / "metadata.db"), ThreadRunner()))
    else:
        store = MetaStore(SqliteDatabase(":memory:", InlineRunner()))
    await store.migrate()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def world(meta: MetaStore) -> World:
    """One registered broker with an open WAL and three open streams."""
    return await World.begin(meta)

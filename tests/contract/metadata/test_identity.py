"""Ids, broker epochs, WAL epochs: rising, never repeated, the same answer to the same question."""

from __future__ import annotations

import pytest

from s3stream.errors import Fenced, Invalid
from s3stream.meta import MetaStore, allocate_ids_in, next_revision_in, revision_in
from s3stream.meta.rows import WalGrant
from tests.contract.metadata.world import BROKER, World


async def test_ids_rise_and_never_repeat(meta: MetaStore) -> None:
    assert list(await meta.allocate_ids("stream", 3)) == [1, 2, 3]
    assert list(await meta.allocate_ids("stream", 1)) == [4]
    assert list(await meta.allocate_ids("something-new", 2)) == [1, 2]
    assert list(await meta.db.transact(allocate_ids_in, "stream", 2)) == [5, 6]
    with pytest.raises(Invalid):
        await meta.allocate_ids("stream", 0)


async def test_revisions(meta: MetaStore) -> None:
    assert await meta.revision() == 0
    assert await meta.db.transact(next_revision_in) == 1
    assert await meta.db.transact(next_revision_in) == 2
    assert await meta.db.transact(revision_in) == 2
    assert await meta.revision() == 2


async def test_register_is_idempotent_by_incarnation(meta: MetaStore) -> None:
    first = await meta.register_broker(1, "a", 5)
    assert await meta.register_broker(1, "a", 6) == first
    second = await meta.register_broker(1, "b", 7)
    other = await meta.register_broker(2, "c", 8)
    assert first < second < other
    assert await meta.register_broker(1, "b", 9) == second


async def test_wal_epochs_rise_and_the_trim_point_stays(world: World) -> None:
    meta = world.meta
    assert await meta.open_wal(BROKER, world.broker_epoch) == WalGrant(world.wal_epoch, 0)
    await world.commit((1, 0, 5), trim_lsn=77)
    assert await meta.open_wal(BROKER, world.broker_epoch) == WalGrant(world.wal_epoch, 77)
    former = world.wal_epoch
    await world.register("second")
    grant = await meta.open_wal(BROKER, world.broker_epoch)
    assert grant.wal_epoch > former
    assert grant.trim_lsn == 77


async def test_a_fenced_broker_can_do_nothing(world: World) -> None:
    meta, epoch = world.meta, world.broker_epoch
    (object_id,) = await world.prepare()
    commit = world.commit_of([object_id], [world.run(1, 0, 5, object_id)], 9)
    await meta.register_broker(BROKER, "second", 0)
    before = await world.dump()
    with pytest.raises(Fenced, match="has epoch"):
        await meta.open_wal(BROKER, epoch)
    with pytest.raises(Fenced):
        await meta.open_streams(BROKER, epoch, [1])
    with pytest.raises(Fenced):
        await meta.close_streams(BROKER, epoch, [1])
    with pytest.raises(Fenced):
        await meta.prepare_objects(BROKER, epoch, 1, 0, 1)
    with pytest.raises(Fenced):
        await meta.commit_objects(commit)
    with pytest.raises(Fenced, match="not registered"):
        await meta.open_wal(99, epoch)
    assert await world.dump() == before


async def test_a_commit_under_a_former_wal_epoch_is_fenced(world: World) -> None:
    (object_id,) = await world.prepare()
    commit = world.commit_of([object_id], [world.run(1, 0, 5, object_id)], 9, wal_epoch=world.wal_epoch - 1)
    before = await world.dump()
    with pytest.raises(Fenced, match="WAL epoch"):
        await world.meta.commit_objects(commit)
    assert await world.dump() == before


async def test_the_wal_is_trimmed_without_a_commit(world: World) -> None:
    meta = world.meta
    for lsn, expected in ((30, 30), (30, 30), (10, 30)):
        await meta.trim_wal(BROKER, world.broker_epoch, world.wal_epoch, lsn)
        assert (await meta.open_wal(BROKER, world.broker_epoch)).trim_lsn == expected
    with pytest.raises(Fenced):
        await meta.trim_wal(BROKER, world.broker_epoch - 1, world.wal_epoch, 40)
    with pytest.raises(Fenced):
        await meta.trim_wal(BROKER, world.broker_epoch, world.wal_epoch - 1, 40)


async def test_the_trim_point_never_moves_back(world: World) -> None:
    await world.commit((1, 0, 5), trim_lsn=50)
    await world.commit((1, 5, 6), trim_lsn=20)
    assert (await world.meta.open_wal(BROKER, world.broker_epoch)).trim_lsn == 50

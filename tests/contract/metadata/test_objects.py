"""Prepare, commit, verdicts, destruction."""

from __future__ import annotations

import pytest

from s3stream.errors import Fatal, Invalid, NotFound
from s3stream.meta.rows import CommitResult, DoomedObject, MetaCounts, ObjectState, RangeRow, StreamRow, Verdict
from tests.contract.metadata.world import BROKER, World


async def object_rows(world: World) -> list[tuple[int, ...]]:
    return await world.rows("SELECT object_id, state, refs FROM object ORDER BY object_id")


async def test_commit_makes_ranges_visible(world: World) -> None:
    meta = world.meta
    shared, own = await world.prepare(2)
    ranges = [
        world.run(1, 0, 5, shared, position=0, state_position=50, state_size=9, flags=1),
        world.run(2, 0, 7, shared, position=59),
        world.run(3, 0, 900, own),
    ]
    assert await meta.range_rows(1, 0, 10) == []
    result = await meta.commit_objects(world.commit_of([shared, own], ranges, 12))
    assert result == CommitResult(False, dict.fromkeys((1, 2, 3), Verdict.COMMITTED))
    assert await meta.range_rows(1, 0, 10) == [
        RangeRow(1, 0, 5, shared, f"key-{shared}", 0, 50, world.now_ms, 1, 5, 50, 9, 1000)
    ]
    assert await meta.stream_rows([1, 3]) == [StreamRow(1, 1, 0, 5, 50), StreamRow(3, 1, 0, 900, 9000)]
    assert await object_rows(world) == [(shared, 1, 2), (own, 1, 1)]


async def test_a_repeated_commit_is_already_done(world: World) -> None:
    meta = world.meta
    (object_id,) = await world.prepare()
    commit = world.commit_of([object_id], [world.run(1, 0, 5, object_id), world.run(2, 0, 5, object_id)], 12)
    first = await meta.commit_objects(commit)
    before = await world.dump()
    assert await meta.commit_objects(commit) == CommitResult(True, first.verdicts)
    assert await world.dump() == before
    await world.commit((1, 5, 6), trim_lsn=99)
    assert await meta.commit_objects(commit) == CommitResult(True, first.verdicts)
    await meta.trim_stream(1, 1, 6, 0)
    await meta.delete_streams([2], 0)
    assert await object_rows(world) == [(object_id, 2, 0), (object_id + 1, 2, 0)]
    again = await meta.commit_objects(commit)
    assert again == CommitResult(True, {1: Verdict.BELOW_START, 2: Verdict.DELETED})


async def test_one_bad_stream_does_not_wedge_the_others(world: World) -> None:
    meta = world.meta
    await meta.trim_stream(2, 1, 100, 0)
    await meta.delete_streams([3], 0)
    ids = list(await meta.allocate_ids("stream", 1))
    await meta.create_streams(ids)
    await world.open(ids)
    other = await meta.register_broker(2, "other", 0)
    await meta.open_streams(2, other, ids)
    _, result = await world.commit((1, 0, 5), (2, 0, 60), (3, 0, 5), (ids[0], 0, 5), trim_lsn=7)
    assert result.verdicts == {
        1: Verdict.COMMITTED,
        2: Verdict.BELOW_START,
        3: Verdict.DELETED,
        ids[0]: Verdict.FENCED,
    }
    assert (await meta.open_wal(BROKER, world.broker_epoch)).trim_lsn == 7
    assert await meta.range_rows(2, 0, 9) == []
    assert await meta.range_rows(ids[0], 0, 9) == []


async def test_stale_stream_epoch_is_fenced_alone(world: World) -> None:
    (object_id,) = await world.prepare()
    await world.meta.close_streams(BROKER, world.broker_epoch, [2])
    await world.meta.open_streams(BROKER, world.broker_epoch, [2])
    ranges = [world.run(1, 0, 5, object_id), world.run(2, 0, 5, object_id)]
    result = await world.meta.commit_objects(world.commit_of([object_id], ranges))
    assert result.verdicts == {1: Verdict.COMMITTED, 2: Verdict.FENCED}


async def test_trim_past_the_committed_end(world: World) -> None:
    meta = world.meta
    await world.commit((1, 0, 5))
    assert await meta.trim_stream(1, 1, 20, 0) == 20
    assert (await meta.stream_rows([1]))[0] == StreamRow(1, 1, 20, 5, 0)
    _, result = await world.commit((1, 5, 15))
    assert result.verdicts == {1: Verdict.BELOW_START}
    _, result = await world.commit((1, 15, 25))  # the start lies inside
    assert result.verdicts == {1: Verdict.COMMITTED}
    assert (await meta.stream_rows([1]))[0] == StreamRow(1, 1, 20, 25, 100)
    await meta.trim_stream(1, 1, 40, 0)
    _, result = await world.commit((1, 40, 45))  # what lay between is trimmed: no gap
    assert result.verdicts == {1: Verdict.COMMITTED}
    assert [(row.start_offset, row.end_offset) for row in await meta.range_rows(1, 0, 9)] == [(40, 45)]


@pytest.mark.parametrize(("start", "end"), [(6, 9), (4, 9), (0, 5), (2, 3)])
async def test_a_run_that_does_not_continue_is_fatal_and_applies_nothing(world: World, start: int, end: int) -> None:
    await world.commit((1, 0, 5))
    (object_id,) = await world.prepare()
    commit = world.commit_of([object_id], [world.run(1, start, end, object_id), world.run(2, 0, 5, object_id)], 99)
    before = await world.dump()
    with pytest.raises(Fatal, match=r"does not continue the committed data, which is \[0, 5\)"):
        await world.meta.commit_objects(commit)
    assert await world.dump() == before


async def test_an_object_whose_ranges_all_died_is_destroyed_at_once(world: World) -> None:
    await world.meta.delete_streams([1, 2], 0)
    object_id, result = await world.commit((1, 0, 5), (2, 0, 5))
    assert set(result.verdicts.values()) == {Verdict.DELETED}
    assert await object_rows(world) == [(object_id, 2, 0)]
    assert await world.meta.destroyed_objects(world.now_ms, 9) == [DoomedObject(object_id, f"key-{object_id}", 1000)]
    assert await world.meta.destroyed_objects(world.now_ms - 1, 9) == []


async def test_misshapen_commits_are_invalid(world: World) -> None:
    (object_id,) = await world.prepare()
    run = world.run(1, 0, 5, object_id)
    for commit in (
        world.commit_of([], []),
        world.commit_of([object_id, object_id], [run]),
        world.commit_of([object_id], [run, run]),
        world.commit_of([object_id], [run._replace(object_id=object_id + 1)]),
        world.commit_of([object_id], [run._replace(end_offset=0)]),
    ):
        with pytest.raises(Invalid):
            await world.meta.commit_objects(commit)


async def test_an_expired_object_cannot_be_committed(world: World) -> None:
    meta = world.meta
    (object_id,) = await world.prepare()
    assert await meta.drop_expired_prepared(world.now_ms + 3_599_999, 10) == []
    assert await meta.drop_expired_prepared(world.now_ms + 3_600_000, 10) == [object_id]
    assert await meta.drop_expired_prepared(world.now_ms + 3_600_000, 10) == []
    with pytest.raises(NotFound, match="upload again under new ids"):
        await meta.commit_objects(world.commit_of([object_id], [world.run(1, 0, 5, object_id)]))
    later = world.now_ms + 3_600_000
    assert await meta.destroyed_objects(later, 10) == [DoomedObject(object_id, "", 0)]


async def test_expiry_is_bounded_and_oldest_first(world: World) -> None:
    object_ids = await world.prepare(5)
    late = world.now_ms + 9_000_000
    assert await world.meta.drop_expired_prepared(late, 3, object_ids[1:2]) == [*object_ids[:1], *object_ids[2:4]]
    assert await world.meta.drop_expired_prepared(late, 3, object_ids[1:2]) == object_ids[4:]
    assert await world.meta.drop_expired_prepared(late, 3) == object_ids[1:2]


async def test_the_life_of_a_destroyed_object(world: World) -> None:
    meta = world.meta
    kept, _ = await world.commit((1, 0, 5))
    doomed, _ = await world.commit((2, 0, 5))
    await meta.trim_stream(2, 1, 5, 100)
    assert await meta.destroyed_objects(99, 10) == []
    assert [item.object_id for item in await meta.destroyed_objects(100, 10)] == [doomed]
    assert await meta.mark_deleting([doomed, kept, 999]) == [doomed]
    assert await meta.mark_deleting([doomed, kept, 999]) == [doomed]
    assert [item.object_id for item in await meta.destroyed_objects(100, 10)] == [doomed]  # until it is forgotten
    assert await meta.forget_objects([doomed, kept]) == 1
    assert await meta.forget_objects([doomed, kept]) == 0
    assert await meta.destroyed_objects(100, 10) == []
    assert await object_rows(world) == [(kept, 1, 1)]


async def test_a_destroyed_object_is_not_forgotten_before_its_removal_is_announced(world: World) -> None:
    object_id, _ = await world.commit((1, 0, 5))
    await world.meta.trim_stream(1, 1, 5, 0)
    assert await world.meta.forget_objects([object_id]) == 0
    assert await object_rows(world) == [(object_id, 2, 0)]


async def test_counts(world: World) -> None:
    await world.commit((1, 0, 5), (2, 0, 5))
    await world.prepare(2)
    assert await world.meta.counts() == MetaCounts(
        3,
        2,
        {ObjectState.PREPARED: 2, ObjectState.COMMITTED: 1, ObjectState.DESTROYED: 0, ObjectState.DELETING: 0},
        {ObjectState.PREPARED: 0, ObjectState.COMMITTED: 1000, ObjectState.DESTROYED: 0, ObjectState.DELETING: 0},
    )


async def test_a_thousand_ranges_in_one_commit(world: World) -> None:
    ids = list(await world.meta.allocate_ids("stream", 1000))
    await world.meta.create_streams(ids)
    await world.open(ids)
    _, result = await world.commit(*((stream_id, 0, 5) for stream_id in ids))
    assert result.verdicts == dict.fromkeys(ids, Verdict.COMMITTED)
    assert (await world.meta.counts()).ranges == 1000


async def test_a_trim_of_everything_leaves_the_range_with_the_state_until_the_next_one(world: World) -> None:
    meta = world.meta
    first, second, third = await world.prepare(3)
    for object_id, start, state_size in ((first, 0, 9), (second, 5, 9), (third, 20, 0)):
        if object_id == third:
            await meta.trim_stream(1, 1, 20, 0)
            assert (await meta.stream_rows([1]))[0] == StreamRow(1, 1, 20, 10, 0)
            assert [(row.start_offset, row.end_offset) for row in await meta.range_rows(1, 0, 9)] == [(5, 10)]
            assert await meta.range_rows(1, 20, 9) == []
            assert [(row[0], row[2]) for row in await object_rows(world)] == [(first, 0), (second, 1), (third, 0)]
        run = world.run(1, start, start + 5, object_id, state_size=state_size)
        await meta.commit_objects(world.commit_of([object_id], [run]))
    assert [(row[0], row[1], row[2]) for row in await object_rows(world)] == [
        (first, 2, 0),
        (second, 2, 0),
        (third, 1, 1),
    ]
    await meta.trim_stream(1, 1, 25, 0)
    assert await meta.range_rows(1, 0, 9) == []

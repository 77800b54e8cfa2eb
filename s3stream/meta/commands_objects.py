"""Commands that make objects: prepare ids, and the one commit that makes data visible and lets the WAL be trimmed."""

from __future__ import annotations

from collections.abc import Sequence

from s3stream.errors import Fatal, Invalid, NotFound
from s3stream.meta.bulk import fetch_in, locking
from s3stream.meta.commands_identity import allocate_ids_in, check_broker, move_trim_point
from s3stream.meta.commands_streams import drop_ranges_in
from s3stream.meta.rows import CommitResult, ObjectCommit, ObjectState, RunRange, Verdict
from s3stream.ports import Tx

StreamFacts = dict[int, tuple[int, int, int, int]]
"""stream id -> (stream epoch, owner, start offset, end offset)"""


async def prepare_objects(tx: Tx, broker_id: int, broker_epoch: int, count: int, now_ms: int, ttl_ms: int) -> list[int]:
    """Ids of objects that may be uploaded and must be committed before `now_ms + ttl_ms`. Ids of a lost answer
    expire."""
    await check_broker(tx, broker_id, broker_epoch)
    object_ids = list(await allocate_ids_in(tx, "object", count))
    await tx.execute_many(
        "INSERT INTO object (object_id, object_key, kind, state, broker_id, size_bytes, refs, expires_ms, committed_ms,"
        " destroyed_ms) VALUES ($1, '', 0, 0, $2, 0, 0, $3, 0, 0)",
        [(object_id, broker_id, now_ms + ttl_ms) for object_id in object_ids],
    )
    return object_ids


async def commit_objects(tx: Tx, commit: ObjectCommit) -> CommitResult:
    """Make uploaded objects visible. Natural key: the object ids; a repeated commit changes nothing.

    Fenced: the broker or WAL epoch is not current, nothing is applied. NotFound: an object is not prepared any more
    (expired): upload again under a new id. Fatal: a run of an owned stream does not start where the committed data
    ends, so data would be lost or doubled; a bug of the caller. What one stream cannot take any more (deleted, moved to
    another owner, trimmed) is a verdict and its bytes are dead; the rest commits.
    """
    await check_broker(tx, commit.broker_id, commit.broker_epoch)
    _check_shape(commit)
    done = await _is_done(tx, commit)
    facts = await _stream_facts(tx, commit.ranges)
    if done:
        return CommitResult(True, await _find_verdicts(tx, commit, facts))
    await move_trim_point(tx, commit.broker_id, commit.wal_epoch, commit.trim_lsn)
    verdicts, live, grown = _judge(commit, facts)
    await _drop_outlived_states(tx, grown, facts, commit.now_ms)
    await _apply(tx, commit, live, grown)
    return CommitResult(False, verdicts)


def _check_shape(commit: ObjectCommit) -> None:
    object_ids = {item.object_id for item in commit.objects}
    if not object_ids or len(object_ids) != len(commit.objects):
        raise Invalid(f"a commit names each object once, got {[item.object_id for item in commit.objects]}")
    for run in commit.ranges:
        if run.object_id not in object_ids:
            raise Invalid(f"stream {run.stream_id}: object {run.object_id} is not one of the commit")
        if not 0 <= run.start_offset < run.end_offset:
            raise Invalid(f"stream {run.stream_id}: [{run.start_offset}, {run.end_offset}) is not a range")
    if len({run.stream_id for run in commit.ranges}) != len(commit.ranges):
        raise Invalid("a commit has one run per stream")


async def _is_done(tx: Tx, commit: ObjectCommit) -> bool:
    """Whether this commit was applied before; NotFound if it cannot be any more."""
    object_ids = sorted(item.object_id for item in commit.objects)
    rows = await fetch_in(
        tx,
        "SELECT object_id, state, committed_ms, object_key FROM object WHERE object_id IN ({ids}) ORDER BY object_id"
        + locking(tx),
        object_ids,
    )
    keys = {item.object_id: item.key for item in commit.objects}
    prepared = [row[0] for row in rows if row[1] == ObjectState.PREPARED]
    committed = [row[0] for row in rows if row[1] != ObjectState.PREPARED and row[3] == keys[row[0]]]
    if len(prepared) == len(object_ids):
        return False
    if len(committed) == len(object_ids):
        return True
    gone = sorted(set(object_ids) - set(prepared) - set(committed))
    raise NotFound(f"objects {gone} of the commit are not prepared any more; upload again under new ids")


async def _stream_facts(tx: Tx, ranges: Sequence[RunRange]) -> StreamFacts:
    rows = await fetch_in(
        tx,
        "SELECT stream_id, stream_epoch, owner_id, start_offset, end_offset FROM stream WHERE stream_id IN ({ids})"
        " ORDER BY stream_id" + locking(tx),
        sorted(run.stream_id for run in ranges),
    )
    return {row[0]: (row[1], row[2], row[3], row[4]) for row in rows}


def _judge(
    commit: ObjectCommit, facts: StreamFacts
) -> tuple[dict[int, Verdict], list[RunRange], list[tuple[int, int, int]]]:
    """Verdicts, runs that become ranges, and (stream id, new end, bytes) for every stream whose end moves.

    A run that a trim has overtaken becomes a range, too, if it brings the stream's state: see `trim_stream`.
    """
    verdicts: dict[int, Verdict] = {}
    live: list[RunRange] = []
    grown: list[tuple[int, int, int]] = []
    for run in commit.ranges:
        fact = facts.get(run.stream_id)
        if fact is None:
            verdicts[run.stream_id] = Verdict.DELETED
            continue
        epoch, owner_id, start, end = fact
        if epoch != run.stream_epoch or owner_id != commit.broker_id:
            verdicts[run.stream_id] = Verdict.FENCED
            continue
        if not end <= run.start_offset <= max(start, end):
            raise Fatal(
                f"stream {run.stream_id}: run [{run.start_offset}, {run.end_offset}) does not continue the committed"
                f" data, which is [{start}, {end})"
            )
        if run.end_offset <= start:
            verdicts[run.stream_id] = Verdict.BELOW_START
            if run.state_size:
                live.append(run)
            grown.append((run.stream_id, run.end_offset, 0))
            continue
        verdicts[run.stream_id] = Verdict.COMMITTED
        live.append(run)
        grown.append((run.stream_id, run.end_offset, run.size_bytes))
    return verdicts, live, grown


async def _drop_outlived_states(tx: Tx, grown: Sequence[tuple[int, int, int]], facts: StreamFacts, now_ms: int) -> None:
    """Ranges that a trim left for their state alone: from now on a newer run has it."""
    for stream_id, _, _ in grown:
        _, _, start, end = facts[stream_id]
        if 0 < end <= start:
            where = " WHERE stream_id = $1 AND end_offset <= $2"
            await drop_ranges_in(tx, where, (stream_id, start), now_ms)


async def _apply(
    tx: Tx,
    commit: ObjectCommit,
    live: Sequence[RunRange],
    grown: Sequence[tuple[int, int, int]],
) -> None:
    await tx.execute_many(
        "INSERT INTO object_range (stream_id, start_offset, end_offset, object_id, position, size_bytes,"
        " max_timestamp_ms, flags, records, state_position, state_size)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        [
            (
                run.stream_id,
                run.start_offset,
                run.end_offset,
                run.object_id,
                run.position,
                run.size_bytes,
                run.max_timestamp_ms,
                run.flags,
                run.records,
                run.state_position,
                run.state_size,
            )
            for run in live
        ],
    )
    await tx.execute_many("UPDATE stream SET end_offset = $2, size_bytes = size_bytes + $3 WHERE stream_id = $1", grown)
    refs = {item.object_id: 0 for item in commit.objects}
    for run in live:
        refs[run.object_id] += 1
    await tx.execute_many(
        "UPDATE object SET object_key = $2, kind = $3, state = $4, size_bytes = $5, refs = $6, committed_ms = $7,"
        " destroyed_ms = $8 WHERE object_id = $1",
        [
            (
                item.object_id,
                item.key,
                item.kind,
                int(ObjectState.COMMITTED if refs[item.object_id] else ObjectState.DESTROYED),
                item.size_bytes,
                refs[item.object_id],
                commit.now_ms,
                0 if refs[item.object_id] else commit.now_ms,
            )
            for item in commit.objects
        ],
    )


async def _find_verdicts(tx: Tx, commit: ObjectCommit, facts: StreamFacts) -> dict[int, Verdict]:
    """What an applied commit did, as far as it still shows: a run that was committed and trimmed since counts as
    BELOW_START, one whose stream was deleted since as DELETED."""
    verdicts: dict[int, Verdict] = {}
    for run in commit.ranges:
        fact = facts.get(run.stream_id)
        if fact is None:
            verdicts[run.stream_id] = Verdict.DELETED
        elif run.end_offset <= fact[2]:
            verdicts[run.stream_id] = Verdict.BELOW_START
        elif await _is_held(tx, run):
            verdicts[run.stream_id] = Verdict.COMMITTED
        else:
            verdicts[run.stream_id] = Verdict.FENCED
    return verdicts


async def _is_held(tx: Tx, run: RunRange) -> bool:
    rows = await tx.fetch(
        "SELECT object_id FROM object_range WHERE stream_id = $1 AND start_offset = $2", run.stream_id, run.start_offset
    )
    return bool(rows) and rows[0][0] == run.object_id

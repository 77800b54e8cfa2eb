"""The pure deciders: what an upload takes, what of a WAL is alive, how far retention goes, how far to read ahead."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3stream.backoff import Backoff
from s3stream.errors import Corrupt, Invalid, OutcomeUnknown, Retry
from s3stream.meta.rows import RetentionLimit, StreamRow
from s3stream.object_format import KIND_STREAM, KIND_STREAM_SET
from s3stream.ports import WalRecord
from s3stream.read_ahead import MAX_READERS, Readers
from s3stream.replay import plan_replay
from s3stream.retention import RetentionPolicy, TailFacts, limit_of, new_start
from s3stream.settings import KIB, EngineSettings
from s3stream.upload_plan import DirtyStream, due_at_s, is_due, plan_cut
from tests.unit.s3stream.engine.world import SETTINGS

_dirty = st.builds(
    lambda start, durable, rest, size, since: (start, start + durable, start + durable + rest, size, since),
    st.integers(0, 100),
    st.integers(0, 50),
    st.integers(0, 50),
    st.integers(1, 200 * KIB),
    st.floats(0, 100),
)


@given(st.lists(_dirty, max_size=30))
def test_a_cut_takes_durable_batches_only_once_each_and_the_oldest_first(rows: list[tuple[int, ...]]) -> None:
    dirty = [DirtyStream(number, r[0], r[1], r[3], r[4]) for number, r in enumerate(rows)]
    plan = plan_cut(dirty, SETTINGS)
    ready = [each for each in dirty if each.durable_end > each.uploaded_end]
    if plan is None:
        assert not ready
        return
    runs = [run for item in plan.objects for run in item.runs]
    by_id = {each.stream_id: each for each in dirty}
    assert len({run.stream_id for run in runs}) == len(runs)
    for run in runs:
        assert (run.start_offset, run.below) == (by_id[run.stream_id].uploaded_end, by_id[run.stream_id].durable_end)
        assert 0 < run.max_bytes <= SETTINGS.upload_max_bytes
    taken = {run.stream_id for run in runs}
    left = [each for each in ready if each.stream_id not in taken]
    assert all(each.dirty_since_s >= by_id[stream_id].dirty_since_s for each in left for stream_id in taken)
    if left:
        assert sum(by_id[stream_id].size_bytes for stream_id in taken) >= SETTINGS.upload_max_bytes
    for item in plan.objects:
        assert [run.stream_id for run in item.runs] == sorted(run.stream_id for run in item.runs)
        if item.kind == KIND_STREAM:
            assert by_id[item.runs[0].stream_id].size_bytes >= SETTINGS.stream_object_bytes
            assert len(item.runs) == 1
        else:
            assert item.kind == KIND_STREAM_SET
            assert all(by_id[run.stream_id].size_bytes < SETTINGS.stream_object_bytes for run in item.runs)
    assert sum(item.kind == KIND_STREAM_SET for item in plan.objects) <= 1


def test_an_upload_is_due_by_size_or_by_age() -> None:
    assert is_due(SETTINGS.upload_size_bytes, 10.0, SETTINGS, 10.0)
    assert not is_due(SETTINGS.upload_size_bytes - 1, 10.0, SETTINGS, due_at_s(10.0, SETTINGS) - 0.001)
    assert is_due(1, 10.0, SETTINGS, due_at_s(10.0, SETTINGS))


def _frame(lsn: int, stream_id: int, base: int, count: int, epoch: int = 1) -> WalRecord:
    return WalRecord(lsn, stream_id, epoch, base, count, 0, memoryview(b"x"))


def test_replay_keeps_what_is_alive_and_in_no_object() -> None:
    rows = {1: StreamRow(1, 1, 0, 4, 0), 2: StreamRow(2, 3, 50, 10, 0)}
    frames = [_frame(1, 1, 2, 2), _frame(2, 9, 0, 1), _frame(3, 1, 4, 3), _frame(4, 2, 30, 5), _frame(5, 1, 7, 1)]
    replay = plan_replay(frames, rows)
    assert [frame.lsn for frame in replay.survivors] == [3, 4, 5]
    assert replay.tail_ends == {1: 8, 2: 35}
    assert (replay.dropped_deleted, replay.dropped_committed) == (1, 1)


@pytest.mark.parametrize(
    "frames",
    [
        [_frame(1, 1, 5, 1)],  # the frame at 4 is missing
        [_frame(1, 1, 3, 2)],  # lies across the committed end
        [_frame(1, 1, 4, 1), _frame(2, 1, 6, 1)],  # a hole
        [_frame(1, 1, 4, 2), _frame(2, 1, 5, 2)],  # an overlap
        [_frame(1, 1, 4, 1, epoch=2)],  # the metadata are older than the WAL
    ],
)
def test_replay_refuses_a_log_with_something_missing(frames: list[WalRecord]) -> None:
    with pytest.raises(Corrupt):
        plan_replay(frames, {1: StreamRow(1, 1, 0, 4, 0)})


def test_retention_counts_the_tail_as_the_newest_segment() -> None:
    policy = RetentionPolicy(1_000, 500)
    assert limit_of(7, policy, 200, 5_000) == RetentionLimit(7, 4_000, 300)
    assert limit_of(7, policy, 900, 5_000) == RetentionLimit(7, 4_000, 0)
    assert limit_of(7, RetentionPolicy(None, None), 900, 5_000) == RetentionLimit(7, None, None)
    # rows still stand before the tail: the tail stays
    assert new_start(5, policy, TailFacts(10, 20, 20, too_old=True)) == 5
    assert new_start(10, policy, TailFacts(10, 20, 20, too_old=True)) == 20
    assert new_start(10, policy, TailFacts(10, 20, 20, too_old=False)) == 10
    # something is not durable yet, so it is young whatever its timestamps say
    assert new_start(10, policy, TailFacts(10, 20, 21, too_old=True)) == 10
    assert new_start(10, RetentionPolicy(None, 0), TailFacts(10, 20, 20, too_old=False)) == 20


def test_a_read_ahead_window_doubles_and_halves_within_its_bounds() -> None:
    readers = Readers(2, 16)
    reader, known = readers.at(0)
    assert not known
    for expected in (4, 8, 16, 16):
        reader.asked(0, 1)
        assert reader.window_bytes == expected
    for expected in (8, 4, 2, 2):
        reader.wasted()
        assert reader.window_bytes == expected
    reader.next_offset = 100
    assert readers.at(100) == (reader, True)


def test_a_stream_remembers_a_bounded_number_of_readers() -> None:
    readers = Readers(1, 1)
    first, _ = readers.at(0)
    for offset in range(1, MAX_READERS + 1):
        readers.at(offset)
    assert readers.at(0)[0] is not first


def test_backoff_doubles_is_jittered_bounded_and_respects_what_was_asked() -> None:
    backoff = Backoff(100, 1_000, random.Random(1))
    delays = [backoff.next_delay_s(OutcomeUnknown("")) for _ in range(50)]
    assert all(0 <= delay <= min(1.0, 0.1 * 2**number) for number, delay in enumerate(delays))
    assert len(set(delays)) > 40
    assert 0.5 <= Backoff(1, 1_000, random.Random(1)).next_delay_s(Retry("", retry_after_ms=500)) <= 1
    assert Backoff(1, 1_000, random.Random(1)).next_delay_s(Retry("", retry_after_ms=90_000)) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"upload_size_bytes": 0},
        {"upload_max_bytes": 1},
        {"tail_max_bytes": 1},
        {"tail_cache_bytes": 0},
        {"cluster_id": "a/b"},
    ],
)
def test_settings_that_cannot_work_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        dataclasses.replace(EngineSettings(), **change)  # type: ignore[arg-type]

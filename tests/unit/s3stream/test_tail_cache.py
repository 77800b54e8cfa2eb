"""The tail cache against a naive list; eviction, uploads, and what an idle stream costs."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from s3stream import tail_cache
from s3stream.errors import Invalid
from s3stream.tail_cache import TailCache


def batch(size: int, fill: int = 0) -> memoryview:
    return memoryview(bytes([fill % 256]) * size)


def filled(sizes: list[int], max_bytes: int = 10_000, stream_id: int = 1) -> TailCache:
    cache = TailCache(max_bytes)
    for index, size in enumerate(sizes):
        cache.append(stream_id, index * 10, index * 10 + 10, 1000 + index, index + 1, batch(size, index))
    return cache


def test_read_begins_with_the_batch_that_holds_the_offset() -> None:
    cache = filled([5, 6, 7])
    assert [len(view) for view in cache.read(1, 14, 100, 30) or []] == [6, 7]
    assert [len(view) for view in cache.read(1, 19, 100, 30) or []] == [6, 7]


def test_read_stops_at_max_bytes_but_returns_the_first_whatever_its_size() -> None:
    cache = filled([50, 6, 7])
    assert [len(view) for view in cache.read(1, 0, 10, 30) or []] == [50]
    assert [len(view) for view in cache.read(1, 0, 56, 30) or []] == [50, 6]
    assert [len(view) for view in cache.read(1, 0, 62, 30) or []] == [50, 6]


def test_read_ends_at_below() -> None:
    cache = filled([5, 6, 7])
    assert [len(view) for view in cache.read(1, 0, 100, 20) or []] == [5, 6]
    assert [len(view) for view in cache.read(1, 0, 100, 19) or []] == [5]
    assert cache.read(1, 0, 100, 5) == []


def test_none_means_not_held() -> None:
    cache = filled([5, 6])
    assert cache.read(1, 20, 100, 100) is None
    assert cache.read(2, 0, 100, 100) is None
    cache.trim(1, 10)
    assert cache.read(1, 9, 100, 100) is None
    assert cache.held(1) == (10, 20)


def test_uploaded_batches_go_first_in_first_out_and_others_never() -> None:
    cache = TailCache(100)
    for number in range(10):
        cache.append(number % 2, number // 2, number // 2 + 1, 0, number + 1, batch(20))
    assert cache.size_bytes == 200  # nothing is uploaded: over the bound, but kept
    cache.mark_uploaded(1, 3)
    assert cache.size_bytes == 140
    assert cache.held(1) == (3, 5)
    assert cache.held(0) == (0, 5)
    cache.mark_uploaded(0, 5)
    assert cache.size_bytes == 100
    assert cache.held(0) == (2, 5)
    assert cache.unuploaded_bytes == 40


def test_eviction_goes_in_order_of_commit_in_whole_batches() -> None:
    cache = TailCache(1000)
    for number in range(10):
        cache.append(number % 2, number // 2, number // 2 + 1, 0, number + 1, batch(10))
    cache.mark_uploaded(0, 3)
    cache.mark_uploaded(1, 5)
    cache.mark_uploaded(0, 5)
    assert cache.evict(0) == 0
    assert cache.evict(11) == 20  # part of an entry; the rest of it stays the oldest
    assert (cache.held(0), cache.held(1)) == ((2, 5), (0, 5))
    assert cache.evict(15) == 20  # across entries
    assert (cache.held(0), cache.held(1)) == ((3, 5), (1, 5))
    assert cache.evict(45) == 50
    assert (cache.held(0), cache.held(1)) == ((4, 5), None)
    assert cache.evict(1000) == 10
    assert cache.batches == cache.size_bytes == len(cache._order) == 0
    assert cache.evicted_batches == 10


def test_nothing_in_no_object_is_evicted() -> None:
    cache = filled([5] * 1000)
    assert cache.evict(100) == 0
    cache.mark_uploaded(1, 4999)  # inside of batch 499: that one is not
    assert cache.unuploaded_bytes == 501 * 5
    assert cache.evict(10_000) == 499 * 5
    assert cache.held(1) == (4990, 10_000)
    cache.mark_uploaded(1, 4980)  # says nothing new
    assert not cache._order
    cache.mark_uploaded(1, 20_000)
    assert cache.unuploaded_bytes == 0
    assert cache.evict(2) == 5
    assert cache.evict(10) == 10
    assert cache.evict(501 * 5) == 498 * 5
    assert cache.held(1) is None


def test_sizes_hold_across_pieces_and_compactions() -> None:
    sizes = [number * 7 % 50 for number in range(1000)]
    cache = filled(sizes, max_bytes=1 << 20)
    gone = 0
    for uploaded, evicted in ((10, 100), (64, 300), (500, 2000), (501, 1), (900, 9000), (1000, 5000)):
        cache.mark_uploaded(1, uploaded * 10)
        assert cache.unuploaded_bytes == sum(sizes[uploaded:])
        given = cache.evict(evicted)
        start = 1000 - cache.batches
        assert given == sum(sizes[gone:start])
        assert given >= evicted > given - sizes[start - 1] or start == uploaded
        assert cache.size_bytes == sum(sizes[start:])
        gone = start
        cache.append(2, 0, 10, 0, 1, batch(1))
        cache.drop(2)
    cut = cache.take_for_upload(1, 9700, 10_000, sum(sizes[970:990]))
    assert cut.end_offsets[-1] == 9900
    cache.trim(1, 9800)
    assert cache.size_bytes == sum(sizes[980:])
    for number in range(1000, 1300):
        cache.append(1, number * 10, number * 10 + 10, 0, number, batch(9))
    cache.mark_uploaded(1, 12_990)
    assert cache.evict(1 << 20) == sum(sizes[980:]) + 299 * 9


def test_empty_batches_go_with_those_behind_them() -> None:
    cache = filled([0, 0, 5, 0, 5])
    cache.mark_uploaded(1, 50)
    assert cache.evict(1) == 5
    assert cache.held(1) == (30, 50)
    assert cache.evict(6) == 5
    assert cache.held(1) is None


def test_a_full_cache_makes_room_for_more_than_one_batch() -> None:
    cache = TailCache(1 << 20)
    for number in range(2000):
        cache.append(1, number, number + 1, 0, number, batch(1024))
        cache.mark_uploaded(1, number + 1)
        assert cache.size_bytes <= 1 << 20
        assert number < 1024 or cache.size_bytes > (1 << 20) - (1 << 12) - 1024


def test_what_a_dropped_stream_left_in_the_order_does_not_touch_its_next_run() -> None:
    cache = filled([5] * 10)
    cache.mark_uploaded(1, 100)
    cache.drop(1)
    for number in range(10, 20):
        cache.append(1, number * 10, number * 10 + 10, 0, number, batch(5))
    assert cache.evict(1000) == 0
    cache.mark_uploaded(1, 150)
    cache.trim(1, 130)
    assert cache.evict(1000) == 10
    assert cache.held(1) == (150, 200)


def test_trim_takes_uploaded_and_other_batches() -> None:
    cache = filled([5] * 300)
    cache.mark_uploaded(1, 1000)
    cache.trim(1, 495)
    assert (cache.size_bytes, cache.unuploaded_bytes, cache.held(1)) == (251 * 5, 200 * 5, (490, 3000))
    cache.trim(1, 2000)
    assert (cache.size_bytes, cache.unuploaded_bytes, cache.held(1)) == (500, 500, (2000, 3000))
    assert cache.first_lsn(1, 0) == 201
    assert cache.evict(100) == 0
    cache.trim(1, 1000)
    assert cache.batches == 100
    cache.trim(1, 3000)
    assert cache.held(1) is None
    assert (cache.size_bytes, cache.unuploaded_bytes) == (0, 0)


def test_an_idle_stream_costs_nothing() -> None:
    cache = filled([5, 6])
    cache.mark_uploaded(1, 20)
    cache.evict(1000)
    assert not cache._runs  # no entry is left
    assert not cache._order
    cache.append(1, 500, 501, 0, 9, batch(1))  # and it may go on anywhere
    assert cache.held(1) == (500, 501)


def test_evicted_and_trimmed_memory_is_let_go() -> None:
    memory = bytearray(10)
    cache = TailCache(100)
    cache.append(1, 0, 1, 0, 1, memoryview(memory))
    cache.append(1, 1, 2, 0, 2, batch(5))
    with pytest.raises(BufferError):
        memory.extend(b"x")
    cache.mark_uploaded(1, 2)
    cache.evict(1)
    memory.extend(b"x")


@pytest.mark.parametrize("how", ["drop", "trim", "trim a part"])
def test_memory_is_let_go_although_the_order_still_has_an_entry(how: str) -> None:
    memory = bytearray(10)
    cache = TailCache(100)
    cache.append(1, 0, 1, 0, 1, memoryview(memory))
    cache.append(1, 1, 2, 0, 2, batch(5))
    cache.mark_uploaded(1, 2)
    if how == "drop":
        cache.drop(1)
    else:
        cache.trim(1, 2 if how == "trim" else 1)
    memory.extend(b"x")
    assert len(cache._order) == 1


def test_order_does_not_grow_when_streams_are_dropped() -> None:
    cache = TailCache(1 << 40)
    for number in range(20_000):
        cache.append(number, 0, 1, 0, number + 1, batch(1))
        cache.mark_uploaded(number, 1)
        cache.drop(number)
    assert len(cache._order) <= 1024
    assert cache.size_bytes == cache.unuploaded_bytes == cache.batches == 0


def test_order_does_not_grow_when_a_stream_is_trimmed() -> None:
    cache = TailCache(1 << 40)
    for number in range(5000):
        cache.append(1, number, number + 1, 0, number + 1, batch(1))
        cache.mark_uploaded(1, number + 1)
        cache.trim(1, number - 200)
        assert len(cache._order) <= 2 * 202 + 1024
    assert cache.batches == 201
    assert cache.evict(1000) == 201


def test_a_gap_is_refused() -> None:
    cache = filled([5])
    with pytest.raises(Invalid, match="does not follow"):
        cache.append(1, 11, 12, 0, 2, batch(1))


def test_take_for_upload() -> None:
    cache = filled([5, 6, 7])
    cut = cache.take_for_upload(1, 0, 20, 100)
    assert cut.base_offsets == [0, 10]
    assert cut.end_offsets == [10, 20]
    assert cut.max_timestamps_ms == [1000, 1001]
    assert [len(view) for view in cut.views] == [5, 6]
    assert cache.take_for_upload(1, 0, 30, 3).end_offsets == [10]
    assert cache.take_for_upload(1, 10, 30, 13).end_offsets == [20, 30]
    for start, below in ((5, 30), (30, 40), (0, 9)):
        with pytest.raises(Invalid, match="no batch at"):
            cache.take_for_upload(1, start, below, 100)
    with pytest.raises(Invalid):
        cache.take_for_upload(2, 0, 10, 100)


def test_first_lsn_and_timestamps() -> None:
    cache = filled([5, 6, 7])
    assert cache.first_lsn(1, 0) == 1
    assert cache.first_lsn(1, 10) == 2
    assert cache.first_lsn(1, 15) == 2
    assert cache.first_lsn(1, 30) is None
    assert cache.first_lsn(2, 0) is None
    assert list(cache.timestamps(1, 12, 30)) == [(10, 1001), (20, 1002)]
    assert list(cache.timestamps(1, 0, 29)) == [(0, 1000), (10, 1001)]
    assert list(cache.timestamps(3, 0, 29)) == []
    cache.trim(1, 10)
    assert cache.first_lsn(1, 0) == 2
    cache.mark_uploaded(1, 20)
    assert cache.first_lsn(1, 0) == 3  # of what is in no object
    assert list(cache.timestamps(1, 0, 30)) == [(10, 1001), (20, 1002)]
    cache.mark_uploaded(1, 30)
    assert cache.first_lsn(1, 0) is None


@dataclass
class Naive:
    """One stream: (base, end, LSN, bytes) of what is held, and the end of what is uploaded."""

    held: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    uploaded_end: int = 0
    end: int = 0

    @property
    def open(self) -> list[tuple[int, int, int, bytes]]:
        return [batch for batch in self.held if batch[1] > self.uploaded_end]


class Model(RuleBasedStateMachine):
    """`commits` has the LSNs of every uploaded batch, in order of commit: eviction takes from its front."""

    max_bytes = 600
    spare_entries = 4

    def __init__(self) -> None:
        super().__init__()
        self.cache = TailCache(self.max_bytes)
        self.cache._sweep_above = self.spare_entries
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(tail_cache, "_SPARE_ENTRIES", self.spare_entries)
        self.patch.setattr(tail_cache, "_PIECE", 4)
        self.patch.setattr(tail_cache, "_COMPACT_AT", 5)
        self.streams: dict[int, Naive] = {}
        self.commits: list[int] = []
        self.most_batches = 0
        self.evicted_batches = 0
        self.lsn = 0

    def teardown(self) -> None:
        self.patch.undo()

    @rule(
        batches=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5), st.integers(0, 60)), min_size=1, max_size=12)
    )
    def append(self, batches: list[tuple[int, int, int]]) -> None:
        for stream_id, count, size in batches:
            naive = self.streams.setdefault(stream_id, Naive())
            self.lsn += 1
            data = bytes([self.lsn % 256]) * size
            self.cache.append(stream_id, naive.end, naive.end + count, self.lsn, self.lsn, memoryview(data))
            naive.held.append((naive.end, naive.end + count, self.lsn, data))
            naive.end += count
        self.most_batches = max(self.most_batches, sum(len(naive.held) for naive in self.streams.values()))
        self.evicted()

    @rule(parts=st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1) | st.just(1.0)), min_size=1, max_size=4))
    def upload(self, parts: list[tuple[int, float]]) -> None:
        for stream_id, share in parts:
            naive = self.streams.setdefault(stream_id, Naive())
            before = naive.open
            naive.uploaded_end += round((naive.end - naive.uploaded_end) * share)
            self.commits.extend(lsn for _, end, lsn, _ in before if end <= naive.uploaded_end)
            self.cache.mark_uploaded(stream_id, naive.uploaded_end)
        self.evicted()

    @rule(stream_id=st.integers(0, 3), share=st.floats(0, 1))
    def trim(self, stream_id: int, share: float) -> None:
        naive = self.streams.setdefault(stream_id, Naive())
        begin = naive.held[0][0] if naive.held else 0
        start = begin + round((naive.end - begin) * share)
        self.cache.trim(stream_id, start)
        naive.held = [batch for batch in naive.held if batch[1] > start]

    @rule(stream_id=st.integers(0, 15))
    def drop(self, stream_id: int) -> None:
        self.cache.drop(stream_id)
        if stream_id in self.streams:
            self.streams[stream_id].held.clear()

    @rule(size=st.integers(1, 300))
    def evict(self, size: int) -> None:
        before = self.cache.size_bytes
        given = self.cache.evict(size)
        assert given == before - self.cache.size_bytes
        assert given >= size or self.cache.size_bytes == self.cache.unuploaded_bytes
        last = self.evicted()
        assert given - last < size  # one batch less would not have been enough

    def evicted(self) -> int:
        """Follow what the cache evicted: only uploaded batches, in order of commit. Bytes of the last one."""
        gone: dict[int, int] = {}
        for stream_id, naive in self.streams.items():
            held = self.cache.held(stream_id)
            start = held[0] if held is not None else naive.end
            lost = [batch for batch in naive.held if batch[1] <= start]
            assert all(end <= naive.uploaded_end for _, end, _, _ in lost)
            gone |= {lsn: len(data) for _, _, lsn, data in lost}
            naive.held = naive.held[len(lost) :]
        self.evicted_batches += len(gone)
        alive = gone.keys() | {batch[2] for naive in self.streams.values() for batch in naive.held}
        self.commits = [lsn for lsn in self.commits if lsn in alive]
        evicted, self.commits = self.commits[: len(gone)], self.commits[len(gone) :]
        assert set(evicted) == gone.keys()
        return gone[evicted[-1]] if evicted else 0

    @invariant()
    def agrees(self) -> None:
        held = [batch for naive in self.streams.values() for batch in naive.held]
        assert self.cache.size_bytes == sum(len(data) for *_, data in held)
        assert self.cache.batches == len(held)
        assert self.cache.evicted_batches == self.evicted_batches
        open_bytes = sum(len(data) for naive in self.streams.values() for *_, data in naive.open)
        assert self.cache.unuploaded_bytes == open_bytes
        assert self.cache.size_bytes <= max(self.max_bytes, open_bytes)
        assert len(self.cache._order) <= 2 * self.most_batches + self.spare_entries
        for stream_id, naive in self.streams.items():
            assert self.cache.held(stream_id) == ((naive.held[0][0], naive.end) if naive.held else None)
            assert self.cache.first_lsn(stream_id, 0) == (naive.open[0][2] if naive.open else None)
            timestamps = list(self.cache.timestamps(stream_id, 0, naive.end))
            assert timestamps == [(base, lsn) for base, _, lsn, _ in naive.held]

    @rule(stream_id=st.integers(0, 3), max_bytes=st.integers(0, 300))
    def take(self, stream_id: int, max_bytes: int) -> None:
        naive = self.streams.setdefault(stream_id, Naive())
        if not naive.open:
            return
        base = naive.open[0][0]
        cut = self.cache.take_for_upload(stream_id, base, naive.end, max_bytes)
        taken = naive.open[: len(cut.views)]
        assert list(zip(cut.base_offsets, cut.end_offsets, cut.max_timestamps_ms, cut.views, strict=True)) == taken
        total = sum(map(len, cut.views))
        assert total <= max_bytes or len(taken) == 1
        assert len(taken) == len(naive.open) or total + len(naive.open[len(taken)][3]) > max_bytes

    @rule(stream_id=st.integers(0, 3), share=st.floats(0, 1), below=st.floats(0, 1), max_bytes=st.integers(0, 200))
    def read(self, stream_id: int, share: float, below: float, max_bytes: int) -> None:
        naive = self.streams.setdefault(stream_id, Naive())
        offset, limit = round(naive.end * share), round(naive.end * below)
        found = self.cache.read(stream_id, offset, max_bytes, limit)
        if not naive.held or not naive.held[0][0] <= offset < naive.end:
            assert found is None
            return
        expected: list[bytes] = []
        room = max_bytes
        for _, end, _, data in (batch for batch in naive.held if batch[1] > offset):
            room -= len(data)
            if end > limit or (room < 0 and expected):
                break
            expected.append(data)
        assert found is not None
        assert [bytes(view) for view in found] == expected


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestModel = Model.TestCase

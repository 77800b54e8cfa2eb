"""The tail cache against a naive list; eviction, uploads, and what an idle stream costs."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

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


def test_eviction_keeps_the_order_of_arrival_across_streams() -> None:
    cache = TailCache(1000)
    for number in range(10):
        cache.append(number % 2, number // 2, number // 2 + 1, 0, number + 1, batch(10))
    cache.mark_uploaded(0, 5)
    cache.mark_uploaded(1, 5)
    assert cache.evict(50) == 50
    assert cache.held(0) == (3, 5)
    assert cache.held(1) == (2, 5)
    assert cache.evict(1000) == 50
    assert cache.batches == 0


def test_an_idle_stream_costs_nothing() -> None:
    cache = filled([5, 6])
    cache.mark_uploaded(1, 20)
    cache.evict(1000)
    assert not cache._runs  # no entry is left
    assert not cache._order_lsns
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


def test_order_does_not_grow_when_streams_are_dropped() -> None:
    cache = TailCache(1 << 40)
    for number in range(20_000):
        cache.append(number, 0, 1, 0, number + 1, batch(1))
        cache.drop(number)
    assert len(cache._order_lsns) < 2000
    assert cache.size_bytes == cache.unuploaded_bytes == cache.batches == 0


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
    assert cut.lsns == [1, 2]
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


@dataclass
class Naive:
    """One stream: (base, end, lsn, bytes) of what is held, and the end of what is uploaded."""

    held: list[tuple[int, int, int, bytes]] = field(default_factory=list)
    uploaded_end: int = 0
    end: int = 0


class Model(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cache = TailCache(300)
        self.streams: dict[int, Naive] = {}
        self.lsn = 0

    @rule(stream_id=st.integers(0, 3), count=st.integers(1, 5), size=st.integers(0, 90), times=st.integers(1, 4))
    def append(self, stream_id: int, count: int, size: int, times: int) -> None:
        naive = self.streams.setdefault(stream_id, Naive())
        for _ in range(times):
            self.lsn += 1
            data = bytes([self.lsn % 256]) * size
            self.cache.append(stream_id, naive.end, naive.end + count, self.lsn, self.lsn, memoryview(data))
            naive.held.append((naive.end, naive.end + count, self.lsn, data))
            naive.end += count
        self.evicted()

    @rule(stream_id=st.integers(0, 3), share=st.floats(0, 1))
    def upload(self, stream_id: int, share: float) -> None:
        naive = self.streams.setdefault(stream_id, Naive())
        naive.uploaded_end = max(naive.uploaded_end, round(naive.end * share))
        self.cache.mark_uploaded(stream_id, naive.uploaded_end)
        self.evicted()

    @rule(stream_id=st.integers(0, 3), share=st.floats(0, 1))
    def trim(self, stream_id: int, share: float) -> None:
        naive = self.streams.setdefault(stream_id, Naive())
        start = round(naive.end * share)
        self.cache.trim(stream_id, start)
        naive.held = [batch for batch in naive.held if batch[1] > start]

    @rule(stream_id=st.integers(0, 3))
    def drop(self, stream_id: int) -> None:
        self.cache.drop(stream_id)
        self.streams.setdefault(stream_id, Naive()).held.clear()

    @rule(size=st.integers(1, 200))
    def evict(self, size: int) -> None:
        before = self.cache.size_bytes
        given = self.cache.evict(size)
        assert given == before - self.cache.size_bytes
        uploaded_left = self.cache.size_bytes - self.cache.unuploaded_bytes
        assert given >= size or uploaded_left == 0
        self.evicted()

    def evicted(self) -> None:
        """Follow what the cache evicted: only uploaded batches, the oldest ones."""
        gone: list[int] = []
        for stream_id, naive in self.streams.items():
            held = self.cache.held(stream_id)
            start = held[0] if held is not None else naive.end
            lost = [batch for batch in naive.held if batch[1] <= start]
            assert all(end <= naive.uploaded_end for _, end, _, _ in lost)
            gone.extend(lsn for _, _, lsn, _ in lost)
            naive.held = naive.held[len(lost) :]
        kept = [b[2] for n in self.streams.values() for b in n.held if b[1] <= n.uploaded_end and b[3]]
        assert not gone or not kept or max(gone) < min(kept)

    @invariant()
    def agrees(self) -> None:
        held = [batch for naive in self.streams.values() for batch in naive.held]
        assert self.cache.size_bytes == sum(len(data) for *_, data in held)
        assert self.cache.batches == len(held)
        open_bytes = sum(len(d) for n in self.streams.values() for _, end, _, d in n.held if end > n.uploaded_end)
        assert self.cache.unuploaded_bytes == open_bytes
        assert self.cache.size_bytes <= max(300, open_bytes)
        for stream_id, naive in self.streams.items():
            assert self.cache.held(stream_id) == ((naive.held[0][0], naive.end) if naive.held else None)

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


Model.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestModel = Model.TestCase

"""The arena: slices are disjoint, a chunk comes back exactly when its last view goes, the bound holds."""

from __future__ import annotations

import gc
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3stream.arena import Arena
from s3stream.errors import Invalid, Retry

CHUNK = 64 * 1024


def test_allocations_are_writable_and_disjoint() -> None:
    arena = Arena(CHUNK, 4 * CHUNK)
    first, second = arena.allocate(100), arena.allocate(50)
    first[:] = b"a" * 100
    second[:] = b"b" * 50
    assert bytes(first) == b"a" * 100
    assert bytes(second) == b"b" * 50
    assert first.format == "B"
    assert first.readonly is False


def test_a_chunk_is_recycled_only_when_no_view_of_it_lives() -> None:
    arena = Arena(CHUNK, 2 * CHUNK)
    view = arena.allocate(CHUNK)
    view[:4] = b"keep"
    kept = view[:8][:4].toreadonly()
    del view
    other = arena.allocate(CHUNK)
    assert arena.in_use_bytes == 2 * CHUNK
    with pytest.raises(Retry, match="arena is full"):
        arena.allocate(CHUNK)
    assert bytes(kept) == b"keep"
    del kept
    assert arena.in_use_bytes == CHUNK
    again = arena.allocate(CHUNK)
    assert (arena.chunks_made, arena.chunks_recycled) == (2, 1)
    again[:4] = b"new!"
    other[:4] = b"othr"
    assert bytes(again[:4]) == b"new!"


def test_a_view_in_a_reference_cycle_comes_back_with_the_collector() -> None:
    arena = Arena(CHUNK, CHUNK)
    cycle: list[object] = [arena.allocate(CHUNK)]
    cycle.append(cycle)
    del cycle
    gc.collect()
    arena.allocate(CHUNK)


def test_the_last_view_may_die_on_another_thread() -> None:
    arena = Arena(CHUNK, CHUNK)
    holder = [arena.allocate(CHUNK)]
    thread = threading.Thread(target=holder.clear)
    thread.start()
    thread.join()
    arena.allocate(CHUNK)
    assert arena.chunks_recycled == 1


def test_a_large_allocation_has_its_own_chunk_that_goes_back_to_the_system() -> None:
    arena = Arena(CHUNK, 4 * CHUNK)
    small = arena.allocate(10)
    large = arena.allocate(CHUNK + 1)
    assert len(large) == CHUNK + 1
    assert arena.in_use_bytes == CHUNK + CHUNK + 4096
    with pytest.raises(Retry):
        arena.allocate(3 * CHUNK)
    del large
    assert arena.in_use_bytes == CHUNK
    assert arena.spare_bytes == 0
    assert len(arena.allocate(3 * CHUNK)) == 3 * CHUNK
    assert len(small) == 10


def test_spares_make_room_for_a_large_allocation() -> None:
    arena = Arena(CHUNK, 3 * CHUNK)
    views = [arena.allocate(CHUNK) for _ in range(3)]
    views.clear()
    assert arena.spare_bytes == 2 * CHUNK  # the third is the current chunk
    assert arena.has_room(2 * CHUNK)
    large = arena.allocate(2 * CHUNK)
    assert arena.in_use_bytes + arena.spare_bytes <= 3 * CHUNK
    assert len(large) == 2 * CHUNK


def test_has_room_tells_what_allocate_does() -> None:
    arena = Arena(CHUNK, 2 * CHUNK)
    assert arena.has_room(CHUNK)
    held = [arena.allocate(CHUNK - 64), arena.allocate(CHUNK - 64)]
    assert arena.has_room(64)
    assert not arena.has_room(65)
    assert not arena.has_room(CHUNK + 1)
    assert len(held) == 2


def test_reserve_gives_the_rest_and_commit_keeps_a_part() -> None:
    arena = Arena(CHUNK, 4 * CHUNK)
    first = arena.reserve(100)
    assert len(first) == CHUNK
    first[:3] = b"abc"
    arena.commit(first, 3)
    second = arena.reserve(100)
    assert len(second) == CHUNK - 16
    arena.commit(second, 0)
    third = arena.reserve(100)
    third[:3] = b"xyz"
    assert bytes(first[:3]) == b"abc"
    assert bytes(second[:3]) == b"xyz"


def test_reserve_moves_on_when_too_little_is_left() -> None:
    arena = Arena(CHUNK, 4 * CHUNK)
    kept = arena.allocate(CHUNK - 50)
    assert len(arena.reserve(100)) == CHUNK
    assert arena.in_use_bytes == 2 * CHUNK
    assert len(kept) == CHUNK - 50
    with pytest.raises(Invalid):
        arena.reserve(CHUNK + 1)


def test_a_commit_of_a_replaced_chunk_changes_nothing() -> None:
    arena = Arena(CHUNK, 4 * CHUNK)
    arena.allocate(32)
    reserved = arena.reserve(100)
    frame = arena.allocate(CHUNK - 16)  # does not fit into the rest
    arena.commit(reserved, 40)
    assert len(arena.reserve(1)) == 16
    assert len(frame) == CHUNK - 16


def test_a_commit_of_bytes_that_were_given_to_somebody_else_is_refused() -> None:
    arena = Arena(CHUNK, 4 * CHUNK)
    first, second = arena.reserve(10), arena.reserve(10)
    arena.commit(first, 10)
    with pytest.raises(Invalid, match="moved on"):
        arena.commit(second, 10)


def test_shrink_gives_back_the_tail_of_the_latest_allocation_only() -> None:
    arena = Arena(CHUNK, CHUNK)
    first, second = arena.allocate(64), arena.allocate(1024)
    arena.shrink(first, 16)
    second = arena.shrink(second, 16)
    third = arena.allocate(CHUNK - 64 - 16)
    third[:] = b"3" * len(third)
    second[:] = b"2" * 16
    first[:] = b"1" * 64
    assert bytes(third) == b"3" * len(third)
    assert bytes(first) == b"1" * 64
    assert bytes(second) == b"2" * 16
    with pytest.raises(Invalid):
        arena.shrink(second, 17)


def test_spares_are_bounded() -> None:
    arena = Arena(CHUNK, 8 * CHUNK, spare_bytes=2 * CHUNK)
    views = [arena.allocate(CHUNK) for _ in range(8)]
    views.clear()
    assert arena.spare_bytes == 2 * CHUNK


def test_close_leaves_live_views_valid() -> None:
    arena = Arena(CHUNK, 2 * CHUNK)
    view = arena.allocate(5)
    view[:] = b"alive"
    arena.close()
    assert bytes(view) == b"alive"
    del view
    assert (arena.in_use_bytes, arena.spare_bytes) == (0, 0)


def test_sizes_that_cannot_work_are_refused() -> None:
    with pytest.raises(Invalid):
        Arena(1000, CHUNK)
    with pytest.raises(Invalid):
        Arena(CHUNK, CHUNK - 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["allocate", "free", "slice"]), st.integers(1, 2 * CHUNK)), max_size=60))
def test_no_live_view_ever_changes(steps: list[tuple[str, int]]) -> None:
    arena = Arena(CHUNK, 6 * CHUNK)
    live: list[tuple[memoryview, int]] = []
    for number, (step, value) in enumerate(steps):
        stamp = number % 251
        if step == "allocate":
            expected_room = arena.has_room(value)
            try:
                view = arena.allocate(value)
            except Retry:
                assert not expected_room
            else:
                assert expected_room
                view[:] = bytes([stamp]) * value
                live.append((view, stamp))
        elif live and step == "free":
            live.pop(value % len(live))
        elif live:
            view, stamp = live[value % len(live)]
            live[value % len(live)] = (view[len(view) // 2 :], stamp)
        assert arena.in_use_bytes + arena.spare_bytes <= 6 * CHUNK
        for view, stamp in live:
            assert bytes(view) == bytes([stamp]) * len(view)
        view = memoryview(b"")
    live.clear()
    # Nothing but the current chunk is in use.
    assert arena.in_use_bytes <= CHUNK


def test_chunks_that_nobody_needed_go_back_by_and_by_those_in_turn_stay() -> None:
    arena = Arena(CHUNK, 8 * CHUNK)
    held = [arena.allocate(CHUNK) for _ in range(8)]
    held.clear()
    arena.release_idle()
    assert arena.spare_bytes == 7 * CHUNK  # the current one counts as in use; they were free for no whole turn yet
    held = [arena.allocate(CHUNK) for _ in range(5)]
    held.clear()
    arena.release_idle()  # all but three were needed since
    assert arena.spare_bytes == 5 * CHUNK
    left = []
    for _ in range(5):
        arena.release_idle()
        left.append(arena.spare_bytes // CHUNK)
    assert left == [2, 1, 0, 0, 0]
    assert len(arena.allocate(CHUNK)) == CHUNK

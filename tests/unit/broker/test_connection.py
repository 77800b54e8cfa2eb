"""Connections: any split of the bytes gives the same frames, answers keep the order, held requests hold later ones."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.net.connection import Connection, Reply
from protocol.errors import MalformedRequest
from s3stream.arena import Arena
from s3stream.errors import Retry


class PickyArena:
    """Overwrites what was reserved and not committed: a frame that was not kept would show. Can be full."""

    def __init__(self, chunk: int) -> None:
        self._arena = Arena(chunk, chunk * 64)
        self.commit = self._arena.commit
        self.full = False

    def reserve(self, min_size: int) -> memoryview:
        if self.full:
            raise Retry("full")
        reserved = self._arena.reserve(min(min_size, 64))
        reserved[:] = b"\xee" * len(reserved)
        return reserved

    def allocate(self, size: int) -> memoryview:
        if self.full:
            raise Retry("full")
        return self._arena.allocate(size)


class FakeListener:
    def __init__(self, loop: Any, chunk: int = 4096) -> None:
        self.loop = loop
        self.arena = PickyArena(chunk)
        self.frames: list[memoryview | bytes] = []
        self.reasons: list[str] = []
        self.hold_on: bytes | None = None
        self.room_asked: list[int] = []
        self.limit = 6000

    def check_size(self, size: int) -> None:
        if size < 8 or size > self.limit:
            raise MalformedRequest(f"frame size {size}")

    def dispatch(self, connection: Connection, frame: memoryview | bytes) -> None:
        self.frames.append(frame)
        if self.hold_on is not None and bytes(frame).endswith(self.hold_on):
            connection.hold()

    def opened(self, connection: Connection) -> None: ...

    def make_room(self, size: int) -> None:
        self.room_asked.append(size)

    def lost(self, connection: Connection) -> None: ...

    def refused(self, connection: Connection, reason: str) -> None:
        self.reasons.append(reason)


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.reading = True
        self.aborted = False
        self.closed = False

    def write(self, data: Any) -> None:
        self.sent += data

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.sent += data

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.closed = True


class FakeLoop:
    """Runs what is called soon when told to."""

    def __init__(self) -> None:
        self.soon: list[Any] = []

    def time(self) -> float:
        return 0.0

    def call_soon(self, callback: Any, *args: Any) -> None:
        self.soon.append((callback, args))

    def call_later(self, delay: float, callback: Any, *args: Any) -> None:
        self.call_soon(callback, *args)

    def turn(self) -> None:
        due, self.soon = self.soon, []
        for callback, args in due:
            callback(*args)


def connect(chunk: int = 4096) -> tuple[Connection, FakeListener, FakeTransport, FakeLoop]:
    loop = FakeLoop()
    listener = FakeListener(loop, chunk)
    connection = Connection(listener)  # type: ignore[arg-type]
    transport = FakeTransport()
    connection.connection_made(transport)
    return connection, listener, transport, loop


def frame(api_key: int, body: bytes) -> bytes:
    payload = struct.pack(">hhi", api_key, 0, 1) + body
    return struct.pack(">i", len(payload)) + payload


def feed(connection: Connection, data: bytes, splits: list[int]) -> None:
    position = 0
    sizes = iter(splits)
    while position < len(data):
        buffer = memoryview(connection.get_buffer(-1))  # type: ignore[arg-type]
        n = min(next(sizes, 1 << 20), len(buffer), len(data) - position)
        buffer[:n] = data[position : position + n]
        connection.buffer_updated(n)
        position += n


bodies = st.lists(
    st.tuples(st.sampled_from([0, 0, 1, 3]), st.one_of(st.binary(max_size=50), st.binary(min_size=900, max_size=5000))),
    min_size=1,
    max_size=8,
)


@settings(max_examples=80)
@given(bodies, st.lists(st.integers(1, 2000), max_size=40), st.sampled_from([4096, 8192]))
def test_any_split_gives_the_same_frames(messages: list[tuple[int, bytes]], splits: list[int], chunk: int) -> None:
    connection, listener, transport, _ = connect(chunk)
    wire = [frame(key, body) for key, body in messages]
    feed(connection, b"".join(wire), splits)
    assert [bytes(received) for received in listener.frames] == [whole[4:] for whole in wire]
    assert not transport.aborted


def test_produce_frames_are_writable_where_they_lie() -> None:
    connection, listener, _, _ = connect()
    feed(connection, frame(0, b"abc"), [])
    received = listener.frames[0]
    assert isinstance(received, memoryview)
    assert not received.readonly


@pytest.mark.parametrize("size", [-1, 0, 7, 6001, 2**31 - 1])
def test_a_frame_size_out_of_bounds_closes_the_connection(size: int) -> None:
    connection, listener, transport, _ = connect()
    feed(connection, struct.pack(">i", size) + b"\0" * 8, [])
    assert transport.aborted
    assert "frame size" in listener.reasons[0]
    assert listener.frames == []


def test_answers_leave_in_the_order_of_requests() -> None:
    connection, _, transport, loop = connect()
    first, second, third = (connection.open_reply() for _ in range(3))
    second.send((b"2",))
    third.send((b"3a", b"3b"))
    loop.turn()
    assert transport.sent == b""
    first.send((b"1",))
    loop.turn()
    assert transport.sent == b"123a3b"


def test_a_held_request_holds_back_the_later_ones() -> None:
    connection, listener, transport, _ = connect()
    listener.hold_on = b"stop"
    feed(connection, frame(0, b"a") + frame(0, b"stop") + frame(3, b"c") + frame(0, b"d"), [])
    assert len(listener.frames) == 2
    connection.release()
    assert [bytes(received)[8:] for received in listener.frames] == [b"a", b"stop", b"c", b"d"]
    assert transport.reading


def test_a_flood_behind_a_held_request_stops_the_reading_and_loses_nothing() -> None:
    connection, listener, transport, _ = connect()
    listener.hold_on = b"stop"
    feed(connection, frame(3, b"stop"), [])
    feed(connection, b"".join(frame(3, b"%d" % i) for i in range(100)), [])
    assert not transport.reading
    listener.hold_on = None
    connection.release()
    assert len(listener.frames) == 101
    assert transport.reading


def test_without_memory_the_reading_stops_and_goes_on_when_there_is_some() -> None:
    connection, listener, transport, loop = connect()
    listener.arena.full = True
    listener.limit = 1 << 20
    whole = frame(0, b"x" * 100_000)
    feed(connection, whole[:500], [])
    assert not transport.reading
    loop.turn()
    assert not transport.reading
    assert listener.room_asked == [len(whole)]
    listener.arena.full = False
    loop.turn()
    assert transport.reading
    feed(connection, whole[500:], [])
    assert [bytes(received) for received in listener.frames] == [whole[4:]]


def test_few_large_frames_that_are_held_back_stop_the_reading() -> None:
    connection, listener, transport, _loop = connect(1 << 16)
    listener.limit = 1 << 20
    listener.hold_on = b"first"
    feed(connection, frame(0, b"first"), [])
    body = b"x" * (300 << 10)
    for _ in range(3):
        feed(connection, frame(0, body), [])
    assert transport.reading
    feed(connection, frame(0, body), [])
    assert not transport.reading
    assert len(listener.frames) == 1
    connection.release()
    assert transport.reading
    assert len(listener.frames) == 5


def test_nothing_is_handled_while_the_client_does_not_read_its_answers() -> None:
    connection, listener, _transport, _loop = connect()
    connection.pause_writing()
    feed(connection, frame(3, b"x"), [])
    assert listener.frames == []
    connection.resume_writing()
    assert len(listener.frames) == 1


def test_closing_waits_for_the_answers_that_are_owed() -> None:
    connection, _listener, transport, loop = connect()
    reply: Reply = connection.open_reply()
    connection.close_when_answered()
    assert not transport.closed
    reply.send((b"bye",))
    loop.turn()
    assert transport.sent == b"bye"
    assert transport.closed


def test_what_was_received_before_the_client_went_takes_effect() -> None:
    connection, listener, _, _ = connect()
    listener.hold_on = b"first"
    feed(connection, frame(0, b"first") + frame(3, b"leave group") + frame(0, b"last words"), [])
    connection.connection_lost(None)
    assert len(listener.frames) == 1
    connection.release()
    assert [bytes(received)[8:] for received in listener.frames] == [b"first", b"leave group", b"last words"]


def test_a_refused_connection_is_not_served_any_more() -> None:
    connection, listener, _, _ = connect()
    listener.hold_on = b"first"
    feed(connection, frame(3, b"first") + frame(3, b"second"), [])
    connection.refuse("no")
    connection.connection_lost(None)
    connection.release()
    assert len(listener.frames) == 1

"""One client connection: frames in, replies out, both in order.

Receives straight into the arena, so that a Produce frame is already where the tail cache, the WAL and the upload read
it. Requests take effect in arrival order: a request that cannot take effect yet holds back the later ones of its
connection (`hold` ... `release`), while replies of earlier ones may still be outstanding.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from typing_extensions import Buffer

from protocol.errors import MalformedRequest
from s3stream.errors import Retry

if TYPE_CHECKING:
    from broker.fetching.full import FullFetch
    from broker.net.listener import Listener

_SIZE: Final = struct.Struct(">i")
_SIZE_AND_KEY: Final = struct.Struct(">ih")
_PRODUCE: Final = 0
_MIN_RECEIVE_BYTES: Final = 64 * 1024
_MAX_BACKLOG_FRAMES: Final = 64
_MAX_BACKLOG_BYTES: Final = 1 << 20
"""Frames parsed but held back; beyond either the socket is no longer read."""
_MAX_OPEN_REPLIES: Final = 4096
_STALL_S: Final = 0.02
"""Pause before memory for a frame is asked for again; the arena gives no sign when a chunk comes back."""


class Cancellable(Protocol):
    """Something that waits on behalf of a connection and must stop when it is lost."""

    def cancel(self) -> None: ...

    def answer_now(self) -> None: ...


class Overdue(Protocol):
    """A request that can give up waiting."""

    def expire(self) -> None: ...


class Reply:
    """The place of one request's answer in its connection's order."""

    __slots__ = ("buffers", "connection", "deadline", "overdue", "started_at")

    def __init__(self, connection: Connection, started_at: float) -> None:
        self.connection = connection
        self.buffers: Sequence[Buffer] | None = None
        self.started_at = started_at
        self.deadline = 0.0
        self.overdue: Overdue | None = None

    def send(self, buffers: Sequence[Buffer]) -> None:
        """Hand over the whole frame. It leaves once every earlier answer has left; buffers must not change any more."""
        self.buffers = buffers
        self.connection.reply_ready()


class Connection(asyncio.BufferedProtocol):
    """Sans-handler: everything a frame means is `listener.dispatch(connection, frame)`."""

    __slots__ = (
        "_backlog",
        "_destination",
        "_filled",
        "_flush_scheduled",
        "_head",
        "_held",
        "_read_paused",
        "_receiving",
        "_replies",
        "_stalled",
        "_write_blocked",
        "closed",
        "closing",
        "last_active",
        "listener",
        "loop",
        "peer",
        "standing",
        "transport",
        "waiting",
    )

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.loop = listener.loop
        self.transport: asyncio.Transport | None = None
        self.peer = ""
        self.last_active = 0.0
        self.closed = False
        self.closing = False
        self.waiting: Cancellable | None = None
        self.standing: FullFetch | None = None
        """What its fetches without a session name again and again."""
        self._receiving: memoryview | None = None
        self._destination: memoryview | None = None
        self._filled = 0
        self._head = b""
        self._backlog: deque[memoryview | bytes] = deque()
        self._held = False
        self._replies: deque[Reply] = deque()
        self._flush_scheduled = False
        self._write_blocked = False
        self._read_paused = False
        self._stalled = False

    # -- asyncio ---------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        peer = transport.get_extra_info("peername")
        self.peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) and len(peer) >= 2 else str(peer or "")
        self.last_active = self.loop.time()
        self.listener.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """A request under way goes on to its end, as in Kafka: half a topic creation is worse than a whole one."""
        self.closed = True
        self._write_blocked = False
        self._replies.clear()
        self._destination = self._receiving = None
        self.listener.lost(self)
        if self.waiting is not None:
            self.waiting.cancel()
            self._held = False
        if self.standing is not None:
            self.standing.close()
        # What was received whole takes effect, as in Kafka: a LeaveGroup or an acks=0 Produce sent before a close.
        self._drain_backlog()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._write_blocked = True

    def resume_writing(self) -> None:
        self._write_blocked = False
        self.flush()
        self._drain_backlog()

    def get_buffer(self, sizehint: int) -> Buffer:
        destination = self._destination
        if destination is not None:
            return destination[self._filled :]
        head = self._head
        try:
            receiving = self.listener.arena.reserve(_MIN_RECEIVE_BYTES)
        except Retry:
            receiving = memoryview(bytearray(_MIN_RECEIVE_BYTES))  # this once: reading stops after it
        self._receiving = receiving
        if head:
            receiving[: len(head)] = head
            return receiving[len(head) :]
        return receiving

    def buffer_updated(self, nbytes: int) -> None:
        self.last_active = self.loop.time()
        destination = self._destination
        if destination is not None:
            self._filled += nbytes
            if self._filled == len(destination):
                self._destination = None
                self._accept(destination[4:])
            return
        receiving = self._receiving
        assert receiving is not None
        self._receiving = None
        try:
            frames = self._split(receiving, len(self._head) + nbytes)
        except MalformedRequest as error:
            self.refuse(str(error))
            return
        for frame in frames:
            self._accept(frame)

    # -- frames ----------------------------------------------------------------------------------------------------

    def _split(self, receiving: memoryview, have: int) -> list[memoryview | bytes]:
        """Cut complete frames and park an incomplete one at its final place; what lies in the arena is committed."""
        frames: list[memoryview | bytes] = []
        position = used = 0
        self._head = b""
        while have - position >= 6:
            size, api_key = _SIZE_AND_KEY.unpack_from(receiving, position)
            self.listener.check_size(size)
            end = position + 4 + size
            if end <= have:
                if api_key == _PRODUCE:
                    frames.append(receiving[position + 4 : end])
                    used = end
                else:
                    frames.append(bytes(receiving[position + 4 : end]))
                position = end
                continue
            self._filled = have - position
            if api_key == _PRODUCE and end <= len(receiving):
                self._destination = receiving[position:end]
                self.listener.arena.commit(receiving, end)
                return frames
            self.listener.arena.commit(receiving, used)
            self._park(receiving[position:have], 4 + size, in_arena=api_key == _PRODUCE)
            return frames
        if have - position >= 4:
            self.listener.check_size(_SIZE.unpack_from(receiving, position)[0])
        self.listener.arena.commit(receiving, used)
        self._head = bytes(receiving[position:have])
        return frames

    def _park(self, begun: memoryview, size: int, *, in_arena: bool) -> None:
        """A place of `size` bytes for a frame that has only begun to arrive. (They may overlap: it is moved down.)"""
        if in_arena:
            try:
                destination = self.listener.arena.allocate(size)
            except Retry:
                self._stall(bytes(begun), size)
                return
        else:
            destination = memoryview(bytearray(size))
        destination[: len(begun)] = begun
        self._destination = destination

    def _stall(self, begun: bytes, size: int) -> None:
        """No memory for a frame of `size` bytes: stop reading until there is, so that the client is slowed."""
        self._stalled = True
        self._pause_reading()
        self.loop.call_later(_STALL_S, self._go_on, begun, size)

    def _go_on(self, begun: bytes, size: int) -> None:
        if self.closed or self.closing:
            return
        self.listener.make_room(size)
        try:
            destination = self.listener.arena.allocate(size)
        except Retry:
            self.loop.call_later(_STALL_S, self._go_on, begun, size)
            return
        destination[: len(begun)] = begun
        self._destination = destination
        self._filled = len(begun)
        self._stalled = False
        if not self._backlog_is_full(1):
            self._resume_reading()

    def _accept(self, frame: memoryview | bytes) -> None:
        if self.closing:
            return
        if self._held or self._backlog or self._write_blocked or len(self._replies) >= _MAX_OPEN_REPLIES:
            self._backlog.append(frame)
            if self._backlog_is_full(1):
                self._pause_reading()
            return
        self.listener.dispatch(self, frame)

    def _backlog_is_full(self, share: int) -> bool:
        """Whether a `share`th of what may be held back is."""
        backlog = self._backlog
        return len(backlog) * share >= _MAX_BACKLOG_FRAMES or sum(map(len, backlog)) * share >= _MAX_BACKLOG_BYTES

    def hold(self) -> None:
        """Later frames of this connection wait until `release`."""
        self._held = True

    def release(self) -> None:
        self._held = False
        self._drain_backlog()

    def _drain_backlog(self) -> None:
        backlog = self._backlog
        while backlog and not (
            self._held or self._write_blocked or self.closing or len(self._replies) >= _MAX_OPEN_REPLIES
        ):
            self.listener.dispatch(self, backlog.popleft())
        if self._read_paused and not self._stalled and not self._backlog_is_full(2):
            self._resume_reading()

    def _pause_reading(self) -> None:
        if not self._read_paused and self.transport is not None and not self.closing:
            self._read_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        self._read_paused = False
        if self.transport is not None and not self.closing and not self.closed:
            self.transport.resume_reading()

    # -- replies ---------------------------------------------------------------------------------------------------

    def open_reply(self) -> Reply:
        """Take the next place in the order of answers."""
        reply = Reply(self, self.loop.time())
        self._replies.append(reply)
        return reply

    def reply_ready(self) -> None:
        """Answers that became ready in one turn of the loop leave in one write."""
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self.loop.call_soon(self.flush)

    def flush(self) -> None:
        self._flush_scheduled = False
        replies = self._replies
        if self.closed or self.transport is None:
            replies.clear()  # nobody is there to read them
            return
        out: list[Buffer] = []
        while replies and (buffers := replies[0].buffers) is not None:
            replies.popleft()
            out.extend(buffers)
        if out:
            self.last_active = self.loop.time()
            if len(out) == 1:
                self.transport.write(out[0])  # type: ignore[arg-type]
            else:
                self.transport.writelines(out)  # type: ignore[arg-type]
            if self._backlog:
                self._drain_backlog()
        if self.closing and not replies:
            self.transport.close()

    def expire_overdue(self, now: float) -> None:
        """Called by the listener's sweep: the oldest unanswered request gives up when its deadline has passed."""
        for reply in self._replies:
            if reply.buffers is None:
                if reply.overdue is not None and now >= reply.deadline:
                    reply.overdue.expire()
                return

    # -- requests that take time -----------------------------------------------------------------------------------

    def run_held(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` as this connection's one task; later frames wait for its end. A crash closes the connection."""
        self._held = True
        task = self.loop.create_task(work)
        self.listener.working[task] = None
        task.add_done_callback(self._work_ended)

    def _work_ended(self, task: asyncio.Task[None]) -> None:
        self.listener.working.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.listener.crashed(self, error)
            self.refuse(f"internal error: {error!r}")
            return
        self.release()

    # -- ends ------------------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Nothing asked, nothing owed."""
        return not self._replies and not self._backlog and not self._held and not self._stalled

    def close_when_answered(self) -> None:
        """Take no further request; close after the answers that are owed."""
        self.closing = True
        self._backlog.clear()
        self._destination = None
        if self.waiting is not None:
            self.waiting.answer_now()
        if self.transport is not None and not self.closed:
            self._read_paused = True
            self.transport.pause_reading()
            if not self._replies:
                self.transport.close()

    def refuse(self, reason: str) -> None:
        """Close at once, as Kafka does for bytes that are not a request; the reason goes to the log."""
        self.listener.refused(self, reason)
        self.closing = True
        self._backlog.clear()
        self._destination = None
        if self.transport is not None and not self.closed:
            self.transport.abort()

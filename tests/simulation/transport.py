"""The transport of one end of a simulated connection, with the flow control of asyncio and uvloop.

As uvloop's do, it keeps the buffers given to write() as they are, without a copy, until the wire takes them, possibly
much later. A buffer that changes meanwhile fails the run: that is a recycled or reused buffer going to a client.
"""

from __future__ import annotations

import asyncio
import contextvars
import zlib
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tests.simulation.errors import SimulationFailure
from tests.simulation.nodes import Node

if TYPE_CHECKING:
    from tests.simulation.link import Wire
    from tests.simulation.network import Network


_SIZE_HINT_BYTES = 65_536  # what uvloop passes to get_buffer()


class _Held:
    """A buffer handed to write(): the unsent rest of it, and its checksum then and so far."""

    __slots__ = ("checksum", "rest", "sent_checksum")

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        # A bytearray is copied, as asyncio does: its owner may go on with it. A view is held, as uvloop does.
        self.rest = memoryview(bytes(data) if isinstance(data, bytearray) else data).cast("B")
        self.checksum = zlib.crc32(self.rest)
        self.sent_checksum = 0


class SimulatedTransport(asyncio.Transport):
    """One end. Everything of the process (sending, protocol callbacks) runs in `context`, so it stops with its node."""

    def __init__(
        self,
        network: Network,
        node: Node | None,
        context: contextvars.Context,
        outgoing: Wire,
        incoming: Wire,
        local: tuple[str, int],
        peer: tuple[str, int],
    ) -> None:
        super().__init__()
        self.network = network
        self.node = node
        self.context = context
        self.outgoing = outgoing
        self.incoming = incoming
        self.local = local
        self.peer = peer
        self.lost = False  # the connection is over for this end
        self.dark = False  # its host lost power: it does not even refuse
        self._lost_error: Exception | None = None
        self._protocol: asyncio.BaseProtocol | None = None
        self._held: deque[_Held] = deque()
        self._held_bytes = 0
        self._received: deque[bytes | str] = deque()
        self._deliver_scheduled = False
        self._pump_scheduled = False
        self._reading_paused = False
        self._writing_paused = False
        self._closing = False
        self._eof_written = False
        self._high_bytes = 64 * 1024
        self._low_bytes = 16 * 1024
        outgoing.sender = self
        incoming.receiver = self

    @property
    def host(self) -> str:
        return self.outgoing.link.source

    def begin(self, protocol: asyncio.BaseProtocol) -> None:
        """Attach the protocol; called in the node's own context."""
        self._protocol = protocol
        protocol.connection_made(self)
        if self.lost:  # reset between the kernel's accept and this call
            self.network.loop.call_soon(self._tell_lost, context=self.context)
        self._schedule_delivery()

    # -- asyncio.BaseTransport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "peername":
            return self.peer
        if name == "sockname":
            return self.local
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        if self._protocol is None:
            raise RuntimeError("the transport has no protocol yet")
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing or self.lost

    def close(self) -> None:
        """Send what is held, then end; nothing more is read."""
        if self._closing or self.lost:
            return
        self._closing = True
        self._schedule_pump()

    def abort(self) -> None:
        if self.lost:
            return
        self._closing = True
        self.outgoing.send("rst")
        self.break_with(None)

    # -- reading

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        self._reading_paused = False
        self._schedule_delivery()

    def is_reading(self) -> bool:
        return not self._reading_paused and not self.is_closing()

    def arrived(self, piece: bytes | str) -> None:
        """The wire delivers; called in no node's name. A reset overtakes what was not read yet."""
        if self.lost:
            if isinstance(piece, bytes) and not self.dark:
                self.outgoing.send("rst")  # data for a closed socket
            return
        if piece == "rst":
            self.outgoing.drop()
            self.break_with(ConnectionResetError(104, "connection reset by peer"))
            return
        self._received.append(piece)
        self._schedule_delivery()

    def _schedule_delivery(self) -> None:
        if self._deliver_scheduled or self._reading_paused or not self._received or self._protocol is None:
            return
        self._deliver_scheduled = True
        rate = self.network.read_rate_bytes_per_s.get(self.host)
        if rate is None:
            self.network.loop.call_soon(self._deliver, context=self.context)
        else:
            self.network.fired["network: slow reader"] += 1
            wait_s = len(self._received[0]) / rate
            self.network.loop.call_later(wait_s, self._deliver, context=self.context)

    def _deliver(self) -> None:
        self._deliver_scheduled = False
        if self.lost or self._reading_paused or not self._received:
            return
        piece = self._received.popleft()
        if isinstance(piece, bytes):
            self.incoming.consumed(len(piece))
            if not self._closing:
                self.network.note_delivery(self, piece)
                self._feed(piece)
        elif not self._closing:
            keep_open = self._feed_eof()
            if not keep_open:
                self.close()
        if not self.lost:
            self._schedule_delivery()

    def _feed(self, piece: bytes) -> None:
        protocol = self._protocol
        if isinstance(protocol, asyncio.BufferedProtocol):
            rest = memoryview(piece)
            while rest and not self.lost and not self._closing:
                if self._reading_paused:  # asked for in buffer_updated: the remainder waits
                    self._received.appendleft(bytes(rest))
                    self.incoming.outstanding_bytes += len(rest)  # it counts as read once more when it is taken
                    return
                buffer = memoryview(protocol.get_buffer(_SIZE_HINT_BYTES)).cast("B")
                if not buffer:
                    raise SimulationFailure("get_buffer() returned an empty buffer")
                size = min(len(buffer), len(rest))
                buffer[:size] = rest[:size]
                buffer.release()
                rest = rest[size:]
                protocol.buffer_updated(size)
        elif isinstance(protocol, asyncio.Protocol):
            protocol.data_received(piece)
        else:
            raise SimulationFailure(f"{type(protocol).__qualname__} is no stream protocol")

    def _feed_eof(self) -> bool:
        protocol = self._protocol
        if isinstance(protocol, (asyncio.BufferedProtocol, asyncio.Protocol)):
            return bool(protocol.eof_received())
        return False

    # -- writing

    def write(self, data: Any) -> None:
        self.writelines((data,))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        for data in list_of_data:
            if not isinstance(data, (bytes, bytearray, memoryview)):
                raise TypeError(f"data: expected a bytes-like object, not {type(data).__name__}")
            if self._eof_written:
                raise RuntimeError("Cannot call write() after write_eof()")
            if self.lost or self._closing or not len(data):
                continue
            held = _Held(data)
            self._held.append(held)
            self._held_bytes += len(held.rest)
        self._schedule_pump()
        self._maybe_pause_writing()

    def write_eof(self) -> None:
        self._eof_written = True
        self._schedule_pump()

    def can_write_eof(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be >= low ({low}) must be >= 0")
        self._high_bytes, self._low_bytes = high, low
        self._maybe_pause_writing()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low_bytes, self._high_bytes

    def get_write_buffer_size(self) -> int:
        return self._held_bytes

    def _maybe_pause_writing(self) -> None:
        if not self._writing_paused and self._held_bytes > self._high_bytes and self._protocol is not None:
            self._writing_paused = True
            self._protocol.pause_writing()

    def _maybe_resume_writing(self) -> None:
        if self._writing_paused and self._held_bytes <= self._low_bytes and self._protocol is not None:
            self._writing_paused = False
            self._protocol.resume_writing()

    def _schedule_pump(self) -> None:
        if not self._pump_scheduled and not self.lost:
            self._pump_scheduled = True
            self.network.loop.call_soon(self._pump, context=self.context)

    def window_opened(self) -> None:
        """The peer read: called in no node's name."""
        if self._held and self.outgoing.room_bytes() >= min(self.outgoing.window_bytes // 4, self._held_bytes):
            self._schedule_pump()  # not for every few bytes of room: that would send ever smaller pieces

    def _pump(self) -> None:
        """Hand held buffers to the wire, in pieces, as far as its window goes."""
        self._pump_scheduled = False
        if self.lost:
            return
        settings, rng = self.network.settings, self.network.rng
        while self._held:
            room = self.outgoing.room_bytes()
            if room <= 0:
                break
            longest = 64 if rng.random() < settings.tiny_chunk_share else settings.chunk_max_bytes
            self.outgoing.send(self._take(min(room, rng.randint(1, longest))))
        if self._held:
            self._maybe_resume_writing()
        elif self._closing:
            self.outgoing.send("fin")
            self.break_with(None)
        else:
            if self._eof_written:
                self.outgoing.send("fin")
            self._maybe_resume_writing()

    def _take(self, size: int) -> bytes:
        """The next `size` held bytes or fewer, as one piece that may span several buffers."""
        parts = []
        while size and self._held:
            held = self._held[0]
            part = bytes(held.rest[:size])
            parts.append(part)
            size -= len(part)
            self._held_bytes -= len(part)
            held.rest = held.rest[len(part) :]
            held.sent_checksum = zlib.crc32(part, held.sent_checksum)
            if not held.rest:
                self._held.popleft()
                if held.sent_checksum != held.checksum:
                    raise SimulationFailure("a buffer handed to write() changed before it was sent")
        return b"".join(parts)

    def amid_data(self) -> bool:
        """Whether bytes of this end are still held or on the wire."""
        return bool(self._held) or self.outgoing.in_flight()

    # -- the end

    def die(self) -> None:
        """The process is gone: the socket closes, no callback runs."""
        self.lost = True
        self._held.clear()
        self._received.clear()

    def break_with(self, error: Exception | None) -> None:
        """The connection is over for this end; the protocol hears of it once."""
        if self.lost:
            return
        self.lost = True
        self._held.clear()
        self._held_bytes = 0
        self._received.clear()
        self._lost_error = error
        if self._protocol is not None:
            self.network.loop.call_soon(self._tell_lost, context=self.context)

    def _tell_lost(self) -> None:
        if self._protocol is not None:
            self._protocol.connection_lost(self._lost_error)

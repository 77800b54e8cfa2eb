"""The wires between hosts: one-way links with latency and partitions, and the ordered flight of one connection."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.network import Network
    from tests.simulation.transport import SimulatedTransport


@dataclass(frozen=True)
class NetworkSettings:
    """Latencies in seconds, sizes in bytes. `tiny_chunk_share`: how many pieces are under 64 bytes."""

    latency_min_s: float = 0.0002
    latency_max_s: float = 0.002
    slow_packet_share: float = 0.01
    slow_packet_s: float = 0.2
    chunk_max_bytes: int = 256 * 1024
    tiny_chunk_share: float = 0.1
    window_max_bytes: int = 1024 * 1024
    connect_timeout_s: float = 10.0
    syn_retry_s: float = 1.0
    tcp_timeout_s: float = 30.0
    silence_max_s: float = 3.0  # after a power cut, until the host is up again and refuses what it does not know


class Link:
    """One direction between two hosts: latency, and whether it is blocked."""

    def __init__(self, network: Network, source: str, target: str) -> None:
        self.network = network
        self.source = source
        self.target = target
        self.blocked = False
        self._waiting: list[Callable[[], object]] = []

    def delay_s(self) -> float:
        settings, rng = self.network.settings, self.network.rng
        if rng.random() < settings.slow_packet_share:
            self.network.fired["network: slow packet"] += 1
            return rng.uniform(settings.latency_max_s, settings.slow_packet_s)
        return rng.uniform(settings.latency_min_s, settings.latency_max_s)

    def cross(self, arrive: Callable[[], object], delay_s: float | None = None) -> None:
        """Call `arrive` in no node's name when a packet sent now gets over; a blocked link holds it until it heals."""
        delay_s = self.delay_s() if delay_s is None else delay_s
        self.network.loop.call_world(delay_s, self._reached, arrive)

    def _reached(self, arrive: Callable[[], object]) -> None:
        if self.blocked:
            self._waiting.append(arrive)
        else:
            arrive()

    def heal(self) -> None:
        self.blocked = False
        waiting, self._waiting = self._waiting, []
        for arrive in waiting:
            self.network.loop.call_world(0, self._reached, arrive)


class Wire:
    """One direction of one connection: an ordered flight of pieces between a sender and a receiver."""

    def __init__(self, link: Link, window_bytes: int) -> None:
        self.link = link
        self.window_bytes = window_bytes
        self.outstanding_bytes = 0  # sent and not yet read by the receiver
        self.sender: SimulatedTransport | None = None
        self.receiver: SimulatedTransport | None = None
        self._flight: deque[bytes | str] = deque()
        self._last_arrival_s = 0.0
        self._untold_bytes = 0

    def room_bytes(self) -> int:
        return self.window_bytes - self.outstanding_bytes

    def send(self, piece: bytes | str) -> None:
        """Data as bytes; the marks "fin" (end of data) and "rst" (reset) as text. They arrive in order."""
        if isinstance(piece, bytes):
            self.outstanding_bytes += len(piece)
        loop = self.link.network.loop
        self._last_arrival_s = max(self._last_arrival_s, loop.time() + self.link.delay_s())
        self._flight.append(piece)
        self.link.cross(self._arrive, self._last_arrival_s - loop.time())

    def _arrive(self) -> None:
        if not self._flight:
            return  # dropped by a reset while it was under way
        piece = self._flight.popleft()
        if self.receiver is not None:
            self.receiver.arrived(piece)

    def consumed(self, size: int) -> None:
        """The receiver took `size` bytes off its socket: tell the sender over the way back, once there is a quarter of
        the window to tell of, as TCP does; a sender that waits for room has a whole window under way."""
        self._untold_bytes += size
        if 4 * self._untold_bytes < self.window_bytes:
            return
        told, self._untold_bytes = self._untold_bytes, 0
        back = self.link.network.link(self.link.target, self.link.source)
        back.cross(lambda: self._window_opened(told))

    def _window_opened(self, size: int) -> None:
        self.outstanding_bytes -= size
        if self.sender is not None:
            self.sender.window_opened()

    def drop(self) -> None:
        """Whatever is under way is lost."""
        self._flight.clear()

    def in_flight(self) -> bool:
        return bool(self._flight)

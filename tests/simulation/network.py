"""The simulated network: hosts and their names, who listens where, which connections are open, and their faults.

Every node is a host of its own name; `127.0.0.1`, `localhost` and `0.0.0.0` mean the calling node. Bytes of one
direction of a connection arrive in order, cut into random pieces, after the latency of their link. A partition of a
link holds everything that crosses it (as TCP retransmits); it arrives after healing, or the sender gives up after
`tcp_timeout_s`.
What a link and a wire do is in `link.py`, the transports that protocols see are in `transport.py`.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.simulation.errors import NotSimulated
from tests.simulation.link import Link, NetworkSettings, Wire
from tests.simulation.listener import Listener
from tests.simulation.loop import SimulatedLoop
from tests.simulation.nodes import CURRENT, Node
from tests.simulation.transport import SimulatedTransport

_LOCAL_HOSTS = (None, "", "0.0.0.0", "::", "127.0.0.1", "localhost", "::1")
_WORLD_HOST = "world"  # the host of code that belongs to no node


@dataclass
class Connection:
    """Both ends of one connection, for faults."""

    client: SimulatedTransport
    server: SimulatedTransport

    def open(self) -> bool:
        return not (self.client.lost and self.server.lost)

    def amid_data(self) -> bool:
        """Whether bytes of either end are held or on the wire."""
        return self.client.amid_data() or self.server.amid_data()


class Network:
    """All hosts of one world. `settings` may be replaced while running."""

    def __init__(
        self,
        loop: SimulatedLoop,
        rng: random.Random,
        settings: NetworkSettings | None = None,
        fired: Counter[str] | None = None,
    ) -> None:
        self.loop = loop
        self.rng = rng
        self.fired = fired if fired is not None else Counter()
        self.settings = settings if settings is not None else NetworkSettings()
        self.read_rate_bytes_per_s: dict[str, float] = {}  # host -> how fast it reads (slow reader)
        self._listeners: dict[tuple[str, int], Listener] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._connections: list[Connection] = []
        self._addresses: dict[str, str] = {}
        self._dark_hosts: set[str] = set()  # without power: do not even refuse
        self._next_port = 40_000
        self.at_delivery: Callable[[], object] = lambda: None
        loop.network = self

    # -- naming

    def address_of(self, host: str) -> str:
        """The IPv4 address that stands for `host` in peer names."""
        if host not in self._addresses:
            number = len(self._addresses) + 1
            self._addresses[host] = f"10.0.{number >> 8}.{number & 255}"
        return self._addresses[host]

    def _resolve(self, host: Any) -> str:
        node = CURRENT.get()
        if host in _LOCAL_HOSTS:
            return _WORLD_HOST if node is None else node.name
        for name, address in self._addresses.items():
            if host == address:
                return name
        return str(host)

    def _new_port(self) -> int:
        self._next_port += 1
        return self._next_port

    def link(self, source: str, target: str) -> Link:
        key = (source, target)
        if key not in self._links:
            self._links[key] = Link(self, source, target)
        return self._links[key]

    # -- the loop's two calls

    def listen(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: Any, port: Any, options: dict[str, Any]
    ) -> Listener:
        for name in ("sock", "ssl"):
            if options.get(name) is not None:
                raise NotSimulated(f"create_server({name}=...)")
        node = CURRENT.get()
        name = _WORLD_HOST if node is None else node.name
        number = int(port) if port else self._new_port()
        if (name, number) in self._listeners:
            raise OSError(98, f"address already in use: {name}:{number}")
        listener = Listener(self, node, name, number, protocol_factory)
        self._listeners[name, number] = listener
        self._dark_hosts.discard(name)
        return listener

    async def connect(
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: Any, port: Any, options: dict[str, Any]
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        for name in ("sock", "ssl"):
            if options.get(name) is not None:
                raise NotSimulated(f"create_connection({name}=...)")
        node = CURRENT.get()
        source = _WORLD_HOST if node is None else node.name
        target = self._resolve(host)
        answer: asyncio.Future[SimulatedTransport] = self.loop.create_future()
        context = contextvars.copy_context()
        self.link(source, target).cross(lambda: self._syn(source, node, context, target, int(port), answer))
        too_late = TimeoutError(f"connect to {host}:{port}")
        timer = self.loop.call_world(self.settings.connect_timeout_s, self._settle, answer, too_late)
        try:
            transport = await answer
        finally:
            timer.cancel()
        protocol = protocol_factory()
        transport.begin(protocol)
        return transport, protocol

    @staticmethod
    def _settle(answer: asyncio.Future[SimulatedTransport], result: SimulatedTransport | Exception) -> None:
        if answer.done():
            if isinstance(result, SimulatedTransport):
                result.abort()  # the caller gave up meanwhile
        elif isinstance(result, SimulatedTransport):
            answer.set_result(result)
        else:
            answer.set_exception(result)

    def _syn(
        self,
        source: str,
        node: Node | None,
        context: contextvars.Context,
        target: str,
        port: int,
        answer: asyncio.Future[SimulatedTransport],
    ) -> None:
        """The first packet reached the target host."""
        if answer.done():
            return  # given up meanwhile
        if target in self._dark_hosts:
            again = lambda: self._syn(source, node, context, target, port, answer)  # noqa: E731
            self.loop.call_world(self.settings.syn_retry_s, self.link(source, target).cross, again)
            return
        back = self.link(target, source)
        listener = self._listeners.get((target, port))
        if listener is None:
            refusal = ConnectionRefusedError(111, f"connection refused by {target}:{port}")
            back.cross(lambda: self._settle(answer, refusal))
            return
        there = Wire(self.link(source, target), self.rng.randint(16 * 1024, self.settings.window_max_bytes))
        home = Wire(back, self.rng.randint(16 * 1024, self.settings.window_max_bytes))
        client_address = (self.address_of(source), self._new_port())
        server_address = (self.address_of(target), port)
        client = SimulatedTransport(self, node, context, there, home, client_address, server_address)
        server = SimulatedTransport(
            self, listener.node, listener.context.copy(), home, there, server_address, client_address
        )
        self._connections = [each for each in self._connections if each.open()]
        self._connections.append(Connection(client, server))
        self.loop.call_soon(listener.accept, server, context=server.context)
        back.cross(lambda: self._settle(answer, client))

    # -- what transports and the loop report

    def forget(self, listener: Listener) -> None:
        self._listeners.pop((listener.host, listener.port), None)

    def note_delivery(self, transport: SimulatedTransport, data: bytes) -> None:
        self.at_delivery()
        peer, local = transport.peer, transport.local
        self.loop.trace.add(f"  {peer[0]}:{peer[1]} > {local[0]}:{local[1]} {len(data)} {zlib.crc32(data):08x}")

    def drop_node(self, node: Node, *, power_cut: bool) -> None:
        """The process died: its listeners and connections go. After a power cut nobody tells the peers at once."""
        for key, listener in list(self._listeners.items()):
            if listener.node is node:
                del self._listeners[key]
        if power_cut:
            self._dark_hosts.add(node.name)
        for connection in self._connections:
            for end, peer in ((connection.client, connection.server), (connection.server, connection.client)):
                if end.node is node and not end.lost:
                    end.die()
                    if not power_cut:
                        end.outgoing.send(self.rng.choice(("rst", "fin")))
                    else:
                        end.dark = True
                        end.outgoing.drop()
                        silence_s = self.rng.uniform(0, self.settings.silence_max_s)
                        self.loop.call_world(silence_s, peer.arrived, "rst")

    # -- faults

    def block(self, source: str, target: str) -> None:
        """Nothing crosses from `source` to `target` until `heal`; the other direction is untouched."""
        link = self.link(source, target)
        if link.blocked:
            return
        link.blocked = True
        self.fired["network: partition"] += 1
        self.loop.trace.add(f"{self.loop.time()!r} block {source}>{target}")
        self.loop.call_world(self.settings.tcp_timeout_s, self._give_up, link)

    def heal(self, source: str, target: str) -> None:
        self.loop.trace.add(f"{self.loop.time()!r} heal {source}>{target}")
        self.link(source, target).heal()

    def heal_all(self) -> None:
        for link in self._links.values():
            if link.blocked:
                self.heal(link.source, link.target)

    def _give_up(self, link: Link) -> None:
        """Retransmission time-out: whoever has bytes in flight over a still blocked link loses the connection."""
        if not link.blocked:
            return
        for connection in self._connections:
            for end in (connection.client, connection.server):
                if end.outgoing.link is link and end.outgoing.in_flight() and not end.lost:
                    self.fired["network: connection timed out"] += 1
                    end.break_with(TimeoutError(110, "connection timed out"))

    def reset_one(self, host: str | None = None, *, amid_data: bool = False) -> bool:
        """Reset a random open connection (of `host`, if given) and what is in flight; with `amid_data` one that has
        something in flight, if any has."""
        open_ones = [
            each
            for each in self._connections
            if each.open() and (host is None or host in (each.client.host, each.server.host))
        ]
        if not open_ones:
            return False
        if amid_data:
            open_ones = [each for each in open_ones if each.amid_data()] or open_ones
        connection = self.rng.choice(open_ones)
        self.fired["network: reset"] += 1
        if connection.amid_data():
            self.fired["network: reset in mid-frame"] += 1
        self.loop.trace.add(f"{self.loop.time()!r} reset {connection.client.local}>{connection.server.local}")
        for end in (connection.client, connection.server):
            end.outgoing.drop()
            if not end.lost:
                end.break_with(ConnectionResetError(104, "connection reset by peer"))
        return True

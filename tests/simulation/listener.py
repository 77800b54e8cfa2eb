"""A listening address of a simulated host, as `create_server` hands it out."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation.nodes import Node
from tests.simulation.transport import SimulatedTransport

if TYPE_CHECKING:
    from tests.simulation.network import Network


class _Socket:
    """What `server.sockets` holds: only an address."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address

    def getsockname(self) -> tuple[str, int]:
        return self._address


class Listener(asyncio.AbstractServer):
    """A listening address of one node."""

    def __init__(
        self,
        network: Network,
        node: Node | None,
        host: str,
        port: int,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
    ) -> None:
        self.network = network
        self.node = node
        self.host = host
        self.port = port
        self.protocol_factory = protocol_factory
        self.context = contextvars.copy_context()
        self.connections: list[SimulatedTransport] = []
        self._serving = True

    @property
    def sockets(self) -> tuple[_Socket, ...]:
        return (_Socket((self.network.address_of(self.host), self.port)),) if self._serving else ()

    def accept(self, transport: SimulatedTransport) -> None:
        """Runs in the listening node: makes the protocol of a connection that the kernel accepted."""
        self.connections = [each for each in self.connections if not each.lost]
        self.connections.append(transport)
        transport.begin(self.protocol_factory())

    def close(self) -> None:
        if self._serving:
            self._serving = False
            self.network.forget(self)

    def close_clients(self) -> None:
        for transport in self.connections:
            transport.close()

    def abort_clients(self) -> None:
        for transport in self.connections:
            transport.abort()

    def is_serving(self) -> bool:
        return self._serving

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self.network.loop

    async def start_serving(self) -> None:
        if not self._serving:
            raise RuntimeError("the server is closed")

    async def serve_forever(self) -> None:
        await self.network.loop.create_future()

    async def wait_closed(self) -> None:
        """Nothing to wait for: connections end on their own, as before Python 3.12."""

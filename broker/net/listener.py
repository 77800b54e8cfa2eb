"""The set of open connections of one listening socket: limits, idle time-outs, orderly shutdown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from broker.logging import Sparingly
from broker.net.connection import Connection
from protocol.errors import MalformedRequest

_SWEEP_S = 0.5
_MEMORY_SWEEPS = 10
"""Every five seconds half of the memory goes back that nobody needed in them: who writes in bursts finds that of the
last one faulted in, and a backlog that is over does not stay for minutes."""
_log = logging.getLogger("weir.net")


class ReceiveArena(Protocol):
    """What a connection needs of the arena (`s3stream.arena.Arena`)."""

    def allocate(self, size: int, /) -> memoryview: ...

    def reserve(self, min_size: int, /) -> memoryview: ...

    def commit(self, reserved: memoryview, used: int, /) -> None: ...

    def release_idle(self) -> None: ...


Dispatch = Callable[[Connection, "memoryview | bytes"], None]


class Listener:
    """Owns the server socket and its connections. `dispatch(connection, frame)` is called once per request frame."""

    def __init__(
        self,
        *,
        arena: ReceiveArena,
        dispatch: Dispatch,
        make_room: Callable[[int], object],
        max_request_size_bytes: int,
        max_connections: Callable[[], int],
        max_connections_per_ip: Callable[[], int],
        connections_max_idle_ms: int,
        listen_backlog: int,
    ) -> None:
        """The two limits on connections are asked at each new one: they can change while the broker runs."""
        self.loop = asyncio.get_running_loop()
        self.arena = arena
        self.dispatch = dispatch
        self.connections: dict[Connection, None] = {}
        self.working: dict[asyncio.Task[None], None] = {}
        """Requests under way that take more than one turn of the loop; they outlive their connection."""
        self.accepted = 0
        self.refusals = 0
        self.crashes = 0
        self.make_room = make_room
        self._refusals_log = Sparingly(_log, self.loop.time)
        self._max_request_size_bytes = max_request_size_bytes
        self._max_connections = max_connections
        self._max_connections_per_ip = max_connections_per_ip
        self._listen_backlog = listen_backlog
        self._by_host: dict[str, int] = {}
        self._max_idle_s = connections_max_idle_ms / 1000
        self.listening = False
        self._server: asyncio.AbstractServer | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._sweeps = 0
        self._drained: asyncio.Future[None] | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port (of use when asked for port 0). OSError when it is taken."""
        server = await self.loop.create_server(lambda: Connection(self), host, port, backlog=self._listen_backlog)
        self._server = server
        self.listening = True
        self._schedule_sweep()
        sockets = getattr(server, "sockets", None)
        return int(sockets[0].getsockname()[1]) if sockets else port

    def check_size(self, size: int) -> None:
        """MalformedRequest for a frame size that no request may have."""
        if size < 8 or size > self._max_request_size_bytes:
            raise MalformedRequest(
                f"frame size {size}: expected 8 to {self._max_request_size_bytes} bytes (socket.request.max.bytes)"
            )

    # -- called by connections -------------------------------------------------------------------------------------

    def opened(self, connection: Connection) -> None:
        self.accepted += 1
        self.connections[connection] = None
        host = _host_of(connection)
        self._by_host[host] = from_host = self._by_host.get(host, 0) + 1
        if len(self.connections) > (most := self._max_connections()):
            connection.refuse(f"more than {most} connections (max.connections)")
        elif from_host > (most := self._max_connections_per_ip()):
            connection.refuse(f"more than {most} connections from {host} (max.connections.per.ip)")

    def lost(self, connection: Connection) -> None:
        if connection in self.connections:
            del self.connections[connection]
            host = _host_of(connection)
            left = self._by_host[host] - 1
            if left:
                self._by_host[host] = left
            else:
                del self._by_host[host]
        if self._drained is not None and not self.connections and not self._drained.done():
            self._drained.set_result(None)

    def refused(self, connection: Connection, reason: str) -> None:
        self.refusals += 1
        self._refusals_log.log(logging.WARNING, "closing connection", {"peer": connection.peer, "reason": reason})

    def crashed(self, connection: Connection, error: BaseException) -> None:
        self.crashes += 1
        _log.error("request failed", extra={"peer": connection.peer}, exc_info=error)

    # -- time ------------------------------------------------------------------------------------------------------

    def _schedule_sweep(self) -> None:
        self._sweep = self.loop.call_later(_SWEEP_S, self._look_at_all)

    def _look_at_all(self) -> None:
        """One timer for all connections: requests past their time-out, connections past their idle time, memory that
        none of them needed lately."""
        now = self.loop.time()
        oldest = now - self._max_idle_s if self._max_idle_s > 0 else float("-inf")
        for connection in list(self.connections):
            if connection.idle:
                if connection.last_active < oldest:
                    connection.close_when_answered()
            else:
                connection.expire_overdue(now)
        self._sweeps += 1
        if not self._sweeps % _MEMORY_SWEEPS:
            self.arena.release_idle()
        self._schedule_sweep()

    # -- shutdown --------------------------------------------------------------------------------------------------

    def stop_accepting(self) -> None:
        self.listening = False
        if self._server is not None:
            self._server.close()
        if self._sweep is not None:
            self._sweep.cancel()

    async def close(self, timeout_s: float) -> None:
        """Stop listening, let every owed answer leave, then close; what is still open after `timeout_s` is cut."""
        self.stop_accepting()
        for connection in list(self.connections):
            connection.close_when_answered()
        if self.connections:
            self._drained = self.loop.create_future()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._drained
            except TimeoutError:
                for connection in list(self.connections):
                    connection.refuse("shutting down")
        for task in list(self.working):
            task.cancel()
        await asyncio.gather(*self.working, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()


def _host_of(connection: Connection) -> str:
    return connection.peer.rpartition(":")[0]

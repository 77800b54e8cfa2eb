"""The parts of asyncio's loop interface that a simulated process may not use: each refuses and says what to do."""

from __future__ import annotations

import asyncio
from typing import Any, NoReturn

from tests.simulation.errors import NotSimulated

_THREAD = "a thread cannot be replayed; inject an adapter that works inline"
_SOCKET = "the machine's sockets, files and names are not part of the world: use create_server and create_connection"
_PROCESS = "processes of the machine are not part of the world: start a node"
_SIGNAL = "signals: use kill, pause and resume of the node"


def _refuse(name: str, reason: str) -> NoReturn:
    raise NotSimulated(f"{name}: {reason}")


class UnsimulatedCalls(asyncio.AbstractEventLoop):
    """Base of the simulated loop: what remains of `AbstractEventLoop` when the simulated part is taken away."""

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:  # type: ignore[override]
        _refuse(f"run_in_executor({getattr(func, '__qualname__', func)!s})", _THREAD)

    def set_default_executor(self, executor: Any) -> None:
        _refuse("set_default_executor", _THREAD)

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:  # type: ignore[override]
        _refuse("add_signal_handler", _SIGNAL)

    def remove_signal_handler(self, sig: int) -> bool:
        _refuse("remove_signal_handler", _SIGNAL)

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:  # type: ignore[override]
        _refuse("add_reader", _SOCKET)

    def remove_reader(self, fd: Any) -> bool:
        _refuse("remove_reader", _SOCKET)

    def add_writer(self, fd: Any, callback: Any, *args: Any) -> None:  # type: ignore[override]
        _refuse("add_writer", _SOCKET)

    def remove_writer(self, fd: Any) -> bool:
        _refuse("remove_writer", _SOCKET)

    async def getaddrinfo(self, host: Any, port: Any, **options: Any) -> Any:
        _refuse("getaddrinfo", _SOCKET)

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> Any:
        _refuse("getnameinfo", _SOCKET)

    async def sock_recv(self, sock: Any, nbytes: int) -> Any:
        _refuse("sock_recv", _SOCKET)

    async def sock_recv_into(self, sock: Any, buf: Any) -> Any:
        _refuse("sock_recv_into", _SOCKET)

    async def sock_recvfrom(self, sock: Any, bufsize: int) -> Any:
        _refuse("sock_recvfrom", _SOCKET)

    async def sock_recvfrom_into(self, sock: Any, buf: Any, nbytes: int = 0) -> Any:
        _refuse("sock_recvfrom_into", _SOCKET)

    async def sock_sendall(self, sock: Any, data: Any) -> Any:
        _refuse("sock_sendall", _SOCKET)

    async def sock_sendto(self, sock: Any, data: Any, address: Any) -> Any:
        _refuse("sock_sendto", _SOCKET)

    async def sock_connect(self, sock: Any, address: Any) -> Any:
        _refuse("sock_connect", _SOCKET)

    async def sock_accept(self, sock: Any) -> Any:
        _refuse("sock_accept", _SOCKET)

    async def sock_sendfile(self, sock: Any, file: Any, *args: Any, **options: Any) -> Any:
        _refuse("sock_sendfile", _SOCKET)

    async def sendfile(self, transport: Any, file: Any, *args: Any, **options: Any) -> Any:
        _refuse("sendfile", _SOCKET)

    async def start_tls(self, transport: Any, protocol: Any, sslcontext: Any, **options: Any) -> Any:
        _refuse("start_tls", _SOCKET)

    async def connect_accepted_socket(self, protocol_factory: Any, sock: Any, **options: Any) -> Any:
        _refuse("connect_accepted_socket", _SOCKET)

    async def create_datagram_endpoint(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        _refuse("create_datagram_endpoint", _SOCKET)

    async def create_unix_server(self, protocol_factory: Any, path: Any = None, **options: Any) -> Any:
        _refuse("create_unix_server", _SOCKET)

    async def create_unix_connection(self, protocol_factory: Any, path: Any = None, **options: Any) -> Any:
        _refuse("create_unix_connection", _SOCKET)

    async def connect_read_pipe(self, protocol_factory: Any, pipe: Any) -> Any:
        _refuse("connect_read_pipe", _SOCKET)

    async def connect_write_pipe(self, protocol_factory: Any, pipe: Any) -> Any:
        _refuse("connect_write_pipe", _SOCKET)

    async def subprocess_exec(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        _refuse("subprocess_exec", _PROCESS)

    async def subprocess_shell(self, protocol_factory: Any, cmd: Any, **options: Any) -> Any:
        _refuse("subprocess_shell", _PROCESS)

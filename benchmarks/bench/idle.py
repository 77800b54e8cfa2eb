"""Connections that say nothing: opened before a run, greeted once with ApiVersions as every client does, and held."""

from __future__ import annotations

import resource
import socket
import struct

from benchmarks.bench.errors import BenchError

_API_VERSIONS = struct.pack(">ihhih", 19, 18, 0, 1, 9) + b"weir-idle"


def allow_files(count: int) -> None:
    """Raise this process's limit of open files; BenchError when the system does not let us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise BenchError(f"{count} connections need {wanted} open files, the system allows {hard}: see ulimit -n")
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class IdleConnections:
    """Holds connections until `close`."""

    def __init__(self, bootstrap: str, count: int) -> None:
        self._sockets: list[socket.socket] = []
        host, _, port = bootstrap.split(",")[0].strip().rpartition(":")
        if count:
            allow_files(count)
        try:
            for _ in range(count):
                self._sockets.append(socket.create_connection((host.strip("[]"), int(port)), timeout=10))
            for each in self._sockets:
                each.sendall(_API_VERSIONS)
            for each in self._sockets:
                self._answer(each)
        except (OSError, ValueError) as error:
            opened = len(self._sockets)
            self.close()
            raise BenchError(f"idle connection {opened + 1} of {count} to {bootstrap}: {error}") from None

    @staticmethod
    def _answer(connection: socket.socket) -> None:
        head = connection.recv(4, socket.MSG_WAITALL)
        if len(head) < 4:
            raise OSError("closed by the broker instead of an answer to ApiVersions")
        connection.recv(struct.unpack(">i", head)[0], socket.MSG_WAITALL)

    def dropped(self) -> int:
        """How many the broker has closed meanwhile."""
        gone = 0
        for each in self._sockets:
            each.setblocking(False)
            try:
                gone += not each.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                continue
            except OSError:
                gone += 1
        return gone

    def close(self) -> None:
        """Close all."""
        for each in self._sockets:
            each.close()
        self._sockets = []

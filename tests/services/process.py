"""One child process: start, readiness, log file, pause and the two ways to end it; free ports on loopback."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_live: weakref.WeakSet[Child] = weakref.WeakSet()


class StartError(Exception):
    """A process ended or did not become ready in time; the text carries the end of its log."""


def free_ports(count: int) -> list[int]:
    """`count` different TCP ports that are free on loopback now.

    Below the ephemeral range, so that no outgoing connection takes one between this call and the server's bind.
    """
    found: list[int] = []
    with contextlib.ExitStack() as held:
        start = 20000 + (os.getpid() * 37 + int(time.monotonic() * 1000)) % 12000
        port = start
        while len(found) < count:
            port = port + 1 if port < 32700 else 20000
            probe = held.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    return found


def free_port() -> int:
    """One TCP port that is free on loopback now."""
    return free_ports(1)[0]


def port_open(port: int) -> bool:
    """Whether something accepts connections on this loopback port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


class Child:
    """One child process in its own session, its output in a log file (appended across restarts).

    It gets our environment and `env`, but none of our variables that start with `without`.
    """

    def __init__(
        self, command: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, without: str = ""
    ) -> None:
        self.command = [str(part) for part in command]
        self.log = log
        self.env = dict(env or {})
        self.without = without
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self.process is None:
            raise StartError(f"{self.command[0]} has not been started")
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process; it must not be running."""
        if self.running:
            raise StartError(f"{self.command[0]} is already running as pid {self.pid}")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        ours = {k: v for k, v in os.environ.items() if not (self.without and k.startswith(self.without))}
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**ours, **self.env},
                start_new_session=True,
            )
        _live.add(self)

    def wait_until(self, ready: Callable[[], bool], *, timeout_s: float, what: str) -> None:
        """Poll `ready` until true; StartError when the process ends or the time is up."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if not self.running:
                code = self.process.returncode if self.process else None
                raise StartError(f"{self.command[0]} ended with {code} before {what}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise StartError(f"{what} did not happen within {timeout_s:.0f} s:\n{self.log_tail()}")
            time.sleep(0.02)

    def log_tail(self, lines: int = 30) -> str:
        """The last lines of the log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return "(no log)"

    def signal(self, number: int) -> None:
        """Send a signal to the process itself (not to its group)."""
        if self.running:
            os.kill(self.pid, number)

    def kill9(self) -> None:
        """SIGKILL and reap."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(timeout=30)

    def stop(self, timeout_s: float = 30) -> int:
        """SIGTERM (after SIGCONT), SIGKILL when the time is up; the exit status."""
        if self.process is None:
            return 0
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            self.kill9()
            return self.process.returncode

    def pause(self) -> None:
        """SIGSTOP: the process keeps its sockets and answers nothing."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)


class Service:
    """What every service offers: a context manager that starts and stops it, and pause/resume."""

    def start(self) -> None:
        """Start and wait until ready."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop for good."""
        raise NotImplementedError

    def pause(self) -> None:
        """Make it hang as an overloaded or unreachable service does: it accepts and never answers."""
        raise NotImplementedError

    def resume(self) -> None:
        """End the pause."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@atexit.register
def _end_leftovers() -> None:
    for child in list(_live):
        if child.running:
            child.signal(signal.SIGCONT)
            child.kill9()

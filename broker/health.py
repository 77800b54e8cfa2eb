"""Is the broker alive, is it ready: the lag of its event loop, and the reasons why it should get no traffic yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from broker.http import Page

INTERVAL_S = 0.5


class LoopLag:
    """How late the event loop runs its timers, measured every INTERVAL_S. A loop that stands still cannot answer at
    all; one that is slow shows it here."""

    def __init__(self) -> None:
        self.last_s = 0.0
        self.max_s = 0.0
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Measure until `close`."""
        loop = asyncio.get_running_loop()
        self._due_s = loop.time() + INTERVAL_S
        self._timer = loop.call_at(self._due_s, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self.last_s = max(0.0, loop.time() - self._due_s)
        self.max_s = max(self.max_s, self.last_s)
        self.start()

    def close(self) -> None:
        """Stop measuring."""
        if self._timer is not None:
            self._timer.cancel()


class Readiness:
    """Named checks; each returns why the broker is not ready, or None."""

    def __init__(self) -> None:
        self._checks: dict[str, Callable[[], str | None]] = {}

    def add(self, name: str, check: Callable[[], str | None]) -> None:
        """Add or replace a check."""
        self._checks[name] = check

    def reasons(self) -> list[str]:
        """`name: reason` of every check that fails."""
        found = [(name, check()) for name, check in self._checks.items()]
        return [f"{name}: {reason}" for name, reason in found if reason is not None]


def health_page(lag: LoopLag, max_lag_ms: int) -> Page:
    """`/healthz`: 200 while the loop keeps its time, 503 when it was last late by more than `max_lag_ms`."""
    late_ms = lag.last_s * 1000
    if late_ms > max_lag_ms:
        return Page(HTTPStatus.SERVICE_UNAVAILABLE, f"event loop is {late_ms:.0f} ms late\n".encode())
    return Page(HTTPStatus.OK, b"ok\n")


def readiness_page(readiness: Readiness) -> Page:
    """`/readyz`: 200, or 503 with one reason per line."""
    reasons = readiness.reasons()
    if reasons:
        return Page(HTTPStatus.SERVICE_UNAVAILABLE, "".join(f"{reason}\n" for reason in reasons).encode())
    return Page(HTTPStatus.OK, b"ready\n")

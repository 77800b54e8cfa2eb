"""Ports that fail at a chosen call, each in the ways its contract allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from s3stream.errors import OutcomeUnknown, Retry

NOT_APPLIED = "not applied"
LOST_REPLY = "applied, reply lost"
NEVER_CAME = "reply lost, not applied"
MODES = (NOT_APPLIED, LOST_REPLY, NEVER_CAME)

READS = frozenset({"get", "stream_rows", "epochs", "range_rows", "retention_candidates", "destroyed_objects"})


class Fault:
    """Fails call number `at` (from 1) of the wrapped ports, and the `burst - 1` after it."""

    def __init__(self, at: int, mode: str, burst: int = 1) -> None:
        self.at, self.mode, self.burst = at, mode, burst
        self.calls = 0
        self.fired = 0
        self.names: list[str] = []

    def strikes(self, name: str) -> bool:
        self.calls += 1
        self.names.append(name)
        if self.at <= self.calls < self.at + self.burst:
            self.fired += 1
            return True
        return False


class FaultyPort:
    """Any port whose methods are coroutines; the others and attributes pass through."""

    def __init__(self, inner: Any, fault: Fault, methods: frozenset[str]) -> None:
        self._inner, self._fault, self._methods = inner, fault, methods

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name not in self._methods:
            return method
        return self._wrap(name, method)

    def _wrap(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            if not self._fault.strikes(name):
                return await method(*args, **kwargs)
            if self._fault.mode == NOT_APPLIED or name in READS:
                raise Retry(f"planned failure of {name}")
            if self._fault.mode == LOST_REPLY:
                await method(*args, **kwargs)
            raise OutcomeUnknown(f"planned failure of {name}")

        return call


STORE_METHODS = frozenset({"put", "get", "delete"})
META_METHODS = frozenset(
    {
        "migrate",
        "register_broker",
        "open_wal",
        "open_streams",
        "trim_stream",
        "trim_wal",
        "stream_rows",
        "epochs",
        "range_rows",
        "prepare_objects",
        "commit_objects",
        "retention_candidates",
        "drop_expired_prepared",
        "destroyed_objects",
        "mark_deleting",
        "forget_objects",
    }
)

"""What the state machine wants done outside: replies and timers, as data. The shard's shell carries it out.

A `Ticket` stands for one waiting request; the machine parks it with a member and answers it exactly once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from broker.groups.messages import Reply
from broker.groups.records import Record
from protocol.errors import ErrorCode

TimerKey = tuple[str, ...]
"""(kind, group id) or ("heartbeat", group id, member id)."""
TimerArg = tuple[int, ...]


class Ticket(Protocol):
    """One waiting request; compared by identity."""

    def failed(self, error: ErrorCode) -> Reply:
        """The reply to this request when all of it fails with `error`."""
        ...


class Timer(NamedTuple):
    key: TimerKey
    delay_ms: int | None
    """None = cancel."""
    arg: TimerArg = ()


class Outbox:
    """Effects of one step, in order."""

    __slots__ = ("replies", "timers")

    def __init__(self) -> None:
        self.replies: list[tuple[Ticket, Reply]] = []
        self.timers: list[Timer] = []

    def reply(self, ticket: Ticket, reply: Reply) -> None:
        self.replies.append((ticket, reply))

    def schedule(self, key: TimerKey, delay_ms: int, arg: TimerArg = ()) -> None:
        """Start, or start again, the timer `key`."""
        self.timers.append(Timer(key, delay_ms, arg))

    def cancel(self, key: TimerKey) -> None:
        self.timers.append(Timer(key, None))

    def drain(self) -> tuple[list[tuple[Ticket, Reply]], list[Timer]]:
        drained = self.replies, self.timers
        self.replies, self.timers = [], []
        return drained


Settle = Callable[[ErrorCode], None]


class Outcome(NamedTuple):
    """Records to append in one atomic append, and what follows from its result.

    `settle(none)` runs right after the log accepted the records and they were replayed, `settle(error)` when the log
    refused them; nothing else runs between.
    """

    records: tuple[Record, ...] = ()
    settle: Settle | None = None


NOTHING = Outcome()

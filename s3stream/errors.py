"""The error kinds of the storage engine, named by what the caller does with them."""

from __future__ import annotations


class StreamError(Exception):
    """Base of every error that the engine raises on purpose."""


class Retry(StreamError):
    """Nothing was applied; the same call may succeed later (store busy, WAL full, database locked)."""

    def __init__(self, message: str, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms


class OutcomeUnknown(StreamError):
    """The call may or may not have been applied: repeat it with the same natural key, or look."""


class Fenced(StreamError):
    """An epoch race was lost for good: this owner must stop using the thing at once."""


class Invalid(StreamError):
    """The caller asked for something that can never work; says what was expected and what came."""


class OffsetOutOfRange(Invalid):
    """An offset below the start or above the end of a stream."""


class NotFound(Invalid):
    """The named object, stream or range does not exist."""


class PastEnd(Invalid):
    """A range that reaches past the end of an object."""


class AlreadyExists(StreamError):
    """A put-if-absent found the key taken. The caller compares the content before it believes it lost."""


class Corrupt(StreamError):
    """Stored bytes do not verify. Never served, never skipped in silence."""


class Fatal(StreamError):
    """The process cannot keep its promises any more (failed fsync): stop acknowledging, end the process."""

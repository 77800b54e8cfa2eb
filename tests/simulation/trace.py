"""The trace of a run: a digest over everything executed, and the last steps in readable form.

The digest covers, per executed callback, the virtual time, the node and the callback's qualified name, and what
the simulated devices note (bytes delivered with their checksum, faults). Two runs of one seed must give the same digest
whatever PYTHONHASHSEED is; the first differing step of two `--trace` files shows where they part.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from collections import deque
from typing import IO, Any

_FLUSH_AT = 512


def callback_name(callback: Any) -> str:
    """The qualified name of what a callback will run: for a task's step, its coroutine's."""
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        coroutine = owner.get_coro()
        return getattr(coroutine, "__qualname__", None) or type(coroutine).__qualname__
    if isinstance(callback, functools.partial):
        return callback_name(callback.func)
    return getattr(callback, "__qualname__", None) or type(callback).__qualname__


class Trace:
    """Hashes lines as they come; keeps the last `keep_lines` of them; copies them to `copy_to` if given."""

    def __init__(self, keep_lines: int = 200, copy_to: IO[str] | None = None) -> None:
        self._hash = hashlib.blake2b(digest_size=16)
        self._lines: list[str] = []
        self._recent: deque[str] = deque(maxlen=keep_lines)
        self._copy_to = copy_to

    def add(self, line: str) -> None:
        lines = self._lines
        lines.append(line)
        if len(lines) >= _FLUSH_AT:
            self._flush()

    def _flush(self) -> None:
        if not self._lines:
            return
        text = "\n".join(self._lines) + "\n"
        self._hash.update(text.encode())
        if self._copy_to is not None:
            self._copy_to.write(text)
        self._recent.extend(self._lines)
        self._lines.clear()

    def digest(self) -> str:
        self._flush()
        return self._hash.hexdigest()

    def recent(self) -> list[str]:
        self._flush()
        return list(self._recent)

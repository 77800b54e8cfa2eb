"""One owner for background work: every task has a name, a crash is never lost, close() ends them all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

_CANCEL_AGAIN_S = 1.0


class Supervisor:
    """Starts named tasks and hands the first unexpected error to `on_crash`; no fire-and-forget anywhere else."""

    def __init__(self, on_crash: Callable[[str, BaseException], None]) -> None:
        self._on_crash = on_crash
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._closed = False

    def spawn(self, name: str, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` until it ends or `close()` cancels it."""
        if self._closed:
            work.close()
            raise RuntimeError(f"cannot start {name!r}: the supervisor is closed")
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_crash(task.get_name(), error)

    async def close(self) -> None:
        """Cancel what still runs and wait for it."""
        self._closed = True
        await end_tasks(list(self._tasks))


async def end_tasks(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel the tasks (but the calling one) and wait until all have ended.

    One that goes on is cancelled again: a cancellation can get lost where it meets the result that was waited for
    (`asyncio.wait_for` before Python 3.12).
    """
    pending = [task for task in tasks if not task.done() and task is not asyncio.current_task()]
    while pending:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)
        pending = [task for task in pending if not task.done()]

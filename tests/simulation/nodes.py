"""Nodes: which simulated process a callback belongs to, and whether that process runs.

A node is one incarnation of one process. Everything it schedules inherits it through a context variable.
A restart is a new Node with the same name and the next incarnation number: nothing of the old one
ever runs again.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import enum
from collections import deque
from typing import Any


class NodeState(enum.Enum):
    RUNNING = "running"
    PAUSED = "paused"
    DEAD = "dead"


CURRENT: contextvars.ContextVar[Node | None] = contextvars.ContextVar("simulated_node", default=None)

# What a killed node held. A coroutine that is freed runs its finally blocks, which a killed process never does,
# so nothing in here may ever be freed: not by reference counts, not by the collector, not at interpreter exit.
_GRAVEYARD: list[Any] = []
ctypes.pythonapi.Py_IncRef(ctypes.py_object(_GRAVEYARD))


class Node:
    """One incarnation of a simulated process.

    `parked` holds, in order, the handles that came due while it was paused or after it died. `tasks` keeps
    every task it has, in creation order, so that a pending one is never freed behind its back.
    """

    def __init__(self, name: str, incarnation: int) -> None:
        self.name = name
        self.incarnation = incarnation
        self.label = f"{name}#{incarnation}"
        self.state = NodeState.RUNNING
        self.parked: deque[Any] = deque()
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self._prune_at = 256
        self._context = contextvars.Context()
        self._context.run(CURRENT.set, self)

    def running(self) -> bool:
        return self.state is NodeState.RUNNING

    def paused(self) -> bool:
        return self.state is NodeState.PAUSED

    def new_context(self) -> contextvars.Context:
        """A fresh context of this node. Always a copy: a context cannot be entered twice."""
        return self._context.copy()

    def keep(self, task: asyncio.Task[Any]) -> None:
        self.tasks[task] = None
        if len(self.tasks) >= self._prune_at:
            self.tasks = {each: None for each in self.tasks if not each.done()}
            self._prune_at = max(256, 2 * len(self.tasks))

    def pending_tasks(self) -> list[asyncio.Task[Any]]:
        return [task for task in self.tasks if not task.done()]

    def __repr__(self) -> str:
        return f"<Node {self.label} {self.state.value}>"


def bury(thing: object) -> None:
    """Keep `thing`, and all that it refers to, for the rest of the process."""
    _GRAVEYARD.append(thing)


def new_world_context() -> contextvars.Context:
    """A context that belongs to no node: the kernel, the wires, the devices. It always runs."""
    return contextvars.Context()

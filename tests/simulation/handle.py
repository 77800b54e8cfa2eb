"""A scheduled callback of the simulated loop, and the node that it belongs to."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from tests.simulation.nodes import CURRENT, Node
from tests.simulation.trace import callback_name


class SimulatedHandle(asyncio.TimerHandle):
    """A scheduled callback: ready at once or at `when`. Belongs to the node of its context."""

    __slots__ = ("args", "callback", "context", "dropped", "due", "node")

    def __init__(
        self,
        due: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> None:
        # The base class keeps private state for its own loop; none of it is used here, so it is not initialised.
        # An empty Context is falsy: test for None, or a world callback would inherit the caller's node.
        self.context = context if context is not None else contextvars.copy_context()
        self.node: Node | None = self.context.get(CURRENT)
        self.due = due
        self.callback: Callable[..., object] | None = callback
        self.args = args
        self.dropped = False

    def cancel(self) -> None:
        self.dropped = True
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        return self.dropped

    def when(self) -> float:
        return self.due

    def get_context(self) -> contextvars.Context:
        return self.context

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        name = "cancelled" if self.callback is None else callback_name(self.callback)
        return f"<SimulatedHandle {name} at {self.due:.6f}>"

"""The deterministic event loop: virtual time, one FIFO ready queue, one timer heap, nodes that die.

Implements the public `asyncio.AbstractEventLoop` interface, so unmodified asyncio code runs on it: timers, callbacks,
tasks, async generators, TCP servers and connections (`network.py`). The rest refuses with the reason
(`unsimulated.py`). Time stands still while anything is runnable and then jumps to the next timer. Nothing depends on
the machine: no selector, no thread, no wall clock.

A run ends as a failure by an exception that nobody handles (in a callback, or in a task that nobody looked at), by
Deadlock (nothing runnable and no timer), Livelock (too many steps, in all or without the clock moving) or OutOfTime.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import heapq
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from tests.simulation.errors import Deadlock, Livelock, NotSimulated, OutOfTime, SimulationFailure
from tests.simulation.handle import SimulatedHandle
from tests.simulation.nodes import CURRENT, Node, NodeState, bury, new_world_context
from tests.simulation.trace import Trace, callback_name
from tests.simulation.unsimulated import UnsimulatedCalls

if TYPE_CHECKING:
    from tests.simulation.network import Network

_T = TypeVar("_T")

START_TIME_S = 1_000.0  # a monotonic clock that starts above zero, as real ones do


class SimulatedLoop(UnsimulatedCalls):
    """Runs everything of one simulated world.

    `network` serves create_server and create_connection; without one they are refused. `max_steps` bounds the
    whole run, `max_steps_per_instant` the callbacks run without the clock moving.
    """

    def __init__(
        self,
        *,
        trace: Trace | None = None,
        max_steps: int = 20_000_000,
        max_steps_per_instant: int = 500_000,
    ) -> None:
        self.trace = trace if trace is not None else Trace()
        self.network: Network | None = None
        self.nodes: dict[str, Node] = {}
        self.steps = 0
        self._max_steps = max_steps
        self._max_steps_per_instant = max_steps_per_instant
        self._instant_began_at_step = 0
        self._now = START_TIME_S
        self._sequence = 0
        self._ready: deque[SimulatedHandle] = deque()
        self._timers: list[tuple[float, int, SimulatedHandle]] = []  # (due, order of scheduling, handle)
        self._failure: BaseException | None = None
        self._stopping = False
        self._running = False
        self._closed = False
        self._thread: int | None = None
        self._task_count = 0
        self._world_tasks = Node("world", 0)  # only keeps tasks alive; its context is never entered
        self._buried: list[Node] = []
        self._asyncgens: weakref.WeakSet[Any] = weakref.WeakSet()
        self._exception_handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None = None
        self._task_factory: Any = None

    # -- clock and scheduling

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> SimulatedHandle:
        handle = SimulatedHandle(self._now, callback, args, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> SimulatedHandle:
        if self._thread is not None and threading.get_ident() != self._thread:
            raise NotSimulated("call_soon_threadsafe from another thread: threads cannot be replayed")
        return self.call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> SimulatedHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> SimulatedHandle:
        self._sequence += 1
        handle = SimulatedHandle(when, callback, args, context)
        heapq.heappush(self._timers, (when, self._sequence, handle))
        return handle

    def call_world(self, delay_s: float, callback: Callable[..., object], *args: Any) -> SimulatedHandle:
        """Schedule a callback of no node: what kernels, wires and devices do while processes die or sleep."""
        if delay_s <= 0:
            return self.call_soon(callback, *args, context=new_world_context())
        return self.call_later(delay_s, callback, *args, context=new_world_context())

    # -- futures and tasks

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, **options: Any) -> asyncio.Task[Any]:
        self._task_count += 1
        if name is None:
            name = f"task-{self._task_count}"
        if self._task_factory is not None:
            task: asyncio.Task[Any] = self._task_factory(self, coro, name=name, **options)
        else:
            task = asyncio.Task(coro, loop=self, name=name, **options)
        context = options.get("context")
        node = CURRENT.get() if context is None else context.get(CURRENT)
        (node if node is not None else self._world_tasks).keep(task)
        return task

    def spawn(self, node: Node, coro: Coroutine[Any, Any, _T], *, name: str | None = None) -> asyncio.Task[_T]:
        """Start a task that belongs to `node`."""
        return self.create_task(coro, name=name, context=node.new_context())

    def set_task_factory(self, factory: Any) -> None:
        self._task_factory = factory

    def get_task_factory(self) -> Any:
        return self._task_factory

    # -- nodes

    def start_node(self, name: str) -> Node:
        """The first, or after a kill the next, incarnation of the process `name`."""
        old = self.nodes.get(name)
        if old is not None and old.state is not NodeState.DEAD:
            raise SimulationFailure(f"{old.label} is still {old.state.value}")
        node = Node(name, 1 if old is None else old.incarnation + 1)
        self.nodes[name] = node
        self.trace.add(f"{self._now!r} start {node.label}")
        return node

    def kill(self, node: Node, *, power_cut: bool = False) -> None:
        """End a process between two callbacks: nothing of it runs again, no finally block, no callback.

        Its connections are reset (at once for a kill, found out late by the peers after a power cut).
        """
        if node.state is NodeState.DEAD:
            raise SimulationFailure(f"{node.label} is already dead")
        node.state = NodeState.DEAD
        self._buried.append(node)
        bury(node)
        self.trace.add(f"{self._now!r} {'power cut' if power_cut else 'kill'} {node.label}")
        if self.network is not None:
            self.network.drop_node(node, power_cut=power_cut)

    def pause(self, node: Node) -> None:
        """Stop a process as SIGSTOP does: its callbacks wait in order; the kernel around it goes on."""
        if node.state is not NodeState.RUNNING:
            raise SimulationFailure(f"{node.label} is {node.state.value}")
        node.state = NodeState.PAUSED
        self.trace.add(f"{self._now!r} pause {node.label}")

    def resume(self, node: Node) -> None:
        if node.state is not NodeState.PAUSED:
            raise SimulationFailure(f"{node.label} is {node.state.value}")
        node.state = NodeState.RUNNING
        self.trace.add(f"{self._now!r} resume {node.label}")
        self._ready.extend(node.parked)
        node.parked.clear()

    # -- running

    def run_until_complete(self, future: Any, *, limit_s: float | None = None) -> Any:
        """Run until `future` (a coroutine or future of this loop) ends; returns its result.

        `limit_s`: virtual seconds, from now, after which the run fails with OutOfTime.
        """
        if self._running:
            raise SimulationFailure("the loop is already running")
        with self._as_running_loop():
            main = future
            if not asyncio.isfuture(future):
                main = self.create_task(future, name="main", context=new_world_context())
            deadline = None if limit_s is None else self._now + limit_s
            while not main.done() and self._failure is None:
                self._step(deadline)
            if self._failure is not None and main.done() and not main.cancelled():
                main.exception()  # the failure below is the one to report
            self.raise_failure()
            return main.result()

    def run_forever(self) -> None:
        with self._as_running_loop():
            self._stopping = False
            while not self._stopping and self._failure is None:
                self._step(None)
            self.raise_failure()

    def stop(self) -> None:
        self._stopping = True

    def _step(self, deadline: float | None) -> None:
        ready = self._ready
        if not ready:
            self._advance(deadline)
            return
        handle = ready.popleft()
        callback = handle.callback
        if callback is None:
            return
        node = handle.node
        if node is None:
            label = "-"
        elif node.state is NodeState.RUNNING:
            label = node.label
        else:
            node.parked.append(handle)
            return
        self.steps += 1
        self.trace.add(f"{self._now!r} {label} {callback_name(callback)}")
        try:
            handle.context.run(callback, *handle.args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - every escape ends the run, as the class says
            self.call_exception_handler({"message": f"exception in {handle!r}", "exception": error, "handle": handle})
        if self.steps - self._instant_began_at_step > self._max_steps_per_instant or self.steps > self._max_steps:
            raise Livelock(f"{self.steps} steps, the clock stands at {self._now}\n{self._stuck()}")

    def _advance(self, deadline: float | None) -> None:
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
        if not timers:
            raise Deadlock(f"nothing is runnable at {self._now}\n{self._stuck()}")
        due = timers[0][0]
        if due > self._now:
            if deadline is not None and due > deadline:
                raise OutOfTime(f"still running at the limit of {deadline}\n{self._stuck()}")
            self._now = due
            self._instant_began_at_step = self.steps
        while timers and timers[0][0] <= self._now:
            self._ready.append(heapq.heappop(timers)[2])

    def _stuck(self) -> str:
        """Who waits for what, for a deadlock, a livelock or a run that does not end."""
        lines = []
        for node in [self._world_tasks, *self.nodes.values()]:
            for task in node.pending_tasks()[:40]:
                frames = task.get_stack(limit=1)
                where = f"{frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else "?"
                what = callback_name(task.get_coro())
                lines.append(f"  {node.label} ({node.state.value}) {task.get_name()} {what} {where}")
        return "\n".join(["pending tasks:", *lines, "last steps:", *self.trace.recent()[-20:]])

    @contextlib.contextmanager
    def _as_running_loop(self) -> Iterator[None]:
        if self._closed:
            raise SimulationFailure("the loop is closed")
        hooks = sys.get_asyncgen_hooks()
        collecting = gc.isenabled()
        # The collector runs when allocation counts say so, and would run finalizers at moments no seed decides.
        gc.disable()
        sys.set_asyncgen_hooks(firstiter=self._asyncgens.add, finalizer=self._finalize_asyncgen)
        asyncio._set_running_loop(self)
        self._running, self._thread = True, threading.get_ident()
        try:
            yield
        finally:
            self._running, self._thread = False, None
            asyncio._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)
            if collecting:
                gc.enable()

    def _finalize_asyncgen(self, generator: Any) -> None:
        self.call_soon(self.create_task, generator.aclose())

    def is_running(self) -> bool:
        return self._running

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """End the world. What still waits is kept for ever, as a killed node is, so that no finally block runs."""
        if self._running:
            raise SimulationFailure("cannot close a running loop")
        if self._closed:
            return
        self._closed = True
        for node in self.nodes.values():
            node.state = NodeState.DEAD
            bury(node)
        pending = [task for task in self._world_tasks.tasks if not task.done()]
        bury((pending, list(self._asyncgens), list(self._ready), list(self._timers)))
        self._ready.clear()
        self._timers.clear()

    async def shutdown_asyncgens(self) -> None:
        for generator in list(self._asyncgens):
            await generator.aclose()

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """There is none."""

    # -- failures

    def fail(self, error: BaseException) -> None:
        """End the run with `error`; the first one wins."""
        if self._failure is None:
            self._failure = error

    def raise_failure(self) -> None:
        """Raise what `fail` was given since the last call, if anything."""
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._exception_handler is not None:
            self._exception_handler(self, context)
        self.default_exception_handler(context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, SimulationFailure):
            self.fail(error)
            return
        failure = SimulationFailure(f"unhandled: {context.get('message')}: {error!r}")
        failure.__cause__ = error
        self.fail(failure)

    def set_exception_handler(self, handler: Any) -> None:
        self._exception_handler = handler

    def get_exception_handler(self) -> Any:
        return self._exception_handler

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:
        if enabled:
            raise NotSimulated("debug mode reads the machine's clock")

    # -- network

    def _served_network(self) -> Network:
        if self.network is None:
            raise NotSimulated("this loop has no network")
        return self.network

    async def create_server(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: Any = None, port: Any = None, **options: Any
    ) -> asyncio.AbstractServer:
        return self._served_network().listen(protocol_factory, host, port, options)

    async def create_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], host: Any = None, port: Any = None, **options: Any
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        return await self._served_network().connect(protocol_factory, host, port, options)

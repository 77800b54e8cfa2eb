"""What ends a simulated run."""

from __future__ import annotations


class SimulationFailure(Exception):
    """The run found something wrong: an unhandled exception, a checker's anomaly, a misuse of the loop."""


class Deadlock(SimulationFailure):
    """Nothing is runnable, no timer is set, and the main coroutine has not ended."""


class Livelock(SimulationFailure):
    """Too many steps without progress of the virtual clock, or too many in all."""


class OutOfTime(SimulationFailure):
    """The virtual clock passed the run's limit before the main coroutine ended."""


class NotSimulated(SimulationFailure):
    """The code under test asked for something that would make a run irreproducible (a thread, a real socket)."""

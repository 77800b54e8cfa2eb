"""Takes down the history of a run: the one object that all client threads share."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from typing import Any, BinaryIO

from benchmarks.verify import stored
from benchmarks.verify.history import History, Operation, Outcome


def silent() -> logging.Logger:
    """For the clients' own log lines: what matters of them is in the history."""
    logger = logging.getLogger("weir.verify.clients")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger


class Recorder:
    """`run` grows as calls come in, and so does `file`, if there is one. Times are seconds since it was made.

    A failing write (disk full) is raised in whatever thread made it: a history with holes proves nothing.
    """

    def __init__(self, plan: dict[str, Any], file: BinaryIO | None = None) -> None:
        self.run = stored.Run(plan)
        self._file = file
        self._lock = threading.Lock()
        self._began_s = time.monotonic()
        self._unwritten: Counter[tuple[str, str]] = Counter()
        self.acked = 0
        self.unsure = 0
        self.followed = 0
        self.last_ack_s = 0.0
        self._write(stored.start_line(plan))

    def now_s(self) -> float:
        return round(time.monotonic() - self._began_s, 6)  # as it is written

    def invoke(self, operation: Operation, at_s: float | None = None) -> None:
        """`at_s`: when it began, if that was earlier."""
        with self._lock:
            self.run.history.invoke(operation, self.now_s() if at_s is None else at_s)
            self._write(stored.invoke_line(operation))

    def end(self, operation: Operation, outcome: Outcome, note: str = "") -> None:
        """Set the results on `operation` before."""
        with self._lock:
            History.end(operation, outcome, self.now_s(), note)
            self._write(stored.end_line(operation))

    def produced(self, outcome: Outcome) -> None:
        """Count for the progress line."""
        with self._lock:
            if outcome is Outcome.OK:
                self.acked += 1
                self.last_ack_s = self.now_s()
            else:
                self.unsure += 1

    def client_error(self, client: str, error: str) -> None:
        """Something that a client told us apart from any operation, such as a lost connection. While a broker is away
        there are hundreds; they are written as counts, at the end of each phase."""
        with self._lock:
            self.run.add_client_error(client, error, 1)
            self._unwritten[client, error] += 1

    def chaos(self, chaos: stored.Chaos) -> None:
        with self._lock:
            self.run.chaos.append(chaos)
            self._write(stored.chaos_line(chaos))

    def phase(self, phase: str) -> None:
        with self._lock:
            at_s = self.now_s()
            for (client, error), times in self._unwritten.items():
                self._write(stored.client_error_line(client, error, times, at_s))
            self._unwritten.clear()
            self.run.phases[phase] = at_s
            self._write(stored.phase_line(phase, at_s))
            if self._file is not None:
                self._file.flush()

    def _write(self, line: bytes) -> None:
        if self._file is not None:
            self._file.write(line)

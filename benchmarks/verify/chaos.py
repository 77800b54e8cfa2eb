"""Runs the command that the user gave, again and again, while the load runs; what it does is its own affair."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading

from benchmarks.verify.plan import Plan
from benchmarks.verify.recorder import Recorder
from benchmarks.verify.stored import Chaos

_TIMEOUT_S = 300.0
_OUTPUT = 2000


class ChaosThread(threading.Thread):
    """Every `chaos_every_s` one run of the command in a shell, never two at once, until `stop()`.

    The command sees VERIFY_ROUND (1, 2, ...) and VERIFY_SEED. One that is running when the load ends is
    waited for; after 300 s it is killed with all its children. What it starts in the background is left running.
    """

    def __init__(self, plan: Plan, recorder: Recorder) -> None:
        super().__init__(name="chaos", daemon=True)
        self.failure: BaseException | None = None
        self._plan, self._recorder = plan, recorder
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        try:
            number = 1
            while not self._stopping.wait(self._plan.chaos_every_s):
                self._recorder.chaos(self._once(number))
                number += 1
        except BaseException as error:  # noqa: BLE001 - handed to the conductor of the run
            self.failure = error

    def _once(self, number: int) -> Chaos:
        began_s = self._recorder.now_s()
        environment = {**os.environ, "VERIFY_ROUND": str(number), "VERIFY_SEED": str(self._plan.seed)}
        # A file, not a pipe: what the command leaves running in the background may go on holding it.
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                self._plan.chaos,
                shell=True,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                code: int | None = process.wait(_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code = None
            size = output.seek(0, os.SEEK_END)
            output.seek(max(0, size - _OUTPUT))
            text = output.read(_OUTPUT).decode(errors="replace").strip()
        return Chaos(began_s, self._recorder.now_s(), code, text)

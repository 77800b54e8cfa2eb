"""The brokers that `weir verify` is shown on, and what its chaos command does to each: kill -9, pauses, power cuts."""

from __future__ import annotations

import os
import random
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.faults.crash_images import Replay, read_log
from tests.faults.power_cut import recorder, recording
from tests.services import KafkaProcess, WeirProcess
from tests.services.process import free_port

# Small segments and uploads, so that a short run also recycles, trims and commits.
_SETTINGS = {
    "wal.segment.bytes": str(1 << 20),
    "wal.capacity.bytes": str(16 << 20),
    "upload.interval.ms": "500",
    "upload.size.bytes": str(256 << 10),
    "offsets.topic.num.partitions": "2",
    "group.initial.rebalance.delay.ms": "0",
}
_SYNC_DELAY_US = 3000


@dataclass
class _Weir(WeirProcess):
    """Weir, or in its place the program of a planted bug."""

    module: str = "broker"

    def command(self) -> list[str]:
        command = super().command()
        command[command.index("broker")] = self.module
        return command


def weir(directory: Path, *, module: str = "broker", port: int = 0, prefix: tuple[str, ...] = ()) -> WeirProcess:
    """A Weir process that has not been started."""
    return _Weir(directory, settings=_SETTINGS, port=port, prefix=prefix, module=module)


class Killed:
    """A broker process that each round kills with -9 and starts again."""

    def __init__(self, process: WeirProcess | KafkaProcess, rng: random.Random) -> None:
        self.bootstrap = process.bootstrap
        self._process, self._rng = process, rng

    def start(self) -> None:
        self._process.start()

    def end(self) -> None:
        self._process.kill9()

    def round(self) -> None:
        time.sleep(self._rng.random())  # at no time of its own
        self._process.kill9()
        self._process.start()


class Paused(Killed):
    """A broker process that each round stops for 2 to 14 s (SIGSTOP): what clients gave up is applied late."""

    def round(self) -> None:
        self._process.pause()
        time.sleep(self._rng.uniform(2, 14))
        self._process.resume()


class PowerCut:
    """A Weir process under the recorder of `tests.faults`: each round kills it, rebuilds its folder from what was
    synced and a random part of the rest, and starts it on that. kill -9 alone keeps all that was written."""

    def __init__(self, directory: Path, rng: random.Random, *, module: str = "broker") -> None:
        self._directory, self._rng, self._module = directory, rng, module
        self._data = directory / "weir" / "data"
        self._library = recorder(directory)
        self._port = free_port()
        self.bootstrap = f"127.0.0.1:{self._port}"
        self._starts = 0

    def start(self) -> None:
        self._starts += 1
        self._log = self._directory / f"events-{self._starts}"
        env = recording(self._library, self._data, self._log, sync_delay_us=_SYNC_DELAY_US)
        wanted = {name: env[name] for name in env if name == "LD_PRELOAD" or name.startswith("RECORDER_")}
        self._replay = Replay(self._data)
        prefix = ("env", *(f"{name}={value}" for name, value in wanted.items()))
        self._process = weir(self._directory / "weir", module=self._module, port=self._port, prefix=prefix)
        self._process.start()

    def end(self) -> None:
        self._process.kill9()

    def round(self) -> None:
        time.sleep(self._rng.random())
        self._process.kill9()
        for event in read_log(self._log):
            self._replay.apply(event)
        shutil.rmtree(self._data)
        self._replay.write_image(self._data, self._rng)
        self._log.unlink()
        self.start()


class Doorbell:
    """Does `action` whenever the shell command `command` is run, which waits for it and passes on how it went.

    Two named pipes; the action runs in a thread of this process, one at a time.
    """

    def __init__(self, directory: Path, action: Callable[[], None]) -> None:
        self._ask, self._answer = directory / "ask", directory / "answer"
        os.mkfifo(self._ask)
        os.mkfifo(self._answer)
        self._action = action
        self.rings = 0
        self.took_s = 0.0
        self._thread = threading.Thread(target=self._serve, name="doorbell", daemon=True)
        self.command = f'echo round > {self._ask} && read a < {self._answer} && echo "$a" && test "$a" = done'

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ask.write_text("end\n")
        self._thread.join(60)

    def _serve(self) -> None:
        while "round" in self._ask.read_text():
            began_s = time.monotonic()
            try:
                self._action()
                answer = "done"
            except Exception as error:  # noqa: BLE001 - the command fails with it, and the report shows it
                answer = f"{type(error).__name__}: {error}".replace("\n", " ")
            self.rings += 1
            self.took_s += time.monotonic() - began_s
            self._answer.write_text(answer + "\n")

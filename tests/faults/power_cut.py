"""Records every write and sync of a whole process, and rebuilds its folder as power cuts would have left it.

    python -m tests.faults.power_cut record --folder DATA --log LOG [--sync-us 2000] -- command ...
    python -m tests.faults.power_cut image --log LOG --event 1234 --seed 5 --into EMPTY

In tests: `env = recording(recorder(tmp_path), data, log)`, run the command with `env`, note what it acknowledges with
`time.monotonic_ns()`, then for each of `power_cuts(read_log(log), 200, rng)` write the image, start on it, and look
for everything acknowledged before `cut.time_ns`. kill -9 proves nothing about fsync: written pages survive it.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.faults.crash_images import PowerCut, Replay, read_log

_SOURCE = Path(__file__).with_name("recorder.c")


def compiler() -> str | None:
    """The C compiler that the recorder needs; None means: skip, with that reason."""
    return shutil.which("gcc") or shutil.which("cc")


def recorder(folder: Path) -> Path:
    """Build the preloaded library in `folder`. RuntimeError without a compiler."""
    found = compiler()
    if found is None:
        raise RuntimeError("the recorder needs gcc or cc")
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / "recorder.so"
    subprocess.run([found, "-O2", "-shared", "-fPIC", "-pthread", "-o", str(library), str(_SOURCE)], check=True)
    return library


def recording(library: Path, folder: Path, log: Path, *, sync_delay_us: int = 0) -> dict[str, str]:
    """The environment for a command whose changes below `folder` go to `log` (which must lie outside of it)."""
    folder.mkdir(parents=True, exist_ok=True)
    inside, outside = folder.resolve(), log.resolve()
    if outside.is_relative_to(inside):
        raise ValueError(f"the log {outside} lies in the recorded folder {inside}")
    return {
        **os.environ,
        "LD_PRELOAD": str(library.resolve()),
        "RECORDER_FOLDER": str(inside),
        "RECORDER_LOG": str(outside),
        "RECORDER_SYNC_US": str(sync_delay_us),
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.power_cut")
    commands = parser.add_subparsers(dest="command", required=True)
    record = commands.add_parser("record", help="run a command and record what it does to a folder")
    record.add_argument("--folder", type=Path, required=True)
    record.add_argument("--log", type=Path, required=True)
    record.add_argument("--sync-us", type=int, default=0)
    record.add_argument("argv", nargs="+")
    image = commands.add_parser("image", help="write what a power cut before an event may have left")
    image.add_argument("--log", type=Path, required=True)
    image.add_argument("--event", type=int, required=True)
    image.add_argument("--seed", type=int, default=random.getrandbits(32))
    image.add_argument("--into", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    if chosen.command == "record":
        library = recorder(chosen.log.resolve().parent)
        env = recording(library, chosen.folder, chosen.log, sync_delay_us=chosen.sync_us)
        return subprocess.run(chosen.argv, env=env, check=False).returncode
    replay = Replay()
    events = read_log(chosen.log)
    for event in events[: chosen.event]:
        replay.apply(event)
    cut = PowerCut(replay, chosen.event, events[min(chosen.event, len(events) - 1)].time_ns, chosen.seed)
    cut.write_image(chosen.into)
    print(cut)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

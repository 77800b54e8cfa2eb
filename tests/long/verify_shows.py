"""`python -m tests.long.verify_shows [NAME...]`: `weir verify` finds nothing on sound brokers and finds planted bugs.

Sound: Weir and Apache Kafka, killed with -9 and stopped for seconds; Weir under power cuts. Planted:
acknowledge before the WAL write is issued, under kill -9; acknowledge before fdatasync, under power cuts. Ends with 1
when one is not as expected.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.verify.figures import figures
from benchmarks.verify.stored import load
from tests.long.verify_targets import Doorbell, Killed, Paused, PowerCut, weir
from tests.services import KafkaProcess

Target = Killed | PowerCut


@dataclass(frozen=True)
class Show:
    """`exit_code`: of `weir verify`, as it has to be."""

    text: str
    target: Callable[[Path, random.Random], Target]
    exit_code: int
    every_s: float = 3.0


SHOWS = {
    "weir": Show("Weir under kill -9", lambda d, rng: Killed(weir(d / "weir"), rng), 0),
    "kafka": Show("Apache Kafka under kill -9", lambda d, rng: Killed(KafkaProcess(d / "kafka"), rng), 0, 5.0),
    "weir-paused": Show("Weir stopped again and again", lambda d, rng: Paused(weir(d / "weir"), rng), 0, 4.0),
    "kafka-paused": Show(
        "Apache Kafka stopped again and again", lambda d, rng: Paused(KafkaProcess(d / "kafka"), rng), 0, 8.0
    ),
    "power-cut": Show("Weir under power cuts", lambda d, rng: PowerCut(d, rng), 0),
    "early-ack": Show(
        "acknowledges before the WAL write is issued, under kill -9",
        lambda d, rng: Killed(weir(d / "weir", module="tests.long.verify_early_ack"), rng),
        1,
    ),
    "early-ack-before-sync": Show(
        "acknowledges before fdatasync, under power cuts",
        lambda d, rng: PowerCut(d, rng, module="tests.faults.lying_broker"),
        1,
    ),
}


@dataclass
class Line:
    """What came of one show."""

    name: str
    exit_code: int
    wanted: int
    acked: int
    rounds: int
    seconds: float


def run(name: str, show: Show, directory: Path, arguments: argparse.Namespace) -> Line:
    """One show; the report of `weir verify` goes to our output."""
    began_s = time.monotonic()
    history = directory / "history.jsonl"
    target = show.target(directory, random.Random(arguments.seed))
    print(f"\n== {name}: {show.text}", flush=True)
    target.start()
    try:
        with Doorbell(directory, target.round) as bell:
            command = [sys.executable, "-m", "benchmarks.verify", "--bootstrap", target.bootstrap, "--quiet"]
            command += ["--duration", f"{arguments.duration}", "--rate", f"{arguments.rate}"]
            command += ["--seed", f"{arguments.seed}", "--history", str(history)]
            command += ["--chaos", bell.command, "--chaos-every", f"{show.every_s}"]
            code = subprocess.run(command, timeout=arguments.duration + 600).returncode
    finally:
        target.end()
    acked = figures(load(history)).total.acked
    return Line(name, code, show.exit_code, acked, bell.rings, time.monotonic() - began_s)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long.verify_shows", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SHOWS)}; default: all")
    parser.add_argument("--duration", type=float, default=60)
    parser.add_argument("--rate", type=float, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="keep data, logs and histories here")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in SHOWS]:
        parser.error(f"unknown: {', '.join(unknown)}")
    base = arguments.directory or Path(tempfile.mkdtemp(prefix="weir-verify-"))
    lines = []
    for name in arguments.names or SHOWS:
        (base / name).mkdir(parents=True)
        lines.append(run(name, SHOWS[name], base / name, arguments))
    print(f"\n{'show':24}{'exit':>6}{'wanted':>8}{'acked':>10}{'rounds':>8}{'seconds':>9}")
    for each in lines:
        print(f"{each.name:24}{each.exit_code:>6}{each.wanted:>8}{each.acked:>10,}{each.rounds:>8}{each.seconds:>9.1f}")
    wrong = [each.name for each in lines if each.exit_code != each.wanted]
    if wrong:
        print(f"not as expected: {', '.join(wrong)}; kept for inspection: {base}")
    elif not arguments.directory:
        shutil.rmtree(base, ignore_errors=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m tests.long.librdkafka`: the smoke list of librdkafka's own test suite, one test number per process.

The library and its tests come from the npm package that ships them whole; they are built in the cache directory on
first use (about two minutes; needs npm, gcc, g++, make, zlib1g-dev, libssl-dev). `--tests` runs other numbers,
`--full` also the sub-tests that the suite's quick mode leaves out.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.long.brokers import add_arguments
from tests.services import KafkaProcess, WeirProcess
from tests.services.locate import cache_dir, find_program

PACKAGE = "@confluentinc/kafka-javascript@1.10.1"
SMOKE = ("0000", "0001", "0004", "0012", "0017", "0022", "0030", "0039", "0049", "0087")
# What the suite expects of a broker; Kafka refuses more replicas than brokers by itself.
SETTINGS = {
    "auto.create.topics.enable": "true",
    "num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
}
WEIR_SETTINGS = {**SETTINGS, "group.min.session.timeout.ms": "1000", "strict.replication.factor": "true"}
_COLOURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\(B")
_BANNER = re.compile(r"=+ Test (\d{4}_\w+) (PASSED|FAILED|SKIPPED) =+")


def build() -> Path:
    """The built tree of librdkafka (`src`, `tests/test-runner`)."""
    home = cache_dir() / "librdkafka"
    tree = home / "package" / "deps" / "librdkafka"
    if (tree / "tests" / "test-runner").is_file():
        return tree
    npm = find_program("npm", install="apt-get install npm")
    for tool in ("gcc", "g++", "make"):
        find_program(tool, install="apt-get install build-essential zlib1g-dev libssl-dev")
    home.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(home / "package", ignore_errors=True)
    subprocess.run([npm, "pack", PACKAGE], cwd=home, check=True, stdout=subprocess.DEVNULL)
    with tarfile.open(next(home.glob("*.tgz"))) as archive:
        archive.extractall(home, filter="data")
    # The log lies outside the tree: configure takes any file called configure.* there for one of its modules.
    with (home / "build.log").open("wb") as log:
        for command in (
            ["bash", "./configure"],
            ["make", "-j2", "libs"],
            ["make", "-C", "tests", "-j2", "build"],
        ):
            subprocess.run(command, cwd=tree, check=True, stdout=log, stderr=subprocess.STDOUT)
    return tree


@dataclass
class Outcome:
    """What one test number did."""

    number: str
    verdict: str
    seconds: float
    text: str


def run_one(tree: Path, number: str, bootstrap: str, conf: Path, arguments: argparse.Namespace) -> Outcome:
    """One test number in a process of its own: after a failure the runner aborts."""
    command = ["./test-runner", "-p1", *([] if arguments.full else ["-Q"])]
    env = {
        **os.environ,
        "RDKAFKA_TEST_CONF": str(conf),
        "LD_LIBRARY_PATH": f"{tree}/src:{tree}/src-cpp",
        "TEST_KAFKA_VERSION": arguments.kafka_version,
        "BROKERS": bootstrap,
        "TESTS": number,
    }
    started = time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=tree / "tests",
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=arguments.timeout,
        )
    except subprocess.TimeoutExpired as error:
        text = _COLOURS.sub("", (error.stdout or b"").decode(errors="replace"))
        return Outcome(number, "TIMEOUT", time.monotonic() - started, text)
    text = _COLOURS.sub("", done.stdout.decode(errors="replace"))
    verdicts = {verdict for _, verdict in _BANNER.findall(text)}
    if done.returncode != 0 or "FAILED" in verdicts or not verdicts:
        # A number that the list has and this version of the suite has not is told apart from a failure.
        verdict = "FAIL" if done.returncode != 0 or f" {number}_" in text else "ABSENT"
    else:
        verdict = "PASS" if "PASSED" in verdicts else "SKIP"
    return Outcome(number, verdict, time.monotonic() - started, text)


def run(tree: Path, bootstrap: str, directory: Path, arguments: argparse.Namespace) -> int:
    """All numbers; how many did not pass."""
    conf = directory / "test.conf"
    conf.write_text(
        f"bootstrap.servers={bootstrap}\nbroker.address.family=v4\ntest.topic.random=true\ntest.timeout.multiplier=2\n"
    )
    bad = 0
    for number in arguments.tests.split(","):
        outcome = run_one(tree, number, bootstrap, conf, arguments)
        print(f"{number} {outcome.verdict:8} {outcome.seconds:6.1f} s", flush=True)
        if outcome.verdict not in ("PASS", "SKIP", "ABSENT"):
            bad += 1
            log = directory / f"{number}.log"
            log.write_text(outcome.text)
            print(f"     see {log}")
    return bad


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long.librdkafka", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--bootstrap", help="use this broker instead of starting one")
    parser.add_argument("--tests", default=",".join(SMOKE), help="test numbers, with commas")
    parser.add_argument("--full", action="store_true", help="all sub-tests, not only the quick ones")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one number")
    parser.add_argument("--kafka-version", default="4.3.0", help="the version the suite is told the broker has")
    arguments = parser.parse_args()
    tree = build()
    directory = (arguments.directory or cache_dir() / "librdkafka" / "runs" / time.strftime("%H%M%S")).absolute()
    directory.mkdir(parents=True, exist_ok=True)
    if arguments.bootstrap:
        bad = run(tree, arguments.bootstrap, directory, arguments)
    else:
        broker: KafkaProcess | WeirProcess
        if arguments.broker == "kafka":
            broker = KafkaProcess(directory / "kafka", settings=SETTINGS)
        else:
            broker = WeirProcess(directory / "weir", settings=WEIR_SETTINGS)
        with broker:
            bad = run(tree, broker.bootstrap, directory, arguments)
    print(f"{bad} not passed")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

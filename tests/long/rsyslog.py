"""`python -m tests.long.rsyslog --lines 2000000`: Debian's rsyslog ships log lines while the broker is killed.

rsyslogd, unchanged, runs as a plain process: imfile follows a file that is being written, omkafka sends each line,
keyed so that one source's lines stay in one partition. The broker is killed and started again in the middle. A
consumer group reads everything. Every line must be there, and in order within its source when repeats are left out.

Repeats are counted apart: omkafka is an at-least-once sender. librdkafka repeats a batch whose answer was lost with
the connection, and omkafka re-sends messages whose delivery failed; with `enable.idempotence` (--idempotent) only
the second kind can occur.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path

from confluent_kafka import Consumer

from tests.long.brokers import add_arguments, create_topic, running, watermarks
from tests.long.groups import Group
from tests.services.locate import find_program
from tests.services.process import Child

TOPIC = "syslog"
SOURCES = 4
# No queue of the action's own: its worker puts back what was not sent, and a full one then waits for itself.
_CONFIG = """global(workDirectory="{work}" processInternalMessages="off")
main_queue(queue.type="FixedArray" queue.size="200000" queue.dequeueBatchSize="2000" queue.fullDelayMark="190000"
  queue.timeoutEnqueue="60000" queue.timeoutShutdown="60000")
module(load="imfile")
module(load="omkafka")
template(name="line" type="string" string="%msg%")
template(name="source" type="string" string="%syslogtag%")
{inputs}
action(type="omkafka" topic="{topic}" broker=["{bootstrap}"] template="line" dynaKey="on" key="source"
  confParam=[{parameters}]
  resubmitOnFailure="on" keepFailedMessages="on" failedMsgFile="{work}/failed.txt" closeTimeout="60000"
  action.resumeRetryCount="-1" action.resumeInterval="1")
"""
_INPUT = 'input(type="imfile" file="{work}/source-{n}.log" tag="s{n}" severity="info" facility="local7")\n'


def configuration(work: Path, bootstrap: str, *, idempotent: bool) -> Path:
    """rsyslogd's configuration file."""
    parameters = ["compression.codec=lz4", "queue.buffering.max.ms=20", "message.timeout.ms=0"]
    parameters += ["reconnect.backoff.max.ms=500", f"enable.idempotence={str(idempotent).lower()}"]
    if not idempotent:
        # Without idempotence only one request in flight keeps the order when one is repeated.
        parameters.append("max.in.flight=1")
    text = _CONFIG.format(
        work=work,
        topic=TOPIC,
        bootstrap=bootstrap,
        inputs="".join(_INPUT.format(work=work, n=n) for n in range(SOURCES)),
        parameters=",".join(f'"{p}"' for p in parameters),
    )
    path = work / "rsyslog.conf"
    path.write_text(text)
    return path


def generate(work: Path, lines: int) -> None:
    """The sources' files: every line says its source and number, and looks like a web server's log."""
    for n in range(SOURCES):
        with (work / f"source-{n}.log").open("w", buffering=1 << 20) as out:
            for i in range(lines // SOURCES):
                out.write(f'source={n} seq={i} 10.0.{n}.{i % 251} "GET /item/{i % 9973} HTTP/1.1" 200 {i % 4096}\n')


def stored(bootstrap: str, partitions: int) -> int:
    """Records in the topic."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused"})
    try:
        return sum(end for _, end in watermarks(consumer, TOPIC, partitions))
    finally:
        consumer.close()


def await_stored(bootstrap: str, partitions: int, count: int, daemon: Child, timeout_s: float) -> None:
    """Wait until that many records are in the topic."""
    deadline = time.monotonic() + timeout_s
    while (have := stored(bootstrap, partitions)) < count:
        if not daemon.running:
            raise SystemExit(f"rsyslogd ended:\n{daemon.log_tail()}")
        if time.monotonic() > deadline:
            raise SystemExit(f"{have} of {count} lines after {timeout_s:.0f} s:\n{daemon.log_tail()}")
        time.sleep(0.3)


def check(group: Group, lines: int) -> int:
    """Print what was found; the number of lines missing or out of order."""
    offsets: dict[int, int] = {}
    sources: dict[int, set[int]] = defaultdict(set)
    highest: dict[int, int] = defaultdict(lambda: -1)
    total = repeats = reordered = jumps = 0
    for partition, offset, value in sorted(group.records(), key=lambda r: (r[0], r[1])):
        if offsets.get(partition) == offset:
            continue  # read twice: a member had not committed it when the group rebalanced
        offsets[partition] = offset
        total += 1
        words = value.split()
        source, sequence = int(words[0].split(b"=")[1]), int(words[1].split(b"=")[1])
        if sequence in sources[source]:
            repeats += 1
        else:
            sources[source].add(sequence)
            reordered += sequence < highest[source]
            jumps += sequence > highest[source] + 1
            highest[source] = max(highest[source], sequence)
    missing = lines // SOURCES * SOURCES - sum(len(s) for s in sources.values())
    print(
        f"{total} records for {lines} lines: {missing} missing, {reordered} out of order, {jumps} gaps in order, "
        f"{repeats} repeated by the sender"
    )
    return missing + reordered


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.long.rsyslog", description=__doc__)
    add_arguments(parser)
    parser.add_argument("--lines", type=int, default=2_000_000)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--kills", type=int, default=1)
    parser.add_argument("--idempotent", action="store_true", help="omkafka with enable.idempotence")
    arguments = parser.parse_args()
    program = find_program("rsyslogd", install="apt-get install rsyslog rsyslog-kafka")
    with running(arguments) as (broker, _, directory):
        work = directory / "rsyslog"
        work.mkdir(exist_ok=True)
        create_topic(broker.bootstrap, TOPIC, arguments.partitions)
        generate(work, arguments.lines)
        conf = configuration(work, broker.bootstrap, idempotent=arguments.idempotent)
        command = [str(program), "-n", "-f", str(conf), "-i", str(work / "rsyslogd.pid")]
        daemon = Child(command, work / "rsyslogd.log")
        started = time.monotonic()
        daemon.start()
        group = Group(broker.bootstrap, TOPIC, arguments.partitions, directory)
        try:
            for kill in range(arguments.kills):
                part = arguments.lines * (kill + 1) // (arguments.kills + 1)
                await_stored(broker.bootstrap, arguments.partitions, part, daemon, 600)
                broker.kill9()
                time.sleep(1)
                broker.start()
                print(f"killed and started again after {part} lines", flush=True)
            await_stored(broker.bootstrap, arguments.partitions, arguments.lines, daemon, 900)
            print(f"all lines stored after {time.monotonic() - started:.0f} s", flush=True)
            group.wait(900)
        finally:
            group.stop()
            daemon.stop(90)
        if check(group, arguments.lines):
            raise SystemExit(1)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""kcat, Debian's command-line client on librdkafka 2.0.2; it can set neither timestamps nor headers per record."""

import json
import subprocess

from contract import DEADLINE_S, main


def run(arguments, *options, data=b""):
    command = ["kcat", "-q", "-b", arguments.bootstrap, *options]
    done = subprocess.run(command, input=data, capture_output=True, timeout=DEADLINE_S)
    if done.returncode != 0:
        raise SystemExit(done.stderr.decode())
    return done.stdout.decode()


def produce(arguments):
    lines = b"".join(key + b"\t" + value + b"\n" for key, value, _, _ in arguments.records())
    run(
        arguments,
        *("-P", "-t", arguments.topic, "-K", "\t", "-z", arguments.codec, "-H", f"tag={arguments.tag}"),
        *("-X", "enable.idempotence=true", "-X", "linger.ms=20"),
        data=lines,
    )
    return {"produced": arguments.count}


def describe(line):
    record = json.loads(line)
    names = record.get("headers", [])
    headers = dict(zip(names[::2], names[1::2], strict=False))
    return {
        "p": record["partition"],
        "o": record["offset"],
        "k": record["key"],
        "v": record["payload"],
        "h": headers,
        "t": record["ts"],
    }


def consume(arguments):
    out = run(arguments, "-C", "-t", arguments.topic, "-o", "beginning", "-e", "-J", "-u")
    return {"records": [describe(line) for line in out.splitlines()]}


def group(arguments):
    options = (
        "-X",
        "auto.offset.reset=earliest",
        "-X",
        "session.timeout.ms=10000",
        "-c",
        str(arguments.count),
    )
    out = run(arguments, *options, "-J", "-u", "-G", arguments.group, arguments.topic)
    return {"records": [describe(line) for line in out.splitlines()]}


main({"produce": produce, "consume": consume, "group": group})

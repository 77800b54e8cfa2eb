"""`python -m tests.services install kafka|minio|ceph` installs a service; `... check [NAME...]` says what is there.

`... with minio -- COMMAND` runs a command while services are up (`kafka`, `minio`, `ceph`, `weir`, one or several). The
command finds an S3 service in WEIR_TEST_S3_ENDPOINT, WEIR_TEST_S3_ACCESS_KEY_ID and WEIR_TEST_S3_SECRET_ACCESS_KEY, and
`{kafka}` and `{weir}` in its arguments become their addresses. Its exit status is passed on.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.services import ceph, kafka, minio
from tests.services.locate import NotInstalledError, find_program
from tests.services.s3 import S3Service
from tests.services.weir import WeirProcess

_INSTALL: dict[str, Callable[[], object]] = {
    "kafka": kafka.install,
    "minio": minio.install,
    "ceph": ceph.install,
}
_CHECK: dict[str, Callable[[], object]] = {
    "kafka": kafka.jars,
    "minio": minio.binary,
    "ceph": lambda: find_program("radosgw", install="python -m tests.services install ceph"),
    "java": kafka.java,
    "go": lambda: find_program("go"),
    "node": lambda: find_program("node"),
    "kcat": lambda: find_program("kcat", install="apt-get install kcat"),
    "rsyslog": lambda: find_program("rsyslogd", install="apt-get install rsyslog rsyslog-kafka"),
}


# What tests/parity wants to be equal on both brokers; KafkaProcess sets the same.
_WEIR_SETTINGS = {
    "num.partitions": "4",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "message.max.bytes": "16777216",
}
_START: dict[str, Callable[[Path], kafka.KafkaProcess | WeirProcess | S3Service]] = {
    "kafka": kafka.KafkaProcess,
    "minio": minio.Minio,
    "ceph": ceph.CephRgw,
    "weir": lambda directory: WeirProcess(directory, settings=_WEIR_SETTINGS),
}


def check(names: Sequence[str]) -> int:
    """Print what is found; 1 if anything is missing."""
    missing = 0
    for name in names or _CHECK:
        try:
            print(f"{name:8} {_CHECK[name]()}")
        except NotInstalledError as error:
            missing += 1
            print(f"{name:8} missing: {error}")
    return 1 if missing else 0


def run_with(names: Sequence[str], command: Sequence[str]) -> int:
    """The exit status of the command, run while the services are up; their data and logs go with them."""
    environment, addresses = dict(os.environ), {}
    with tempfile.TemporaryDirectory(prefix="weir-services-") as directory, contextlib.ExitStack() as stack:
        for name in names:
            service = stack.enter_context(_START[name](Path(directory) / name))
            if isinstance(service, S3Service):
                environment["WEIR_TEST_S3_ENDPOINT"] = service.endpoint
                environment["WEIR_TEST_S3_ACCESS_KEY_ID"] = service.access_key
                environment["WEIR_TEST_S3_SECRET_ACCESS_KEY"] = service.secret_key
            else:
                addresses["{" + name + "}"] = service.bootstrap
        return subprocess.run([addresses.get(part, part) for part in command], env=environment).returncode


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.services", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="action", required=True)
    install = commands.add_parser("install", help="install services into the cache directory (Ceph: with apt-get)")
    install.add_argument("services", nargs="+", choices=sorted(_INSTALL))
    checked = commands.add_parser("check", help="list what is found and what is not")
    checked.add_argument("services", nargs="*", metavar="NAME", help=f"only these of {', '.join(_CHECK)}")
    running = commands.add_parser("with", help="run a command while services are up")
    running.add_argument("services", nargs="+", choices=sorted(_START))
    own, command = sys.argv[1:], list[str]()
    if "--" in own:
        own, command = own[: own.index("--")], own[own.index("--") + 1 :]
    arguments = parser.parse_args(own)
    if arguments.action == "install":
        for name in arguments.services:
            print(f"{name}: {_INSTALL[name]() or 'installed'}")
        return 0
    if arguments.action == "check":
        if unknown := [name for name in arguments.services if name not in _CHECK]:
            parser.error(f"unknown: {', '.join(unknown)}")
        return check(arguments.services)
    if not command:
        parser.error("expected: with NAME... -- COMMAND")
    return run_with(arguments.services, command)


if __name__ == "__main__":
    sys.exit(main())

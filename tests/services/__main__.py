"""`python -m tests.services install kafka|minio|ceph` installs a service; `... check` says what is there."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from tests.services import ceph, kafka, minio
from tests.services.locate import NotInstalledError, find_program

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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.services", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    install = commands.add_parser("install", help="install services into the cache directory (Ceph: with apt-get)")
    install.add_argument("services", nargs="+", choices=sorted(_INSTALL))
    commands.add_parser("check", help="list what is found and what is not")
    arguments = parser.parse_args()
    if arguments.command == "install":
        for name in arguments.services:
            print(f"{name}: {_INSTALL[name]() or 'installed'}")
        return 0
    missing = 0
    for name, find in _CHECK.items():
        try:
            print(f"{name:8} {find()}")
        except NotInstalledError as error:
            missing += 1
            print(f"{name:8} missing: {error}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())

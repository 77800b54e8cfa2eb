"""The contract all client programs keep: their arguments, the records they write and the JSON they print.

`PROGRAM MODE BOOTSTRAP TOPIC COUNT CODEC TAG GROUP`, MODE one of
- `produce`: write records 0..COUNT-1 with acks=all, idempotent where the client can; print
  `{"produced": COUNT}` once all are acknowledged,
- `consume`: read COUNT records from the start of every partition, without a group; print `{"records": [...]}`,
- `group`: join GROUP (earliest where nothing is committed), read COUNT records, commit exactly those,
  leave; print them.

Record i: key `TAG-i`, value `TAG-i-` and 100 times `x`, headers `tag=TAG` and `seq=i`, timestamp 1700000000000 + i.
A record is printed as `{"p": partition, "o": offset, "k": key, "v": value, "h": {header: text}, "t": timestamp}`.
The programs in other languages repeat these few lines; this module is for the Python ones (any Python from 3.8, no
imports).
"""

import json
import sys

BASE_TIMESTAMP_MS = 1700000000000
DEADLINE_S = 45


class Arguments:
    """The parsed command line."""

    def __init__(self, argv):
        self.mode, self.bootstrap, self.topic, count, self.codec, self.tag, self.group = argv[1:8]
        self.count = int(count)

    def records(self):
        """(key, value, headers, timestamp) of each record to write."""
        for i in range(self.count):
            headers = [("tag", self.tag.encode()), ("seq", str(i).encode())]
            yield (
                f"{self.tag}-{i}".encode(),
                f"{self.tag}-{i}-{'x' * 100}".encode(),
                headers,
                BASE_TIMESTAMP_MS + i,
            )


def describe(partition, offset, key, value, headers, timestamp):
    """One record as the matrix wants it."""
    return {
        "p": partition,
        "o": offset,
        "k": None if key is None else key.decode(),
        "v": None if value is None else value.decode(),
        "h": {name: (data or b"").decode() for name, data in headers or []},
        "t": timestamp,
    }


def main(modes):
    """Run the mode named on the command line and print what it returns."""
    arguments = Arguments(sys.argv)
    print(json.dumps(modes[arguments.mode](arguments)))

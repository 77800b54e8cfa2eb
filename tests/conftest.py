"""What holds for all tests: properties are judged by what they find, not by how fast the machine was."""

from __future__ import annotations

import socket
from typing import Any

from hypothesis import HealthCheck, settings
from kafka.net.inet import KafkaNetSocket

settings.register_profile("weir", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("weir")


class _ClosedWhenCollected(socket.socket):
    """A socket of kafka-python 3.0, which leaves some open when a client is closed while it connects.

    Whichever test runs when the collector finds one would fail with a ResourceWarning. For all other sockets, the
    project's own among them, the warning stays an error.
    """

    def __del__(self) -> None:
        self.close()


def _closed_when_collected(self: KafkaNetSocket, *family_type_protocol: Any) -> socket.socket:
    return _ClosedWhenCollected(*family_type_protocol)


KafkaNetSocket.socket = _closed_when_collected

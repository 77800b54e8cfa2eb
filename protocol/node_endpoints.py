"""Where leaders are: the endpoints that Produce and Fetch responses carry beside NOT_LEADER errors (KIP-951)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, TypeAlias

from protocol.varint import uvarint

NodeEndpoint: TypeAlias = tuple[int, str, int, str | None]
"""(node id, host, port, rack); sent from Produce version 10 and Fetch version 16."""

_INT32: Final = struct.Struct(">i").pack


def compact_string(text: str | None) -> bytes:
    """A string as flexible versions write it, null included."""
    if text is None:
        return b"\x00"
    encoded = text.encode()
    return uvarint(len(encoded) + 1) + encoded


def node_endpoints_tag(node_endpoints: Sequence[NodeEndpoint]) -> bytes:
    """The tagged section of a Produce or Fetch response: one field, number 0, the leaders' endpoints (KIP-951)."""
    data = uvarint(len(node_endpoints) + 1)
    for node_id, host, port, rack in node_endpoints:
        data += _INT32(node_id) + compact_string(host) + _INT32(port) + compact_string(rack) + b"\x00"
    return b"\x01\x00" + uvarint(len(data)) + data

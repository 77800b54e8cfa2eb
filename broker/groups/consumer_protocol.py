"""Reads what the coordinator must know of the embedded consumer protocol: the topics of a subscription.

Every version of ConsumerProtocolSubscription begins as version 0 does (version i16, topics [string], user data), so
only that prefix is read; assignments are passed on as bytes. Source: ConsumerProtocolSubscription.json.
"""

from __future__ import annotations

from broker.groups.primitives import Reader
from s3stream.errors import Corrupt

PROTOCOL_TYPE = "consumer"


def subscribed_topics(metadata: bytes) -> frozenset[str]:
    """Topics of one member's subscription; Corrupt when the bytes are no subscription."""
    reader = Reader(metadata)
    version = reader.i16()
    if version < 0:
        raise Corrupt(f"consumer protocol version {version}")
    return frozenset(reader.string() for _ in range(reader.array_length()))

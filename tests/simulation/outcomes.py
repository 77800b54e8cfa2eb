"""What a Kafka error code tells a client about a write: surely refused, unknown, or never to be seen in a run."""

from __future__ import annotations

from benchmarks.verify.history import Outcome

NONE = 0
OFFSET_OUT_OF_RANGE = 1
TOPIC_ALREADY_EXISTS = 36
INVALID_PARTITIONS = 37
OUT_OF_ORDER_SEQUENCE_NUMBER = 45
DUPLICATE_SEQUENCE_NUMBER = 46
UNKNOWN_TOPIC_OR_PARTITION = 3
UNKNOWN_TOPIC_ID = 100

# The request may have been applied although it was answered with an error.
_UNKNOWN = {
    7: "REQUEST_TIMED_OUT",
    13: "NETWORK_EXCEPTION",
    20: "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
    56: "KAFKA_STORAGE_ERROR",
}

# Surely not applied, and worth another try.
_REFUSED = {
    3: "UNKNOWN_TOPIC_OR_PARTITION",
    5: "LEADER_NOT_AVAILABLE",
    6: "NOT_LEADER_OR_FOLLOWER",
    14: "COORDINATOR_LOAD_IN_PROGRESS",
    15: "COORDINATOR_NOT_AVAILABLE",
    19: "NOT_ENOUGH_REPLICAS",
    45: "OUT_OF_ORDER_SEQUENCE_NUMBER",
    89: "THROTTLING_QUOTA_EXCEEDED",
}


def of_write(code: int) -> Outcome | None:
    """The outcome that `code` stands for, or None for a code that a correct broker gives none of our requests."""
    if code == NONE:
        return Outcome.OK
    if code in _UNKNOWN:
        return Outcome.UNKNOWN
    return Outcome.FAIL if code in _REFUSED else None


def of_read(code: int) -> Outcome | None:
    """Reads have no effect: an error is a failure; OFFSET_OUT_OF_RANGE is an answer of its own."""
    outcome = of_write(code)
    return Outcome.FAIL if outcome is Outcome.UNKNOWN or code == OFFSET_OUT_OF_RANGE else outcome

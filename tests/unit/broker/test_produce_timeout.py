"""A Produce request whose own time-out passes before its batches are durable."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from broker.counters import BrokerCounters
from broker.handlers.produce import PendingProduce
from protocol.errors import ErrorCode
from protocol.messages import decode_response
from protocol.produce import encode_accepted
from tests.unit.broker.test_connection import connect


@pytest.mark.parametrize("version", [3, 5, 8, 9, 13])
def test_what_was_taken_is_timed_out_and_what_was_refused_stays_refused(version: int) -> None:
    connection, _, transport, loop = connect()
    services = SimpleNamespace(counters=BrokerCounters())
    pending = PendingProduce(services, connection.open_reply(), (version, 77))  # type: ignore[arg-type]
    refused = (4, ErrorCode.MESSAGE_TOO_LARGE, -1, -1, -1, (), "too large", None)
    pending.results.append(("t", bytes(16), [encode_accepted(version, 3, 1000, -1, 0), refused]))
    pending.expire()
    loop.turn()
    answered = bytes(transport.sent)
    pending.durable(None)  # too late
    loop.turn()
    assert bytes(transport.sent) == answered
    correlation_id, response = decode_response(0, version, answered[4:])
    assert correlation_id == 77
    rows = response.responses[0].partition_responses
    assert [(row.index, row.error_code, row.base_offset) for row in rows] == [
        (3, ErrorCode.REQUEST_TIMED_OUT, -1),
        (4, ErrorCode.MESSAGE_TOO_LARGE, -1),
    ]

"""Bytes that are no request: the connection is closed, the broker goes on, nobody else notices."""

from __future__ import annotations

import socket
import struct

import pytest

from broker.embedded import BrokerThread
from protocol.messages import decode_response, encode_request


def connect(bootstrap: str) -> socket.socket:
    host, port = bootstrap.split(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def closed_by_peer(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def framed(payload: bytes) -> bytes:
    return struct.pack(">i", len(payload)) + payload


BAD = {
    "negative size": struct.pack(">i", -1) + b"12345678",
    "size above the limit": struct.pack(">i", 2**31 - 1) + b"12345678",
    "nothing but a size of zero": framed(b""),
    "nothing but a negative size": struct.pack(">i", -1),
    "size too small for a header": framed(b"1234"),
    "unknown API": framed(struct.pack(">hhih", 999, 0, 1, -1)),
    "unknown version of Metadata": framed(struct.pack(">hhih", 3, 99, 1, -1)),
    "produce version 2": framed(struct.pack(">hhih", 0, 2, 1, -1)),
    "garbage body": framed(struct.pack(">hhih", 3, 9, 1, -1) + b"\xff" * 40),
    "garbage produce": framed(struct.pack(">hhih", 0, 9, 1, -1) + b"\0" + b"\xff" * 400),
    "garbage fetch": framed(struct.pack(">hhih", 1, 12, 1, -1) + b"\0" + b"\xff" * 400),
    "array of two billion": framed(struct.pack(">hhih", 3, 4, 1, -1) + struct.pack(">i", 2**31 - 1)),
    "client id longer than the frame": framed(struct.pack(">hhih", 3, 4, 1, 3000)),
}


@pytest.mark.parametrize("name", BAD)
def test_it_is_closed_and_others_go_on(weir_session_broker: BrokerThread, name: str) -> None:
    with connect(weir_session_broker.bootstrap) as good, connect(weir_session_broker.bootstrap) as bad:
        bad.sendall(BAD[name])
        assert closed_by_peer(bad)
        good.sendall(encode_request(18, 3, 5, "test", {"client_software_name": "a", "client_software_version": "1"}))
        assert good.recv(4) != b""


def test_an_unknown_version_of_api_versions_is_answered_in_version_0(weir_session_broker: BrokerThread) -> None:
    with connect(weir_session_broker.bootstrap) as connection:
        connection.sendall(framed(struct.pack(">hhih", 18, 77, 5, -1)))
        (size,) = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))
        correlation_id, answer = decode_response(18, 0, connection.recv(size, socket.MSG_WAITALL))
        assert correlation_id == 5
        assert int(answer.error_code) == 35
        assert [(int(key.api_key), key.min_version, key.max_version) for key in answer.api_keys] == [(18, 0, 4)]


def test_requests_in_one_packet_are_answered_in_order(weir_session_broker: BrokerThread) -> None:
    body = {"client_software_name": "a", "client_software_version": "1"}
    with connect(weir_session_broker.bootstrap) as connection:
        connection.sendall(b"".join(encode_request(18, 3, number, "test", body) for number in range(20)))
        for number in range(20):
            (size,) = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))
            assert struct.unpack(">i", connection.recv(size, socket.MSG_WAITALL)[:4]) == (number,)

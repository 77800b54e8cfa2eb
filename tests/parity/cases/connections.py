"""ApiVersions, InitProducerId and what is sent before, between and instead of proper requests."""

from __future__ import annotations

import struct

from tests.parity import apis
from tests.parity.cases import case, ends
from tests.parity.target import Target
from tests.parity.wire import Connection, Plain, encode_body, header, is_flexible

VERSIONS = apis.API_VERSIONS
PRODUCERS = apis.INIT_PRODUCER_ID


def frame(data: bytes, size: int | None = None) -> bytes:
    return struct.pack(">i", len(data) if size is None else size) + data


def answered(connection: Connection, timeout_s: float = 2) -> str:
    """What came back: the bytes in hex, "closed" or "silence"."""
    found = connection.recv_frame(timeout_s)
    return "silence" if found is None else found.hex() or "closed"


def alive(connection: Connection) -> Plain:
    """Whether the connection still answers."""
    connection.pending.clear()
    return connection.call(apis.HEARTBEAT, 0, group_id="", generation_id=0, member_id="", timeout_s=3)


# -------------------- ApiVersions


@case(VERSIONS)
def versions(b: Target, v: int) -> Plain:
    """Ranges of what is compared here; of the rest only that it is advertised."""
    answer = b.call(VERSIONS, v, client_software_name="parity", client_software_version="1.0")
    rest = {str(k["api_key"]): "advertised" for k in answer["api_keys"] if k["api_key"] not in apis.SERVED}
    answer["api_keys"] = [k for k in answer["api_keys"] if k["api_key"] in apis.SERVED]
    answer.pop("finalized_features_epoch", None)
    return {"answer": answer, "other_keys": rest}


@case(VERSIONS, (5, 99, 32767))
def versions_unknown(b: Target, v: int) -> Plain:
    """Answered in the layout of version 0 with error 35 and at least the range of ApiVersions itself."""
    connection = b.connect()
    head = header(VERSIONS, v, 7, "parity", flexible=True)
    connection.send_raw(frame(head + b"\x07parity\x041.0\0"))
    found = connection.recv_frame(3)
    if not found:
        return {"frame": "none"}
    correlation, error, count = struct.unpack_from(">ihi", found)
    keys = {k: (low, high) for k, low, high in struct.iter_unpack(">hhh", found[10 : 10 + 6 * count])}
    return {
        "correlation": correlation,
        "error": error,
        "own_range": list(keys.get(18, ())),
        "whole": len(found) == 10 + 6 * count,
        "then": alive(connection),
    }


@case(VERSIONS, (3, 4))
def versions_bad_software(b: Target, v: int) -> Plain:
    pairs = (("", "1.0"), ("parity", ""), ("bad name!", "1.0"), ("-parity", "1.0"), ("parity", "1.0~beta"))
    answers = [b.call(VERSIONS, v, client_software_name=n, client_software_version=x) for n, x in pairs]
    return [{"error": a.get("error_code", a), "keys": bool(a.get("api_keys"))} for a in answers]


@case(VERSIONS, ends(VERSIONS))
def versions_twice(b: Target, v: int) -> Plain:
    connection = b.connect()
    answers = [
        connection.call(VERSIONS, v, client_software_name="parity", client_software_version="1") for _ in range(2)
    ]
    return [a["error_code"] for a in answers]


# -------------------- InitProducerId


def init(b: Target, v: int, transactional_id: str | None = None, timeout: int = 60000, **values: int) -> Plain:
    return b.call(PRODUCERS, v, transactional_id=transactional_id, transaction_timeout=timeout, **values)


@case(PRODUCERS)
def producer_id(b: Target, v: int) -> Plain:
    one, two = init(b, v), init(b, v)
    return {"one": one, "another": one["producer_id"] != two["producer_id"]}


@case(PRODUCERS)
def producer_id_timeouts(b: Target, v: int) -> Plain:
    """Without a transactional id the timeout does not matter."""
    return [init(b, v, timeout=t) for t in (0, -1, 2**31 - 1)]


@case(PRODUCERS)
def producer_id_empty_transactional_id(b: Target, v: int) -> Plain:
    return init(b, v, "")


@case(PRODUCERS, (3, 4, 5))
def producer_id_given(b: Target, v: int) -> Plain:
    """An id and epoch to be raised belong to transactional producers."""
    return [
        init(b, v, producer_id=5, producer_epoch=0),
        init(b, v, producer_id=5, producer_epoch=-1),
        init(b, v, producer_id=-1, producer_epoch=3),
    ]


# -------------------- frames


@case(VERSIONS, (0,))
def unknown_api_key(b: Target, v: int) -> Plain:
    connection = b.connect()
    connection.send_raw(frame(header(999, v, 1, "parity", flexible=False)))
    return answered(connection)


@case(VERSIONS, (0,))
def negative_api_key(b: Target, v: int) -> Plain:
    connection = b.connect()
    connection.send_raw(frame(header(-1, v, 1, "parity", flexible=False)))
    return answered(connection)


@case(VERSIONS, (0,))
def unserved_versions(b: Target, v: int) -> Plain:
    """One above the highest and one below the lowest of each API: the connection is closed."""
    found = {}
    for key, (low, high) in apis.SERVED.items():
        if key == VERSIONS:
            continue
        for version in (low - 1, high + 1):
            connection = b.connect()
            connection.send_raw(frame(header(key, version, 1, "parity", flexible=version > low) + b"\0" * 40))
            found[f"{key} version {version}"] = answered(connection, 3)
            connection.close()
    return found


@case(VERSIONS, (0,))
def empty_frame(b: Target, v: int) -> Plain:
    connection = b.connect()
    connection.send_raw(frame(b""))
    return answered(connection)


@case(VERSIONS, (0,))
def negative_frame(b: Target, v: int) -> Plain:
    connection = b.connect()
    connection.send_raw(frame(b"", -1))
    return answered(connection)


@case(VERSIONS, (0,))
def huge_frame(b: Target, v: int) -> Plain:
    """2 GiB announced: refused at once, nothing is waited for."""
    connection = b.connect()
    connection.send_raw(frame(b"abcdef", 2**31 - 1))
    return answered(connection)


@case(VERSIONS, (0,))
def http_request(b: Target, v: int) -> Plain:
    connection = b.connect()
    connection.send_raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return answered(connection)


@case(VERSIONS, (0,))
def half_frame(b: Target, v: int) -> Plain:
    """The rest may come later: the broker waits, and answers when it is there."""
    connection = b.connect()
    body = encode_body(apis.HEARTBEAT, 0, {"group_id": "", "generation_id": 0, "member_id": ""})
    whole = frame(header(apis.HEARTBEAT, 0, 1, "parity", flexible=False) + body)
    connection.send_raw(whole[:9])
    first = answered(connection, 0.5)
    connection.send_raw(whole[9:])
    return {"first": first, "then": answered(connection)}


@case(VERSIONS, (0,))
def truncated_header(b: Target, v: int) -> Plain:
    connection = b.connect()
    connection.send_raw(frame(b"\0\x12\0"))
    return answered(connection)


@case(VERSIONS, (0,))
def truncated_bodies(b: Target, v: int) -> Plain:
    """Each API with a body of three bytes."""
    found = {}
    for key, (low, high) in apis.SERVED.items():
        for version in (low, high):
            if key in (apis.LIST_GROUPS, apis.API_VERSIONS, apis.DESCRIBE_CLUSTER) and version == low:
                continue  # their bodies may be that short
            connection = b.connect()
            flexible = is_flexible(key, version)
            connection.send_raw(frame(header(key, version, 1, "parity", flexible=flexible) + b"\x7f\xff\xff"))
            found[f"{key}@{version}"] = answered(connection)
            connection.close()
    return found


@case(VERSIONS, (0,))
def trailing_bytes(b: Target, v: int) -> Plain:
    body = encode_body(apis.HEARTBEAT, 0, {"group_id": "", "generation_id": 0, "member_id": ""})
    connection = b.connect()
    connection.send_raw(frame(header(apis.HEARTBEAT, 0, 1, "parity", flexible=False) + body + b"more"))
    return answered(connection)


@case(VERSIONS, (0,))
def client_ids(b: Target, v: int) -> Plain:
    """None, empty, long and not ASCII."""
    answers = []
    for client_id in (None, "", "c" * 1000, "ü"):
        connection = b.connect()
        connection.send(apis.HEARTBEAT, 0, client_id=client_id, group_id="", generation_id=0, member_id="")
        answers.append(connection.recv(3))
    return answers


@case(VERSIONS, (0,))
def client_id_not_text(b: Target, v: int) -> Plain:
    """Bytes that are no UTF-8."""
    connection = b.connect()
    body = encode_body(apis.HEARTBEAT, 0, {"group_id": "", "generation_id": 0, "member_id": ""})
    connection.send_raw(frame(struct.pack(">hhih", apis.HEARTBEAT, 0, 1, 2) + b"\xff\xfe" + body))
    return answered(connection)


@case(VERSIONS, (0,))
def huge_array(b: Target, v: int) -> Plain:
    """A Metadata request that announces two billion topics."""
    connection = b.connect()
    connection.send_raw(frame(header(apis.METADATA, 1, 1, "parity", flexible=False) + b"\x7f\xff\xff\xff"))
    return answered(connection)


@case(VERSIONS, (0,))
def negative_array(b: Target, v: int) -> Plain:
    """Length -5 where -1 is null: all topics, which differ from moment to moment."""
    connection = b.connect()
    connection.send_raw(frame(header(apis.METADATA, 1, 1, "parity", flexible=False) + b"\xff\xff\xff\xfb"))
    found = answered(connection)
    return found if found in ("closed", "silence") else "answered"


@case(VERSIONS, (0,))
def null_array(b: Target, v: int) -> Plain:
    """Null where the schema allows none: the topics of CreateTopics."""
    connection = b.connect()
    body = b"\xff\xff\xff\xff" + struct.pack(">ib", 1000, 0)
    connection.send_raw(frame(header(apis.CREATE_TOPICS, 2, 1, "parity", flexible=False) + body))
    return answered(connection)


@case(VERSIONS, (0,))
def unknown_tagged_fields(b: Target, v: int) -> Plain:
    """In header and body: to be skipped."""
    tag = b"\x01\x63\x03abc"  # one field, number 99, three bytes
    head = header(apis.FIND_COORDINATOR, 4, 1, "parity", flexible=False) + tag
    body = b"\0" + b"\x02" + b"\x01" + tag  # key type 0, one key: ""
    connection = b.connect()
    connection.send_raw(frame(head + body))
    found = connection.recv_frame(3)
    return {"answered": bool(found)}


@case(VERSIONS, (0,))
def request_after_a_bad_one(b: Target, v: int) -> Plain:
    connection = b.connect()
    connection.send_raw(frame(header(999, 0, 1, "parity", flexible=False)))
    connection.send_raw(
        frame(
            header(apis.HEARTBEAT, 0, 2, "parity", flexible=False)
            + encode_body(apis.HEARTBEAT, 0, {"group_id": "", "generation_id": 0, "member_id": ""})
        )
    )
    return [answered(connection), answered(connection)]


@case(VERSIONS, (0,))
def answers_in_request_order(b: Target, v: int) -> Plain:
    """A Fetch that waits holds back the answers to what was sent after it on the same connection."""
    topic = b.topic()
    connection = b.connect()
    parts = [{"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1000}]
    wanted = [{"topic": topic.name, "partitions": parts}]
    connection.send(
        apis.FETCH,
        4,
        replica_id=-1,
        max_wait=400,
        min_bytes=1,
        max_bytes=1000,
        isolation_level=0,
        topics=wanted,
    )
    connection.send(apis.HEARTBEAT, 0, group_id="", generation_id=0, member_id="")
    connection.send(apis.FIND_COORDINATOR, 0, key="x")
    return [sorted(connection.recv()) for _ in range(3)]


@case(VERSIONS, (0,))
def sasl_on_a_plain_listener(b: Target, v: int) -> Plain:
    connection = b.connect()
    return connection.call(17, 1, mechanism="PLAIN", timeout_s=3)

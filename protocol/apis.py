"""The table of APIs that Weir serves, and the ApiVersions response made from it.

The ranges are those of Apache Kafka 4.3's broker listener, one release and no other: clients infer features from
them (old librdkafka looks for exact low versions, kafka-python guesses a release from the maxima).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from typing import Final

from protocol.errors import ErrorCode

NEVER_FLEXIBLE: Final = 32767
"""`flexible_from` of an API that has no flexible version (OffsetDelete)."""

API_VERSIONS: Final = 18


@dataclass(frozen=True, slots=True)
class Api:
    """One API key. `min_version` to `max_version`, both inclusive, are advertised; `served_from` to `max_version`
    are answered. `flexible_from` is the first version with compact encodings and tagged fields (KIP-482)."""

    key: int
    name: str
    min_version: int
    max_version: int
    flexible_from: int
    served_from: int

    def serves(self, version: int) -> bool:
        return self.served_from <= version <= self.max_version

    def is_flexible(self, version: int) -> bool:
        return version >= self.flexible_from


def _api(key: int, name: str, low: int, high: int, flexible_from: int, served_from: int | None = None) -> Api:
    return Api(key, name, low, high, flexible_from, low if served_from is None else served_from)


SERVED: Final[dict[int, Api]] = {
    api.key: api
    for api in (
        # librdkafka before 2.11 sends uncompressed unless Produce 0 is in the range (KAFKA-18659); 0-2 are refused.
        _api(0, "Produce", 0, 13, 9, served_from=3),
        _api(1, "Fetch", 4, 18, 12),
        _api(2, "ListOffsets", 1, 11, 6),
        _api(3, "Metadata", 0, 13, 9),
        _api(8, "OffsetCommit", 2, 10, 8),
        _api(9, "OffsetFetch", 1, 10, 6),
        _api(10, "FindCoordinator", 0, 6, 3),
        _api(11, "JoinGroup", 0, 9, 6),
        _api(12, "Heartbeat", 0, 4, 4),
        _api(13, "LeaveGroup", 0, 5, 4),
        _api(14, "SyncGroup", 0, 5, 4),
        _api(15, "DescribeGroups", 0, 6, 5),
        _api(16, "ListGroups", 0, 5, 3),
        _api(API_VERSIONS, "ApiVersions", 0, 4, 3),
        _api(19, "CreateTopics", 2, 7, 5),
        _api(20, "DeleteTopics", 1, 6, 4),
        _api(21, "DeleteRecords", 0, 2, 2),
        _api(22, "InitProducerId", 0, 5, 2),
        _api(23, "OffsetForLeaderEpoch", 2, 4, 4),
        _api(32, "DescribeConfigs", 1, 4, 4),
        _api(33, "AlterConfigs", 0, 2, 2),
        _api(37, "CreatePartitions", 0, 3, 2),
        _api(42, "DeleteGroups", 0, 2, 2),
        _api(44, "IncrementalAlterConfigs", 0, 1, 1),
        _api(47, "OffsetDelete", 0, 0, NEVER_FLEXIBLE),
        _api(60, "DescribeCluster", 0, 2, 0),
    )
}


def is_served(api_key: int, version: int) -> bool:
    """True if a request of this API and version is answered (Produce 0 to 2 are advertised and are not)."""
    api = SERVED.get(api_key)
    return api is not None and api.serves(version)


def api_versions_response(version: int, correlation_id: int, error_code: int = ErrorCode.NONE) -> bytes:
    """A whole ApiVersions response frame: size, header version 0, body.

    A version that is not served is answered in the layout of version 0 with UNSUPPORTED_VERSION and nothing but key
    18's own range (KIP-511), which lets the client ask again. `error_code` is for a request that is refused for its
    content (INVALID_REQUEST for a malformed client software name): its list of keys is empty, as Kafka's.
    No feature is listed: nothing that `group.version` or `transaction.version` would finalise is served.
    """
    if not SERVED[API_VERSIONS].serves(version):
        version, error_code = 0, ErrorCode.UNSUPPORTED_VERSION
    body = _api_versions_body(version, int(error_code))
    return _SIZE_AND_CORRELATION.pack(len(body) + 4, correlation_id) + body


_SIZE_AND_CORRELATION: Final = struct.Struct(">ii")


@cache
def _api_versions_body(version: int, error_code: int) -> bytes:
    match error_code:
        case ErrorCode.NONE:
            listed = list(SERVED.values())
        case ErrorCode.UNSUPPORTED_VERSION:
            listed = [SERVED[API_VERSIONS]]
        case _:
            listed = []
    flexible = SERVED[API_VERSIONS].is_flexible(version)
    # A compact array carries its length plus one; 126 keys fit its single byte.
    body = struct.pack(">hB", error_code, len(listed) + 1) if flexible else struct.pack(">hi", error_code, len(listed))
    tags = b"\x00" if flexible else b""
    for api in listed:
        body += struct.pack(">hhh", api.key, api.min_version, api.max_version) + tags
    if version >= 1:
        body += struct.pack(">i", 0)  # throttle time in milliseconds
    return body + tags

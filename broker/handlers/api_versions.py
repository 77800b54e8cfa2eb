"""ApiVersions (key 18), versions 0 to 4 (KIP-35, KIP-511, KIP-584, KIP-1011).

Behaviour: the ranges of one Apache Kafka release for what is served, nothing else (`protocol.apis`). An unknown version
is answered in version 0 with UNSUPPORTED_VERSION and the table, so that newer clients can step down. From version 3 the
client's software name and version must match Kafka's pattern, else INVALID_REQUEST. The answer is cached bytes.
"""

from __future__ import annotations

import re
from typing import Any

from protocol.apis import SERVED, api_versions_response
from protocol.errors import ErrorCode
from protocol.headers import RequestHeader
from protocol.messages import decode_request

_NAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")
_API_KEY = 18
_SOFTWARE_FROM_VERSION = 3


def answer(header: RequestHeader, frame: bytes | memoryview) -> bytes:
    """The whole reply frame. Raises MalformedRequest."""
    version = header.api_version
    if not SERVED[_API_KEY].serves(version):
        return api_versions_response(version, header.correlation_id)
    body: Any = decode_request(_API_KEY, version, memoryview(frame), header.body_offset)
    if version >= _SOFTWARE_FROM_VERSION and not (
        _NAME.fullmatch(body.client_software_name) and _NAME.fullmatch(body.client_software_version)
    ):
        return api_versions_response(version, header.correlation_id, ErrorCode.INVALID_REQUEST)
    return api_versions_response(version, header.correlation_id)

"""What the S3 libraries raise, in the kinds of the engine. Pure.

The data path's library gives its HTTP errors as text with the status and the answer in it; that text is read here and
nowhere else. Where the store surely did nothing (429, 503, refused connection) the kind is Retry; a write whose answer
was lost (time-out, reset, 500, 502, 504) is OutcomeUnknown, a read then Retry; other 4xx are Invalid.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from s3stream.errors import AlreadyExists, Invalid, NotFound, OutcomeUnknown, Retry, StreamError

_STATUS = re.compile(r"Server returned (?:non-2xx status code|error response)[^0-9]{0,20}(\d{3})")
_CODE = re.compile(r"<Code>([A-Za-z0-9]+)</Code>")
_NOT_SENT = ("kind: Connect", "ConnectionRefused", "dns error")
_BUSY_CODES = frozenset(("SlowDown", "ServiceUnavailable", "TooManyRequests", "RequestLimitExceeded", "Throttling"))
_AGAIN_CODES = frozenset(("RequestTimeout", "RequestTimeTooSkewed", "OperationAborted", "ConditionalRequestConflict"))
_MISSING_BUCKET = "NoSuchBucket"
_MAX_TEXT = 300


def http_status(error: Exception) -> int | None:
    """The HTTP status in an error of the data library; None if there was no answer."""
    match = _STATUS.search(str(error))
    return int(match[1]) if match else None


def classify_data(error: Exception, key: str, *, writes: bool, if_absent: bool = False) -> StreamError:
    """The kind of an error of the data library."""
    text = str(error)
    status = http_status(error)
    code = _CODE.search(text)
    what = f"{key}: {text.split('Debug source:')[0].strip()[:_MAX_TEXT]}"
    if status is not None:
        return classify_status(status, code[1] if code else "", what, writes=writes, if_absent=if_absent)
    if isinstance(error, FileNotFoundError):
        return NotFound(what)
    if any(mark in text for mark in _NOT_SENT):
        return Retry(what)
    return OutcomeUnknown(what) if writes else Retry(what)


def classify_control(error: Exception, what: str, *, writes: bool) -> StreamError:
    """The kind of an error of the control library (botocore's `ClientError` or one of its transport errors)."""
    response: Mapping[str, Any] | None = getattr(error, "response", None)
    text = f"{what}: {error}"[:_MAX_TEXT]
    if response is None:
        refused = type(error).__name__ in ("EndpointConnectionError", "ConnectTimeoutError", "ProxyConnectionError")
        if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "ParamValidationError"):
            return Invalid(text)
        return Retry(text) if refused or not writes else OutcomeUnknown(text)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return classify_status(int(status), str(response.get("Error", {}).get("Code", "")), text, writes=writes)


def classify_status(status: int, code: str, what: str, *, writes: bool, if_absent: bool = False) -> StreamError:
    """The kind of an HTTP status and S3 error code.

    409 on a put-if-absent counts as taken: the store saw another writer of the key, the caller looks who won.
    """
    if code == _MISSING_BUCKET:
        return Invalid(f"{what}: the bucket does not exist")
    if if_absent and status in (409, 412):
        return AlreadyExists(what)
    if status == 404:
        return NotFound(what)
    if code in _BUSY_CODES or status in (429, 503):
        return Retry(what, retry_after_ms=1000)
    if code in _AGAIN_CODES or status in (408, 409):
        return Retry(what)
    if 400 <= status < 500:
        return Invalid(what)
    return OutcomeUnknown(what) if writes else Retry(what)

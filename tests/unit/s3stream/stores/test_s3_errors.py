"""S3's answers in the kinds of the engine; the texts are those of the data library, seen with a raw server."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError, ReadTimeoutError

from s3stream.errors import AlreadyExists, Invalid, NotFound, OutcomeUnknown, Retry
from s3stream.stores.s3_errors import classify_control, classify_data, http_status

ANSWER = (
    "Generic S3 error: Error performing PUT http://127.0.0.1:1/b/k in 1.3ms - Server returned non-2xx status code: {}"
)
REFUSED = "Generic S3 error: HTTP error: error sending request Debug source: Http( HttpError { kind: Connect, ..."
RESET = "Generic S3 error: HTTP error: error sending request Debug source: Http( HttpError { kind: Request, ..."


@pytest.mark.parametrize(("text", "read", "write", "absent"), [
    (ANSWER.format("503 Service Unavailable: <Error><Code>SlowDown</Code></Error>"), Retry, Retry, Retry),
    (ANSWER.format("429 Too Many Requests: "), Retry, Retry, Retry),
    (ANSWER.format("500 Internal Server Error: x"), Retry, OutcomeUnknown, OutcomeUnknown),
    (ANSWER.format("504 Gateway Timeout: x"), Retry, OutcomeUnknown, OutcomeUnknown),
    (ANSWER.format("403 Forbidden: <Error><Code>AccessDenied</Code></Error>"), Invalid, Invalid, Invalid),
    (ANSWER.format("401 Unauthorized: "), Invalid, Invalid, Invalid),
    (ANSWER.format("400 Bad Request: <Code>RequestTimeout</Code>"), Retry, Retry, Retry),
    (ANSWER.format("400 Bad Request: <Code>EntityTooLarge</Code>"), Invalid, Invalid, Invalid),
    (ANSWER.format("409 Conflict: <Code>ConditionalRequestConflict</Code>"), Retry, Retry, AlreadyExists),
    (ANSWER.format("412 Precondition Failed: "), Invalid, Invalid, AlreadyExists),
    (ANSWER.format("404 Not Found: <Code>NoSuchKey</Code>"), NotFound, NotFound, NotFound),
    (ANSWER.format("404 Not Found: <Code>NoSuchBucket</Code>"), Invalid, Invalid, Invalid),
    (ANSWER.format("416 Range Not Satisfiable: "), Invalid, Invalid, Invalid),
    (REFUSED, Retry, Retry, Retry),
    (RESET, Retry, OutcomeUnknown, OutcomeUnknown),
    ("anything else", Retry, OutcomeUnknown, OutcomeUnknown),
])  # fmt: skip
def test_data_errors(text: str, read: type, write: type, absent: type) -> None:
    error = Exception(text)
    assert type(classify_data(error, "k", writes=False)) is read
    assert type(classify_data(error, "k", writes=True)) is write
    assert type(classify_data(error, "k", writes=True, if_absent=True)) is absent


def test_status() -> None:
    assert http_status(Exception(ANSWER.format("416 Range Not Satisfiable"))) == 416
    assert http_status(Exception("416")) is None


def answer(status: int, code: str) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "ListObjectsV2")


@pytest.mark.parametrize(("error", "read", "write"), [
    (answer(503, "SlowDown"), Retry, Retry),
    (answer(500, "InternalError"), Retry, OutcomeUnknown),
    (answer(403, "AccessDenied"), Invalid, Invalid),
    (answer(404, "404"), NotFound, NotFound),
    (answer(404, "NoSuchBucket"), Invalid, Invalid),
    (EndpointConnectionError(endpoint_url="http://x"), Retry, Retry),
    (ReadTimeoutError(endpoint_url="http://x"), Retry, OutcomeUnknown),
    (NoCredentialsError(), Invalid, Invalid),
    (TimeoutError(), Retry, OutcomeUnknown),
    (OSError("reset"), Retry, OutcomeUnknown),
])  # fmt: skip
def test_control_errors(error: Exception, read: type, write: type) -> None:
    assert type(classify_control(error, "what", writes=False)) is read
    assert type(classify_control(error, "what", writes=True)) is write

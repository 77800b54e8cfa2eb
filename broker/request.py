"""One decoded request as a handler sees it."""

from __future__ import annotations

from typing import Any


class Request:
    """`body` is the kio entity of `api_version`; a field that the version may lack is read with `getattr(body, name,
    default)`."""

    __slots__ = ("api_key", "api_version", "body", "client_host", "client_id", "correlation_id")

    def __init__(
        self, api_key: int, api_version: int, correlation_id: int, client_id: str | None, client_host: str, body: Any
    ) -> None:
        self.api_key = api_key
        self.api_version = api_version
        self.correlation_id = correlation_id
        self.client_id = client_id
        self.client_host = client_host
        self.body = body

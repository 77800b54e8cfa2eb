"""The refusal of one part of a request: the Kafka error code that answers it and the text for the client."""

from __future__ import annotations

from protocol.errors import ErrorCode


class Refused(Exception):
    """Nothing was done for this part of the request. `message` None: the code says enough."""

    def __init__(self, code: ErrorCode, message: str | None = None) -> None:
        super().__init__(message or code.name)
        self.code = code
        self.message = message

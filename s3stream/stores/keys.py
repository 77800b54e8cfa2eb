"""Which keys and ranges every object store takes, so that all adapters refuse the same ones. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from typing_extensions import Buffer

from s3stream.errors import Invalid, PastEnd

MAX_KEY_SIZE_BYTES = 1024


def check_key(key: str) -> None:
    """Invalid unless `key` is `segment/segment/...`: no empty, "." or ".." segment, no control characters or lone
    surrogates, at most 1,024 bytes of UTF-8."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise Invalid(f"key {key!r} is not Unicode text") from error
    if not 0 < size <= MAX_KEY_SIZE_BYTES:
        raise Invalid(f"key of {size} bytes, expected 1 to {MAX_KEY_SIZE_BYTES}")
    if any(segment in ("", ".", "..") for segment in key.split("/")):
        raise Invalid(f"key {key!r} has an empty, '.' or '..' segment")
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in key):
        raise Invalid(f"key {key!r} has a control character")


def check_range(key: str, start: int, end: int | None) -> None:
    """Invalid unless `[start, end)` is a range."""
    if start < 0 or (end is not None and end < start):
        raise Invalid(f"{key}: [{start}, {end}) is not a range")


def check_range_within(key: str, start: int, end: int | None, size_bytes: int) -> None:
    """PastEnd if the range reaches past the end of the object."""
    if max(start, end or 0) > size_bytes:
        raise PastEnd(f"{key}: range [{start}, {end}) of an object of {size_bytes} bytes")


def body_views(body: Sequence[Buffer]) -> list[memoryview]:
    """The buffers as byte views, empty ones left out. An object of small batches has many thousands of them."""
    return [
        view
        for buffer in body
        if (view := buffer if type(buffer) is memoryview and buffer.format == "B" else memoryview(buffer).cast("B"))
    ]

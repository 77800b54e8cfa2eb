"""What the object store's requests cost, with prices that are stated in the result."""

from __future__ import annotations

from collections.abc import Mapping

DEFAULT = {"write_per_1000": 0.005, "read_per_1000": 0.0004, "delete_per_1000": 0.0}
"""US dollars, list prices of AWS S3 standard storage in us-east-1: PUT, COPY, POST and LIST; GET; DELETE is free."""

_READS = ("get", "head", "read", "range")
_DELETES = ("delete",)


def price_of(operation: str) -> str:
    """The price that a class of requests falls under; what is unknown counts as the dearest, a write."""
    name = operation.lower()
    if any(name.startswith(each) for each in _DELETES):
        return "delete_per_1000"
    return "read_per_1000" if any(name.startswith(each) for each in _READS) else "write_per_1000"


def dollars(requests: Mapping[str, int], prices: Mapping[str, float]) -> float:
    """What these requests cost."""
    return sum(count / 1000 * prices[price_of(operation)] for operation, count in requests.items())

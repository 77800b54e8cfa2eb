"""The error that ends a benchmark command with a message for the user."""

from __future__ import annotations


class BenchError(Exception):
    """What is wrong and where, in words for the user."""

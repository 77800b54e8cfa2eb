"""The error that ends `weir verify` without a verdict."""

from __future__ import annotations


class VerifyError(Exception):
    """The run could not be made or judged; the text says why to a person. Exit code 3."""

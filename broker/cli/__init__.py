"""The `weir` command: the broker itself, its settings, and administration of any Kafka cluster."""

from __future__ import annotations

from broker.cli.app import main

__all__ = ["main"]

"""Kafka's rules for topic names, and the names of the internal topics (pure; upstream `Topic.java`)."""

from __future__ import annotations

import re

MAX_LENGTH = 249
CONSUMER_OFFSETS = "__consumer_offsets"
INTERNAL_TOPICS = (CONSUMER_OFFSETS,)

_LEGAL = re.compile(r"[a-zA-Z0-9._-]+")


def name_problem(name: str) -> str | None:
    """Why `name` is no valid topic name, in Kafka's words; None when it is one."""
    if name == "":
        return "Topic name is invalid: the empty string is not allowed"
    if name in (".", ".."):
        return f"Topic name is invalid: '{name}' is not allowed"
    if len(name) > MAX_LENGTH:
        return f"Topic name is invalid: the length of '{name}' is longer than the max allowed length {MAX_LENGTH}"
    if not _LEGAL.fullmatch(name):
        return (
            f"Topic name is invalid: '{name}' contains one or more characters other than "
            "ASCII alphanumerics, '.', '_' and '-'"
        )
    return None


def collision_key(name: str) -> str | None:
    """Names with equal keys collide: metric names turn '.' into '_'. None: it can collide with nothing."""
    return name.replace(".", "_") if "." in name or "_" in name else None

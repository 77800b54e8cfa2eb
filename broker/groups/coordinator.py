"""The group coordinator service: finds the shard of a group, runs commands on it, follows partition leadership.

Errors come back inside the replies, as Kafka codes; the methods raise only on misuse.
"""

from __future__ import annotations

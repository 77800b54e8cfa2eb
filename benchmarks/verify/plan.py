"""What a run is asked to do: the options of `weir verify`, checked."""

from __future__ import annotations

import enum

import msgspec

_MAX_RECORDS = 5_000_000  # the history is judged in memory, about 1 KB per record


class Kind(enum.Enum):
    """A producer's settings, and with them what its acknowledgements promise."""

    IDEMPOTENT = "idempotent"  # acks=all, retried by the client, at most once and in order
    PLAIN = "plain"  # acks=all, one attempt per send
    ONE = "acks1"  # acks=1, one attempt per send


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`rate_per_s`: records of all producers together. `kinds` are dealt out to the producers in turn.

    ValueError says which option is out of range.
    """

    bootstrap: str
    duration_s: float = 60.0
    producers: int = 6
    topics: int = 2
    partitions: int = 3
    rate_per_s: float = 1000.0
    record_bytes: int = 100
    kinds: tuple[Kind, ...] = (Kind.IDEMPOTENT, Kind.PLAIN, Kind.ONE)
    members: int = 2
    replication: int = -1
    seed: int = 0
    chaos: str = ""
    chaos_every_s: float = 10.0
    heal_timeout_s: float = 60.0
    min_acked: int = 100
    keep: bool = False
    client: dict[str, str] = {}

    def __post_init__(self) -> None:
        ranges = (
            ("--duration", self.duration_s, 0.1, 7 * 86_400),
            ("--producers", self.producers, 1, 200),
            ("--topics", self.topics, 1, 100),
            ("--partitions", self.partitions, 1, 1000),
            ("--rate", self.rate_per_s, 0.1, 1_000_000),
            ("--record-bytes", self.record_bytes, 40, 1_000_000),
            ("--members", self.members, 0, 50),
            ("--chaos-every", self.chaos_every_s, 0, 86_400),
            ("--heal-timeout", self.heal_timeout_s, 1, 86_400),
            ("--min-acked", self.min_acked, 1, _MAX_RECORDS),
        )
        for option, value, least, most in ranges:
            if not least <= value <= most:
                raise ValueError(f"{option} {value:g}: expected {least:g} to {most:g}")
        if self.duration_s * self.rate_per_s > _MAX_RECORDS:
            raise ValueError(f"--duration times --rate is above {_MAX_RECORDS:,} records, which are judged in memory")
        if not self.kinds:
            raise ValueError("--kinds: expected at least one kind of producer")

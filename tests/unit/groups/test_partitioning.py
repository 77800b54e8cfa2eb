"""Java's String.hashCode and the group's partition."""

from __future__ import annotations

import pytest

from broker.groups.partitioning import java_string_hash, partition_for


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("a", 97),
        ("hello", 99162322),
        ("Aa", 2112),
        ("BB", 2112),
        ("polygenelubricants", -2147483648),
        ("consumer-group-42", None),
        ("é", 233),
        ("\U0001f600", 0xD83D * 31 + 0xDE00),
    ],
)
def test_hash_vectors(text: str, expected: int | None) -> None:
    if expected is None:
        expected = 0
        for unit in text:
            expected = (31 * expected + ord(unit)) & 0xFFFFFFFF
        expected = expected - (1 << 32) if expected >= 1 << 31 else expected
    assert java_string_hash(text) == expected


def test_partition_is_never_negative() -> None:
    assert partition_for("polygenelubricants", 50) == 0
    assert partition_for("hello", 50) == 99162322 % 50


@pytest.mark.parametrize(("group", "partition"), [("wgold-simple", 16), ("wgold-g", 49), ("wgold-r", 10)])
def test_partitions_seen_on_kafka(group: str, partition: int) -> None:
    """Where Apache Kafka 4.3 put these groups' records, with 50 partitions."""
    assert partition_for(group, 50) == partition

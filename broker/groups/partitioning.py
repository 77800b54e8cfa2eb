"""Which partition of `__consumer_offsets` owns a group: Kafka's `Utils.abs(groupId.hashCode()) % n`."""

from __future__ import annotations


def java_string_hash(text: str) -> int:
    """`String.hashCode()`: a signed 32-bit polynomial over UTF-16 code units (surrogate pairs count twice)."""
    units = text.encode("utf-16-be", "surrogatepass")
    value = 0
    for high, low in zip(units[::2], units[1::2], strict=True):
        value = (31 * value + (high << 8 | low)) & 0xFFFFFFFF
    return value - 0x1_0000_0000 if value & 0x8000_0000 else value


def partition_for(group_id: str, partition_count: int) -> int:
    """Kafka's `Utils.abs`: the one value without a positive twin counts as 0."""
    value = java_string_hash(group_id)
    return (0 if value == -0x8000_0000 else abs(value)) % partition_count

"""Settings of the group coordinator, with Kafka's names and defaults."""

from __future__ import annotations

import msgspec


class GroupSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Each field's comment is the Kafka name at the edge; those without one are Weir's own."""

    offsets_topic_num_partitions: int = 50  # offsets.topic.num.partitions
    offset_metadata_max_bytes: int = 4096  # offset.metadata.max.bytes (Kafka counts UTF-16 units)
    offsets_retention_minutes: int = 7 * 24 * 60  # offsets.retention.minutes
    offsets_retention_check_interval_ms: int = 600_000  # offsets.retention.check.interval.ms
    initial_rebalance_delay_ms: int = 3_000  # group.initial.rebalance.delay.ms
    min_session_timeout_ms: int = 6_000  # group.min.session.timeout.ms
    max_session_timeout_ms: int = 1_800_000  # group.max.session.timeout.ms
    max_size: int = 2_147_483_647  # group.max.size
    commit_timeout_ms: int = 5_000  # offsets.commit.timeout.ms
    # A new member's first join cannot heartbeat, so it is given this long (a constant in Kafka).
    new_member_join_timeout_ms: int = 300_000
    # Member ids handed out and not yet used, per group; Kafka has no bound here.
    max_pending_members: int = 10_000
    # Bytes appended to one partition since its last checkpoint before the next one.
    checkpoint_dirty_bytes: int = 16 * 1024 * 1024
    # Pause before a refused background write (tombstones, checkpoint) or a failed load is tried again.
    retry_pause_ms: int = 1_000
    # Partitions that are read at the same time at start.
    concurrent_loads: int = 4

    @property
    def offsets_retention_ms(self) -> int:
        return self.offsets_retention_minutes * 60_000

"""From the broker's settings to those of the parts below it."""

from __future__ import annotations

from broker.groups.settings import GroupSettings
from broker.settings import Settings
from s3stream.ports import WalDevice
from s3stream.settings import EngineSettings
from s3stream.wal.device_memory import MemoryWalDevice
from s3stream.wal.file_wal import FileWalSettings

_MIB = 1 << 20


def engine_settings(settings: Settings, cluster_id: str) -> EngineSettings:
    """An upload takes at most a quarter of the tail cache: one is on its way while the next collects, and beside both
    there is room for what tail readers go on to read."""
    cache, upload = settings.cache, settings.upload
    tail_max_bytes = upload.backlog_max_bytes
    upload_size_bytes = min(upload.size_bytes, cache.tail_bytes // 4, tail_max_bytes // 3)
    return EngineSettings(
        cluster_id=cluster_id,
        upload_size_bytes=upload_size_bytes,
        upload_interval_ms=upload.interval_ms,
        upload_max_bytes=max(2 * upload_size_bytes, 16 * _MIB),
        stream_object_bytes=upload.stream_object_bytes,
        block_size_bytes=upload.block_size_bytes,
        prepare_ttl_ms=upload.prepare_ttl_ms,
        tail_max_bytes=tail_max_bytes,
        tail_cache_bytes=cache.tail_bytes,
        block_cache_bytes=cache.block_bytes,
        read_ahead_max_bytes=cache.readahead_max_bytes,
        retention_check_interval_ms=settings.log.retention_check_interval_ms,
        gc_interval_ms=max(1_000, min(60_000, upload.delete_delay_ms)),
        gc_grace_ms=upload.delete_delay_ms,
    )


def wal_settings(settings: Settings, device: WalDevice) -> FileWalSettings:
    """In memory a trimmed segment is of use to nobody, and memory that was touched before costs half of new memory."""
    wal = settings.wal
    grace_ms = 0 if isinstance(device, MemoryWalDevice) else wal.trimmed_retention_ms
    return FileWalSettings(capacity_bytes=wal.capacity_bytes, grace_ms=grace_ms)


def arena_bytes(settings: Settings) -> int:
    """The newest records, and room beside them for requests that are being received or answered."""
    request_room = max(64 * _MIB, 2 * settings.network.request_max_bytes)
    tail_bytes = max(settings.cache.tail_bytes, settings.upload.backlog_max_bytes)
    return tail_bytes + tail_bytes // 4 + request_room


def group_settings(settings: Settings) -> GroupSettings:
    groups = settings.groups
    return GroupSettings(
        offsets_topic_num_partitions=groups.offsets_partitions,
        offset_metadata_max_bytes=groups.offset_metadata_max_bytes,
        offsets_retention_minutes=groups.offsets_retention_minutes,
        offsets_retention_check_interval_ms=groups.offsets_retention_check_interval_ms,
        commit_timeout_ms=groups.offset_commit_timeout_ms,
        initial_rebalance_delay_ms=groups.initial_rebalance_delay_ms,
        min_session_timeout_ms=groups.min_session_timeout_ms,
        max_session_timeout_ms=groups.max_session_timeout_ms,
        max_size=groups.max_size,
    )

"""Settings of the storage engine: one frozen structure, units last in the names, each bound with its reason."""

from __future__ import annotations

from dataclasses import dataclass, fields

from s3stream.errors import Invalid

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What an operator may turn. The defaults suit one broker on a machine of a few cores."""

    cluster_id: str = "weir"
    """Part of every object key, so that clusters can share a bucket."""

    # Upload: an upload is cut at this size or this age, whichever comes first.
    upload_size_bytes: int = 16 * MIB
    upload_interval_ms: int = 10_000
    upload_max_bytes: int = 128 * MIB
    """Most bytes of one upload: after a store outage the backlog goes up in several."""
    stream_object_bytes: int = 16 * MIB
    """A stream with at least this much in one upload gets an object of its own."""
    upload_concurrency: int = 4
    """Objects of one upload that are written to the store at the same time."""
    block_size_bytes: int = MIB
    prepare_ttl_ms: int = 3_600_000

    # Back-pressure: producers wait above these many bytes that are not durable, that are in no committed object yet.
    pending_max_bytes: int = 32 * MIB
    """Two write groups at full speed. What a client sends ahead of the disk beyond that is memory without a gain."""
    tail_max_bytes: int = 256 * MIB
    tail_cache_bytes: int = 128 * MIB
    """Batches that are in objects already are kept in memory as long as the tail cache holds no more than this. What
    is in no object yet is never evicted: the cache may grow to `tail_max_bytes` while the store is slow or away."""

    # Reads.
    block_cache_bytes: int = 64 * MIB
    cold_read_bytes: int = 64 * MIB
    """Bytes of the cold lane that may be on their way from the store at once; further reads wait in order."""
    cold_read_timeout_ms: int = 30_000
    read_ahead_min_bytes: int = 512 * KIB
    read_ahead_max_bytes: int = 16 * MIB
    whole_run_bytes: int = 4 * MIB
    """A run up to this size is read in one piece; a larger one is read by blocks, found through the object's index."""
    index_cache_bytes: int = 16 * MIB
    row_cache_streams: int = 4096
    row_cache_rows: int = 131_072
    row_page: int = 256
    rows_per_stream: int = 2048

    # Retries against store and metadata: doubling with full jitter.
    retry_base_ms: int = 50
    retry_max_ms: int = 5_000

    # Duties.
    retention_check_interval_ms: int = 300_000
    gc_interval_ms: int = 60_000
    gc_grace_ms: int = 600_000
    gc_batch: int = 500

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and value <= 0 and field.name != "gc_grace_ms":
                raise Invalid(f"{field.name} must be above 0, not {value}")
        if self.upload_max_bytes < self.upload_size_bytes:
            raise Invalid("upload_max_bytes must be at least upload_size_bytes")
        if self.tail_max_bytes < self.upload_size_bytes:
            raise Invalid("tail_max_bytes must be at least upload_size_bytes, or uploads wait for their age")
        if not self.cluster_id or any(c in self.cluster_id for c in "/\\ "):
            raise Invalid(f"cluster_id {self.cluster_id!r} must be a non-empty word, it is a part of object keys")

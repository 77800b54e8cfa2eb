"""Schema of the storage engine's own tables, as forward-only migrations in one text for all dialects.

`{blob}` stands for the dialect's byte string type. A migration that has been released is never changed. The invariants
of these tables are in README.md beside this file.
"""

from __future__ import annotations

PACKAGE = "s3stream"

MIGRATIONS = (
    """
    CREATE TABLE meta_head (
        kind TEXT NOT NULL PRIMARY KEY,
        value BIGINT NOT NULL
    );
    INSERT INTO meta_head (kind, value) VALUES
        ('revision', 0), ('broker_epoch', 0), ('wal_epoch', 0), ('stream', 0), ('object', 0);

    CREATE TABLE broker (
        broker_id INTEGER NOT NULL PRIMARY KEY,
        broker_epoch BIGINT NOT NULL,
        incarnation TEXT NOT NULL,
        registered_ms BIGINT NOT NULL
    );

    CREATE TABLE wal (
        broker_id INTEGER NOT NULL PRIMARY KEY,
        broker_epoch BIGINT NOT NULL,
        wal_epoch BIGINT NOT NULL,
        trim_lsn BIGINT NOT NULL
    );

    CREATE TABLE stream (
        stream_id BIGINT NOT NULL PRIMARY KEY,
        stream_epoch BIGINT NOT NULL,
        state INTEGER NOT NULL,
        owner_id INTEGER NOT NULL,
        owner_epoch BIGINT NOT NULL,
        start_offset BIGINT NOT NULL,
        end_offset BIGINT NOT NULL,
        size_bytes BIGINT NOT NULL
    );

    CREATE TABLE stream_epoch (
        stream_id BIGINT NOT NULL,
        start_offset BIGINT NOT NULL,
        stream_epoch BIGINT NOT NULL,
        PRIMARY KEY (stream_id, start_offset)
    );

    CREATE TABLE object (
        object_id BIGINT NOT NULL PRIMARY KEY,
        object_key TEXT NOT NULL,
        kind INTEGER NOT NULL,
        state INTEGER NOT NULL,
        broker_id INTEGER NOT NULL,
        size_bytes BIGINT NOT NULL,
        refs BIGINT NOT NULL,
        expires_ms BIGINT NOT NULL,
        committed_ms BIGINT NOT NULL,
        destroyed_ms BIGINT NOT NULL
    );
    CREATE INDEX object_by_expiry ON object (expires_ms) WHERE state = 0;
    CREATE INDEX object_by_destruction ON object (destroyed_ms) WHERE state >= 2;

    CREATE TABLE object_range (
        stream_id BIGINT NOT NULL,
        start_offset BIGINT NOT NULL,
        end_offset BIGINT NOT NULL,
        object_id BIGINT NOT NULL,
        position BIGINT NOT NULL,
        size_bytes BIGINT NOT NULL,
        max_timestamp_ms BIGINT NOT NULL,
        flags INTEGER NOT NULL,
        records BIGINT NOT NULL,
        state_position BIGINT NOT NULL,
        state_size BIGINT NOT NULL,
        PRIMARY KEY (stream_id, start_offset)
    );
    """,
)

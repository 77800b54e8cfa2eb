"""Schema of the broker's own tables, as forward-only migrations in one text for all dialects.

A migration that has been released is never changed. Streams, objects and brokers are tables of `s3stream`; a
partition points to its stream by id. The invariants are in README.md beside this file.
"""

from __future__ import annotations

PACKAGE = "broker"

MIGRATIONS = (
    """
    CREATE TABLE cluster_identity (
        one INTEGER NOT NULL PRIMARY KEY,
        cluster_id TEXT NOT NULL,
        created_ms BIGINT NOT NULL
    );

    CREATE TABLE topic (
        topic_id TEXT NOT NULL PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        internal INTEGER NOT NULL,
        replication_factor INTEGER NOT NULL,
        created_ms BIGINT NOT NULL
    );

    CREATE TABLE partition (
        topic_id TEXT NOT NULL,
        partition_index INTEGER NOT NULL,
        stream_id BIGINT NOT NULL UNIQUE,
        leader_id INTEGER NOT NULL,
        leader_epoch BIGINT NOT NULL,
        PRIMARY KEY (topic_id, partition_index)
    );

    CREATE TABLE config (
        resource_type INTEGER NOT NULL,
        resource_name TEXT NOT NULL,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (resource_type, resource_name, name)
    );
    """,
)

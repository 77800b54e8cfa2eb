"""Metadata of streams and objects: commands on a `Database`, and the SQLite database. See README.md."""

from s3stream.meta.commands_identity import allocate_ids_in, next_revision_in, revision_in
from s3stream.meta.commands_streams import create_streams_in, delete_streams_in
from s3stream.meta.sqlite import InlineRunner, SqliteDatabase, ThreadRunner, open_sqlite
from s3stream.meta.store import MetaStore

__all__ = [
    "InlineRunner",
    "MetaStore",
    "SqliteDatabase",
    "ThreadRunner",
    "allocate_ids_in",
    "create_streams_in",
    "delete_streams_in",
    "next_revision_in",
    "open_sqlite",
    "revision_in",
]

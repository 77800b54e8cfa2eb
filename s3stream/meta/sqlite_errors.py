"""SQLite's errors in the kinds of the engine. Pure."""

from __future__ import annotations

import sqlite3

from s3stream.errors import Corrupt, Fatal, Invalid, Retry, StreamError

_PRIMARY_CODE = 0xFF


def translate(error: sqlite3.Error, path: str, *, opening: bool = False) -> StreamError:
    """The kind by what the caller does. All but Fatal mean that the transaction was rolled back.

    An I/O error is Fatal: after a failed sync nobody knows what is on the disk, and a later success proves nothing.
    """
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & _PRIMARY_CODE if code is not None else None
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    what = f"{path}: {error} ({name})"
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        if opening:
            return Invalid(f"{what}: another process has this metadata file open; one broker at a time can use it")
        return Retry(what)
    if primary == sqlite3.SQLITE_FULL:
        return Retry(f"{what}: no space left for the metadata; free some")
    if primary == sqlite3.SQLITE_NOMEM or code == sqlite3.SQLITE_IOERR_NOMEM:
        return Retry(what)
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Corrupt(
            f"{what}: the metadata file is damaged or is not one. Stop the broker and keep a copy of the file and its"
            " -wal file; 'sqlite3 FILE .recover' saves what can be read. The data objects are not touched"
        )
    if primary == sqlite3.SQLITE_IOERR:
        return Fatal(f"{what}: the metadata cannot be kept durable on this disk")
    if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        return Invalid(f"{what}: the metadata file cannot be written")
    return Invalid(what)

"""How the folder store reads: keys to paths, ranges of files, walks in key order. Synchronous, changes nothing."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s3stream.errors import Invalid, NotFound, Retry, StreamError
from s3stream.ports import ObjectInfo
from s3stream.stores.keys import check_range_within

TEMPORARY_FOLDER = ".weir-tmp"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)


class FolderReader:
    """Objects under `root`; the caller has checked its keys."""

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.abspath(root))

    def get(self, key: str, start: int, end: int | None) -> memoryview:
        """Bytes of the file; Retry if it shrinks meanwhile."""
        path = self._path(key)
        with kinds(key):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise NotFound(f"{key} does not exist: it is a folder of others")
                size = status.st_size
                check_range_within(key, start, end, size)
                length = (size if end is None else end) - start
                return memoryview(_read(descriptor, key, start, length))
            finally:
                os.close(descriptor)

    def walk(self, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        """Objects in key order whose key starts with `prefix` and is above `start_after`."""
        with kinds(prefix or str(self._root)):
            yield from self._walk("", prefix, start_after)

    def _path(self, key: str) -> Path:
        if key.split("/", 1)[0] == TEMPORARY_FOLDER:
            raise Invalid(f"key {key!r}: {TEMPORARY_FOLDER} belongs to the folder store")
        return self._root / key

    def _walk(self, at: str, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        for name in self._names_in_order(at):
            path = at + name
            relevant = path.startswith(prefix) or prefix.startswith(path)
            if name.endswith("/"):
                if relevant and not (path < start_after and not start_after.startswith(path)):
                    yield from self._walk(path, prefix, start_after)
            elif path.startswith(prefix) and path > start_after:
                try:
                    status = (self._root / path).stat()
                except FileNotFoundError:
                    continue
                yield ObjectInfo(path, status.st_size, status.st_mtime_ns // 1_000_000)

    def _names_in_order(self, at: str) -> list[str]:
        """Entries of a folder in key order, folders with a slash: "a.b" stands before "a/"."""
        try:
            with os.scandir(self._root / at) as entries:
                names = [entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name for entry in entries]
        except FileNotFoundError:
            return []
        return sorted(name for name in names if at or name != f"{TEMPORARY_FOLDER}/")


def _read(descriptor: int, key: str, start: int, length: int) -> bytes:
    content = os.pread(descriptor, length, start)  # one pass over fresh memory: a bytearray would be zeroed first
    while len(content) < length:
        piece = os.pread(descriptor, length - len(content), start + len(content))
        if not piece:
            raise Retry(f"{key}: {len(content)} of {length} bytes came")
        content += piece
    return content


@contextmanager
def kinds(key: str, missing: type[StreamError] = NotFound) -> Iterator[None]:
    """The operating system's errors in the kinds of the engine."""
    try:
        yield
    except FileNotFoundError as error:
        raise missing(f"{key} does not exist") from error
    except OSError as error:
        if error.errno == errno.ENOTDIR and missing is NotFound:
            raise NotFound(f"{key} does not exist: a part of it is an object") from error
        if error.errno in _NO_SPACE:
            raise Retry(f"{key}: no space left in the object folder: {error}") from error
        if error.errno in _REFUSED:
            raise Invalid(f"{key}: the object folder refuses it: {error}") from error
        raise Retry(f"{key}: {error}") from error

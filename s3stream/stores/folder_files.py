"""How the folder store writes: atomically, durably, and without leftovers. Synchronous, thread-safe.

A put writes `<root>/.weir-tmp/<instance>/<n>`, syncs it, then renames it (or links it, if the key must be absent) and
syncs the directories up to the root, also those that exist already: the one who made them may not have got so far.
Large objects are written past the page cache (`direct_write.py`) where the file system allows it. The instance's
folder is locked while its process lives; at start those of the dead are removed.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from s3stream.direct_write import IOV_MAX, DirectWriters, bypass_page_cache, can_bypass, pwritev_all
from s3stream.durable_folder import make_folder_durable, sync_folder
from s3stream.errors import AlreadyExists, Invalid, Retry
from s3stream.stores.folder_reading import TEMPORARY_FOLDER, FolderReader, kinds

_MIN_DIRECT_BYTES = 256 * 1024
"""Smaller objects go through the page cache: the cut to size behind a direct write costs more than it saves them."""
_PUT_ATTEMPTS = 20


class FolderFiles(FolderReader):
    """Files under `root`. Constructing it makes the folder and this instance's temporary folder. `direct` False: writes
    go through the page cache in any case."""

    def __init__(self, root: Path, *, direct: bool = True) -> None:
        super().__init__(root)
        self._past_page_cache = direct
        self._names = itertools.count()
        self._temporary: Path | None = None
        self._lock_descriptor = -1
        self._direct: DirectWriters | None = None
        with kinds(str(self._root)):
            self._start()

    def put(self, key: str, views: Sequence[memoryview], if_absent: bool) -> None:
        """Store durably. EIO while writing is Retry, since nothing is visible and a retry writes afresh."""
        path = self._path(key)
        if self._temporary is None:
            raise Invalid("the folder store is closed")
        temporary = self._temporary / str(next(self._names))
        with kinds(key, missing=Retry):
            try:
                _write_durably(temporary, views, self._direct)
                self._publish(key, temporary, path, if_absent)
            finally:
                temporary.unlink(missing_ok=True)

    def delete(self, keys: Sequence[str]) -> None:
        """Remove files and the folders that become empty."""
        touched: dict[Path, None] = {}
        for key in keys:
            path = self._path(key)
            with kinds(key):
                try:
                    path.unlink()
                except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                    continue
                touched[self._prune(path.parent)] = None
        for folder in touched:
            if folder.exists():
                _sync_folder(folder)

    def close(self) -> None:
        """Remove the temporary folder and its lock."""
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            if self._direct is not None:
                self._direct.close()
            os.close(self._lock_descriptor)
            self._temporary = None

    def _start(self) -> None:
        """Make the folders, remove what dead instances left, lock our own; one process at a time does this."""
        parent = self._root / TEMPORARY_FOLDER
        _make_folders(parent)
        make_folder_durable(self._root)
        gate = os.open(parent / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(gate, fcntl.LOCK_EX)
            for folder in sorted(entry for entry in parent.iterdir() if entry.is_dir()):
                _remove_if_dead(folder)
            temporary = Path(tempfile.mkdtemp(dir=parent))
            self._lock_descriptor = os.open(temporary / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.flock(self._lock_descriptor, fcntl.LOCK_EX)
            self._temporary = temporary
            if self._past_page_cache and can_bypass(temporary):
                self._direct = DirectWriters()
        finally:
            os.close(gate)

    def _publish(self, key: str, temporary: Path, path: Path, if_absent: bool) -> None:
        """Give the written file its name. A concurrent delete may remove the folder in between: make it again."""
        for attempt in range(_PUT_ATTEMPTS):
            try:
                _make_folders(path.parent)
                if path.is_dir():
                    raise Invalid(f"{key} cannot be stored: it is a folder of others")
                if if_absent:
                    os.link(temporary, path)
                else:
                    os.replace(temporary, path)
                break
            except FileExistsError as error:
                raise AlreadyExists(f"{key} exists") from error
            except FileNotFoundError:
                if attempt + 1 == _PUT_ATTEMPTS or not temporary.exists():
                    raise
        for folder in path.parents:
            _sync_folder(folder)
            if folder == self._root:
                break

    def _prune(self, folder: Path) -> Path:
        """Remove `folder` and its parents as long as they are empty; the deepest that stays."""
        while folder != self._root:
            try:
                folder.rmdir()
            except OSError:
                return folder
            folder = folder.parent
        return folder


def _write_durably(path: Path, views: Sequence[memoryview], direct: DirectWriters | None) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        size = sum(view.nbytes for view in views)
        if direct is not None and size >= _MIN_DIRECT_BYTES:
            bypass_page_cache(descriptor)
            with direct.borrow() as writer:
                writer.write(descriptor, 0, views)
            os.ftruncate(descriptor, size)  # the last block was written whole
        else:
            position = 0
            for first in range(0, len(views), IOV_MAX):
                part = list(views[first : first + IOV_MAX])
                pwritev_all(descriptor, position, part)
                position += sum(view.nbytes for view in part)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_folders(folder: Path) -> None:
    """Make a folder and its parents, each entry durable."""
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        try:
            path.mkdir()
        except FileExistsError as error:
            if path.exists() and not path.is_dir():
                raise Invalid(f"{path} is an object, it cannot be a folder of others") from error
            # made, or made and removed, by another call meanwhile
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the entries of a folder durable. One that is gone was emptied by a delete."""
    try:
        sync_folder(folder)
    except FileNotFoundError:
        return


def _remove_if_dead(folder: Path) -> None:
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    except BlockingIOError:
        pass  # its process lives
    finally:
        os.close(descriptor)

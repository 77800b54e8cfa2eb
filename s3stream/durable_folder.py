"""Folders and small files that a power cut cannot take away again: a new name counts only once its folder is synced."""

from __future__ import annotations

import os
from pathlib import Path

from s3stream.errors import Fatal


def sync_folder(folder: Path) -> None:
    """Make the entries of `folder` durable. OSError if it cannot be opened; Fatal when the sync fails: what was named
    in it cannot be believed then, and a second sync would prove nothing."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise Fatal(f"fsync of {folder} failed: {error}") from error
    finally:
        os.close(descriptor)


def make_folder_durable(folder: Path) -> None:
    """Make `folder` and the parents that are missing, and sync every entry that is new. That of `folder` itself is
    synced even if it exists: whoever made it may have died before. OSError as of `mkdir`."""
    folder = Path(os.path.abspath(folder))
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    if not missing:
        try:
            sync_folder(folder.parent)
        except PermissionError:
            return  # a parent that we may not look into: it was not us who made the folder
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def replace_file_durably(path: Path, content: bytes) -> None:
    """Give `path` a new content: the old one or the new one is there after a power cut, whole. OSError when the disk
    does not take it."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)

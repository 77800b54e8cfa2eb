"""What only the folder store has: files, syncs, temporary folders, disks that fill up."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from s3stream.errors import AlreadyExists, Fatal, Invalid, NotFound, OutcomeUnknown, Retry
from s3stream.stores.folder import FolderObjectStore
from s3stream.stores.folder_files import FolderFiles


def files_under(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if ".weir-tmp" not in path.parts)


def failing(code: int) -> Callable[..., int]:
    def call(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return call


def test_put_is_durable_before_it_is_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = FolderFiles(tmp_path / "root")
    events: list[str] = []
    sync, replace, link = os.fsync, os.replace, os.link

    def record_sync(descriptor: int) -> None:
        target = os.readlink(f"/proc/self/fd/{descriptor}")
        events.append("sync " + ("file" if ".weir-tmp" in target else str(Path(target).relative_to(tmp_path))))
        sync(descriptor)

    def record_replace(source: Path, target: Path) -> None:
        events.append("replace")
        replace(source, target)

    def record_link(source: Path, target: Path) -> None:
        events.append("link")
        link(source, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "replace", record_replace)
    monkeypatch.setattr(os, "link", record_link)
    files.put("a/b/key", [memoryview(b"x")], False)
    assert events == ["sync file", "sync root", "sync root/a", "replace", "sync root/a/b", "sync root/a", "sync root"]
    events.clear()
    files.put("a/b/other", [memoryview(b"x")], True)
    assert events == ["sync file", "link", "sync root/a/b", "sync root/a", "sync root"]
    files.close()


@pytest.mark.parametrize("call", ["pwritev", "link"])
def test_full_disk_is_retry_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    files = FolderFiles(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(errno.ENOSPC))
        with pytest.raises(Retry, match="no space left"):
            files.put("a/key", [memoryview(b"x")], True)
    assert [name for name in files_under(tmp_path) if name != "a"] == []
    assert len(list((tmp_path / ".weir-tmp").rglob("[0-9]*"))) == 0
    files.put("a/key", [memoryview(b"x")], True)
    files.close()


def test_failed_sync_of_data_is_retry_of_a_directory_fatal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = FolderFiles(tmp_path)
    files.put("a/first", [memoryview(b"x")], False)
    sync = os.fsync
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(errno.EIO))
        with pytest.raises(Retry):
            files.put("a/key", [memoryview(b"x")], False)
    with pytest.raises(NotFound):
        files.get("a/key", 0, None)

    def only_files(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EIO, "I/O error")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    with pytest.raises(Fatal):
        files.put("a/key", [memoryview(b"x")], False)
    monkeypatch.undo()
    files.close()


def test_temporary_files_of_the_dead_are_removed_of_the_living_kept(tmp_path: Path) -> None:
    living = FolderFiles(tmp_path)
    dead = tmp_path / ".weir-tmp" / "dead"
    dead.mkdir()
    (dead / "0").write_bytes(b"left over")
    (dead / "lock").touch()
    second = FolderFiles(tmp_path)
    assert not dead.exists()
    living.put("key", [memoryview(b"x")], False)
    second.put("other", [memoryview(b"x")], False)
    living.close()
    second.close()
    assert sorted(path.name for path in (tmp_path / ".weir-tmp").iterdir()) == ["start.lock"]


def test_key_that_is_a_folder_of_others(tmp_path: Path) -> None:
    files = FolderFiles(tmp_path)
    files.put("a/b", [memoryview(b"x")], False)
    for key in ("a", "a/b/c"):
        for if_absent in (False, True):
            with pytest.raises(Invalid):
                files.put(key, [memoryview(b"y")], if_absent)
    with pytest.raises(Invalid, match="belongs to the folder store"):
        files.put(".weir-tmp/x", [memoryview(b"y")], False)
    with pytest.raises(AlreadyExists):
        files.put("a/b", [memoryview(b"y")], True)
    files.close()


def test_delete_removes_folders_that_become_empty(tmp_path: Path) -> None:
    files = FolderFiles(tmp_path)
    for key in ("a/b/c", "a/b/d", "a/e", "f/g/h"):
        files.put(key, [memoryview(b"x")], False)
    files.delete(["a/b/c", "a/b/d", "f/g/h", "a/b"])
    assert files_under(tmp_path) == ["a", "a/e"]
    files.close()


def test_puts_and_deletes_of_one_folder_do_not_lose_each_other(tmp_path: Path) -> None:
    files = FolderFiles(tmp_path)
    errors: list[BaseException] = []

    def churn(name: str) -> None:
        try:
            for _ in range(60):
                files.put(f"a/b/{name}", [memoryview(b"x")], False)
                files.get(f"a/b/{name}", 0, None)
                files.delete([f"a/b/{name}"])
        except BaseException as error:  # noqa: BLE001 - shown by the test
            errors.append(error)

    threads = [threading.Thread(target=churn, args=(str(number),)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert files_under(tmp_path) == []
    files.close()


async def test_slow_disk_has_a_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FolderObjectStore(tmp_path, timeout_s=0.05)
    await store.put("key", [b"x"])
    sync = os.fsync

    def slow_sync(descriptor: int) -> None:
        time.sleep(0.3)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", slow_sync)
    with pytest.raises(OutcomeUnknown):
        await store.put("key", [b"y"])
    await store.close()


async def test_closed_store_refuses(tmp_path: Path) -> None:
    store = FolderObjectStore(tmp_path)
    await store.close()
    with pytest.raises(Invalid):
        await store.put("key", [b"x"])


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("size", [1, 256 * 1024 - 1, 256 * 1024, 3 * 1024 * 1024 + 17])
def test_any_size_comes_back_whole(tmp_path: Path, size: int, direct: bool) -> None:
    files = FolderFiles(tmp_path, direct=direct)
    body = os.urandom(size)
    views = [memoryview(body)[at : at + 100_003] for at in range(0, size, 100_003)]
    files.put("key", views, True)
    assert (tmp_path / "key").read_bytes() == body
    assert bytes(files.get("key", 0, None)) == body
    assert bytes(files.get("key", size // 2, size)) == body[size // 2 :]
    files.close()

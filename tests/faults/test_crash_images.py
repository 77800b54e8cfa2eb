"""The model of a power cut, event by event, and that the recorder sees what a program does."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.crash_images import Event, Kind, Replay, Unsupported, power_cuts, read_log
from tests.faults.power_cut import compiler, main, recorder, recording


def images(events: list[tuple[Kind, str, int, int, bytes]], tmp_path: Path, count: int = 60) -> list[dict[str, bytes]]:
    """Possible outcomes of a cut after the events."""
    replay = Replay()
    for time_ns, event in enumerate(events):
        replay.apply(Event(time_ns, *event))
    found = []
    for seed in range(count):
        target = tmp_path / str(seed)
        replay.write_image(target, random.Random(seed))
        files = [path for path in target.rglob("*") if path.is_file()]
        found.append({str(path.relative_to(target)): path.read_bytes() for path in files})
    return found


def created(name: str) -> tuple[Kind, str, int, int, bytes]:
    return (Kind.CREATE, name, 0, 0, b"")


def written(name: str, data: bytes, offset: int = 0) -> tuple[Kind, str, int, int, bytes]:
    return (Kind.WRITE, name, offset, len(data), data)


def synced(name: str, begun: int, kind: Kind = Kind.SYNC_END) -> list[tuple[Kind, str, int, int, bytes]]:
    """Begin at event `begun` and end right after it."""
    return [(Kind.SYNC_BEGIN, name, 0, 0, b""), (kind, name, begun, 0, b"")]


def test_what_was_synced_is_there_and_the_rest_may_be(tmp_path: Path) -> None:
    found = images([created("f"), written("f", b"a" * 1024), *synced("f", 2), written("f", b"b" * 1024, 512)], tmp_path)
    contents = {image["f"] for image in found}
    assert all(content[:512] == b"a" * 512 for content in contents)
    assert contents >= {
        b"a" * 1024,
        b"a" * 512 + b"b" * 1024,
        b"a" * 512 + b"b" * 512,
        b"a" * 1024 + b"b" * 512,
    }


def test_a_sync_does_not_cover_what_was_written_after_it_began(tmp_path: Path) -> None:
    events = [created("f"), (Kind.SYNC_BEGIN, "f", 0, 0, b""), written("f", b"x"), (Kind.SYNC_END, "f", 1, 0, b"")]
    assert {image["f"] for image in images(events, tmp_path)} == {b"", b"x"}


def test_an_unsynced_name_may_be_missing_and_fdatasync_does_not_help(tmp_path: Path) -> None:
    events = [created("f"), written("f", b"x"), *synced("f", 2, Kind.DATASYNC_END)]
    assert {image.get("f") for image in images(events, tmp_path)} == {None, b"x"}


def test_a_renamed_file_is_under_one_of_its_names(tmp_path: Path) -> None:
    events = [created("t"), written("t", b"x"), *synced("t", 2), (Kind.RENAME, "t", 0, 0, b"f")]
    assert {tuple(image.items()) for image in images(events, tmp_path / "a")} == {(("t", b"x"),), (("f", b"x"),)}
    events += synced("", 5)
    assert {tuple(image.items()) for image in images(events, tmp_path / "b")} == {(("f", b"x"),)}


def test_names_survive_in_order(tmp_path: Path) -> None:
    found = images([created("a"), created("b"), (Kind.UNLINK, "a", 0, 0, b""), created("c")], tmp_path)
    assert {tuple(sorted(image)) for image in found} == {(), ("a",), ("a", "b"), ("b",), ("b", "c")}


def test_a_synced_folder_settles_its_own_names_and_those_above(tmp_path: Path) -> None:
    events = [(Kind.MKDIR, "d", 0, 0, b""), created("other"), created("d/f"), *synced("d", 3)]
    found = images(events, tmp_path)
    assert all("d/f" in image for image in found)
    assert {"other" in image for image in found} == {True, False}


def test_a_later_file_of_the_same_name_replaces_the_earlier_for_good(tmp_path: Path) -> None:
    events = [created("f"), (Kind.UNLINK, "f", 0, 0, b""), created("f"), written("f", b"new"), *synced("f", 4)]
    assert {image.get("f") for image in images(events, tmp_path)} == {b"new"}


def test_lengths_change_like_content(tmp_path: Path) -> None:
    base = [created("f"), written("f", b"abcdef"), *synced("f", 2)]
    cut = images([*base, (Kind.TRUNCATE, "f", 0, 2, b"")], tmp_path / "a")
    assert {image["f"] for image in cut} == {b"ab", b"abcdef"}
    grown = images([*base, (Kind.GROW, "f", 0, 8, b"")], tmp_path / "b")
    assert {image["f"] for image in grown} == {b"abcdef", b"abcdef\0\0"}


def test_a_link_is_the_same_file(tmp_path: Path) -> None:
    events = [created("t"), written("t", b"x"), *synced("t", 2), (Kind.LINK, "t", 0, 0, b"f"), *synced("", 5)]
    events += [written("t", b"y"), *synced("t", 8)]
    assert {tuple(sorted(image.items())) for image in images(events, tmp_path)} == {(("f", b"y"), ("t", b"y"))}


def test_cuts_are_in_order_and_repeatable(tmp_path: Path) -> None:
    events = [Event(time_ns, *event) for time_ns, event in enumerate([created("f"), *(written("f", b"x"),) * 50])]
    first, again = ([(cut.index, cut.seed) for cut in power_cuts(events, 20, random.Random(7))] for _ in range(2))
    assert first == again == sorted(first, key=lambda cut: cut[0])
    assert all(cut.index >= 30 for cut in power_cuts(events, 20, random.Random(7), after_ns=30))
    cut = list(power_cuts(events, 3, random.Random(7)))[-1]
    cut.write_image(tmp_path / "a")
    cut.write_image(tmp_path / "b")
    assert [p.name for p in (tmp_path / "a").iterdir()] == [p.name for p in (tmp_path / "b").iterdir()]


PROGRAM = """
import os, sys, mmap
os.chdir(sys.argv[1])
os.mkdir("sub")
fd = os.open("sub/t", os.O_RDWR | os.O_CREAT | os.O_EXCL)
os.write(fd, b"head")
os.pwritev(fd, [b"one", b"", b"two"], 10)
os.posix_fallocate(fd, 0, 32)
os.ftruncate(fd, 20)
os.fdatasync(fd)
os.fsync(fd)
os.pwrite(fd, bytes(8), 4)
folder = os.open("sub", os.O_RDONLY)
os.rename("sub/t", "f")
os.link("f", "g")
os.unlink("g")
os.fsync(folder)
with open("f", "ab") as file:
    file.write(b"end")
open(sys.argv[2], "w").write("not below the folder")
if len(sys.argv) > 3:
    mmap.mmap(fd, 20)
"""


@pytest.mark.skipif(compiler() is None, reason="the recorder needs gcc or cc")
def test_the_recorder_sees_every_change(tmp_path: Path) -> None:
    library, data, log = recorder(tmp_path), tmp_path / "data", tmp_path / "log"
    env = recording(library, data, log)
    subprocess.run([sys.executable, "-c", PROGRAM, str(data), str(tmp_path / "elsewhere")], env=env, check=True)
    events = read_log(log)
    assert [(event.kind, event.name, event.data) for event in events if event.kind is not Kind.SYNC_BEGIN] == [
        (Kind.MKDIR, "sub", b""),
        (Kind.CREATE, "sub/t", b""),
        (Kind.WRITE, "sub/t", b"head"),
        (Kind.WRITE, "sub/t", b"one"),
        (Kind.WRITE, "sub/t", b"two"),
        (Kind.GROW, "sub/t", b""),
        (Kind.TRUNCATE, "sub/t", b""),
        (Kind.DATASYNC_END, "sub/t", b""),
        (Kind.SYNC_END, "sub/t", b""),
        (Kind.ZEROS, "sub/t", b""),
        (Kind.RENAME, "sub/t", b"f"),
        (Kind.LINK, "f", b"g"),
        (Kind.UNLINK, "g", b""),
        (Kind.SYNC_END, "sub", b""),
        (Kind.WRITE, "f", b"end"),
    ]
    assert [event.time_ns for event in events] == sorted(event.time_ns for event in events)
    replay = Replay()
    for event in events:
        replay.apply(event)
    seen = replay._seen["f"]
    assert seen is not None
    seen.sync(len(seen.changes))
    assert bytes(seen.synced) == (data / "f").read_bytes()


@pytest.mark.skipif(compiler() is None, reason="the recorder needs gcc or cc")
def test_what_escapes_the_recorder_is_an_error_not_a_wrong_image(tmp_path: Path) -> None:
    env = recording(recorder(tmp_path), tmp_path / "data", tmp_path / "log")
    argv = [sys.executable, "-c", PROGRAM, str(tmp_path / "data"), str(tmp_path / "elsewhere"), "map it"]
    subprocess.run(argv, env=env, check=True)
    with pytest.raises(Unsupported, match="mmap"):
        read_log(tmp_path / "log")


def test_a_log_inside_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        recording(tmp_path / "recorder.so", tmp_path, tmp_path / "sub" / "log")


@pytest.mark.skipif(compiler() is None, reason="the recorder needs gcc or cc")
def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, log, image = tmp_path / "data", tmp_path / "logs" / "log", tmp_path / "image"
    script = f"open({str(data / 'f')!r}, 'w').write('x')"
    assert main(["record", "--folder", str(data), "--log", str(log), "--", sys.executable, "-c", script]) == 0
    assert main(["image", "--log", str(log), "--event", "1", "--seed", "3", "--into", str(image)]) == 0
    assert "power cut before event 1, seed 3" in capsys.readouterr().out
    assert {path.name for path in image.iterdir()} <= {"f"}

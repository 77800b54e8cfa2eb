"""The command line without a cluster: settings, errors that read well, and the pure parts of lag and reset."""

from __future__ import annotations

import asyncio
import json
import struct
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broker.cli.app import main, mount
from broker.cli.client import Client, ClientError, parse_bootstrap
from broker.cli.reading import parse_assignment, timestamp_at
from broker.cli.resetting import Target, new_offset
from broker.settings.show import documentation
from protocol.record_codec import Record, encode_batch

RUN = CliRunner()
app = mount(None)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_config_shows_values_with_their_sources(tmp_path: Path) -> None:
    (tmp_path / "weir.toml").write_text("num.partitions = 9")
    env = {"WEIR_LOG_RETENTION_MS": "5", "AWS_SECRET_ACCESS_KEY": "geheim"}
    result = RUN.invoke(app, ["config", "--json", "--set", "group.max.size=3"], env=env)
    shown = json.loads(result.stdout)
    assert shown["num.partitions"] == {"value": 9, "source": "file weir.toml"}
    assert shown["log.retention.ms"] == {"value": 5, "source": "environment WEIR_LOG_RETENTION_MS"}
    assert shown["group.max.size"] == {"value": 3, "source": "option --set"}
    assert "geheim" not in result.stdout
    table = RUN.invoke(app, ["config", "--changed", "--set", "group.max.size=3"], env=env).stdout
    assert "option --set" in table
    assert "http.port" not in table
    assert RUN.invoke(app, ["config", "--docs"]).stdout == documentation()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["config", "--set", "num.partition=1"], "did you mean 'num.partitions'?"),
        (["serve", "--set", "num.partitions=0"], "expected an integer from 1 to 10000, got '0'"),
        (["serve", "--config", "none.toml"], "cannot read the settings file none.toml"),
        (["serve", "--listen", "nonsense"], "--listen nonsense: expected host:port"),
        (["topics", "create", "a", "--config", "x"], "--config x: expected key=value"),
        (["configs", "alter", "topic", "a"], "nothing to do"),
        (["groups", "reset-offsets", "g", "--topic", "t"], "expected exactly one of"),
        (["groups", "reset-offsets", "g", "--to-latest"], "either --topic or --all-topics"),
        (["groups", "reset-offsets", "g", "--to-latest", "-t", "a:x"], "expected name or name:0,1"),
        (["groups", "reset-offsets", "g", "--all-topics", "--to-datetime", "soon"], "expected ISO 8601"),
    ],
)
def test_wrong_use_ends_with_code_2(arguments: list[str], text: str) -> None:
    result = RUN.invoke(app, arguments)
    assert result.exit_code == 2
    assert text in result.stderr


def test_every_command_has_help() -> None:
    for command in (["serve"], ["config"], ["topics", "grow"], ["groups", "reset-offsets"], ["configs", "alter"]):
        assert RUN.invoke(app, [*command, "--help"]).exit_code == 0


@pytest.mark.parametrize("arguments", [["topics", "list"], ["groups", "describe", "g"], ["configs", "list"]])
def test_nobody_listens(arguments: list[str]) -> None:
    result = RUN.invoke(app, [*arguments, "--bootstrap", "127.0.0.1:1"])
    assert result.exit_code == 1
    assert "cannot reach 127.0.0.1:1: Connection refused" in result.stderr


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "closed the connection at ApiVersions"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak Kafka: answer of 1213486160 bytes"),
        (struct.pack(">ii", 4, 1), "does not speak Kafka"),
        (None, "no answer to ApiVersions from"),
    ],
)
async def test_somebody_else_listens(answer: bytes | None, text: str) -> None:
    hold = asyncio.Event()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        if answer is None:
            await hold.wait()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    address = "127.0.0.1:%d" % server.sockets[0].getsockname()[1]  # noqa: UP031
    with pytest.raises(ClientError, match=text):
        async with Client(address, 0.3):
            pass
    hold.set()
    server.close()
    await server.wait_closed()


def test_bootstrap_addresses() -> None:
    assert parse_bootstrap("a:1, [::1]:2,:3") == [("a", 1), ("::1", 2), ("127.0.0.1", 3)]
    for wrong in ("", "a", "a:b", "a:1:2"):
        with pytest.raises(ClientError):
            parse_bootstrap(wrong)


@pytest.mark.parametrize(
    ("target", "committed", "at_time", "expected"),
    [
        (Target(earliest=True), 50, None, 10),
        (Target(latest=True), None, None, 100),
        (Target(offset=42), 50, None, 42),
        (Target(offset=5), 50, None, 10),
        (Target(offset=500), 50, None, 100),
        (Target(shift=-20), 50, None, 30),
        (Target(shift=-200), 50, None, 10),
        (Target(shift=7), None, None, 17),
        (Target(timestamp_ms=1), 50, 60, 60),
        (Target(timestamp_ms=1), 50, -1, 100),
        (Target(timestamp_ms=1), 50, None, 100),
    ],
)
def test_where_a_group_goes_on(target: Target, committed: int | None, at_time: int | None, expected: int) -> None:
    assert new_offset(target, committed, 10, 100, at_time) == expected


@pytest.mark.parametrize("codec", range(5))
def test_timestamp_of_the_first_unread_record(codec: int) -> None:
    records = [Record(None, b"x" * 100, timestamp_ms=1000 + number) for number in range(10)]
    first = encode_batch(records, codec, base_offset=20)
    second = encode_batch(records, codec, base_offset=30)
    data = bytes(first + second)
    assert timestamp_at(data, 20) == 1000
    assert timestamp_at(data, 24) == 1004
    assert timestamp_at(data, 30) == 1000
    assert timestamp_at(data, 39) == 1009
    assert timestamp_at(data, 40) is None
    assert timestamp_at(data[: len(first) - 1], 24) == 1000  # cut off: what its header says
    assert timestamp_at(b"", 0) is None
    assert timestamp_at(None, 0) is None
    assert timestamp_at(b"\xff" * 200, 0) is None


def test_assignments() -> None:
    name = b"t"
    data = struct.pack(">hi", 0, 1) + struct.pack(">h", 1) + name + struct.pack(">iii", 2, 3, 5) + struct.pack(">i", -1)
    assert parse_assignment(data) == [("t", 3), ("t", 5)]
    assert parse_assignment(b"") == []


def test_commands_of_other_packages_are_mounted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["weir", "--help"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    assert "serve" in capsys.readouterr().out

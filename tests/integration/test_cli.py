"""The administrative commands against a real broker: what they print is what the cluster then is."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from typer.testing import CliRunner

from broker.cli.app import mount
from broker.embedded import SMALL, BrokerThread

RUN = CliRunner()
app = mount(None)


class Cli:
    """Runs commands against one broker."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def run(self, *arguments: str, code: int = 0) -> str:
        result = RUN.invoke(app, [*arguments, "--bootstrap", self.bootstrap])
        assert result.exit_code == code, result.output
        return result.stdout if code == 0 else result.stderr

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))


@pytest.fixture
def cli() -> Any:
    with BrokerThread(SMALL) as broker:
        yield Cli(broker.bootstrap)


def produce(cli: Cli, topic: str, count: int, timestamp_ms: int = 0) -> None:
    producer = Producer({"bootstrap.servers": cli.bootstrap, "linger.ms": 50, "compression.type": "gzip"})
    for number in range(count):
        producer.produce(topic, b"%d" % number, partition=0, timestamp=timestamp_ms + number)
    assert producer.flush(10) == 0


def commit(cli: Cli, group: str, topic: str, offset: int) -> None:
    consumer = Consumer({"bootstrap.servers": cli.bootstrap, "group.id": group, "enable.auto.commit": False})
    consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    consumer.close()


def test_topics(cli: Cli) -> None:
    cli.run("topics", "create", "a", "b", "-p", "2", "--config", "retention.ms=-1")
    assert "TOPIC_ALREADY_EXISTS" in cli.run("topics", "create", "a", code=1)
    assert "exists already" in cli.run("topics", "create", "a", "--if-not-exists")
    assert "INVALID_CONFIG" in cli.run("topics", "create", "c", "-c", "cleanup.policy=compact", code=1)
    assert [(row["topic"], row["partitions"]) for row in cli.json("topics", "list")] == [("a", 2), ("b", 2)]
    produce(cli, "a", 10, 1_700_000_000_000)
    cli.run("topics", "grow", "a", "3")
    (topic,) = cli.json("topics", "describe", "a")
    assert topic["configs"] == {"retention.ms": "-1"}
    assert [(each["partition"], each["records"], each["leader"]) for each in topic["partitions"]] == [
        (0, 10, 1),
        (1, 0, 1),
        (2, 0, 1),
    ]
    assert "UNKNOWN_TOPIC_OR_PARTITION" in cli.run("topics", "delete", "a", "none", code=1)
    cli.run("topics", "delete", "none", "--if-exists")
    assert [row["topic"] for row in cli.json("topics", "list")] == ["b"]


def test_groups_with_lag_in_records_and_seconds(cli: Cli) -> None:
    cli.run("topics", "create", "a", "-p", "1", "-c", "message.timestamp.before.max.ms=9223372036854775807")
    produce(cli, "a", 10, 1_600_000_000_000)
    commit(cli, "g", "a", 4)
    (group,) = cli.json("groups", "describe", "g")
    (partition,) = group["partitions"]
    assert (partition["committed"], partition["end_offset"], partition["records"]) == (4, 10, 6)
    assert group["lag_records"] == 6
    assert partition["seconds"] == group["lag_seconds"] > 100_000_000
    assert [row["group"] for row in cli.json("groups", "list")] == ["g"]

    plan = cli.json("groups", "reset-offsets", "g", "--all-topics", "--to-datetime", "2020-09-13T12:26:40.007Z")
    assert plan == [{"topic": "a", "partition": 0, "committed": 4, "new_offset": 7}]
    assert cli.json("groups", "describe", "g")[0]["partitions"][0]["committed"] == 4
    cli.run("groups", "reset-offsets", "g", "-t", "a:0", "--shift-by", "2", "--execute")
    assert cli.json("groups", "describe", "g")[0]["partitions"][0]["committed"] == 6
    cli.run("groups", "reset-offsets", "g", "-t", "a", "--to-latest", "--execute")
    (group,) = cli.json("groups", "describe", "g")
    assert (group["lag_records"], group["lag_seconds"]) == (0, 0.0)
    assert "has no partition 5" in cli.run("groups", "reset-offsets", "g", "-t", "a:5", "--to-latest", code=1)
    cli.run("groups", "delete", "g")
    assert "does not exist" in cli.run("groups", "describe", "g", code=1)


def test_offsets_of_a_group_with_members_stay(cli: Cli) -> None:
    cli.run("topics", "create", "a", "-p", "1")
    consumer = Consumer(
        {"bootstrap.servers": cli.bootstrap, "group.id": "g", "auto.offset.reset": "earliest", "client.id": "me"}
    )
    consumer.subscribe(["a"])
    for _ in range(100):
        consumer.poll(0.1)
        if consumer.assignment():
            break
    (group,) = cli.json("groups", "describe", "g")
    assert group["state"] == "Stable"
    assert [(each["topic"], each["client_id"]) for each in group["partitions"]] == [("a", "me")]
    assert "when it has no members" in cli.run(
        "groups", "reset-offsets", "g", "-t", "a", "--to-latest", "--execute", code=1
    )
    assert "NON_EMPTY_GROUP" in cli.run("groups", "delete", "g", code=1)
    consumer.close()


def test_configs(cli: Cli) -> None:
    cli.run("topics", "create", "a")
    cli.run("configs", "alter", "topic", "a", "--set", "retention.ms=5", "--set", "segment.ms=9")
    cli.run("configs", "alter", "topic", "a", "--delete", "segment.ms", "--subtract", "cleanup.policy=delete")
    cli.run("configs", "alter", "broker", "--set", "message.max.bytes=70000")
    assert "INVALID_REQUEST" in cli.run("configs", "alter", "broker", "1", "--set", "num.partitions=9", code=1)
    cli.run("configs", "alter", "topic", "a", "--set", "retention.ms=6", "--dry-run")
    rows = {(row["name"], row["config"]): row["value"] for row in cli.json("configs", "list")}
    assert rows == {
        ("a", "cleanup.policy"): "",
        ("a", "retention.ms"): "5",
        ("(all)", "message.max.bytes"): "70000",
    }
    described = {row["config"]: row for row in cli.json("configs", "describe", "topic", "a")}
    assert described["max.message.bytes"]["value"] == "70000"
    assert described["max.message.bytes"]["source"] == "all brokers (dynamic)"
    assert "Without effect" in cli.run("configs", "describe", "topic", "a", "--docs")
    broker = {row["config"]: row for row in cli.json("configs", "describe", "broker", "1")}
    assert broker["data.dir"]["read_only"]


def test_limits_of_connections_hold_at_once(cli: Cli) -> None:
    held = [socket.create_connection(("127.0.0.1", int(cli.bootstrap.rpartition(":")[2]))) for _ in range(3)]
    cli.run("configs", "alter", "broker", "--set", "max.connections.per.ip=3")
    assert "closed the connection" in cli.run("topics", "list", code=1)
    for each in held:
        each.close()
    for _ in range(50):
        result = RUN.invoke(app, ["topics", "list", "--bootstrap", cli.bootstrap])
        if result.exit_code == 0:
            break
    assert result.exit_code == 0
    cli.run("configs", "alter", "broker", "--delete", "max.connections.per.ip", "--set", "max.connections=1")
    with socket.create_connection(("127.0.0.1", int(cli.bootstrap.rpartition(":")[2]))):
        assert "closed the connection" in cli.run("topics", "list", code=1)


def test_objects_of_a_stopped_broker(tmp_path: Path) -> None:
    data_dir = str(tmp_path / "data")
    with BrokerThread({**SMALL, "data.dir": data_dir}) as broker:
        cli = Cli(broker.bootstrap)
        cli.run("topics", "create", "a", "-p", "1")
        produce(cli, "a", 1000)
    where = ["--set", f"data.dir={data_dir}"]
    listed = json.loads(RUN.invoke(app, ["objects", "list", *where, "--json"]).stdout)
    (data,) = [row for row in listed if row["class"] == "data"]
    totals = json.loads(RUN.invoke(app, ["objects", "totals", *where, "--json"]).stdout)
    assert {row["class"]: row["objects"] for row in totals}["data"] == 1
    shown = json.loads(RUN.invoke(app, ["objects", "show", data["key"], *where, "--json"]).stdout)
    assert sum(block["records"] for block in shown["blocks"]) == 1000
    assert RUN.invoke(app, ["objects", "verify", *where]).stdout.startswith("1 objects, 0 problems")
    path = tmp_path / "data" / "objects" / data["key"]
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    result = RUN.invoke(app, ["objects", "verify", *where])
    assert result.exit_code == 1
    assert "1 objects, 1 problems" in result.stdout
    assert "there is no object x" in RUN.invoke(app, ["objects", "show", "x", *where]).stderr
    assert "is not a folder" in RUN.invoke(app, ["objects", "list", "--store", f"file://{tmp_path}/none"]).stderr
    assert RUN.invoke(app, ["objects", "list", "--store", "memory:"]).exit_code == 1

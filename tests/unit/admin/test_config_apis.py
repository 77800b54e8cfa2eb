"""DescribeConfigs, AlterConfigs, IncrementalAlterConfigs: who may be altered, what holds at once, Kafka's answers."""

from __future__ import annotations

from typing import Any

import pytest

from broker.cluster.names import CONSUMER_OFFSETS
from protocol.errors import ErrorCode
from tests.unit.admin.world import AdminWorld, admin_world

TOPIC, BROKER = 2, 4
SET, DELETE, APPEND, SUBTRACT = range(4)


async def describe(
    world: AdminWorld, kind: int, name: str, keys: list[str] | None = None, version: int = 4
) -> tuple[int, str | None, dict[str, Any]]:
    resource = {"resource_type": kind, "resource_name": name, "configuration_keys": keys}
    body = {"resources": [resource], "include_synonyms": True, "include_documentation": True}
    (result,) = (await world.ask(32, body, version)).results
    return result.error_code, result.error_message, {each.name: each for each in result.configs}


async def incremental(
    world: AdminWorld, kind: int, name: str, *changes: tuple[str, int, str | None], validate_only: bool = False
) -> tuple[int, str | None]:
    configs = [{"name": key, "config_operation": operation, "value": value} for key, operation, value in changes]
    resource = {"resource_type": kind, "resource_name": name, "configs": configs}
    (answer,) = (await world.ask(44, {"resources": [resource], "validate_only": validate_only})).responses
    return answer.error_code, answer.error_message


async def alter(
    world: AdminWorld, kind: int, name: str, *configs: tuple[str, str | None], version: int = 2
) -> tuple[int, str | None]:
    pairs = [{"name": key, "value": value} for key, value in configs]
    resource = {"resource_type": kind, "resource_name": name, "configs": pairs}
    (answer,) = (await world.ask(33, {"resources": [resource], "validate_only": False}, version)).responses
    return answer.error_code, answer.error_message


async def test_a_topic_config_holds_at_once_and_goes_back() -> None:
    async with admin_world() as world:
        await world.create("a")
        assert await incremental(world, TOPIC, "a", ("retention.ms", SET, "5")) == (0, None)
        assert world.image.topics["a"].config.retention_ms == 5
        assert [topic.name for topic in world.changes[-1].reconfigured] == ["a"]
        found = (await describe(world, TOPIC, "a", ["retention.ms"]))[2]["retention.ms"]
        assert (found.value, found.config_source, found.config_type) == ("5", 1, 5)
        assert [(each.name, each.value, each.source) for each in found.synonyms] == [("retention.ms", "5", 1)]
        assert await incremental(world, TOPIC, "a", ("segment.ms", SET, "9"), ("retention.ms", DELETE, None)) == (
            0,
            None,
        )
        assert world.image.topics["a"].overrides == {"segment.ms": "9"}
        assert await alter(world, TOPIC, "a", ("retention.ms", "77")) == (0, None)
        assert world.image.topics["a"].overrides == {"retention.ms": "77"}
        assert await alter(world, TOPIC, "a") == (0, None)
        assert world.image.topics["a"].overrides == {}


async def test_validate_only_changes_nothing() -> None:
    async with admin_world() as world:
        await world.create("a")
        before = world.image
        assert await incremental(world, TOPIC, "a", ("retention.ms", SET, "5"), validate_only=True) == (0, None)
        code, _ = await incremental(world, TOPIC, "a", ("retention.ms", SET, "x"), validate_only=True)
        assert code == ErrorCode.INVALID_CONFIG
        assert world.image is before


async def test_dynamic_broker_configs_reach_all_topics_in_the_right_order() -> None:
    async with admin_world() as world:
        await world.create("a", "b", configs={"max.message.bytes": "9"})
        assert await incremental(world, BROKER, "", ("log.retention.ms", SET, "2000")) == (0, None)
        assert world.image.topics["a"].config.retention_ms == 2000
        assert await incremental(world, BROKER, "1", ("log.retention.ms", SET, "1000")) == (0, None)
        assert world.image.topics["b"].config.retention_ms == 1000
        assert world.image.topics["b"].config.max_message_bytes == 9
        assert len(world.changes[-1].reconfigured) == 2
        _, _, described = await describe(world, BROKER, "1")
        assert (described["log.retention.ms"].value, described["log.retention.ms"].config_source) == ("1000", 2)
        assert not described["log.retention.ms"].read_only
        assert described["num.partitions"].read_only
        _, _, cluster = await describe(world, BROKER, "")
        assert {name: (each.value, each.config_source) for name, each in cluster.items()} == {
            "log.retention.ms": ("2000", 3)
        }
        assert await incremental(world, BROKER, "1", ("log.retention.ms", DELETE, None)) == (0, None)
        assert world.image.topics["b"].config.retention_ms == 2000


# Asked of Apache Kafka 4.3 on the wire, but for the unknown broker config, which Kafka keeps without effect.
@pytest.mark.parametrize(
    ("kind", "name", "key", "code", "text"),
    [
        (TOPIC, "nope", "retention.ms", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "The topic 'nope' does not exist."),
        (TOPIC, "a/b", "retention.ms", ErrorCode.INVALID_TOPIC_EXCEPTION, "Topic name is invalid: 'a/b' contains"),
        (TOPIC, "", "retention.ms", ErrorCode.INVALID_REQUEST, "Default topic resources are not allowed."),
        (TOPIC, "a", "nope", ErrorCode.INVALID_CONFIG, "Unknown topic config name: nope"),
        (3, "x", "a", ErrorCode.INVALID_REQUEST, "Unknown resource type 3"),
        (0, "x", "a", ErrorCode.INVALID_REQUEST, "Unknown resource type 0"),
        (
            BROKER,
            "7",
            "log.retention.ms",
            ErrorCode.INVALID_REQUEST,
            "Unexpected broker id, expected 1, but received 7",
        ),
        (BROKER, "x", "log.retention.ms", ErrorCode.INVALID_REQUEST, "Node id must be an integer, but it is: x"),
        (
            BROKER,
            "1",
            "num.partitions",
            ErrorCode.INVALID_REQUEST,
            "Cannot update these configs dynamically: [num.partitions]",
        ),
        (
            BROKER,
            "",
            "num.partitions",
            ErrorCode.INVALID_REQUEST,
            "Cannot update these configs dynamically: [num.partitions]",
        ),
        (BROKER, "1", "nope", ErrorCode.INVALID_CONFIG, "Unknown broker config name: nope"),
    ],
)
async def test_refusals_by_both_apis(kind: int, name: str, key: str, code: ErrorCode, text: str) -> None:
    async with admin_world() as world:
        await world.create("a")
        before = world.image
        for version in range(3):
            found, message = await alter(world, kind, name, (key, "1000"), version=version)
            assert found == code
            assert text in str(message)
        found, message = await incremental(world, kind, name, (key, SET, "1000"))
        assert found == code
        assert text in str(message)
        assert world.image is before


async def test_a_resource_named_twice() -> None:
    async with admin_world() as world:
        await world.create("a")
        resource = {"resource_type": TOPIC, "resource_name": "a", "configs": [{"name": "segment.ms", "value": "9"}]}
        answer = await world.ask(33, {"resources": [resource, resource], "validate_only": False})
        assert [each.error_code for each in answer.responses] == [ErrorCode.INVALID_REQUEST] * 2
        assert world.image.topics["a"].overrides == {}


async def test_compaction_is_refused_and_the_offsets_topic_shows_it() -> None:
    async with admin_world() as world:
        await world.create("a")
        await world.cluster.ensure_internal(CONSUMER_OFFSETS)
        code, text = await incremental(world, TOPIC, "a", ("cleanup.policy", SET, "compact"))
        assert code == ErrorCode.INVALID_CONFIG
        assert "does not compact topics of users yet" in str(text)
        _, _, described = await describe(world, TOPIC, CONSUMER_OFFSETS, ["cleanup.policy", "segment.bytes"])
        assert {name: each.value for name, each in described.items()} == {
            "cleanup.policy": "compact",
            "segment.bytes": "104857600",
        }


@pytest.mark.parametrize(
    ("kind", "name", "code", "text"),
    [
        (TOPIC, "nope", ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ""),
        (TOPIC, "a/b", ErrorCode.INVALID_TOPIC_EXCEPTION, "Topic name is invalid"),
        (TOPIC, "", ErrorCode.INVALID_TOPIC_EXCEPTION, "the empty string is not allowed"),
        (BROKER, "7", ErrorCode.INVALID_REQUEST, "Unexpected broker id, expected 1 or empty string, but received 7"),
        (BROKER, "x", ErrorCode.INVALID_REQUEST, "Broker id must be an integer, but it is: x"),
        (3, "x", ErrorCode.INVALID_REQUEST, "malformed by the client library"),
        (99, "x", ErrorCode.INVALID_REQUEST, "malformed by the client library"),
    ],
)
async def test_refused_descriptions(kind: int, name: str, code: ErrorCode, text: str) -> None:
    async with admin_world() as world:
        found, message, configs = await describe(world, kind, name)
        assert (found, configs) == (code, {})
        assert text in str(message)


@pytest.mark.parametrize("version", range(1, 5))
async def test_every_version_of_describe_configs(version: int) -> None:
    async with admin_world({"store.s3.secret.access.key": "geheim"}) as world:
        await world.create("a")
        code, _, described = await describe(world, TOPIC, "a", [], version)
        assert code == 0
        assert len(described) == 33
        if version >= 3:
            assert described["segment.bytes"].documentation.startswith("Without effect")
            assert described["retention.ms"].config_type == 5
        _, _, broker = await describe(world, BROKER, "1", None, version)
        secret = broker["store.s3.secret.access.key"]
        assert (secret.value, secret.is_sensitive, list(secret.synonyms)) == (None, True, [])

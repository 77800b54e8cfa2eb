"""The cluster's metadata commands: topics, partitions, leaders, configs, identity. Each is one idempotent transaction.

A command awaits nothing but its `tx`; ids and times are arguments. A change takes the next revision inside its own
transaction; a repeated command that finds its work done takes none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from broker.cluster.rows import NO_LEADER, ClusterRows, ConfigDelta, NewTopic, Resource, StoredTopic
from s3stream.errors import Invalid
from s3stream.meta.bulk import execute_in, fetch_in, locking
from s3stream.meta.commands_identity import allocate_ids_in, next_revision_in, revision_in
from s3stream.meta.commands_streams import create_streams_in, delete_streams_in
from s3stream.ports import Tx

_TOPIC_COLUMNS = "SELECT topic_id, name, internal, replication_factor FROM topic"
_PARTITION_COLUMNS = "SELECT topic_id, stream_id, leader_id, leader_epoch FROM partition"


async def ensure_cluster_id(tx: Tx, proposed: str, now_ms: int) -> str:
    """The identity of the cluster: `proposed` if it has none yet, else the one that it keeps for ever."""
    await tx.execute(
        "INSERT INTO cluster_identity (one, cluster_id, created_ms) VALUES (1, $1, $2) ON CONFLICT (one) DO NOTHING",
        proposed,
        now_ms,
    )
    rows = await tx.fetch("SELECT cluster_id FROM cluster_identity WHERE one = 1")
    return str(rows[0][0])


async def load_cluster(tx: Tx) -> ClusterRows:
    """The whole of it, for a start or after a gap in revisions."""
    identity = await tx.fetch("SELECT cluster_id FROM cluster_identity WHERE one = 1")
    if not identity:
        raise Invalid("the cluster has no identity yet: ensure_cluster_id comes first")
    topics = await tx.fetch(_TOPIC_COLUMNS + " ORDER BY created_ms, name")
    partitions = await tx.fetch(_PARTITION_COLUMNS + " ORDER BY topic_id, partition_index")
    configs = await tx.fetch("SELECT resource_type, resource_name, name, value FROM config ORDER BY name")
    broker_configs: dict[str, dict[str, str]] = {}
    topic_configs: list[tuple[str, str, str]] = []
    for kind, resource, name, value in configs:
        if kind == Resource.BROKER:
            broker_configs.setdefault(resource, {})[name] = value
        else:
            topic_configs.append((resource, name, value))
    stored = _assembled(topics, partitions, topic_configs)
    return ClusterRows(await revision_in(tx), str(identity[0][0]), stored, broker_configs)


async def load_topics(tx: Tx, topic_ids: Sequence[str]) -> list[StoredTopic]:
    """Those topics that exist, in the order of their creation."""
    ids = sorted(set(topic_ids))
    topics = await _fetch_texts(tx, _TOPIC_COLUMNS + " WHERE topic_id IN ({ids}) ORDER BY created_ms, name", ids)
    partitions = await _fetch_texts(
        tx, _PARTITION_COLUMNS + " WHERE topic_id IN ({ids}) ORDER BY topic_id, partition_index", ids
    )
    configs = await _fetch_texts(
        tx,
        "SELECT resource_name, name, value FROM config WHERE resource_type = $1 AND resource_name IN ({ids})"
        " ORDER BY name",
        ids,
        int(Resource.TOPIC),
    )
    return _assembled(topics, partitions, configs)


async def create_topics(tx: Tx, topics: Sequence[NewTopic], now_ms: int) -> tuple[int, list[StoredTopic]]:
    """Create the topics with their streams, not led by anyone yet; the revision and those that now exist under their
    given id. A name that another topic has is left out of the answer. Natural key: the topic ids."""
    names = [topic.name for topic in topics]
    rows = await _fetch_texts(tx, "SELECT name FROM topic WHERE name IN ({ids})" + locking(tx), names)
    taken = {row[0] for row in rows}
    missing = [topic for topic in topics if topic.name not in taken]
    if missing:
        revision = await next_revision_in(tx)
        await tx.execute_many(
            "INSERT INTO topic (topic_id, name, internal, replication_factor, created_ms) VALUES ($1, $2, $3, $4, $5)",
            [(each.topic_id, each.name, int(each.internal), each.replication_factor, now_ms) for each in missing],
        )
        for topic in missing:
            await _add_partitions(tx, topic.topic_id, 0, topic.partitions)
            await _put_configs(tx, Resource.TOPIC, topic.topic_id, topic.configs)
    else:
        revision = await revision_in(tx)
    return revision, await load_topics(tx, [topic.topic_id for topic in topics])


async def delete_topics(tx: Tx, topic_ids: Sequence[str], now_ms: int) -> tuple[int, list[int]]:
    """Delete the topics with their configs and streams; the revision and the streams that went. Missing topics are no
    error. What the streams hold becomes dead objects as of `now_ms`."""
    ids = sorted(set(topic_ids))
    await _fetch_texts(tx, "SELECT topic_id FROM topic WHERE topic_id IN ({ids}) ORDER BY topic_id" + locking(tx), ids)
    stream_ids = [
        int(row[0]) for row in await _fetch_texts(tx, "SELECT stream_id FROM partition WHERE topic_id IN ({ids})", ids)
    ]
    await _execute_texts(tx, "DELETE FROM partition WHERE topic_id IN ({ids})", ids)
    deleted = await _execute_texts(tx, "DELETE FROM topic WHERE topic_id IN ({ids})", ids)
    await _execute_texts(
        tx, "DELETE FROM config WHERE resource_type = $1 AND resource_name IN ({ids})", ids, int(Resource.TOPIC)
    )
    if stream_ids:
        await delete_streams_in(tx, stream_ids, now_ms)
    return (await next_revision_in(tx) if deleted else await revision_in(tx)), sorted(stream_ids)


async def create_partitions(tx: Tx, topic_id: str, count: int) -> tuple[int, StoredTopic | None]:
    """Give the topic `count` partitions in all (it never has fewer afterwards than before); None: no such topic."""
    rows = await tx.fetch("SELECT topic_id FROM topic WHERE topic_id = $1" + locking(tx), topic_id)
    if not rows:
        return await revision_in(tx), None
    have = int((await tx.fetch("SELECT COUNT(*) FROM partition WHERE topic_id = $1", topic_id))[0][0])
    if have < count:
        await _add_partitions(tx, topic_id, have, count)
        revision = await next_revision_in(tx)
    else:
        revision = await revision_in(tx)
    return revision, (await load_topics(tx, [topic_id]))[0]


async def announce_leaders(tx: Tx, leader_id: int, epochs: Mapping[int, int]) -> int:
    """Make the broker the leader of the partitions with these streams, each under its stream epoch; the revision.

    Comes after the logs are open, so that clients never see a leader that has not opened. An epoch that is not above
    the one that is announced already changes nothing.
    """
    await tx.execute_many(
        "UPDATE partition SET leader_id = $2, leader_epoch = $3 WHERE stream_id = $1 AND leader_epoch < $3",
        [(stream_id, leader_id, epochs[stream_id]) for stream_id in sorted(epochs)],
    )
    return await next_revision_in(tx)


async def alter_configs(tx: Tx, deltas: Sequence[ConfigDelta]) -> int:
    """Put and drop config values; the revision. A topic that is gone meanwhile is passed over."""
    for delta in deltas:
        if delta.resource is Resource.TOPIC:
            found = await tx.fetch("SELECT topic_id FROM topic WHERE topic_id = $1" + locking(tx), delta.name)
            if not found:
                continue
        await tx.execute_many(
            "DELETE FROM config WHERE resource_type = $1 AND resource_name = $2 AND name = $3",
            [(int(delta.resource), delta.name, name) for name in delta.drop],
        )
        await _put_configs(tx, delta.resource, delta.name, delta.put)
    return await next_revision_in(tx)


async def allocate_producer_ids(tx: Tx, count: int) -> tuple[int, int]:
    """A block `[first, end)` of producer ids that nobody else gets, from 0 up. A lost answer wastes a block and nothing
    else."""
    block = await allocate_ids_in(tx, "producer", count)
    return block.start - 1, block.stop - 1


async def _add_partitions(tx: Tx, topic_id: str, have: int, want: int) -> None:
    stream_ids = await allocate_ids_in(tx, "stream", want - have)
    await create_streams_in(tx, stream_ids)
    await tx.execute_many(
        "INSERT INTO partition (topic_id, partition_index, stream_id, leader_id, leader_epoch)"
        " VALUES ($1, $2, $3, $4, 0)",
        [(topic_id, have + place, stream_id, NO_LEADER) for place, stream_id in enumerate(stream_ids)],
    )


async def _put_configs(tx: Tx, resource: Resource, name: str, values: Mapping[str, str]) -> None:
    await tx.execute_many(
        "INSERT INTO config (resource_type, resource_name, name, value) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (resource_type, resource_name, name) DO UPDATE SET value = excluded.value",
        [(int(resource), name, key, values[key]) for key in sorted(values)],
    )


async def _fetch_texts(tx: Tx, sql: str, texts: Any, *fixed: int) -> list[tuple[Any, ...]]:
    """`fetch_in` for keys that are text; its list of ids may be of any type that SQL compares."""
    return await fetch_in(tx, sql, texts, *fixed)


async def _execute_texts(tx: Tx, sql: str, texts: Any, *fixed: int) -> int:
    return await execute_in(tx, sql, texts, *fixed)


def _assembled(
    topics: Sequence[tuple[Any, ...]], partitions: Sequence[tuple[Any, ...]], configs: Sequence[tuple[Any, ...]]
) -> list[StoredTopic]:
    """Topics in their order, each with its partitions (rows by index within a topic) and configs."""
    columns: dict[str, tuple[list[int], list[int], list[int]]] = {row[0]: ([], [], []) for row in topics}
    for topic_id, stream_id, leader_id, leader_epoch in partitions:
        streams, leaders, epochs = columns[topic_id]
        streams.append(stream_id)
        leaders.append(leader_id)
        epochs.append(leader_epoch)
    values: dict[str, dict[str, str]] = {}
    for topic_id, name, value in configs:
        values.setdefault(topic_id, {})[name] = value
    return [
        StoredTopic(topic_id, name, bool(internal), factor, *columns[topic_id], values.get(topic_id, {}))
        for topic_id, name, internal, factor in topics
    ]

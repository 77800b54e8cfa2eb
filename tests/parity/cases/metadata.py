"""Metadata and DescribeCluster: what clients bootstrap from."""

from __future__ import annotations

import uuid
from typing import Any

from tests.parity import apis
from tests.parity.cases import case, ends
from tests.parity.target import Target
from tests.parity.wire import Plain

K = apis.METADATA
CLUSTER = apis.DESCRIBE_CLUSTER
SOME = ends(K, 1, 4, 9, 10, 12)
ZERO = uuid.UUID(int=0)


def ask(b: Target, v: int, names: list[str] | None, **values: Any) -> Plain:
    topics = None if names is None else [{"name": n, "topic_id": None} for n in names]
    return b.call(K, v, topics=topics, **{"allow_auto_topic_creation": False, **values})


@case(K)
def one_topic(b: Target, v: int) -> Plain:
    return ask(b, v, [b.topic(3).name])


@case(K)
def several_topics(b: Target, v: int) -> Plain:
    return ask(b, v, [b.topic().name, b.topic(2).name])


@case(K)
def all_topics(b: Target, v: int) -> Plain:
    """Null from version 1 on, the empty list in version 0: every topic, of which two are looked at."""
    mine = [b.topic().name, b.topic(2).name]
    answer = ask(b, v, [] if v == 0 else None)
    answer["topics"] = [t for t in answer["topics"] if t["name"] in mine]
    return answer


@case(K, range(1, 14))
def no_topics(b: Target, v: int) -> Plain:
    return ask(b, v, [])


@case(K, range(4, 14))
def unknown_topic(b: Target, v: int) -> Plain:
    return ask(b, v, [b.unknown_topic().name])


@case(K, SOME)
def auto_creation(b: Target, v: int) -> Plain:
    """The first answer says that it is being made, a later one shows it with the default partitions."""
    name = b.name("auto")
    first = ask(b, v, [name], allow_auto_topic_creation=True)
    topic = b.await_topic(name)
    return {"first_error": first["topics"][0]["error_code"], "then": ask(b, v, [topic.name])}


@case(K, SOME)
def unknown_and_known(b: Target, v: int) -> Plain:
    if v < 4:
        return ask(b, v, [b.topic().name, "bad/" + b.name()])
    return ask(b, v, [b.topic().name, b.unknown_topic().name])


@case(K, SOME)
def invalid_name(b: Target, v: int) -> Plain:
    return ask(b, v, ["no spaces allowed", "a/b"], allow_auto_topic_creation=True)


@case(K, SOME)
def empty_name(b: Target, v: int) -> Plain:
    return ask(b, v, [""], allow_auto_topic_creation=True)


@case(K, SOME)
def long_name(b: Target, v: int) -> Plain:
    return ask(b, v, ["n" * 250], allow_auto_topic_creation=True)


@case(K, SOME)
def topic_twice(b: Target, v: int) -> Plain:
    name = b.topic().name
    return ask(b, v, [name, name])


@case(K, (8, 9, 10))
def authorized_operations(b: Target, v: int) -> Plain:
    return ask(
        b,
        v,
        [b.topic().name],
        include_cluster_authorized_operations=True,
        include_topic_authorized_operations=True,
    )


@case(K, (11, 13))
def topic_authorized_operations(b: Target, v: int) -> Plain:
    return ask(b, v, [b.topic().name], include_topic_authorized_operations=True)


@case(K, (10, 12, 13))
def by_id(b: Target, v: int) -> Plain:
    topic = b.topic(2)
    return b.call(K, v, topics=[{"topic_id": topic.id, "name": None if v > 11 else ""}])


@case(K, (10, 12, 13))
def by_unknown_id(b: Target, v: int) -> Plain:
    return b.call(K, v, topics=[{"topic_id": b.unknown_topic().id, "name": None if v > 11 else ""}])


@case(K, (12, 13))
def by_id_and_name(b: Target, v: int) -> Plain:
    topic = b.topic()
    return b.call(K, v, topics=[{"topic_id": topic.id, "name": topic.name}])


@case(K, (12, 13))
def neither_id_nor_name(b: Target, v: int) -> Plain:
    return b.call(K, v, topics=[{"topic_id": None, "name": None}])


@case(K, (12, 13))
def ids_and_names_mixed(b: Target, v: int) -> Plain:
    one, two = b.topic(), b.topic()
    return b.call(K, v, topics=[{"topic_id": one.id, "name": None}, {"topic_id": None, "name": two.name}])


@case(K, (9, 13))
def deleted_topic(b: Target, v: int) -> Plain:
    topic = b.topic()
    b.call(apis.DELETE_TOPICS, 5, topic_names=[topic.name], timeout=10000)
    for _ in range(50):
        answer = ask(b, v, [topic.name])
        if answer["topics"][0]["error_code"] != "none":
            break
    return answer


# -------------------- DescribeCluster


@case(CLUSTER)
def cluster(b: Target, v: int) -> Plain:
    return b.call(CLUSTER, v)


@case(CLUSTER)
def cluster_authorized_operations(b: Target, v: int) -> Plain:
    return b.call(CLUSTER, v, include_cluster_authorized_operations=True)


@case(CLUSTER, (1, 2))
def cluster_of_controllers(b: Target, v: int) -> Plain:
    return b.call(CLUSTER, v, endpoint_type=2)


@case(CLUSTER, (1, 2))
def cluster_of_unknown_endpoints(b: Target, v: int) -> Plain:
    return b.call(CLUSTER, v, endpoint_type=9)


@case(CLUSTER, (2,))
def cluster_with_fenced(b: Target, v: int) -> Plain:
    return b.call(CLUSTER, v, include_fenced_brokers=True)

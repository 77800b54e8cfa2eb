"""One broker as the cases see it: connections, fresh topics and groups, and the requests most cases need."""

from __future__ import annotations

import copy
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.parity import apis, batches
from tests.parity.wire import CaseError, Connection, Plain

# A consumer's subscription, version 0: one topic, no user data. Kafka reads it; a broken one hangs its join for ever.
SUBSCRIPTION = b"\0\0" + b"\0\0\0\1" + b"\0\5topic" + b"\xff\xff\xff\xff"


@dataclass(frozen=True)
class Topic:
    """A topic by name and id; requests take what their version uses."""

    name: str
    id: uuid.UUID

    def key(self) -> dict[str, Any]:
        """Both spellings of the topic, for a request entity of any version."""
        return {"name": self.name, "topic": self.name, "topic_id": self.id}


class Target:
    """A broker under comparison. `token` marks every name made on it and is removed before comparing."""

    def __init__(self, label: str, address: str, token: str) -> None:
        self.label = label
        host, port = address.rsplit(":", 1)
        self.host, self.port, self.token = host, int(port), token
        self.opened: list[Connection] = []
        self.topic_names: dict[str, str] = {}
        self.case = "start"
        self.count = 0
        self.made: list[str] = []
        about = self.call(apis.DESCRIBE_CLUSTER, 0)
        self.cluster_id: str = about["cluster_id"]
        self.node_id: int = about["brokers"][0]["broker_id"]
        for _ in range(100):  # a broker's first block of producer ids may take a moment
            if (
                self.call(apis.INIT_PRODUCER_ID, 1, transactional_id=None, transaction_timeout=60000)["error_code"]
                == "none"
            ):
                break
            time.sleep(0.1)
        self.end_case()

    def for_case(self, case: str) -> Target:
        """The same broker for one case: names of its own, connections of its own; cases may run side by side."""
        one = copy.copy(self)
        one.opened = []
        one.case = "".join(c if c.isalnum() else "-" for c in case)
        one.count = 0
        one.made = []
        return one

    # ------------------------------------------------------------------------------------------- connections

    def connect(self) -> Connection:
        """A new connection, closed at the end of the case."""
        connection = Connection(self.host, self.port)
        self.opened.append(connection)
        return connection

    def call(self, api_key: int, version: int, *, timeout_s: float = 15, **values: Any) -> Plain:
        """One request on a connection of its own."""
        connection = self.connect()
        try:
            return connection.call(api_key, version, timeout_s=timeout_s, **values)
        finally:
            connection.close()
            self.opened.remove(connection)

    def end_case(self) -> None:
        """Close what the case opened; delete its topics without waiting: brokers slow down with their number."""
        for connection in self.opened:
            connection.close()
        self.opened.clear()
        if self.made:
            names = [name for name in self.made if name.startswith(self.token)]
            self.call(apis.DELETE_TOPICS, 4, topic_names=names, timeout=1)
            self.made.clear()

    # ------------------------------------------------------------------------------------------------- names

    def name(self, what: str = "x") -> str:
        """A name nothing on this broker has yet, the same on both brokers but for the token."""
        self.count += 1
        return f"{self.token}-{self.case}-{what}{self.count}"

    def topic(self, partitions: int = 1, **configs: str) -> Topic:
        """Create a topic and wait until its partitions have leaders. Config names: `_` stands for `.`."""
        name = self.name("t")
        made = self.call(
            apis.CREATE_TOPICS,
            7,
            topics=[
                {
                    "name": name,
                    "num_partitions": partitions,
                    "replication_factor": 1,
                    "assignments": [],
                    "configs": [{"name": k.replace("_", "."), "value": v} for k, v in configs.items()],
                }
            ],
            timeout=20000,
        )["topics"][0]
        if made["error_code"] != "none":
            raise CaseError(f"{self.label} did not create {name}: {made['error_code']} {made['error_message']}")
        return self.await_topic(name)

    def await_topic(self, name: str) -> Topic:
        """Wait until the topic has leaders everywhere; the topic."""
        for _ in range(200):
            found = self.call(apis.METADATA, 12, topics=[{"name": name, "topic_id": None}])["topics"][0]
            if found["error_code"] == "none" and self._led(name, len(found["partitions"])):
                self.topic_names[found["topic_id"]] = name
                self.made.append(name)
                return Topic(name, uuid.UUID(found["topic_id"]))
            time.sleep(0.02)
        raise CaseError(f"{self.label}: {name} got no leaders: {found}")

    def _led(self, name: str, partitions: int) -> bool:
        """Whether every partition answers as leader; Kafka's metadata run ahead of its leaders."""
        wanted = [{"partition_index": p, "timestamp": -1} for p in range(partitions)]
        answer = self.call(
            apis.LIST_OFFSETS,
            5,
            replica_id=-1,
            isolation_level=0,
            topics=[{"name": name, "partitions": wanted}],
        )
        return all(p["error_code"] == "none" for p in answer["topics"][0]["partitions"])

    def unknown_topic(self) -> Topic:
        """A topic that does not exist; its id is the same on both brokers."""
        return Topic(self.name("unknown"), uuid.UUID("12345678-1234-4234-8234-123456789abc"))

    # ------------------------------------------------------------------------------------- produce and fetch

    def produce(
        self,
        version: int,
        topic: Topic,
        records: bytes | Sequence[tuple[int, bytes | None]] | None,
        *,
        partition: int = 0,
        acks: int = -1,
        transactional_id: str | None = None,
        connection: Connection | None = None,
        timeout_s: float = 15,
    ) -> Plain:
        """Produce to one topic: one batch to `partition`, or (partition, batch) pairs."""
        pairs = [(partition, records)] if records is None or isinstance(records, bytes) else list(records)
        values: dict[str, Any] = {
            "transactional_id": transactional_id,
            "acks": acks,
            "timeout": 10000,
            "topic_data": [
                {
                    **topic.key(),
                    "partition_data": [{"index": index, "records": data} for index, data in pairs],
                }
            ],
        }
        del values["topic_data"][0]["topic"]
        return (connection or self).call(apis.PRODUCE, version, timeout_s=timeout_s, **values)

    def fill(self, topic: Topic, count: int = 1, *, partition: int = 0, **options: Any) -> None:
        """Append `count` one-record batches, `timestamp_step` 1000 ms apart; anything but success is a CaseError."""
        for i in range(count):
            data = batches.batch(((b"k%d" % i, b"v%d" % i),), base_timestamp=batches.TIMESTAMP_MS + 1000 * i, **options)
            answer = self.produce(9, topic, data, partition=partition)
            code = answer["responses"][0]["partition_responses"][0]["error_code"]
            if code != "none":
                raise CaseError(f"{self.label} refused a record: {code}")

    def fetch(
        self,
        version: int,
        topics: Topic | Sequence[tuple[Topic, Sequence[dict[str, Any]]]],
        *,
        offset: int = 0,
        partition: int = 0,
        connection: Connection | None = None,
        timeout_s: float = 15,
        forget: Sequence[tuple[Topic, Sequence[int]]] = (),
        **values: Any,
    ) -> Plain:
        """Fetch one partition, or the (topic, partitions) given; no waiting unless `max_wait` says so."""
        wanted = [(topics, [{"partition": partition, "fetch_offset": offset}])] if isinstance(topics, Topic) else topics
        request: dict[str, Any] = {
            "replica_id": -1,
            "max_wait": 0,
            "min_bytes": 1,
            "max_bytes": 50 << 20,
            "topics": [
                {
                    "topic": topic.name,
                    "topic_id": topic.id,
                    "partitions": [{"partition_max_bytes": 1 << 20, **p} for p in partitions],
                }
                for topic, partitions in wanted
            ],
            "forgotten_topics_data": [
                {"topic": topic.name, "topic_id": topic.id, "partitions": list(numbers)} for topic, numbers in forget
            ],
        }
        request.update(values)
        return (connection or self).call(apis.FETCH, version, timeout_s=timeout_s, **request)

    def fetch_to(self, version: int, topic: Topic, end: int, **options: Any) -> Plain:
        """Fetch until the high watermark is at least `end` (at most 5 s)."""
        for _ in range(100):
            answer = self.fetch(version, topic, **options)
            if "closed" in answer or answer["responses"][0]["partitions"][0]["high_watermark"] >= end:
                break
            time.sleep(0.05)
        return answer

    # ------------------------------------------------------------------------------------------------ groups

    def await_coordinator(self, group: str) -> None:
        """Wait until the group's coordinator serves it."""
        for _ in range(300):
            found = self.call(apis.FIND_COORDINATOR, 4, key_type=0, coordinator_keys=[group])["coordinators"][0]
            if found["error_code"] == "none":
                probe = self.call(apis.HEARTBEAT, 0, group_id=group, generation_id=1, member_id="probe")
                if probe["error_code"] not in ("not_coordinator", "coordinator_load_in_progress"):
                    return
            time.sleep(0.05)
        raise CaseError(f"{self.label}: no coordinator for {group}")

    def group(self) -> str:
        """The name of a new group whose coordinator is ready."""
        name = self.name("g")
        self.await_coordinator(name)
        return name

    def join_values(self, group: str, member: str = "", **values: Any) -> dict[str, Any]:
        """The fields of a JoinGroup with one `range` protocol."""
        return {
            "group_id": group,
            "session_timeout": 10000,
            "rebalance_timeout": 5000,
            "member_id": member,
            "protocol_type": "consumer",
            "protocols": [{"name": "range", "metadata": SUBSCRIPTION}],
            **values,
        }

    def member(self, group: str, **values: Any) -> tuple[str, int]:
        """Join as the only member and sync; (member id, generation)."""
        joined = self.call(apis.JOIN_GROUP, 5, **self.join_values(group, **values))
        if joined.get("error_code") == "member_id_required":
            values = {**values, "member": joined["member_id"]}
            joined = self.call(apis.JOIN_GROUP, 5, **self.join_values(group, **values))
        if joined.get("error_code") != "none":
            raise CaseError(f"{self.label}: join answered {joined.get('error_code', joined)}")
        member, generation = joined["member_id"], joined["generation_id"]
        synced = self.call(
            apis.SYNC_GROUP,
            3,
            group_id=group,
            generation_id=generation,
            member_id=member,
            group_instance_id=values.get("group_instance_id"),
            assignments=[{"member_id": member, "assignment": b"assigned"}],
        )
        if synced["error_code"] != "none":
            raise CaseError(f"{self.label}: sync answered {synced['error_code']}")
        return member, generation

    def producer_id(self) -> int:
        """A new producer id with epoch 0."""
        answer = self.call(apis.INIT_PRODUCER_ID, 1, transactional_id=None, transaction_timeout=60000)
        if answer["error_code"] != "none":
            raise CaseError(f"{self.label}: InitProducerId answered {answer['error_code']}")
        return int(answer["producer_id"])

"""Stock Python clients on a broker: produce, consume in a group, go on after a restart of the group, seek by time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import confluent_kafka
import kafka
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from broker.embedded import BrokerThread

N = 500
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def confluent_produce(bootstrap: str, topic: str, codec: str, first: int, count: int) -> None:
    failures: list[Any] = []
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": bootstrap, "compression.type": codec, "enable.idempotence": True, "linger.ms": 5}
    )
    for i in range(first, first + count):
        producer.produce(topic, b"v%d" % i, key=b"k", on_delivery=lambda error, _: error and failures.append(error))
    assert producer.flush(20) == 0
    assert failures == []


def confluent_consume(bootstrap: str, topic: str, group: str, count: int) -> list[bytes]:
    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    found: list[bytes] = []
    deadline = time.monotonic() + 20
    while len(found) < count and time.monotonic() < deadline:
        for message in consumer.consume(count - len(found), 0.2):
            assert message.error() is None
            found.append(message.value())
    consumer.commit(asynchronous=False)
    consumer.close()
    return found


def kafka_python_produce(bootstrap: str, topic: str, codec: str, first: int, count: int) -> None:
    producer = kafka.KafkaProducer(
        bootstrap_servers=bootstrap, compression_type=None if codec == "none" else codec, acks="all"
    )
    futures = [producer.send(topic, b"v%d" % i, key=b"k") for i in range(first, first + count)]
    producer.flush(20)
    for future in futures:
        future.get(20)
    producer.close()


def kafka_python_consume(bootstrap: str, topic: str, group: str, count: int) -> list[bytes]:
    consumer = kafka.KafkaConsumer(
        topic,
        bootstrap_servers=bootstrap,
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        consumer_timeout_ms=20_000,
    )
    found: list[bytes] = []
    for message in consumer:
        found.append(message.value)
        if len(found) == count:
            break
    consumer.commit()
    consumer.close()
    return found


def aiokafka_produce(bootstrap: str, topic: str, codec: str, first: int, count: int) -> None:
    async def run() -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap,
            compression_type=None if codec == "none" else codec,
            enable_idempotence=True,
        )
        await producer.start()
        try:
            sent = [await producer.send(topic, b"v%d" % i, key=b"k") for i in range(first, first + count)]
            await asyncio.wait_for(asyncio.gather(*sent), 20)
        finally:
            await producer.stop()

    asyncio.run(run())


def aiokafka_consume(bootstrap: str, topic: str, group: str, count: int) -> list[bytes]:
    async def run() -> list[bytes]:
        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=bootstrap,
            group_id=group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
        )
        await consumer.start()
        try:
            found: list[bytes] = []
            deadline = time.monotonic() + 20
            while len(found) < count and time.monotonic() < deadline:
                for messages in (await consumer.getmany(timeout_ms=500, max_records=count - len(found))).values():
                    found += [message.value for message in messages]
            await consumer.commit()
            return found
        finally:
            await consumer.stop()

    return asyncio.run(run())


Produce = Callable[[str, str, str, int, int], None]
Consume = Callable[[str, str, str, int], list[bytes]]
CLIENTS: dict[str, tuple[Produce, Consume]] = {
    "confluent-kafka": (confluent_produce, confluent_consume),
    "kafka-python": (kafka_python_produce, kafka_python_consume),
    "aiokafka": (aiokafka_produce, aiokafka_consume),
}
READERS = list(CLIENTS)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_group_goes_on_where_it_stopped(weir_session_broker: BrokerThread, topic: str, client: str) -> None:
    bootstrap = weir_session_broker.bootstrap
    produce, consume = CLIENTS[client]
    produce(bootstrap, topic, "none", 0, N)
    assert consume(bootstrap, topic, f"g-{topic}", N) == [b"v%d" % i for i in range(N)]
    produce(bootstrap, topic, "none", N, N)
    assert consume(bootstrap, topic, f"g-{topic}", N) == [b"v%d" % i for i in range(N, 2 * N)]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("client", CLIENTS)
def test_every_codec_is_read_by_another_client(
    weir_session_broker: BrokerThread, topic: str, client: str, codec: str
) -> None:
    bootstrap = weir_session_broker.bootstrap
    CLIENTS[client][0](bootstrap, topic, codec, 0, N)
    reader = READERS[(READERS.index(client) + 1) % len(READERS)]
    assert CLIENTS[reader][1](bootstrap, topic, f"g-{topic}", N) == [b"v%d" % i for i in range(N)]


def test_two_members_share_the_partitions_and_each_record_is_read_once(
    weir_session_broker: BrokerThread, topic: str
) -> None:
    bootstrap = weir_session_broker.bootstrap
    admin = kafka.KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([kafka.admin.NewTopic(topic, 4, 1)])
    admin.close()
    config = {
        "bootstrap.servers": bootstrap,
        "group.id": f"g-{topic}",
        "auto.offset.reset": "earliest",
        "session.timeout.ms": 6000,
        "partition.assignment.strategy": "cooperative-sticky",
    }
    members = [confluent_kafka.Consumer(config) for _ in range(2)]
    for member in members:
        member.subscribe([topic])
    deadline = time.monotonic() + 30
    while any(len(member.assignment()) != 2 for member in members) and time.monotonic() < deadline:
        for member in members:
            member.consume(1, 0.1)
    assert sorted(part.partition for member in members for part in member.assignment()) == [0, 1, 2, 3]
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap})
    for i in range(N):
        producer.produce(topic, b"v%d" % i, partition=i % 4)
    assert producer.flush(20) == 0
    found: list[bytes] = []
    while len(found) < N and time.monotonic() < deadline:
        for member in members:
            found += [message.value() for message in member.consume(N, 0.1)]
    for member in members:
        member.close()
    assert sorted(found) == sorted(b"v%d" % i for i in range(N))


def test_offsets_by_time(weir_session_broker: BrokerThread, topic: str) -> None:
    bootstrap = weir_session_broker.bootstrap
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap})
    begin = int(time.time() * 1000) - 100_000
    for i in range(100):
        producer.produce(topic, b"v", partition=0, timestamp=begin + i * 1000)
    assert producer.flush(20) == 0
    consumer = confluent_kafka.Consumer({"bootstrap.servers": bootstrap, "group.id": f"g-{topic}"})
    asked = [confluent_kafka.TopicPartition(topic, 0, begin + 41_500), confluent_kafka.TopicPartition(topic, 0, begin)]
    assert [consumer.offsets_for_times([each], 10)[0].offset for each in asked] == [42, 0]
    beyond = consumer.offsets_for_times([confluent_kafka.TopicPartition(topic, 0, begin + 10**6)], 10)[0]
    assert beyond.offset == -1 or beyond.offset == confluent_kafka.OFFSET_END
    assert consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, 0), 10) == (0, 100)
    consumer.close()

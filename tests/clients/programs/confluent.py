"""confluent-kafka (librdkafka), 2.x and 1.9."""

import time

from confluent_kafka import Consumer, Producer, TopicPartition
from contract import DEADLINE_S, describe, main


def produce(arguments):
    failures = []
    producer = Producer(
        {
            "bootstrap.servers": arguments.bootstrap,
            "enable.idempotence": True,
            "compression.type": arguments.codec,
            "linger.ms": 20,
        }
    )
    for key, value, headers, timestamp in arguments.records():
        producer.produce(
            arguments.topic,
            value,
            key,
            headers=headers,
            timestamp=timestamp,
            on_delivery=lambda error, _: failures.append(str(error)) if error else None,
        )
    left = producer.flush(DEADLINE_S)
    if failures or left:
        raise SystemExit(f"{len(failures)} refused ({failures[:1]}), {left} not acknowledged")
    return {"produced": arguments.count}


def read(consumer, count):
    records = []
    deadline = time.monotonic() + DEADLINE_S
    while len(records) < count and time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error():
            raise SystemExit(f"consumer error: {message.error()}")
        records.append(
            describe(
                message.partition(),
                message.offset(),
                message.key(),
                message.value(),
                message.headers(),
                message.timestamp()[1],
            )
        )
    return records


def settings(arguments, group):
    return {
        "bootstrap.servers": arguments.bootstrap,
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": 10000,
    }


def consume(arguments):
    consumer = Consumer(settings(arguments, "unused"))
    topic = consumer.list_topics(arguments.topic, timeout=20).topics[arguments.topic]
    consumer.assign([TopicPartition(arguments.topic, p, 0) for p in topic.partitions])
    records = read(consumer, arguments.count)
    consumer.close()
    return {"records": records}


def group(arguments):
    consumer = Consumer(settings(arguments, arguments.group))
    consumer.subscribe([arguments.topic])
    records = read(consumer, arguments.count)
    ends = {}
    for record in records:
        ends[record["p"]] = record["o"] + 1
    consumer.commit(offsets=[TopicPartition(arguments.topic, p, o) for p, o in ends.items()], asynchronous=False)
    consumer.close()
    return {"records": records}


main({"produce": produce, "consume": consume, "group": group})

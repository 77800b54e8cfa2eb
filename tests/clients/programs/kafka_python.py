"""kafka-python, 3.x and 2.0.2."""

import time

import kafka
from contract import DEADLINE_S, describe, main
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

OLD = kafka.__version__.startswith("2.0.")


def produce(arguments):
    producer = KafkaProducer(
        bootstrap_servers=arguments.bootstrap,
        acks="all",
        compression_type=None if arguments.codec == "none" else arguments.codec,
        linger_ms=20,
        **({} if OLD else {"enable_idempotence": True}),
    )
    futures = [
        producer.send(arguments.topic, value=value, key=key, headers=headers, timestamp_ms=timestamp)
        for key, value, headers, timestamp in arguments.records()
    ]
    producer.flush(DEADLINE_S)
    for future in futures:
        future.get(timeout=1)
    producer.close()
    return {"produced": arguments.count}


def read(consumer, count):
    records = []
    deadline = time.monotonic() + DEADLINE_S
    while len(records) < count and time.monotonic() < deadline:
        for batch in consumer.poll(timeout_ms=200, max_records=count - len(records)).values():
            records.extend(describe(r.partition, r.offset, r.key, r.value, r.headers, r.timestamp) for r in batch)
    return records


def consume(arguments):
    consumer = KafkaConsumer(
        bootstrap_servers=arguments.bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    partitions = [TopicPartition(arguments.topic, p) for p in consumer.partitions_for_topic(arguments.topic)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    records = read(consumer, arguments.count)
    consumer.close()
    return {"records": records}


def group(arguments):
    consumer = KafkaConsumer(
        arguments.topic,
        bootstrap_servers=arguments.bootstrap,
        group_id=arguments.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=10000,
    )
    records = read(consumer, arguments.count)
    ends = {}
    for record in records:
        offset = record["o"] + 1
        value = OffsetAndMetadata(offset, "") if OLD else OffsetAndMetadata(offset, "", -1)
        ends[TopicPartition(arguments.topic, record["p"])] = value
    consumer.commit(ends)
    consumer.close()
    return {"records": records}


main({"produce": produce, "consume": consume, "group": group})

"""aiokafka."""

import asyncio

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from contract import DEADLINE_S, describe, main


async def produce(arguments):
    producer = AIOKafkaProducer(
        bootstrap_servers=arguments.bootstrap,
        enable_idempotence=True,
        compression_type=None if arguments.codec == "none" else arguments.codec,
        linger_ms=20,
    )
    await producer.start()
    try:
        sent = [
            await producer.send(arguments.topic, value=value, key=key, headers=headers, timestamp_ms=timestamp)
            for key, value, headers, timestamp in arguments.records()
        ]
        await asyncio.wait_for(asyncio.gather(*sent), DEADLINE_S)
    finally:
        await producer.stop()
    return {"produced": arguments.count}


async def read(consumer, count):
    records = []
    loop = asyncio.get_running_loop()
    deadline = loop.time() + DEADLINE_S
    while len(records) < count and loop.time() < deadline:
        batches = await consumer.getmany(timeout_ms=200, max_records=count - len(records))
        for batch in batches.values():
            records.extend(describe(r.partition, r.offset, r.key, r.value, r.headers, r.timestamp) for r in batch)
    return records


async def consume(arguments):
    consumer = AIOKafkaConsumer(
        arguments.topic, bootstrap_servers=arguments.bootstrap, group_id=None, auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        records = await read(consumer, arguments.count)
    finally:
        await consumer.stop()
    return {"records": records}


async def group(arguments):
    consumer = AIOKafkaConsumer(
        arguments.topic,
        bootstrap_servers=arguments.bootstrap,
        group_id=arguments.group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        records = await read(consumer, arguments.count)
        await consumer.commit({TopicPartition(arguments.topic, r["p"]): r["o"] + 1 for r in records})
    finally:
        await consumer.stop()
    return {"records": records}


def run(mode):
    return lambda arguments: asyncio.run(mode(arguments))


main({"produce": run(produce), "consume": run(consume), "group": run(group)})

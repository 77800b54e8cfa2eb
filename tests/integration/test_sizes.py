"""Batches that are too large for a topic, or for the write-ahead log, are refused; smaller ones go on."""

from __future__ import annotations

from typing import Any

import confluent_kafka

from broker.embedded import SMALL, BrokerThread


def send(bootstrap: str, topic: str, size: int) -> Any:
    """The error of one record of that size, or None."""
    outcome: list[Any] = []
    producer = confluent_kafka.Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 20_000_000})
    producer.produce(topic, b"x" * size, partition=0, on_delivery=lambda error, _: outcome.append(error))
    assert producer.flush(20) == 0
    return outcome[0]


def test_a_batch_that_fits_no_segment_is_refused_before_it_gets_an_offset(topic: str) -> None:
    with BrokerThread({**SMALL, "wal.segment.bytes": 1 << 20, "wal.capacity.bytes": 8 << 20}) as broker:
        assert send(broker.bootstrap, topic, 100) is None
        assert send(broker.bootstrap, topic, 1_500_000).code() == confluent_kafka.KafkaError.MSG_SIZE_TOO_LARGE
        assert send(broker.bootstrap, topic, 900_000) is None


def test_sixteen_mebibytes_are_taken_by_default(weir_session_broker: BrokerThread, topic: str) -> None:
    assert send(weir_session_broker.bootstrap, topic, 16 << 20) is None
    refused = send(weir_session_broker.bootstrap, topic, 17 << 20)
    assert refused.code() == confluent_kafka.KafkaError.MSG_SIZE_TOO_LARGE

"""Batches of topics whose `compression.type` is not `producer`: written anew in the topic's codec, as Kafka does.

The only case besides LogAppendTime in which a produced record is touched. It costs CPU on the event loop in proportion
to the batch; topics that leave the choice to the producer, the default, never come here.
"""

from __future__ import annotations

from broker.configs import TopicConfig
from protocol.errors import ErrorCode
from protocol.record_batch import BatchHeader, InvalidBatch, parse_batch_header
from protocol.record_codec import encode_batch, iter_records

_CODECS = {"uncompressed": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def as_topic_codec(
    batch: memoryview, header: BatchHeader, config: TopicConfig, max_bytes: int
) -> tuple[memoryview, BatchHeader]:
    """The batch in the codec of `config`, itself if it already is. Raises InvalidBatch."""
    codec = _CODECS[config.compression_type]
    if header.codec == codec:
        return batch, header
    encoded = encode_batch(
        list(iter_records(batch)),
        codec,
        producer_id=header.producer_id,
        producer_epoch=header.producer_epoch,
        base_sequence=header.base_sequence,
        transactional=header.is_transactional,
        level=config.compression_level,
    )
    if len(encoded) > max_bytes:
        raise InvalidBatch(
            ErrorCode.MESSAGE_TOO_LARGE,
            f"batch of at most {max_bytes} bytes expected, {len(encoded)} as {config.compression_type}",
        )
    written = memoryview(encoded)
    return written, parse_batch_header(written)

"""A producer on the librdkafka inside confluent-kafka's wheel, called without its Python layer.

confluent-kafka makes one Python call and one Message object per record, some ten microseconds of client CPU: the load
generator would be the limit of most runs. Here a whole chunk of records is handed over in one call of
`rd_kafka_produce_batch`, and an acknowledged batch comes back as one event whose size and partition are read. The cost
in Python is per chunk and per batch; the rest is librdkafka's own. Structures and constants: librdkafka's rdkafka.h,
whose ABI is stable.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
from collections.abc import Callable, Mapping, Sequence
from ctypes import POINTER, c_char_p, c_int, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

COPY = 0x2
PARTITION = 0x8
UNASSIGNED = -1
_EVENT_DELIVERY = 0x1
_EVENT_ERROR = 0x8
_PRODUCER = 0
_QUEUE_FULL = -184


class ClientError(Exception):
    """librdkafka is missing, or refused a property or a topic."""


class Message(ctypes.Structure):
    """`rd_kafka_message_t`."""

    _fields_ = (
        ("err", c_int),
        ("rkt", c_void_p),
        ("partition", c_int32),
        ("payload", c_void_p),
        ("len", c_size_t),
        ("key", c_void_p),
        ("key_len", c_size_t),
        ("offset", c_int64),
        ("private", c_void_p),
    )


_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "rd_kafka_version_str": (c_char_p, ()),
    "rd_kafka_conf_new": (c_void_p, ()),
    "rd_kafka_conf_set": (c_int, (c_void_p, c_char_p, c_char_p, c_char_p, c_size_t)),
    "rd_kafka_conf_set_events": (None, (c_void_p, c_int)),
    "rd_kafka_conf_destroy": (None, (c_void_p,)),
    "rd_kafka_new": (c_void_p, (c_int, c_void_p, c_char_p, c_size_t)),
    "rd_kafka_destroy": (None, (c_void_p,)),
    "rd_kafka_queue_get_main": (c_void_p, (c_void_p,)),
    "rd_kafka_queue_destroy": (None, (c_void_p,)),
    "rd_kafka_queue_io_event_enable": (None, (c_void_p, c_int, c_char_p, c_size_t)),
    "rd_kafka_queue_poll": (c_void_p, (c_void_p, c_int)),
    "rd_kafka_topic_new": (c_void_p, (c_void_p, c_char_p, c_void_p)),
    "rd_kafka_topic_destroy": (None, (c_void_p,)),
    "rd_kafka_produce_batch": (c_int, (c_void_p, c_int32, c_int, c_void_p, c_int)),
    "rd_kafka_event_type": (c_int, (c_void_p,)),
    "rd_kafka_event_message_count": (c_size_t, (c_void_p,)),
    "rd_kafka_event_message_next": (POINTER(Message), (c_void_p,)),
    "rd_kafka_event_error_string": (c_char_p, (c_void_p,)),
    "rd_kafka_event_destroy": (None, (c_void_p,)),
    "rd_kafka_err2name": (c_char_p, (c_int,)),
    "rd_kafka_purge": (c_int, (c_void_p, c_int)),
}


def _load() -> Any:
    try:
        import confluent_kafka
    except ImportError:
        raise ClientError('confluent-kafka is not installed: pip install "weir[bench]"') from None
    bundled = Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs"
    found = sorted(str(path) for path in bundled.glob("librdkafka-*.so*"))
    name = found[0] if found else ctypes.util.find_library("rdkafka")
    if name is None:
        raise ClientError("librdkafka was found neither in confluent-kafka's wheel nor on the system")
    library = ctypes.CDLL(name)
    for function, (result, arguments) in _SIGNATURES.items():
        loaded = getattr(library, function)
        loaded.restype, loaded.argtypes = result, arguments
    return library


_library: Any = None


def library() -> Any:
    """The loaded library; ClientError when there is none."""
    global _library
    if _library is None:
        _library = _load()
    return _library


def version() -> str:
    """librdkafka's version."""
    return str(library().rd_kafka_version_str().decode())


def error_name(code: int) -> str:
    """The name of one of librdkafka's or the protocol's errors, like `TOPIC_AUTHORIZATION_FAILED`."""
    return str(library().rd_kafka_err2name(code).decode())


OnDelivery = Callable[[int, int, int, int], None]
"""Called with the topic's index, the partition, the number of records, and the error (0: acknowledged)."""


class Producer:
    """One librdkafka producer on some topics. Not thread-safe. `close` must be called."""

    def __init__(self, properties: Mapping[str, str], topics: Sequence[str], on_delivery: OnDelivery) -> None:
        self._library = library()
        self._on_delivery = on_delivery
        self.errors: dict[str, int] = {}  # errors of the client itself, as a connection lost
        reason = ctypes.create_string_buffer(512)
        conf = self._library.rd_kafka_conf_new()
        for name, value in properties.items():
            if self._library.rd_kafka_conf_set(conf, name.encode(), value.encode(), reason, 512) != 0:
                self._library.rd_kafka_conf_destroy(conf)
                raise ClientError(f"{name}={value}: {reason.value.decode()}")
        self._library.rd_kafka_conf_set_events(conf, _EVENT_DELIVERY | _EVENT_ERROR)
        self._client = self._library.rd_kafka_new(_PRODUCER, conf, reason, 512)
        if not self._client:
            self._library.rd_kafka_conf_destroy(conf)
            raise ClientError(reason.value.decode())
        self._queue = self._library.rd_kafka_queue_get_main(self._client)
        self._topics = [self._library.rd_kafka_topic_new(self._client, name.encode(), None) for name in topics]
        self._index = {topic: i for i, topic in enumerate(self._topics)}

    def wake_through(self, eventfd: int) -> None:
        """Add 1 to this eventfd whenever events arrive in the empty queue."""
        one = (1).to_bytes(8, "little")
        self._library.rd_kafka_queue_io_event_enable(self._queue, eventfd, one, 8)

    def send(self, topic: int, partition: int, flags: int, address: int, count: int) -> int:
        """Hand over `count` Message structures at `address`; how many were taken, the first ones.

        Fewer than `count` when the queue is full. Partition UNASSIGNED with flag PARTITION: each structure names its
        own. Without flag COPY the payloads must stay as they are until they are acknowledged.
        """
        taken: int = self._library.rd_kafka_produce_batch(self._topics[topic], partition, flags, address, count)
        if taken < count:
            messages = (Message * count).from_address(address)
            refused = next((m.err for m in messages if m.err not in (0, _QUEUE_FULL)), 0)
            if refused:
                raise ClientError(error_name(refused))
        return taken

    def poll(self) -> int:
        """Take all events that are there; their number."""
        lib, queue = self._library, self._queue
        events = 0
        while event := lib.rd_kafka_queue_poll(queue, 0):
            events += 1
            kind = lib.rd_kafka_event_type(event)
            if kind == _EVENT_DELIVERY:
                self._delivered(event)
            elif kind == _EVENT_ERROR:
                text = lib.rd_kafka_event_error_string(event).decode()
                if text in self.errors or len(self.errors) < 100:
                    self.errors[text] = self.errors.get(text, 0) + 1
            lib.rd_kafka_event_destroy(event)
        return events

    def _delivered(self, event: int) -> None:
        lib = self._library
        count = lib.rd_kafka_event_message_count(event)
        if not count:
            return
        first = lib.rd_kafka_event_message_next(event).contents
        topic = self._index[first.rkt]
        if first.err == 0:  # one acknowledged batch, so one partition
            self._on_delivery(topic, first.partition, count, 0)
            return
        self._on_delivery(topic, first.partition, 1, first.err)
        for _ in range(count - 1):
            message = lib.rd_kafka_event_message_next(event).contents
            self._on_delivery(self._index[message.rkt], message.partition, 1, message.err)

    def close(self) -> None:
        """Drop what is queued and in flight, and end the client's threads."""
        self._library.rd_kafka_purge(self._client, 0x1 | 0x2)
        for topic in self._topics:
            self._library.rd_kafka_topic_destroy(topic)
        self._library.rd_kafka_queue_destroy(self._queue)
        self._library.rd_kafka_destroy(self._client)


def eventfd() -> int:
    """A non-blocking eventfd for `wake_through`."""
    return os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

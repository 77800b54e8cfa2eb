"""The controller: carries out changes of topics, partitions, leaders and configs, and publishes the image after each.

Order of a creation: write the topic -> open its logs -> announce the leader -> publish. So a client that is told of a
leader always finds an open log. Changes run one after the other; readers never wait for them.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import logging
import uuid
from collections.abc import Callable, Coroutine, Mapping, Sequence
from random import Random
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar

from broker.cluster.creation import (
    Assignment,
    TopicPlan,
    TopicRequest,
    check_total,
    internal_request,
    plan_partitions,
    plan_topic,
)
from broker.cluster.image import BrokerEndpoint, ClusterImage, TopicImage, build_image
from broker.cluster.names import INTERNAL_TOPICS
from broker.cluster.rows import NO_LEADER, ConfigDelta, NewTopic, Resource, StoredTopic
from broker.cluster.store import ClusterStore
from broker.configs import BrokerLayers, TopicConfig
from broker.refusal import Refused
from broker.settings import Settings
from protocol.errors import ErrorCode
from s3stream.errors import Invalid, OutcomeUnknown, Retry
from s3stream.ports import Clock
from s3stream.supervisor import Supervisor

_log = logging.getLogger("weir")
OPEN_BATCH = 2000
"""Logs opened in one call, so that a start with many partitions lets the loop breathe."""


class LogToOpen(NamedTuple):
    """A partition whose log this broker is to open."""

    topic_id: uuid.UUID
    topic: str
    partition: int
    stream_id: int
    config: TopicConfig
    internal: bool


class PartitionHost(Protocol):
    """What the controller needs of the broker's partitions."""

    async def open_new(self, logs: Sequence[LogToOpen]) -> Mapping[int, int]:
        """Open the logs; stream id -> stream epoch, which becomes the leader epoch. Raises Retry, OutcomeUnknown."""
        ...

    async def drop(self, stream_ids: Sequence[int]) -> None:
        """The partitions with these streams were deleted: refuse what waits for them, free what they held."""
        ...


class ImageChange(NamedTuple):
    """What a new image changed: topics created (or grown, or newly led), deleted, and those with other configs."""

    image: ClusterImage
    created: Sequence[TopicImage]
    deleted: Sequence[TopicImage]
    reconfigured: Sequence[TopicImage]


class Created(NamedTuple):
    """A topic that was created, or would be (`validate_only`)."""

    name: str
    topic_id: uuid.UUID
    partitions: int
    replication_factor: int
    overrides: Mapping[str, str]


Decide = Callable[[Mapping[str, str], bool], Mapping[str, str]]
"""From the overrides in force and whether the topic is internal to the new overrides; raises Refused."""


P = ParamSpec("P")
T = TypeVar("T")
_Change = Callable[Concatenate["Controller", P], Coroutine[Any, Any, T]]


def _to_its_end(change: _Change[P, T]) -> _Change[P, T]:
    """A change goes on when the client that asked for it disconnects and its request is cancelled: half of it may be
    in the metadata already, and an image that never hears of it would be wrong for good."""

    @functools.wraps(change)
    async def run(self: Controller, /, *args: P.args, **kwargs: P.kwargs) -> T:
        task = asyncio.get_running_loop().create_task(change(self, *args, **kwargs), name=change.__name__)
        self._under_way[task] = None
        task.add_done_callback(self._change_ended)
        return await asyncio.shield(task)

    return run


class Controller:
    """Owns the current image. `subscribe` before `start`; `start` before anything else."""

    def __init__(
        self,
        *,
        store: ClusterStore,
        settings: Settings,
        host: PartitionHost,
        endpoint: BrokerEndpoint,
        clock: Clock,
        rng: Random,
        supervisor: Supervisor,
    ) -> None:
        self._store = store
        self._settings = settings
        self._host = host
        self._endpoint = endpoint
        self._clock = clock
        self._rng = rng
        self._supervisor = supervisor
        self._change = asyncio.Lock()
        self._listeners: list[Callable[[ImageChange], None]] = []
        self._reopening = False
        self._under_way: dict[asyncio.Task[Any], None] = {}
        self._image = ClusterImage(0, "", (endpoint,), BrokerLayers(settings))

    @property
    def image(self) -> ClusterImage:
        """The current snapshot; take it once per request."""
        return self._image

    def subscribe(self, listener: Callable[[ImageChange], None]) -> None:
        """Call `listener` synchronously after every new image."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """The image of the cluster, in which nothing is led yet. Invalid unless `settle_cluster_id` came first."""
        rows = await self._store.load_cluster()
        layers = self._layers(rows.broker_configs)
        closed = [
            each._replace(leader_ids=(NO_LEADER,) * len(each.stream_ids)) if self._leads(each) else each
            for each in rows.topics
        ]
        self._publish(build_image(rows._replace(topics=closed), (self._endpoint,), layers))

    async def open_logs(self) -> None:
        """Open every log that nobody leads, and announce the leaders. Raises Retry, OutcomeUnknown."""
        async with self._change:
            await self._open_unled(list(self._image.topics))

    async def close(self, timeout_s: float) -> None:
        """Let the changes that are under way end: a topic that is half created is worse than a slow stop."""
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.gather(*self._under_way, return_exceptions=True)
        except TimeoutError:
            _log.warning("stopped within %d changes of the metadata", len(self._under_way))

    def advertise(self, endpoint: BrokerEndpoint) -> None:
        """The address that clients are told, once the listener has its port."""
        self._endpoint = endpoint
        self._publish(self._image.with_brokers((endpoint,)))

    # Topics

    @_to_its_end
    async def create_topics(
        self, requests: Sequence[TopicRequest], *, validate_only: bool = False
    ) -> list[Created | Refused]:
        """One result per request, in order; the names of the requests differ. Raises Retry, OutcomeUnknown."""
        async with self._change:
            return await self._create(requests, validate_only)

    @_to_its_end
    async def create_missing(self, names: Sequence[str]) -> dict[str, Refused]:
        """Auto-creation with the defaults; those refused. A name that exists by now counts as created."""
        async with self._change:
            requests = []
            for name in dict.fromkeys(names):
                if self._image.topic(name) is None:
                    internal = name in INTERNAL_TOPICS
                    requests.append(internal_request(name, self._settings) if internal else TopicRequest(name))
            results = await self._create(requests, validate_only=False)
        return {
            request.name: result
            for request, result in zip(requests, results, strict=True)
            if isinstance(result, Refused)
        }

    async def ensure_internal(self, name: str) -> TopicImage:
        """The internal topic, created on first use. Raises Retry, OutcomeUnknown, Refused, ValueError for another."""
        if name not in INTERNAL_TOPICS:
            raise ValueError(f"{name} is no internal topic")
        topic = self._image.topic(name)
        if topic is None:
            refused = await self.create_missing([name])
            if name in refused:
                raise refused[name]
            topic = self._image.topics[name]
        return topic

    @_to_its_end
    async def delete_topics(self, topics: Sequence[TopicImage]) -> None:
        """Delete topics of the image, all or none. Raises Retry, OutcomeUnknown."""
        async with self._change:
            ids = [topic.topic_id.hex for topic in topics]
            revision, stream_ids = await self._store.delete_topics(ids, self._clock.now_ms())
            gone = [found for each in topics if (found := self._image.by_id.get(each.topic_id)) is not None]
            image = self._image.with_topics(revision, (), [topic.name for topic in gone])
            self._publish(image, deleted=gone)
            await self._host.drop(stream_ids)

    @_to_its_end
    async def create_partitions(
        self, name: str, count: int, assignments: Sequence[Assignment] | None, *, validate_only: bool
    ) -> None:
        """Grow the topic to `count` partitions. Raises Refused, Retry, OutcomeUnknown."""
        async with self._change:
            topic = plan_partitions(name, count, assignments, self._image)
            if validate_only:
                return
            revision, stored = await self._store.create_partitions(topic.topic_id.hex, count)
            if stored is None:
                raise Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION)
            self._publish(self._image.with_topics(revision, [stored]))
            await self._open_or_retry([name])

    async def _create(self, requests: Sequence[TopicRequest], validate_only: bool) -> list[Created | Refused]:
        try:
            check_total(requests, self._settings)
        except Refused as refusal:
            return [refusal for _ in requests]
        results: list[Created | Refused] = []
        plans: dict[str, tuple[TopicPlan, uuid.UUID]] = {}
        for request in requests:
            try:
                plan = plan_topic(request, self._image, self._settings)
            except Refused as refusal:
                results.append(refusal)
                continue
            topic_id = self._new_topic_id()
            plans[plan.name] = (plan, topic_id)
            results.append(Created(plan.name, topic_id, plan.partitions, plan.replication_factor, plan.overrides))
        if plans and not validate_only:
            made = await self._write_topics(plans)
            for place, result in enumerate(results):
                if isinstance(result, Created) and result.name not in made:
                    text = f"Topic '{result.name}' already exists."
                    results[place] = Refused(ErrorCode.TOPIC_ALREADY_EXISTS, text)
        return results

    async def _write_topics(self, plans: Mapping[str, tuple[TopicPlan, uuid.UUID]]) -> set[str]:
        """Write, open, announce, publish; the names that were created."""
        new = [
            NewTopic(topic_id.hex, plan.name, plan.partitions, plan.replication_factor, plan.overrides, plan.internal)
            for plan, topic_id in plans.values()
        ]
        revision, stored = await self._store.create_topics(new, self._clock.now_ms())
        self._publish(self._image.with_topics(revision, stored))
        names = [each.name for each in stored]
        await self._open_or_retry(names)
        return set(names)

    # Logs and leaders

    async def _open_or_retry(self, names: Sequence[str]) -> None:
        """Open what nobody leads of these topics; when the metadata or the engine is busy, go on in the background."""
        try:
            await self._open_unled(names)
        except (Retry, OutcomeUnknown):
            if not self._reopening:
                self._reopening = True
                self._supervisor.spawn("open logs", self._reopen())

    async def _reopen(self) -> None:
        pause_s = 0.1
        while self._reopening:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 5.0)
            try:
                await self.open_logs()
            except (Retry, OutcomeUnknown):
                continue
            self._reopening = False

    async def _open_unled(self, names: Sequence[str]) -> None:
        logs = [log for name in names for log in _unled(self._image.topics[name])]
        for first in range(0, len(logs), OPEN_BATCH):
            batch = logs[first : first + OPEN_BATCH]
            epochs = await self._host.open_new(batch)
            revision = await self._store.announce_leaders(self._endpoint.node_id, epochs)
            topics = [self._image.topics[name] for name in dict.fromkeys(log.topic for log in batch)]
            led = [_led(topic, self._endpoint.node_id, epochs) for topic in topics]
            image = self._image.with_topics(revision, led)
            self._publish(image, created=[image.topics[each.name] for each in led])

    def _leads(self, topic: StoredTopic) -> bool:
        return any(leader in (self._endpoint.node_id, NO_LEADER) for leader in topic.leader_ids)

    # Configs

    @_to_its_end
    async def alter_topic_configs(self, name: str, decide: Decide, *, validate_only: bool) -> None:
        """Change the overrides of a topic; in force when this returns. Raises Refused, Retry, OutcomeUnknown."""
        async with self._change:
            topic = self._image.topic(name)
            if topic is None:
                text = f"The topic '{name}' does not exist."
                raise Refused(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, text)
            overrides = decide(topic.overrides, topic.internal)
            if validate_only or overrides == topic.overrides:
                return
            delta = _delta(Resource.TOPIC, topic.topic_id.hex, topic.overrides, overrides)
            revision = await self._store.alter_configs([delta])
            image = self._image.with_topics(revision, [topic.stored()._replace(configs=overrides)])
            self._publish(image, reconfigured=[image.topics[name]])

    @_to_its_end
    async def alter_broker_configs(self, name: str, decide: Decide, *, validate_only: bool) -> None:
        """Change dynamic configs of this broker (its number) or of all brokers (""). Raises as for topics."""
        async with self._change:
            layers = self._image.layers
            current = layers.cluster if name == "" else layers.broker
            overrides = decide(current, False)
            if validate_only or overrides == current:
                return
            revision = await self._store.alter_configs([_delta(Resource.BROKER, name, current, overrides)])
            broker = layers.broker if name == "" else overrides
            cluster = overrides if name == "" else layers.cluster
            image = self._image.with_layers(revision, BrokerLayers(self._settings, broker, cluster))
            self._publish(image, reconfigured=list(image.topics.values()))

    def _layers(self, stored: Mapping[str, Mapping[str, str]]) -> BrokerLayers:
        return BrokerLayers(self._settings, stored.get(str(self._endpoint.node_id)), stored.get(""))

    # Publishing

    def _change_ended(self, task: asyncio.Task[Any]) -> None:
        del self._under_way[task]
        if not task.cancelled():
            task.exception()  # told to whoever asked, if that one is still there

    def _publish(
        self,
        image: ClusterImage,
        *,
        created: Sequence[TopicImage] = (),
        deleted: Sequence[TopicImage] = (),
        reconfigured: Sequence[TopicImage] = (),
    ) -> None:
        self._image = image
        change = ImageChange(image, created, deleted, reconfigured)
        for listener in self._listeners:
            listener(change)

    def _new_topic_id(self) -> uuid.UUID:
        """Random, and neither zero nor one of Kafka's reserved low ids; no id starts with '-' in base64."""
        while True:
            found = uuid.UUID(bytes=self._rng.randbytes(16), version=4)
            if found not in self._image.by_id and not base64.urlsafe_b64encode(found.bytes).startswith(b"-"):
                return found


async def settle_cluster_id(store: ClusterStore, wanted: str | None, rng: Random, now_ms: int) -> str:
    """The id of the cluster that the metadata belongs to; fresh metadata gets the one `wanted`, or a new one. Raises
    Invalid when it belongs to another cluster, Retry, OutcomeUnknown."""
    cluster_id = await store.ensure_cluster_id(wanted or new_cluster_id(rng), now_ms)
    if wanted is not None and cluster_id != wanted:
        raise Invalid(f"cluster.id is {wanted}, but the metadata belongs to cluster {cluster_id}")
    return cluster_id


def new_cluster_id(rng: Random) -> str:
    """22 characters of URL-safe base64, as Kafka's storage tool makes them."""
    while True:
        text = base64.urlsafe_b64encode(uuid.UUID(bytes=rng.randbytes(16), version=4).bytes).rstrip(b"=").decode()
        if not text.startswith("-"):
            return text


def _unled(topic: TopicImage) -> list[LogToOpen]:
    return [
        LogToOpen(topic.topic_id, topic.name, index, topic.stream_ids[index], topic.config, topic.internal)
        for index, leader in enumerate(topic.leader_ids)
        if leader == NO_LEADER
    ]


def _led(topic: TopicImage, leader_id: int, epochs: Mapping[int, int]) -> StoredTopic:
    """The topic with the opened partitions led by `leader_id`."""
    stored = topic.stored()
    leaders, leader_epochs = list(stored.leader_ids), list(stored.leader_epochs)
    for index, stream_id in enumerate(stored.stream_ids):
        if stream_id in epochs:
            leaders[index], leader_epochs[index] = leader_id, epochs[stream_id]
    return stored._replace(leader_ids=tuple(leaders), leader_epochs=tuple(leader_epochs))


def _delta(resource: Resource, name: str, before: Mapping[str, str], after: Mapping[str, str]) -> ConfigDelta:
    put = {key: value for key, value in after.items() if before.get(key) != value}
    return ConfigDelta(resource, name, put, sorted(key for key in before if key not in after))

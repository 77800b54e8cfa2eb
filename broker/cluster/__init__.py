"""The cluster: its metadata (tables, commands), the image that the data plane reads, and the controller over both."""

from __future__ import annotations

from broker.cluster.controller import Controller, ImageChange, LogToOpen, PartitionHost
from broker.cluster.image import BrokerEndpoint, ClusterImage, PartitionView, TopicImage
from broker.cluster.rows import NO_LEADER
from broker.cluster.store import ClusterStore

__all__ = [
    "NO_LEADER",
    "BrokerEndpoint",
    "ClusterImage",
    "ClusterStore",
    "Controller",
    "ImageChange",
    "LogToOpen",
    "PartitionHost",
    "PartitionView",
    "TopicImage",
]

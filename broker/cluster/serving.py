"""What the handlers of the cluster's APIs need of the broker around them."""

from __future__ import annotations

from typing import Any, Protocol

from broker.cluster.controller import Controller
from broker.cluster.image import ClusterImage
from broker.settings import Settings

NO_OPERATIONS = -(2**31)
"""Authorised operations were not asked for."""

TOPIC_OPERATIONS = 3576
"""Bits of all that can be done with a topic (`AclOperation` codes): without authorisation everybody may."""

CLUSTER_OPERATIONS = 8096
"""The same for the cluster."""


class ClusterServices(Protocol):
    """The part of `broker.services.Services` that administration uses."""

    @property
    def settings(self) -> Settings: ...

    @property
    def image(self) -> ClusterImage: ...

    @property
    def cluster(self) -> Controller: ...


class ClusterRequest(Protocol):
    """The part of a request that administration uses; `body` is kio's entity of `api_version`."""

    @property
    def api_version(self) -> int: ...

    @property
    def body(self) -> Any: ...

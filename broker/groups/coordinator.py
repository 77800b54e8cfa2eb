"""The group coordinator service: finds the shard of a group, runs commands on it, follows partition leadership.

Errors come back inside the replies, as Kafka codes; the methods raise only on misuse.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, NamedTuple, cast
from uuid import UUID

import structlog
from kio.schema.errors import ErrorCode

from broker.groups.log import CoordinatorLog
from broker.groups.messages import (
    Command,
    CommitCommand,
    CommitReply,
    DeleteGroupCommand,
    DeleteGroupReply,
    DeleteOffsetsCommand,
    DeleteOffsetsReply,
    DescribeCommand,
    DescribeReply,
    FetchCommand,
    FetchReply,
    HeartbeatCommand,
    HeartbeatReply,
    JoinCommand,
    JoinReply,
    LeaveCommand,
    LeaveReply,
    ListCommand,
    ListedGroup,
    ListReply,
    Reply,
    SyncCommand,
    SyncReply,
)
from broker.groups.outbox import TimerArg, TimerKey
from broker.groups.partitioning import partition_for
from broker.groups.primitives import MAX_CLASSIC_STRING_BYTES
from broker.groups.settings import GroupSettings
from broker.groups.shard import GroupShard, ShardState, Timeline
from broker.groups.timers import Timers
from s3stream.ports import Clock

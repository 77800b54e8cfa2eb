"""Several clients, time, refused writes and crashes against one group: the promises that hold at every step.

The clients do what real ones do (join, sync, heartbeat, commit, rejoin on errors). A crash keeps what was durable and
some of what was not. At the end everything heals and the group must become stable with everyone who is alive.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.groups.classic_group import GroupState
from broker.groups.log import MemoryCoordinatorLog
from broker.groups.messages import CommitReply, HeartbeatCommand, JoinReply, LeaveCommand, SyncReply
from broker.groups.settings import GroupSettings
from broker.groups.state import PersistedState
from protocol.errors import ErrorCode
from s3stream.errors import Retry
from tests.unit.groups.driver import GROUP, Call, Driver

PARTITIONS = 3
SESSION_MS = 10_000
REBALANCE_MS = 15_000
_START_OVER = (ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.FENCED_INSTANCE_ID, ErrorCode.GROUP_ID_NOT_FOUND)


class Client:
    """One consumer; `call` is its one outstanding request."""

    def __init__(self, instance: str | None, version: int) -> None:
        self.instance = instance
        self.version = version
        self.member_id = ""
        self.generation = -1
        self.assignment: bytes | None = None
        self.joined: JoinReply | None = None
        self.call: Call | None = None
        self.alive = True

    def start_over(self, *, keep_id: bool) -> None:
        self.generation, self.assignment, self.joined, self.call = -1, None, None, None
        if not keep_id:
            self.member_id = ""


class GroupRules(RuleBasedStateMachine):
    """Checks: one assignment per generation and member; replay equals what is persisted; acknowledged commits stay."""

    def __init__(self) -> None:
        super().__init__()
        self.clients: list[Client] = []
        self.seen: dict[tuple[int, str], bytes] = {}
        self.round_of: dict[int, bytes] = {}
        self.rounds = 0
        self.acked: dict[int, int] = {}
        self.committing: list[tuple[Call, int, int]] = []
        self.next_offset = 0

    @initialize(auto=st.booleans())
    def begin(self, auto: bool) -> None:
        self.driver = Driver(GroupSettings(checkpoint_dirty_bytes=3_000), log=MemoryCoordinatorLog(auto=auto))

    # -- what clients do

    @rule(static=st.booleans(), version=st.sampled_from([3, 5, 9]))
    def start_client(self, static: bool, version: int) -> None:
        alive = [client for client in self.clients if client.alive]
        if len(alive) >= 4:
            return
        used = {client.instance for client in alive}
        free = [name for name in ("i", "j") if name not in used]
        self.clients.append(Client(free[0] if static and free else None, version))

    @rule(index=st.integers(0, 7))
    def step_client(self, index: int) -> None:
        alive = [client for client in self.clients if client.alive]
        if alive:
            self._step(alive[index % len(alive)])

    @rule()
    def step_everyone(self) -> None:
        for client in self.clients:
            if client.alive:
                self._step(client)

    def _step(self, client: Client) -> None:
        if client.call is not None:
            reply = client.call.reply
            if reply is None:
                return
            client.call = None
            if isinstance(reply, JoinReply):
                self._joined(client, reply)
            elif isinstance(reply, SyncReply):
                self._synced(client, reply)
            return
        if client.generation < 0:
            client.call = self.driver.join(
                client.member_id,
                instance=client.instance,
                session_ms=SESSION_MS,
                rebalance_ms=REBALANCE_MS,
                version=client.version,
            )
        elif client.assignment is None:
            self._send_sync(client)
        else:
            self._beat(client)

    def _joined(self, client: Client, reply: JoinReply) -> None:
        if reply.error is ErrorCode.MEMBER_ID_REQUIRED:
            client.member_id = reply.member_id
        elif reply.error is ErrorCode.NONE:
            client.member_id, client.generation, client.joined = reply.member_id, reply.generation, reply
        else:
            client.start_over(keep_id=reply.error not in _START_OVER)

    def _send_sync(self, client: Client) -> None:
        joined = client.joined
        assert joined is not None
        assignments = []
        if joined.members and not joined.skip_assignment:
            self.rounds += 1
            assignments = [(member, b"%d/%s" % (self.rounds, member.encode())) for member, _, _ in joined.members]
        client.call = self.driver.sync(client.member_id, client.generation, assignments, instance=client.instance)

    def _synced(self, client: Client, reply: SyncReply) -> None:
        if reply.error is not ErrorCode.NONE:
            client.start_over(keep_id=reply.error not in _START_OVER)
            return
        client.assignment = reply.assignment
        if reply.assignment:
            round_, _, member = reply.assignment.partition(b"/")
            # Everyone of a generation was assigned by the same leader's round, for all time, crashes included.
            assert self.round_of.setdefault(client.generation, round_) == round_
            if client.instance is None:
                assert member.decode() == client.member_id
            key = (client.generation, client.member_id)
            assert self.seen.setdefault(key, reply.assignment) == reply.assignment

    def _beat(self, client: Client) -> None:
        beating = self.driver.submit(_heartbeat(client))
        if beating.reply is None:
            return  # waits for durability; its outcome does not matter here
        error = beating.reply.error
        if error is ErrorCode.REBALANCE_IN_PROGRESS:
            client.start_over(keep_id=True)
        elif error is not ErrorCode.NONE:
            client.start_over(keep_id=error not in _START_OVER)

    @rule(index=st.integers(0, 7), partition=st.integers(0, PARTITIONS - 1))
    def commit(self, index: int, partition: int) -> None:
        members = [client for client in self.clients if client.alive and client.assignment is not None]
        if not members:
            return
        client = members[index % len(members)]
        self.next_offset += 1
        call = self.driver.commit(
            self.next_offset,
            partition=partition,
            member_id=client.member_id,
            generation=client.generation,
            instance=client.instance,
        )
        self.committing.append((call, partition, self.next_offset))
        self._collect_commits()

    def _collect_commits(self) -> None:
        waiting = []
        for call, partition, offset in self.committing:
            reply = call.reply
            if reply is None:
                waiting.append((call, partition, offset))
                continue
            assert isinstance(reply, CommitReply)
            if reply.error is ErrorCode.NONE:
                self.acked[partition] = max(self.acked.get(partition, -1), offset)
        self.committing = waiting

    @rule(index=st.integers(0, 7), politely=st.booleans())
    def stop_client(self, index: int, politely: bool) -> None:
        alive = [client for client in self.clients if client.alive]
        if not alive:
            return
        client = alive[index % len(alive)]
        client.alive = False
        if politely and client.member_id:
            self.driver.submit(_leave(client))

    @rule(index=st.integers(0, 7))
    def restart_client(self, index: int) -> None:
        alive = [client for client in self.clients if client.alive]
        if alive:
            alive[index % len(alive)].start_over(keep_id=False)

    # -- what the world does

    @rule(ms=st.sampled_from([100, 1_000, 3_000, 9_000, 20_000]))
    def time_passes(self, ms: int) -> None:
        if not self.driver.log.auto:
            self.driver.log.settle()
        self.driver.advance(ms)

    @rule(count=st.integers(1, 5))
    def become_durable(self, count: int) -> None:
        self.driver.log.settle(count)
        self._collect_commits()

    @precondition(lambda self: self.driver.log.refuse is None)
    @rule()
    def log_refuses(self) -> None:
        self.driver.log.refuse = Retry("full")

    @precondition(lambda self: self.driver.log.refuse is not None)
    @rule()
    def log_takes_again(self) -> None:
        self.driver.log.refuse = None

    @rule(lucky=st.integers(0, 3))
    def crash(self, lucky: int) -> None:
        self._collect_commits()
        log = self.driver.log
        # Of what was not acknowledged, a crash may keep a prefix.
        survived = log.records[: min(log.durable + lucky, len(log.records))]
        self._restart(survived)
        for partition, offset in self.acked.items():
            assert self.driver.fetch(partition) >= offset

    def _restart(self, survived: list[tuple[bytes, bytes | None]]) -> None:
        auto = self.driver.log.auto
        self.committing = []
        self.driver = Driver(
            self.driver.settings,
            now_ms=self.driver.wall_ms,
            loop=self.driver.loop,
            log=MemoryCoordinatorLog(survived, auto=auto),
            seed=self.driver.wall_ms,
        )
        for client in self.clients:
            client.call = None  # its connection is gone; it asks again
            if client.assignment is None:
                client.start_over(keep_id=True)

    # -- what always holds

    @invariant()
    def replay_equals_persisted(self) -> None:
        if not hasattr(self, "driver"):
            return
        state = PersistedState()
        for record in self.driver.log.records:
            state.replay(record)
        held = self.driver.shard.machine.state
        assert state.groups == held.groups
        assert state.offsets == held.offsets

    @invariant()
    def live_group_is_sound(self) -> None:
        group = None if not hasattr(self, "driver") else self.driver.shard.machine.groups.get(GROUP)
        if group is None:
            return
        timers = self.driver.timers
        assert group.leader_id is None or group.leader_id in group.members
        assert (group.leader_id is None) == (not group.members)
        assert group.awaiting_join_count == sum(m.awaiting_join is not None for m in group.members.values())
        static = {m.group_instance_id: m.member_id for m in group.members.values() if m.group_instance_id is not None}
        assert group.instances == static
        assert set(group.pending_sync) <= set(group.members)
        assert not set(group.pending_join) & set(group.members)
        for member in group.members.values():
            # No member can stay for ever: its session runs, or it waits in a phase that itself runs out.
            assert ("heartbeat", GROUP, member.member_id) in timers or member.has_satisfied_heartbeat()
        for member_id in group.pending_join:
            assert ("heartbeat", GROUP, member_id) in timers
        if group.state is GroupState.PREPARING_REBALANCE:
            assert ("join", GROUP) in timers
        if group.state is GroupState.COMPLETING_REBALANCE:
            assert ("sync", GROUP) in timers
            assert not any(m.awaiting_join for m in group.members.values())
        if group.state is GroupState.EMPTY:
            assert not group.members

    @invariant()
    def stable_group_is_the_persisted_one(self) -> None:
        group = None if not hasattr(self, "driver") else self.driver.shard.machine.groups.get(GROUP)
        if group is None or group.state is not GroupState.STABLE:
            return
        persisted = self.driver.shard.machine.state.groups[GROUP]
        live = group.to_value()._replace(state_timestamp_ms=persisted.state_timestamp_ms)
        assert live == persisted

    def teardown(self) -> None:
        if not hasattr(self, "driver"):
            return
        self.driver.log.refuse = None
        self.driver.log.auto = True
        self.driver.log.settle()
        alive = [client for client in self.clients if client.alive]
        for _ in range(80):
            for client in alive:
                self._step(client)
                self._step(client)
            self.driver.advance(1_000)
        if alive:
            group = self.driver.group()
            assert group.state is GroupState.STABLE
            assert set(group.members) == {client.member_id for client in alive}
            assert {client.generation for client in alive} == {group.generation}
            assert all(client.assignment for client in alive)
        self.driver.close()


def _heartbeat(client: Client) -> HeartbeatCommand:
    return HeartbeatCommand(GROUP, client.generation, client.member_id, client.instance)


def _leave(client: Client) -> LeaveCommand:
    return LeaveCommand(GROUP, [(client.member_id, client.instance, None)])


TestGroupRules = GroupRules.TestCase
TestGroupRules.settings = settings(
    max_examples=15,
    stateful_step_count=35,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

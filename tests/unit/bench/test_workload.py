"""Profiles and their errors, the records that are sent, how the load is divided, what limits a run."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from benchmarks.bench import matrix, payload, prices, profiles, server
from benchmarks.bench.clients import divide, jobs
from benchmarks.bench.environment import Clock, others_share
from benchmarks.bench.errors import BenchError
from benchmarks.bench.messages import Tick
from benchmarks.bench.producing import window_bytes
from benchmarks.bench.run import check
from benchmarks.bench.tally import Second, Tally, limited_by
from benchmarks.bench.workload import Load, Readers, Workload


@pytest.mark.parametrize("name", profiles.names())
def test_shipped_profiles_load_and_say_what_they_show(name: str) -> None:
    workload = profiles.load(profiles.locate(name))
    check(workload)
    assert workload.name == name
    assert workload.text.endswith(".")


def test_the_asked_profiles_are_there() -> None:
    wanted = "agents catch-up commit-storm idle-1000 latency metrics-wave mimir otel-edge spike tempo throughput"
    assert profiles.names() == wanted.split()


def test_a_wrong_key_is_named_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    for text, message in (
        ("[load]\nrat = 3", r"mine.toml: .*`rat`.*\$\.load"),
        ("[load]\nrate = 'fast'", r"mine.toml: .*\$\.load\.rate"),
        ("[load", r"mine.toml: Expected"),
    ):
        path.write_text(text)
        with pytest.raises(BenchError, match=message):
            profiles.load(path)
    with pytest.raises(BenchError, match="not known; there are agents"):
        profiles.locate("nope")
    with pytest.raises(BenchError, match=r"load\.producers: must be at least 1"):
        check(Workload(load=Load(producers=0)))


def test_changes_win_over_the_profile() -> None:
    changes = dict(profiles.parse_change(each) for each in ("load.rate=7", "load.codec=zstd", "readers.groups=2"))
    workload = profiles.load(profiles.locate("latency"), changes)
    assert (workload.load.rate, workload.load.codec, workload.readers.groups) == (7, "zstd", 2)
    with pytest.raises(BenchError, match="key=value"):
        profiles.parse_change("load.rate")


def test_the_matrix_file_is_right() -> None:
    file, plans = matrix.load(Path("benchmarks/matrices/versus-kafka.toml"))
    assert len(plans) == len({plan.case.name for plan in plans}) >= 17
    assert file.rounds == 5
    assert len(matrix.load(Path("benchmarks/matrices/versus-kafka.toml"), "ack-*")[1]) == 4
    assert all(plan.case.x for plan in matrix.load(Path("benchmarks/matrices/curves.toml"))[1])
    brokers = matrix.load_brokers(Path("benchmarks/matrices/brokers.toml"))
    assert [broker.name for broker in brokers] == ["weir", "kafka", "kafka-sync"]
    parsed = matrix.parse_broker("k=127.0.0.1:9092,pid=4,topic.flush.messages=1")
    assert (parsed.name, parsed.pids, parsed.topic_configs) == ("k", (4,), {"flush.messages": "1"})
    for wrong in ("127.0.0.1:9092", "a=b", "a=b:1,c=d"):
        with pytest.raises(BenchError):
            matrix.parse_broker(wrong)


def test_without_keys_records_go_round_the_partitions_in_runs() -> None:
    pool = payload.build(Load(record_size=100), 2, 3, 4, Random(1))
    assert len(pool.values) == len(pool) * 100
    assert set(pool.places) == {(topic, partition) for topic in range(2) for partition in range(3)}
    assert all(pool.places[i] == pool.places[i + 1] for i in range(0, 400, 4))
    assert pool.places[3] != pool.places[4]


def test_a_key_keeps_its_partition_and_hot_keys_are_hot() -> None:
    load = Load(record_size=10, key="hot", keys=1000)
    pool = payload.build(load, 1, 8, 1, Random(1))
    assert pool.keys is not None
    assert len(dict.fromkeys(zip(pool.keys, pool.places, strict=True))) == len(set(pool.keys))
    most = max(map(pool.keys.count, sorted(set(pool.keys))[:50]))
    assert most > 5 * len(pool) / 1000


@pytest.mark.parametrize("shape", ["random", "json", "text", "zeros"])
def test_values_have_their_size(shape: str) -> None:
    pool = payload.build(Load(record_size=333, payload=shape), 1, 1, 1, Random(1))  # type: ignore[arg-type]
    assert len(pool.values) == 333 * len(pool)


def test_large_records_do_not_fill_the_memory() -> None:
    pool = payload.build(Load(record_size=10 << 20, payload="zeros"), 1, 1000, 1, Random(1))
    assert len(pool.values) <= 4 * payload.POOL_BYTES


def test_the_load_is_divided_once() -> None:
    assert divide(5, 0, 2) == [(0, 2, 4), (1, 3)]
    assert divide(1, 0, 8) == [(0,)]
    assert len(divide(1000, 0, 200)) == 64
    workload = Workload(load=Load(producers=5), readers=Readers(groups=2, consumers=2))
    made = jobs(workload, "b:1", {}, ("t",), b"12345678", "g", 2)
    assert sum(job.share for job in made) == pytest.approx(1.0)
    assert sorted(m for job in made if job.kind == "produce" for m in job.members) == [0, 1, 2, 3, 4]
    assert sorted(m for job in made if job.kind == "read" for m in job.members) == [0, 1, 2, 3]


def test_what_limits_a_run() -> None:
    lazy = [Second(acked=100, cpu_s=0.5, busiest_by_worker={0: 0.3})] * 3
    assert limited_by(lazy, 300, 1) == "rate"
    assert limited_by(lazy, 400, 1) == "broker"
    assert limited_by(lazy, 0, 1) == "broker"
    assert limited_by([Second(acked=100, cpu_s=1.2, busiest_by_worker={0: 0.95})] * 3, 400, 2) == "client"
    assert limited_by([Second(acked=100, own_late_ms=500.0)] * 3, 400, 2) == "client"
    assert limited_by([Second(acked=100, cpu_s=0.95, busiest_by_worker={0: 0.5})] * 3, 0, 1) == "client"


def test_parts_of_a_second_add_up_by_process() -> None:
    tally = Tally(100, 1)
    for worker, busy_s in ((0, 0.4), (1, 0.7), (0, 0.5)):
        tally.add(Tick(worker=worker, kind="read", at=3, read=5, read_by_group={0: 5}, busiest_thread_s=busy_s))
    assert tally.seconds[3].busiest_thread_s == pytest.approx(0.9)
    assert tally.seconds[3].read == tally.read_by_slowest == 15


def test_lag_is_of_the_slowest_group() -> None:
    tally = Tally(100, 2)
    tally.add(Tick(worker=0, kind="produce", at=-1, acked=10))
    tally.add(Tick(worker=0, kind="produce", at=0, acked=10, ack={5000: 10}))
    tally.add(Tick(worker=1, kind="read", at=0, read=25, read_bytes=2500, read_by_group={0: 18, 1: 7}))
    tally.server = {0: server.Usage(1.0, 5), 1: server.Usage(1.25, 6)}
    sample = tally.sample(0)
    assert (sample.acked, sample.acked_bytes, sample.lag_records, sample.ack_p99_ms) == (10, 1000, 13, 5.0)
    assert (sample.server_cpu_s, sample.server_rss) == (0.25, 5)
    assert tally.read_by_slowest == 7
    assert tally.acked_total == 20


def test_store_requests_are_read_and_priced() -> None:
    page = (
        'weir_store_requests_total{operation="put",outcome="ok"} 1000\n'
        'weir_store_requests_total{operation="put",outcome="retry"} 500\n'
        'weir_store_requests_total{operation="get",outcome="ok"} 2000\n'
        'weir_store_bytes_total{operation="put"} 1e6\n'
    )
    use = server.parse_store_use(page)
    assert use.requests == {"put": 1500, "get": 2000}
    assert use.request_bytes == {"put": 1_000_000}
    assert prices.dollars(use.requests, prices.DEFAULT) == pytest.approx(1.5 * 0.005 + 2 * 0.0004)
    assert use.since(server.StoreUse({"put": 500}, {})).requests == {"put": 1000, "get": 2000}


def test_cpu_sets() -> None:
    assert server.spans({0, 1, 2, 5}) == "0-2,5"
    assert server.parse_spans("0-2,5") == {0, 1, 2, 5}
    with pytest.raises(ValueError):
        server.parse_spans("a")


def test_what_others_used_of_the_machine() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    first, last = Clock(1000, 0, 500), Clock(1000 + 20 * ticks, 0, 500 + 5 * ticks)  # 15 of 20 s were busy
    assert others_share(first, last, 5.0) == pytest.approx(0.5)
    assert others_share(first, last, 15.0) == 0.0
    assert others_share(first, last, 16.0) == 0.0


def test_the_window_fits_the_batches() -> None:
    small = Workload(load=Load(batch_size=16_384))
    assert window_bytes(small) == 8 << 20
    assert window_bytes(Workload(partitions=1000, load=Load(batch_size=16_384))) == 48 << 20
    assert window_bytes(Workload(load=Load(batch_size=1_000_000))) == 10_000_000

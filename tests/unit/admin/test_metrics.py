"""Metrics: declared once, named by their unit, and what is scraped is what the counters say."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import broker.metrics
import broker.settings.show
from broker.counters import BrokerCounters
from broker.health import LoopLag
from broker.metrics import METRICS, Sources, metrics_page, registry_of
from s3stream.metrics import EngineMetrics
from s3stream.stores.instrumented import StoreCounters
from tests.unit.admin.world import admin_world


def sources(image: Any) -> Sources:
    engine: Any = SimpleNamespace(
        metrics=EngineMetrics(),
        tail_bytes=1,
        tail=SimpleNamespace(size_bytes=2),
        blocks=SimpleNamespace(bytes_used=3),
        streams_open=4,
    )
    arena: Any = SimpleNamespace(in_use_bytes=5)
    return Sources(
        counters=BrokerCounters(),
        engine=engine,
        arena=arena,
        image=lambda: image,
        lag=LoopLag(),
        connections=lambda: 6,
        store=StoreCounters(),
    )


def scraped(found: Sources) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = metrics_page(registry_of(found)).body.decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_scraped_values_are_those_of_the_counters() -> None:
    async with admin_world() as world:
        await world.create("a", partitions=3)
        found = sources(world.image)
        found.counters.requests.update({0: 7, 3: 8})
        found.counters.produce_seconds.observe(0.003)
        found.engine.metrics.uploads += 9
        assert found.store is not None
        found.store.get.outcomes.update(ok=2, Retry=1)
        found.store.get.byte_count = 100
        values = scraped(found)
        assert values["weir_requests_total", (("api", "Produce"),)] == 7
        assert values["weir_requests_total", (("api", "Metadata"),)] == 8
        assert values["weir_uploads_total", ()] == 9
        assert values["weir_produce_seconds_count", ()] == 1
        assert values["weir_produce_seconds_sum", ()] == pytest.approx(0.003)
        assert values["weir_produce_seconds_bucket", (("le", "0.0025"),)] == 0
        assert values["weir_produce_seconds_bucket", (("le", "0.005"),)] == 1
        assert values["weir_produce_seconds_bucket", (("le", "+Inf"),)] == 1
        assert values["weir_store_requests_total", (("operation", "get"), ("outcome", "Retry"))] == 1
        assert values["weir_store_bytes_total", (("operation", "get"),)] == 100
        assert values["weir_partitions", ()] == 3
        assert values["weir_partitions_without_leader", ()] == 0


def test_names_say_kind_and_unit() -> None:
    names = [declared.name for declared in METRICS]
    assert len(set(names)) == len(names)
    for declared in METRICS:
        assert re.fullmatch(r"weir_[a-z_]+", declared.name)
        assert declared.name.endswith("_total") == (declared.kind == "counter"), declared.name
        assert declared.doc.endswith(".")
        assert (declared.read is None) == (declared.histogram is not None)


def test_the_pages_are_those_that_the_declarations_make() -> None:
    folder = Path(broker.metrics.__file__).parent
    assert (folder / "METRICS.md").read_text() == broker.metrics.documentation()
    assert (folder / "settings" / "SETTINGS.md").read_text() == broker.settings.show.documentation()

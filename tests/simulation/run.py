"""One run: a scenario under a seed, from an empty world to a verdict."""

from __future__ import annotations

import gc
import logging
import traceback
from collections.abc import Callable

from tests.simulation.broker_process import broker_process
from tests.simulation.errors import SimulationFailure
from tests.simulation.randomness import stream
from tests.simulation.result import RunResult
from tests.simulation.scenarios import Scenario
from tests.simulation.trace import Trace
from tests.simulation.vacuity import met
from tests.simulation.workload import Workload
from tests.simulation.world import Process, World, WorldSettings

HEALING_LIMIT_S = 300.0  # after the last fault everything must settle within this much virtual time
TOPIC = "events"


def run_scenario(
    scenario: Scenario,
    seed: int,
    *,
    duration_s: float = 60.0,
    process: Process = broker_process,
    basic: bool = False,
    adjust: Callable[[WorldSettings], None] | None = None,
    trace: Trace | None = None,
    log: bool = False,
) -> RunResult:
    """Run and judge. `adjust(settings)` may change the world's settings: planted bugs, other sizes. `log`: let the
    broker's log through. `basic`: only what the model broker serves."""
    settings = scenario.make_settings(stream(seed, "world settings"))
    if adjust is not None:
        adjust(settings)
    world = World(seed, process, settings, trace)
    workload = Workload(world, duration_s, basic=basic)
    failure = ""
    began_s = world.loop.time()
    logging_was_off = logging.root.manager.disable
    if not log:
        logging.disable()
    try:
        world.loop.run_until_complete(workload.run(scenario, duration_s), limit_s=duration_s + HEALING_LIMIT_S)
        gc.collect()  # a failed task that nobody looked at speaks up when it is freed
        world.loop.raise_failure()
        anomalies = world.loop.run_until_complete(workload.judge())
        failure = "\n".join(str(anomaly) for anomaly in anomalies[:20])
    except SimulationFailure:
        failure = traceback.format_exc()
    finally:
        logging.disable(logging_was_off)
    world.rare_paths.collect()
    result = RunResult(
        scenario=scenario.name,
        seed=seed,
        digest=world.loop.trace.digest(),
        failure=failure,
        steps=world.loop.steps,
        simulated_s=world.loop.time() - began_s,
        acked_batches=workload.pace.acked_batches,
        records_read=workload.records_read,
        fired=world.fired + met(world.history),
    )
    world.close()
    return result

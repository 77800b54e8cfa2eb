"""Latencies as counts per value: cheap to record, to send and to merge; HDR histograms come out at the end.

A value is microseconds, rounded up to three significant figures (11 bits), so that what two histograms say can be
added and no quantile is below the truth. Pure.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Mapping

from benchmarks.bench.errors import BenchError
from benchmarks.bench.result import Latency

Counts = dict[int, int]
HIGHEST_US = 3_600_000_000
_BITS = 11
QUANTILES = (0.0, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99999, 1.0)


def quantise(us: int) -> int:
    """Rounded up to the precision of the histogram; at least 1 us."""
    if us < 1:
        return 1
    shift = us.bit_length() - _BITS
    return us if shift <= 0 else min(HIGHEST_US, ((us + (1 << shift) - 1) >> shift) << shift)


def add(into: Counts, more: Mapping[int, int]) -> None:
    """Merge `more` into `into`."""
    for value, count in more.items():
        into[value] = into.get(value, 0) + count


def merged(parts: Iterable[Mapping[int, int]]) -> Counts:
    """The sum of histograms."""
    out: Counts = {}
    for part in parts:
        add(out, part)
    return out


def quantile(counts: Mapping[int, int], q: float) -> int:
    """The smallest value that at least this share of the records does not exceed, in us; 0 when there are none."""
    return quantiles(counts, (q,))[0]


def quantiles(counts: Mapping[int, int], wanted: Iterable[float]) -> list[int]:
    """Several quantiles, in growing order of share, in one pass."""
    total = sum(counts.values())
    out: list[int] = []
    values = sorted(counts)
    position, seen = -1, 0
    for q in wanted:
        need = max(1, math.ceil(q * total - 1e-9))
        while seen < need and position + 1 < len(values):
            position += 1
            seen += counts[values[position]]
        out.append(values[position] if position >= 0 else 0)
    return out


def require() -> None:
    """BenchError unless what `encode` needs is installed: to be known before a run, not at its end."""
    if importlib.util.find_spec("hdrh") is None:
        raise BenchError('hdrhistogram is not installed: pip install "weir[bench]"')


def encode(counts: Mapping[int, int]) -> str:
    """The standard base64 form of an HDR histogram in us; needs the hdrhistogram package."""
    from hdrh.histogram import HdrHistogram

    histogram = HdrHistogram(1, HIGHEST_US, 3)
    for value, count in counts.items():
        histogram.record_value(value, count)
    return str(histogram.encode().decode())


def decode(text: str) -> Counts:
    """The counts in an encoded histogram."""
    from hdrh.histogram import HdrHistogram

    histogram = HdrHistogram.decode(text)
    lowest = histogram.get_lowest_equivalent_value
    return {
        lowest(item.value_iterated_to): item.count_added_in_this_iter_step for item in histogram.get_recorded_iterator()
    }


def latency(counts: Mapping[int, int]) -> Latency | None:
    """The figures of one histogram; None when it is empty."""
    total = sum(counts.values())
    if not total:
        return None
    p50, p90, p99, p999, p9999, top = (us / 1000 for us in quantiles(counts, (0.5, 0.9, 0.99, 0.999, 0.9999, 1.0)))
    mean = sum(value * count for value, count in counts.items()) / total / 1000
    return Latency(
        count=total,
        mean=round(mean, 3),
        p50=p50,
        p90=p90,
        p99=p99,
        p999=p999,
        p9999=p9999,
        max=top,
        histogram=encode(counts),
    )

"""The report page: one HTML file without anything outside of it, from results of runs and from tables.

Written for somebody who has never seen the tool: what was done comes first, in words; what came out, as a few large
numbers; then the curves; then the details. Pure: structures in, text out.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench import figures, histogram
from benchmarks.bench.charts import Line, lines
from benchmarks.bench.report_tables import section as table_section
from benchmarks.bench.result import Environment, Latency, Result
from benchmarks.bench.table import Table

_STYLE = Path(__file__).with_name("report.css").read_text()
_READING = """<details><summary>How to read this page</summary>
<p><b>Acknowledgement latency</b> is the time from the moment at which a record was due until the producer knew that
the broker has it. It counts from the plan, not from the moment at which the client got round to sending: a broker that
stalls for a second makes every record late that was due in that second, and all of them are counted.</p>
<p><b>p50, p99, p99.9</b>: half of the records, 99 of 100, 999 of 1,000 were faster than this. <b>End to end</b> is the
time from the same moment until a consumer has the record in its hands.</p>
<p><b>Server CPU</b> is what the broker's processes used, as the operating system counts it. <b>Limited by</b> says what
kept the run from being faster: the broker, the load generator itself (the client), or the rate that was asked for.</p>
<p><b>±</b> is the noise: half the distance between the quartiles of the repeated runs, as a share of the
median.</p></details>"""
_LIMIT = {"rate": "the rate asked for", "broker": "the broker", "client": "the client"}


def page(found: Sequence[Result | Table], title: str = "Benchmark report") -> str:
    """The whole page."""
    results = [each for each in found if isinstance(each, Result)]
    tables = [each for each in found if isinstance(each, Table)]
    tables.sort(key=lambda table: any(case.x is not None for case in table.cases))  # curves come last
    body = [f"<h1>{html.escape(title)}</h1>"]
    body.append('<p class="soft">Made by <code>weir bench report</code> from measured results.</p>')
    body.append(_READING)
    body.extend(table_section(table) + environment(table.environment) for table in tables)
    if len(results) > 1:
        body.append("<h2>The runs side by side</h2>" + _overlay(results))
    body.extend(_run(result) for result in results)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def percentile_points(latency: Latency) -> list[tuple[float, float]]:
    """Points of the latency curve: x is the number of nines (0, 1 for 90 %, 2 for 99 % ...), y is milliseconds."""
    counts = histogram.decode(latency.histogram)
    most = min(5.0, len(str(latency.count)) - 1.0)
    places = [i / 8 for i in range(int(most * 8) + 1)]
    values = histogram.quantiles(counts, [1 - 10**-place for place in places])
    return [(place, value / 1000) for place, value in zip(places, values, strict=True)]


_NINES = [
    (0.0, "0 %"),
    (0.301, "50 %"),
    (1.0, "90 %"),
    (2.0, "99 %"),
    (3.0, "99.9 %"),
    (4.0, "99.99 %"),
    (5.0, "99.999 %"),
]


def _percentiles(curves: Sequence[tuple[str, Latency | None]], title: str) -> str:
    drawn = [
        Line(name, percentile_points(latency), i)
        for i, (name, latency) in enumerate(curves)
        if latency and latency.histogram
    ]
    if not drawn:
        return ""
    return lines(drawn, x_label="share of records that were faster", y_label=title, log_y=True, x_ticks=_NINES)


def _name(result: Result) -> str:
    return f"{result.workload.name} on {result.environment.broker or result.bootstrap}"


def _overlay(results: Sequence[Result]) -> str:
    charts = [
        _percentiles([(_name(each), each.ack) for each in results], "Acknowledgement latency, ms"),
        _percentiles([(_name(each), each.end_to_end) for each in results], "End-to-end latency, ms"),
    ]
    return f'<div class="charts">{"".join(charts)}</div>'


def _tile(value: str, label: str) -> str:
    return f'<div class="tile"><b>{html.escape(value)}</b><span>{html.escape(label)}</span></div>'


def _tiles(result: Result) -> str:
    tiles = [
        _tile(figures.megabytes(result.bytes_per_s), "written and acknowledged"),
        _tile(figures.rate(result.records_per_s), f"records of {result.workload.load.record_size:,} bytes"),
    ]
    if result.ack is not None:
        tiles.append(_tile(figures.ms(result.ack.p50), "acknowledgement, half of the records"))
        tiles.append(_tile(figures.ms(result.ack.p99), "acknowledgement, 99 of 100 records"))
    if result.end_to_end is not None:
        tiles.append(_tile(figures.ms(result.end_to_end.p99), "producer to consumer, 99 of 100"))
    if result.catch_up is not None:
        caught = result.catch_up
        tiles.append(
            _tile(
                figures.megabytes(caught.read_bytes_per_s),
                f"read to catch up with {figures.size(caught.backlog_bytes)}",
            )
        )
    if result.server is not None:
        if result.server.cpu_s_per_gb is not None:
            tiles.append(_tile(f"{result.server.cpu_s_per_gb:.2f} s", "server CPU per GB moved"))
        tiles.append(_tile(figures.size(result.server.rss_max), "server memory, most"))
        if result.server.dollars_per_gb is not None:
            tiles.append(_tile(f"${result.server.dollars_per_gb:.5f}", "object-store requests per GB moved"))
    tiles.append(_tile(_LIMIT[result.limited_by], "was the limit"))
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _series(result: Result) -> str:
    samples = result.samples
    reading = result.workload.readers.groups > 0
    size = result.workload.load.record_size
    flow = [
        Line("due", [(s.at_s, s.due * size / 1e6) for s in samples], 4),
        Line("acknowledged", [(s.at_s, s.acked_bytes / 1e6) for s in samples], 0),
    ]
    latency = [
        Line("ack p50", [(s.at_s, s.ack_p50_ms) for s in samples], 0),
        Line("ack p99", [(s.at_s, s.ack_p99_ms) for s in samples], 1),
    ]
    if reading:
        flow.append(Line("read", [(s.at_s, s.read_bytes / 1e6) for s in samples], 3))
        if result.end_to_end is not None:
            latency.append(Line("end-to-end p99", [(s.at_s, s.end_to_end_p99_ms) for s in samples], 2))
    used = [
        Line("server", [(s.at_s, s.server_cpu_s) for s in samples], 0),
        Line("client", [(s.at_s, s.client_cpu_s) for s in samples], 4),
    ]
    charts = [
        lines(flow, x_label="seconds", y_label="MB per second"),
        lines(latency, x_label="seconds", y_label="Latency of each second's records, ms", log_y=True),
        lines(used if result.server else used[1:], x_label="seconds", y_label="CPU, cores"),
    ]
    if result.server is not None:
        memory = [Line("resident memory", [(s.at_s, s.server_rss / 2**20) for s in samples], 0)]
        charts.append(lines(memory, x_label="seconds", y_label="Server memory, MiB"))
    if reading:
        charts.append(
            lines(
                [Line("lag", [(s.at_s, float(s.lag_records)) for s in samples], 3)],
                x_label="seconds",
                y_label="Records that the slowest group is behind",
            )
        )
    curves: list[tuple[str, Latency | None]] = [("acknowledgement", result.ack), ("end to end", result.end_to_end)]
    if result.catch_up is not None:
        curves += [
            ("ack before catch-up", result.catch_up.ack_before),
            ("ack during catch-up", result.catch_up.ack_during),
        ]
    curves.append(("offset commit", result.commit))
    charts.append(_percentiles(curves, "Latency by share of records, ms"))
    return f'<div class="charts">{"".join(charts)}</div>'


def _latencies(result: Result) -> str:
    rows = [("acknowledgement", result.ack), ("end to end", result.end_to_end), ("offset commit", result.commit)]
    if result.catch_up is not None:
        rows += [
            ("ack before catch-up", result.catch_up.ack_before),
            ("ack during catch-up", result.catch_up.ack_during),
        ]
    body = "".join(
        f"<tr><td>{name}</td>"
        + "".join(
            f"<td>{figures.ms(v)}</td>"
            for v in (each.mean, each.p50, each.p90, each.p99, each.p999, each.p9999, each.max)
        )
        + f"<td>{each.count:,}</td></tr>"
        for name, each in rows
        if each is not None
    )
    head = "".join(
        f"<th>{h}</th>" for h in ("latency", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max", "records")
    )
    return f'<div class="scroll"><table><tr>{head}</tr>{body}</table></div>'


def _doing(result: Result) -> str:
    load, readers, w = result.workload.load, result.workload.readers, result.workload
    rate = (
        "as fast as the broker took them"
        if not load.rate
        else f"at {load.rate:,.0f} records per second ({load.arrival})"
    )
    if load.ramp_to:
        rate += f", growing to {load.ramp_to:,.0f}"
    text = (
        f"{load.producers} producer{'s' if load.producers > 1 else ''} sent records of {load.record_size:,} bytes "
        f"{rate} to "
        f"{w.topics * w.partitions:,} partition{'s' if w.topics * w.partitions > 1 else ''} with acks={load.acks}, "
        f"linger {load.linger_ms:g} ms, batches up to {figures.size(load.batch_size)}, compression {load.codec}. "
    )
    if readers.groups:
        text += (
            f"{readers.groups} consumer group{'s' if readers.groups > 1 else ''} of {readers.consumers} read along. "
        )
    else:
        text += "Nobody read. "
    return text + f"After {figures.duration(w.warmup_s)} of warm-up, {figures.duration(result.seconds)} were measured."


def _run(result: Result) -> str:
    notes = "".join(f'<p class="note">{html.escape(each)}</p>' for each in result.warnings)
    notes += "".join(
        f'<p class="note">error {html.escape(name)}: {count:,} times</p>'
        for name, count in list(result.errors.items())[:10]
    )
    return (
        f"<h2>{html.escape(_name(result))}</h2><p>{html.escape(result.workload.text)}</p>"
        f'<p class="soft">{html.escape(_doing(result))} Started {html.escape(result.started_at)}.</p>'
        + _tiles(result)
        + notes
        + _series(result)
        + _latencies(result)
        + _store(result)
        + environment(result.environment)
    )


def _store(result: Result) -> str:
    used = result.server
    if used is None or not used.requests:
        return ""
    rows = "".join(
        f"<tr><td>{html.escape(name)}</td><td>{count:,}</td>"
        f"<td>{figures.size(used.request_bytes.get(name, 0))}</td></tr>"
        for name, count in sorted(used.requests.items())
    )
    prices = ", ".join(f"{name.replace('_', ' ')}: ${price:g}" for name, price in used.prices.items())
    return (
        f"<h3>Object store</h3><table><tr><th>requests</th><th>number</th><th>bytes</th></tr>{rows}</table>"
        f'<p class="soft">Prices: {html.escape(prices)}.</p>'
    )


def environment(where: Environment) -> str:
    """Where it was measured, folded away."""
    facts = [
        ("machine", where.machine),
        ("kernel", where.kernel),
        ("Python of the client", where.python),
        ("librdkafka", where.librdkafka),
        ("commit", where.commit),
        ("broker", where.broker),
        ("CPUs of the client", where.cpuset_client),
        ("CPUs of the server", where.cpuset_server or "unknown"),
        ("load average before", f"{where.load_before:g}"),
        ("calibration, ns per turn of an empty loop", f"{where.python_loop_ns:g}"),
        ("CPU used by other processes", f"{where.others_share:.0%}"),
        ("CPU taken by other guests", f"{where.steal_share:.2%}"),
    ]
    rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in facts)
    head = f"<summary>Where it was measured: {html.escape(where.machine)}</summary>"
    return f"<details>{head}<table>{rows}</table></details>"

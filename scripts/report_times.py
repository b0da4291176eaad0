"""The distribution of the time of a token, and what it consists of. For one cache size."""

from report_chart import Chart, Section
from report_format import figures, mib, slug
from report_numbers import distribution, percentiles
from report_series import ordered

SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}
TABLE = ["p50", "p90", "p95", "p99", "max"]
PARTS = {"compute": "compute", "flash_stall": "flash stall", "admission": "admission",
         "predictor": "predictor", "overhead": "overhead"}  # fmt: skip


def timed(points):
    return [p for p in points if p.run.at("/throughput") is not None]


def tpot(point, key):
    return point.run.number(f"/throughput/tpot_ms/{key}")


def distribution_traces(point, style):
    """The curve, and marks at p50 and p99."""
    if point.run.tokens is not None:
        wall = point.run.tokens["wall_ms"]
        times, shares = distribution(wall)
        look, marked = "curve", percentiles(wall, [50, 99])
    else:
        known = [key for key in SHARES if tpot(point, key) is not None]
        times, shares = [tpot(point, key) for key in known], [SHARES[key] for key in known]
        look, marked = "line", [tpot(point, "p50"), tpot(point, "p99")]
    yield {"look": look, "name": point.setting, "style": style, "x": [float(t) for t in times],
           "y": [100 * float(s) for s in shares]}  # fmt: skip
    if look == "curve":
        yield {"look": "points", "name": point.setting, "style": style, "hidden": True, "x": marked,
               "y": [50, 99], "text": ["p50", "p99"]}  # fmt: skip


def latency_chart(place, points, styles):
    traces = [t for p in points for t in distribution_traces(p, styles[p.setting])]
    return Chart(
        id=f"latency-{slug(place)}",
        title=f"Time of a token: {place}, {mib(points[0].capacity)}",
        summary=f"Share of tokens on {place} that took at most so long, for each policy. Marks: p50 and p99.",
        x_title="time of a token, ms",
        y_title="tokens at or below, %",
        traces=traces,
        header=["policy", *(f"{key}, ms" for key in TABLE), "from"],
        rows=[[p.setting, *(figures(tpot(p, key), 4) for key in TABLE),
               "every token" if p.run.tokens is not None else "percentiles"] for p in points],
        marks=[{"axis": "y", "at": 50, "label": "p50"}, {"axis": "y", "at": 99, "label": "p99"}],
        top=103,
        x_zero=True,
    )  # fmt: skip


def latency_section(points, styles):
    section = Section(
        "latency",
        "Latency",
        "Further left is better. A curve with a long flat end has slow tokens that the mean hides.",
    )
    known = timed(points)
    for place in ordered(p.place for p in known):
        section.charts.append(latency_chart(place, [p for p in known if p.place == place], styles))
    if not known:
        section.missing = "Needs results with a device: simulated time."
    elif any(p.run.tokens is None for p in known):
        section.intro += " Where no per-token CSV was given, only p50, p90, p95, p99 and the maximum are known."
    return section


def part(point, key):
    return point.run.number(f"/time_ms_per_token/{key}") or 0.0


def parts_chart(place, points):
    names = [p.setting for p in points]
    traces = [
        {"look": "bar", "name": name, "style": number, "x": [part(p, key) for p in points], "y": names}
        for number, (key, name) in enumerate(PARTS.items())
        if key == "compute" or any(part(p, key) > 0 for p in points)
    ]
    return Chart(
        id=f"parts-{slug(place)}",
        title=f"Where the time of a token goes: {place}, {mib(points[0].capacity)}",
        summary=f"Mean time of a token on {place}, divided into what the compute agent did. Parts add up.",
        x_title="time of a token, ms",
        y_title="",
        traces=traces,
        header=["policy", *(f"{name}, ms" for name in PARTS.values()), "total, ms"],
        rows=[[p.setting, *(figures(part(p, key)) for key in PARTS), figures(tpot(p, "mean"), 4)]
              for p in points],
    )  # fmt: skip


def parts_section(points):
    section = Section(
        "parts",
        "Where the time goes",
        "Flash stall: nothing could run but for a read. Admission: memory pages are made for an expert that "
        "enters the cache. Predictor: a prefetcher's own work. Overhead: fixed costs of operators and paging.",
    )
    known = timed(points)
    for place in ordered(p.place for p in known):
        section.charts.append(parts_chart(place, [p for p in known if p.place == place]))
    if not known:
        section.missing = "Needs results with a device: simulated time."
    return section

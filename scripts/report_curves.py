"""Curves over the size of the cache, and speed against what it costs."""

from report_chart import Chart, Section
from report_format import figures, mib, size, slug, span
from report_numbers import pareto_front
from report_series import ordered

BELADY = "/bounds/belady_hit_rate"


def by_capacity(points):
    return sorted(points, key=lambda p: p.capacity)


def curve_points(points, of):
    """(capacity, value, point), the last two of each size once, by size."""
    known = [(p.capacity, of(p), p) for p in by_capacity(points) if of(p) is not None]
    return list({capacity: (capacity, value, p) for capacity, value, p in known}.values())


def miss_percent(point):
    return 100 * (1 - point.run.number("/cache/hit_rate"))


def belady_percent(point):
    hits = point.run.number(BELADY)
    return None if hits is None else 100 * (1 - hits)


def split_by_place(points):
    """One curve where all devices agree, else one a device: {suffix of the name: points}."""
    seen = {}
    for point in points:
        if seen.setdefault(point.capacity, miss_percent(point)) != miss_percent(point):
            return {f" on {place}": [p for p in points if p.place == place]
                    for place in ordered(p.place for p in points)}  # fmt: skip
    return {"": points}


def belady_floors(points):
    """Belady's curve; several where settings have other caches or other native experts."""
    floors = []
    for setting in ordered(p.setting for p in points):
        of = [p for p in points if p.setting == setting]
        curve = [(c, v) for c, v, _ in curve_points(of, belady_percent)]
        if not curve:
            continue
        for floor in floors:
            shared = dict(floor["curve"])
            if all(shared.get(c, v) == v for c, v in curve):
                floor["curve"] = sorted({*floor["curve"], *curve})
                break
        else:
            floors.append({"setting": setting, "curve": curve})
    return floors


def floor_traces(points):
    floors = belady_floors(points)
    for floor in floors:
        name = "Belady" if len(floors) == 1 else f"Belady for {floor['setting']}"
        yield {"look": "floor", "name": name, "style": None, "x": [c for c, _ in floor["curve"]],
               "y": [v for _, v in floor["curve"]]}  # fmt: skip


def miss_traces(points, styles):
    for setting in ordered(p.setting for p in points):
        for suffix, of in split_by_place([p for p in points if p.setting == setting]).items():
            curve = curve_points(of, miss_percent)
            yield {"look": "line", "name": setting + suffix, "style": styles[setting],
                   "x": [c for c, _, _ in curve], "y": [v for _, v, _ in curve]}  # fmt: skip


def cycle_marks(points):
    cycles = sorted({p.run.number("/cache/token_cycle_mib") for p in points} - {None})
    return [{"axis": "x", "at": at, "label": f"one token cycle: {mib(at)}"} for at in cycles[:3]]


def curve_rows(traces, value):
    return [[t["name"], size(x), value(y)] for t in traces for x, y in zip(t["x"], t["y"])]


def miss_chart(workload, points, styles, several):
    floors = list(floor_traces(points))
    dashed = "The dashed line is" if floors else "No result has the bound of"
    traces = [*miss_traces(points, styles), *floors]
    title = "Miss ratio against cache size" + (f": {workload}" if several else "")
    return Chart(
        id="miss-ratio" + (f"-{slug(workload)}" if several else ""),
        title=title,
        summary="Share of expert accesses that were not in the cache, for each policy over the size of "
        f"the cache. {dashed} Belady's replacement on the model's own routing.",
        x_title="expert cache, MiB",
        y_title="miss ratio, %",
        traces=traces,
        header=["policy", "cache, MiB", "miss ratio"],
        rows=curve_rows(traces, lambda y: f"{y:.2f} %"),
        marks=cycle_marks(points),
    )


def miss_section(points, styles):
    section = Section(
        "miss-ratio",
        "Miss ratio",
        "Lower is better. A policy below the dashed line hits more than Belady's replacement on the model's "
        "own routing: it changed the accesses. Below one token cycle (all experts of one token) a "
        "cache shared by all layers that evicts the least recently used hits nothing. Hit rates of policies "
        "that run fewer experts are over fewer accesses: compare MiB per token.",
    )
    known = [p for p in points if p.capacity is not None]
    workloads = ordered(p.workload for p in known)
    for workload in workloads:
        of = [p for p in known if p.workload == workload]
        section.charts.append(miss_chart(workload, of, styles, len(workloads) > 1))
    if not known:
        section.missing = "Needs results with a model or a trace that says how large an expert is."
    return section


def speed(point):
    return point.run.number("/throughput/decode_tokens_per_s")


def with_intervals(trace, rows_of, points, scale=1):
    spans = [rows_of[id(p)].interval("speed") for p in points]
    if any(spans):
        trace["error"] = ([y - s[0] * scale if s else 0 for y, s in zip(trace["y"], spans)],
                          [s[1] * scale - y if s else 0 for y, s in zip(trace["y"], spans)])  # fmt: skip
    return trace


def speed_traces(points, styles, rows_of):
    for setting in ordered(p.setting for p in points):
        curve = curve_points([p for p in points if p.setting == setting], speed)
        if not curve:
            continue
        trace = {"look": "line", "name": setting, "style": styles[setting],
                 "x": [c for c, _, _ in curve], "y": [v for _, v, _ in curve]}  # fmt: skip
        yield with_intervals(trace, rows_of, [p for _, _, p in curve]), [p for _, _, p in curve]


def interval_text(rows_of, point):
    return span(rows_of[id(point)].interval("speed"), figures)


def speed_chart(place, points, styles, rows_of):
    drawn = list(speed_traces(points, styles, rows_of))
    rows = [[t["name"], size(p.capacity), figures(speed(p), 4), interval_text(rows_of, p)]
            for t, of in drawn for p in of]  # fmt: skip
    return Chart(
        id=f"speed-{slug(place)}",
        title=f"Speed against cache size: {place}",
        summary=f"Decoded tokens a second on {place}, for each policy over the size of the cache.",
        x_title="expert cache, MiB",
        y_title="speed, tok/s",
        traces=[t for t, _ in drawn],
        header=["policy", "cache, MiB", "tok/s", "95 % interval"],
        rows=rows,
        marks=cycle_marks(points),
    )


def speed_section(points, styles, rows_of):
    section = Section(
        "speed",
        "Speed",
        "Higher is better. The best size is often a peak: memory that the cache takes is missing elsewhere. "
        "Bars are 95 % bootstrap intervals over tokens, where per-token CSVs were given.",
    )
    known = [p for p in points if p.capacity is not None and speed(p) is not None]
    for place in ordered(p.place for p in known):
        of = [p for p in known if p.place == place]
        section.charts.append(speed_chart(place, of, styles, rows_of))
    if not known:
        section.missing = "Needs results with a device: simulated time."
    return section


COSTS = [("dropped-mass", "/routing/dropped_mass", "dropped routing mass, %", 100, lambda v: f"{v:.2f} %"),
         ("perplexity", "/quality/perplexity", "perplexity", 1, figures)]  # fmt: skip


def front_trace(points, costs):
    front = [points[i] for i in pareto_front([costs[id(p)] for p in points], [speed(p) for p in points])]
    trace = {"look": "front", "name": "Pareto front", "style": None, "x": [costs[id(p)] for p in front],
             "y": [speed(p) for p in front]}  # fmt: skip
    return trace, {id(p) for p in front}


def pareto_chart(place, points, styles, rows_of, cost):
    key, pointer, title, scale, form = cost
    costs = {id(p): scale * p.run.number(pointer) for p in points}
    front, on_front = front_trace(points, costs)
    traces, rows = [], []
    for point in points:
        trace = {"look": "points", "name": point.setting, "style": styles[point.setting],
                 "x": [costs[id(point)]], "y": [speed(point)]}  # fmt: skip
        traces.append(with_intervals(trace, rows_of, [point]))
        rows.append([point.setting, form(costs[id(point)]), figures(speed(point), 4),
                     interval_text(rows_of, point), "yes" if id(point) in on_front else "no"])  # fmt: skip
    room = mib(points[0].capacity)
    return Chart(
        id=f"pareto-{key}-{slug(place)}",
        title=f"Speed against {title.split(',')[0]}: {place}, {room}",
        summary=f"Each policy on {place} with a cache of {room}: speed against {title.split(',')[0]}. "
        "The dotted line joins those that no other beats in both.",
        x_title=title,
        y_title="speed, tok/s",
        traces=[front, *traces],
        header=["policy", title.split(",")[0], "tok/s", "95 % interval", "on the front"],
        rows=rows,
        zero=False,
    )


def pareto_section(points, styles, rows_of):
    """`points`: those of the chosen cache size."""
    section = Section(
        "pareto",
        "Speed against what it costs",
        "Up and to the left is better. Dropped mass is a proxy: the share of the router's probability whose "
        "experts did not run. It ranks policies of one model and measures no quality.",
    )
    for cost in COSTS:
        known = [p for p in points if speed(p) is not None and p.run.number(cost[1]) is not None]
        for place in ordered(p.place for p in known):
            of = [p for p in known if p.place == place]
            section.charts.append(pareto_chart(place, of, styles, rows_of, cost))
    if not section.charts:
        section.missing = "Needs results with a device, and routing weights or logits in the trace."
    elif not any(p.run.number("/quality/perplexity") is not None for p in points):
        section.intro += " No result here has a perplexity."
    return section


"""The headline: a row per result, the best of each group, and which differences are none.

A group is a place and a cache size. Where per-token CSVs are given, a row that a paired bootstrap
over the same tokens cannot tell from the group's best is marked as not different.
"""

from typing import NamedTuple

import numpy as np

import report_numbers as numbers
from report_format import percent


class Metric(NamedTuple):
    key: str
    title: str
    unit: str
    pointer: str
    higher_is_better: bool


METRICS = [
    Metric("speed", "speed", "tok/s", "/throughput/decode_tokens_per_s", True),
    Metric("p99", "p99 latency", "ms", "/throughput/tpot_ms/p99", False),
    Metric("hits", "hit rate", "%", "/cache/hit_rate", True),
    Metric("mib", "read per token", "MiB", "/cache/mib_per_token", False),
    Metric("dropped", "dropped mass", "%", "/routing/dropped_mass", False),
    Metric("energy", "energy", "J/token", "/energy/j_per_token", False),
    Metric("perplexity", "perplexity", "", "/quality/perplexity", False),
]
MIB = 2**20


class Row:
    """A result of the headline table.

    values: metric -> number or None. samples: metric -> bootstrap samples, where tokens are given.
    best: metrics in which no row of its group is better. equal: metrics in which the bootstrap cannot
    tell it from the best.
    """

    def __init__(self, point):
        self.point = point
        self.values = {m.key: point.run.number(m.pointer) for m in METRICS}
        self.samples = samples_of(point.run)
        self.best, self.equal = set(), set()
        self.fastest = None  # the fastest row of the group

    def interval(self, key):
        return numbers.interval(self.samples[key]) if key in self.samples else None


def samples_of(run):
    if run.tokens is None:
        return {}
    tokens, known = run.tokens, {}
    if run.at("/throughput") is not None:
        known["speed"] = numbers.speeds(tokens["wall_ms"])
        known["p99"] = numbers.bootstrap_percentile(tokens["wall_ms"], 99)
    known["hits"] = numbers.shares(tokens["hits"], tokens["hits"] + tokens["misses"])
    if run.number("/cache/mib_per_token") is not None:
        known["mib"] = numbers.bootstrap_means(tokens["read_bytes"]) / MIB
    return known


def same_tokens(one, other):
    """Whether two rows can be compared token by token."""
    a, b = one.point.run.tokens, other.point.run.tokens
    if a is None or b is None:
        return False
    return all(np.array_equal(a[c], b[c]) for c in ("token", "sequence", "position"))


def not_different(row, best, key):
    if key not in row.samples or key not in best.samples or not same_tokens(row, best):
        return row.values[key] == best.values[key]
    low, high = numbers.interval(row.samples[key] - best.samples[key])
    return low <= 0 <= high


def speedup(row, other):
    """(row's speed over the other's - 1, its interval or None); None where a speed is unknown."""
    if row.values["speed"] is None or not other.values["speed"]:
        return None
    share = row.values["speed"] / other.values["speed"] - 1
    if "speed" not in row.samples or "speed" not in other.samples or not same_tokens(row, other):
        return share, None
    return share, numbers.interval(row.samples["speed"] / other.samples["speed"] - 1)


def mark_best(group):
    for metric in METRICS:
        known = [row for row in group if row.values[metric.key] is not None]
        if len(known) < 2:
            continue
        choose = max if metric.higher_is_better else min
        best = choose(known, key=lambda row: row.values[metric.key])
        for row in known:
            if row.values[metric.key] == best.values[metric.key]:
                row.best.add(metric.key)
            elif not_different(row, best, metric.key):
                row.equal.add(metric.key)
        if metric.key == "speed":
            for row in known:
                row.fastest = best


def group_of(row):
    return row.point.place, row.point.capacity


def make_rows(points):
    """Rows by place, cache size and setting, the first two and the settings in a fixed order."""
    places = {p.place: n for n, p in reversed(list(enumerate(points)))}
    settings = {p.setting: n for n, p in reversed(list(enumerate(points)))}
    rows = [Row(point) for point in points]
    rows.sort(key=lambda r: (places[r.point.place], r.point.capacity or 0, settings[r.point.setting]))
    for key in dict.fromkeys(map(group_of, rows)):
        mark_best([row for row in rows if group_of(row) == key])
    return rows


def baseline_of(row, rows, setting):
    """The row of the same group whose setting is the baseline; None for the baseline itself."""
    if setting is None or row.point.setting == setting:
        return None
    return next((r for r in rows if group_of(r) == group_of(row) and r.point.setting == setting), None)


def noise_of(validations):
    """The share by which real runs of the same work differ: the median of the validations that say so."""
    known = [(d.get("noise") or {}).get("mean") for _, d in validations if "rows" not in d]
    known = [float(k) for k in known if k is not None]
    return float(np.median(known)) if known else None


def inside(share, low_high, noise):
    """Why a difference in speed is none; None where it is one, or where nothing can be said."""
    if low_high is not None and low_high[0] <= 0 <= low_high[1]:
        return "inside the noise: the interval includes 0"
    if noise is not None and abs(share) < noise:
        return f"inside the noise: real runs differ by {percent(noise)}"
    return None

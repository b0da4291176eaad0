"""What the report says in words: the verdict, tables of configurations, inputs and warnings.

Texts are plain; report_page.py and report_markdown.py put them into their forms.
"""

import json
from typing import NamedTuple

from report_format import figures, mib, percent, signed, span
from report_rows import METRICS, baseline_of, group_of, inside, speedup
from report_series import leaves, ordered

OPEN_LOOP = ("Every run replays recorded routing, open loop: the recorded logits do not react to a swap or a "
             "drop, so that later layers and tokens would differ in truth. Speed and hits of policies that "
             "change the routing are those of the recording; dropped mass and agreement are proxies and no "
             "measure of quality. Compare policies at equal dropped mass, and check the model's output "
             "before any claim about it.")  # fmt: skip
LEGEND = ("\N{BLACK STAR} best of its device and cache size; \N{ALMOST EQUAL TO} not different from it by a "
          "paired 95 % bootstrap interval over tokens (1000 draws of blocks of consecutive tokens; 300 for "
          "p99). Hit rates are shares of the experts that ran: a policy that runs fewer has another "
          "denominator, compare MiB per token. Differences in speed without an interval need per-token CSVs.")  # fmt: skip
FORMS = {"speed": lambda v: figures(v), "p99": lambda v: figures(v), "hits": lambda v: percent(v),
         "mib": lambda v: figures(v, 4), "dropped": lambda v: percent(v, 2), "energy": lambda v: figures(v),
         "perplexity": lambda v: figures(v, 4)}  # fmt: skip


def metrics_shown(rows):
    """All but the perplexity, which is shown where a result has it."""
    return [m for m in METRICS
            if m.key != "perplexity" or any(r.values[m.key] is not None for r in rows)]  # fmt: skip


def metric_title(metric):
    """With its unit, unless each value has it."""
    return metric.title if metric.unit in ("", "%") else f"{metric.title}, {metric.unit}"


def cell_mark(row, key):
    if key in row.best:
        return "\N{BLACK STAR}"
    return "\N{ALMOST EQUAL TO}" if key in row.equal else ""


class Difference(NamedTuple):
    """A difference in speed in words: `+12.1 %`, `+11.0 to +13.2 %`, and why it is none, if it is."""

    share: float | None
    text: str
    interval: str
    none: str

    def line(self):
        text = self.text + (f" ({self.interval})" if self.interval else "")
        return f"{text}, {self.none}" if self.none else text


def difference(found, noise):
    if found is None:
        return Difference(None, "", "", "")
    share, low_high = found
    return Difference(share, signed(share), span(low_high, signed), inside(share, low_high, noise) or "")


def verdict(row, noise):
    """How a row stands to the fastest of its group."""
    if row.fastest is None:
        return Difference(None, "alone" if row.values["speed"] is not None else "no time", "", "")
    if "speed" in row.best:
        return Difference(0.0, "fastest", "", "")
    return difference(speedup(row, row.fastest), noise)


def against_baseline(row, rows, setting, noise):
    base = baseline_of(row, rows, setting)
    if row.point.setting == setting:
        return Difference(0.0, "baseline", "", "")
    return difference(speedup(row, base) if base else None, noise)


def sentence_of(group, rows, baseline, noise):
    """One decision: the fastest of a group, what it gains and what it costs."""
    best = group[0].fastest
    text = f"{best.point.setting} is fastest with {figures(best.values['speed'])} tok/s"
    low_high = best.interval("speed")
    text += f" ({span(low_high, figures)})" if low_high else ""
    if baseline and best.point.setting != baseline and baseline_of(best, rows, baseline):
        text += f", {against_baseline(best, rows, baseline, noise).line()} against {baseline}"
    if best.values["dropped"]:
        text += f"; it drops {percent(best.values['dropped'], 2)} of the routing mass"
    equal = [r.point.setting for r in group if r is not best and "speed" in r.equal | r.best]
    if equal:
        text += f". Not different from it: {', '.join(equal)}"
    kept = [r for r in group if r.values["dropped"] == 0 and r.values["speed"] is not None]
    if kept and best.values["dropped"]:
        exact = max(kept, key=lambda r: r.values["speed"])
        text += f". Of those that change no routing: {exact.point.setting} with {figures(exact.values['speed'])} tok/s"
    return text + "."


def decisions(rows, capacity, baseline, noise):
    """(where, sentence) for each device at the chosen cache size."""
    found = []
    for key in ordered(map(group_of, rows)):
        group = [row for row in rows if group_of(row) == key]
        if key[1] == capacity and group[0].fastest is not None:
            found.append((f"{key[0]}, {mib(key[1])}", sentence_of(group, rows, baseline, noise)))
    return found


def overview(points, validations):
    """One line of what was given."""
    tokens = sorted({p.run.document["tokens"]["measured"] for p in points})
    counts = [(len(points), "result"), (len({p.device for p in points}), "device"),
              (len(ordered(p.setting for p in points)), "policy setting"),
              (len({p.capacity for p in points} - {None}), "cache size"),
              (len(validations), "validation")]  # fmt: skip
    words = [f"{n} {name}{'' if n == 1 else 's'}" for n, name in counts if n]
    words += [f"{' or '.join(map(str, tokens))} measured tokens"] if tokens else []
    with_tokens = sum(p.run.tokens is not None for p in points)
    words += [f"{with_tokens} with per-token times"] if points else []
    return ", ".join(words) + "."


def same_configuration(points):
    """(pointer, value) of what all have alike."""
    flats = [dict(leaves(p.run.config)) for p in points]
    if not flats:
        return []
    return [[k, plain(v)] for k, v in flats[0].items() if all(k in f and f[k] == v for f in flats)]


def differing_configuration(points):
    """(header, rows): for every result what is not alike."""
    flats = [dict(leaves(p.run.config)) for p in points]
    alike = {key for key, _ in same_configuration(points)}
    pointers = ordered(k for flat in flats for k in flat if k not in alike)
    rows = [[p.run.source, *(plain(flat[k]) if k in flat else "" for k in pointers)]
            for p, flat in zip(points, flats)]  # fmt: skip
    return ["result", *pointers], rows


def plain(value):
    return value if isinstance(value, str) else json.dumps(value)


def input_rows(points):
    counts = {}
    for point in points:
        for entry in point.run.document["inputs"]:
            key = entry["path"], entry["sha256"]
            counts[key] = counts.get(key, 0) + 1
    return [[path, digest, str(n)] for (path, digest), n in counts.items()]


def program_rows(points, validations):
    counts = {}
    for document in [p.run.document for p in points] + [d for _, d in validations]:
        program = document.get("program") or {}
        key = str(program.get("version", "unknown")), str(program.get("commit", "unknown"))
        counts[key] = counts.get(key, 0) + 1
    return [[version, commit, str(n)] for (version, commit), n in counts.items()]


def remarks(points, given, validations):
    """(text, which results) of warnings and notes, and what the report itself has to say."""
    found = {}
    for point in points:
        for key in ("warnings", "notes"):
            for text in point.run.document.get(key) or []:
                found.setdefault(str(text), []).append(point.run.source)
    if len(program_rows(points, validations)) > 1:
        found["The results are of different versions of the program."] = []
    for note in given.notes:
        found[note] = []
    return [(text, which_results(sources, len(points))) for text, sources in found.items()]


def which_results(sources, total):
    if not sources:
        return ""
    if len(sources) == total:
        return "all results" if total > 1 else sources[0]
    shown = ", ".join(sources[:3])
    return shown if len(sources) <= 3 else f"{shown} and {len(sources) - 3} more"


def chart_file(chart):
    return f"{chart.id}.png"

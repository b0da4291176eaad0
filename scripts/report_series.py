"""Groups of results: what is one curve, what is one table, what each is called.

A *setting* is everything of a configuration but the capacity of the cache, the device and what is
replayed (trace and model): a curve over cache sizes. A *place* is device, trace and model: results of
one place and one cache size can be ranked. Names say only what differs among the given results.
"""

import json
from collections import defaultdict
from pathlib import Path

CAPACITIES = {f"/cache/capacity_{unit}" for unit in ("experts", "fraction", "mib")}
PLACE = ("device", "trace", "model")
POLICY_BLOCKS = ["/routing", "/cache/eviction", "/prefetch"]
MIB = 2**20


def leaves(value, pointer=""):
    """(JSON pointer, value) of each leaf; arrays are leaves, as JSON."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{pointer}/{key}")
    else:
        yield pointer, value if isinstance(value, (str, int, float, bool)) else json.dumps(value)


def name_of(value):
    """A short name of a device or model: of its file, or what it calls itself."""
    if value is None:
        return "none"
    if isinstance(value, str):
        return Path(value).stem if value.endswith(".json") else value
    return str(value.get("name", "unnamed")) if isinstance(value, dict) else str(value)


def capacity_mib(run):
    """What the expert cache may hold; None where nothing says how large an expert is."""
    known = run.number("/memory/expert_cache_mib")
    if known is not None:
        return known
    if run.number("/config/cache/capacity_mib") is not None:
        return run.number("/config/cache/capacity_mib")
    size = run.number("/weights/expert_bytes/mean")
    count = capacity_experts(run)
    return None if size is None or count is None else count * size / MIB


def capacity_experts(run):
    """In all layers together."""
    layers, experts = len(run.at("/routing/by_layer") or []), len(run.at("/routing/promoted_by_rank") or [])
    caches = layers if run.at("/config/cache/scope") == "layer" else 1
    count, share = run.number("/config/cache/capacity_experts"), run.number("/config/cache/capacity_fraction")
    if count is not None:
        return count * caches
    return None if share is None else int(share * (experts * layers // caches)) * caches


def block_policy(flat, pointer):
    """The policy whose parameter this is: it tells settings apart only among those of that policy."""
    block = next((b for b in POLICY_BLOCKS if pointer.startswith(b + "/") and pointer != f"{b}/policy"), None)
    return None if block is None else flat.get(f"{block}/policy")


def values_seen(flats):
    """(pointer, policy it belongs to) -> the values that these flat configurations have there."""
    pointers = sorted({pointer for flat in flats for pointer in flat})
    seen = defaultdict(set)
    for flat in flats:
        for pointer in pointers:
            value = flat.get(pointer)
            seen[pointer, block_policy(flat, pointer)].add((isinstance(value, bool), value))
    return seen


def setting_pointers(flat, seen):
    """What must be named to tell this configuration from the others that `seen` is of."""
    return [
        pointer
        for pointer in sorted(flat)
        if pointer not in CAPACITIES | {"/routing/policy"}
        and pointer.split("/")[1] not in PLACE
        and len(seen[pointer, block_policy(flat, pointer)]) > 1
    ]


def pointer_words(pointer):
    keys = pointer.split("/")[1:]
    return keys[-2] if keys[-1] == "policy" else keys[-1]


def setting_name(flat, seen):
    words = [f"{pointer_words(p)} {plain(flat[p])}" for p in setting_pointers(flat, seen)]
    return ", ".join([flat["/routing/policy"], *words])


def plain(value):
    return f"{value:g}" if isinstance(value, float) else str(value)


class Point:
    """One result with its names, and the `capacity` of its cache in MiB."""

    def __init__(self, run, setting, device, workload):
        self.run, self.setting, self.device, self.workload = run, setting, device, workload
        self.place = device if workload == "all" else f"{device}, {workload}"
        self.capacity = capacity_mib(run)

    def key(self):
        return self.place, self.capacity, self.setting


def unique_names(values, name):
    """value (JSON text) -> name, with a number where different values have one name."""
    names, taken = {}, defaultdict(int)
    for value in values:
        if value in names:
            continue
        short = name(json.loads(value))
        taken[short] += 1
        names[value] = short if taken[short] == 1 else f"{short} ({taken[short]})"
    return names


def trace_identity(run):
    block = run.at("/config/trace") or {}
    return {**block, "sha256": [e["sha256"] for e in run.document["inputs"] if e["path"] == block.get("path")]}


def trace_names(blocks):
    """What differs among the traces and what is used of them: a name for each."""
    keys = [key for key in ("max_tokens", "warmup_tokens", "prefill") if len({b.get(key) for b in blocks}) > 1]
    paths = len({b.get("path") for b in blocks}) > 1 or not keys

    def name(block):
        words = [Path(block.get("path") or "none").stem] if paths else []
        return ", ".join(words + [f"{key} {block.get(key) or 'all'}" for key in keys])

    return name


def parts_of(runs):
    """Of each part of a place: for every run its name, or None where all have the same."""
    found = {}
    for part in PLACE:
        of = [trace_identity(r) if part == "trace" else r.config.get(part) for r in runs]
        texts = [json.dumps(value, sort_keys=True) for value in of]
        names = unique_names(texts, trace_names(of) if part == "trace" else name_of)
        found[part] = [names[text] for text in texts] if len(names) > 1 or part == "device" else None
    return found


def make_points(runs):
    """The results with their names, in the order in which they were given."""
    flats = [dict(leaves({k: v for k, v in run.config.items() if k != "description"})) for run in runs]
    parts = parts_of(runs)
    by_device = defaultdict(list)
    for flat, device in zip(flats, parts["device"]):
        by_device[device].append(flat)
    seen = {device: values_seen(of) for device, of in by_device.items()}
    points, taken = [], {}
    for number, (run, flat) in enumerate(zip(runs, flats)):
        workload = ", ".join(parts[p][number] for p in ("trace", "model") if parts[p]) or "all"
        device = parts["device"][number]
        setting = setting_name(flat, seen[device])
        point = Point(run, setting, device, workload)
        if point.key() in taken:  # the same configuration with other numbers: another program
            point.setting = f"{setting} ({run.source})"
        taken[point.key()] = point
        points.append(point)
    return points


def ordered(values):
    """Without repetition, in order of first appearance."""
    return list(dict.fromkeys(values))


def default_capacity(points):
    """The cache size that most results have; of several the one in the middle. None if none is known."""
    counts = defaultdict(int)
    for point in points:
        if point.capacity is not None:
            counts[point.capacity] += 1
    if not counts:
        return None
    most = sorted(c for c, n in counts.items() if n == max(counts.values()))
    return most[(len(most) - 1) // 2]


def nearest_capacity(points, wanted):
    known = {p.capacity for p in points if p.capacity is not None}
    return min(known, key=lambda c: (abs(c - wanted), c)) if known else None

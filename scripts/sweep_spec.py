"""A sweep specification (docs/sweeping_from_scripts.md): a JSON file -> its points, or one clear line."""

import difflib
import hashlib
import itertools
import json
import math
import os
import re
from decimal import Decimal
from typing import NamedTuple

SCHEMA = "moesim.sweep/1"
KEYS = [
    "schema", "description", "config", "set", "traces", "models", "devices", "policies", "seeds", "grid", "list",
]  # fmt: skip
POLICIES = {"routing": "/routing", "eviction": "/cache/eviction", "prefetch": "/prefetch"}
CAPACITIES = {"/cache/capacity_experts", "/cache/capacity_fraction", "/cache/capacity_mib"}
POINTER = re.compile(r"(/([^/~]|~0|~1)+)+")
MOST_POINTS = 1_000_000


class SweepError(Exception):
    """What the user can mend; its text is one line: place, expected, got."""


class Point(NamedTuple):
    index: int
    fingerprint: str  # of everything that decides the result but for program and input files
    point: dict  # pointer -> value, what varies
    overrides: list  # "/pointer=value", what `sim run --set` takes


class Sweep(NamedTuple):
    shown: str  # the specification as the user called it
    config: str  # the configuration as `sim` is to call it
    points: list


def shown_value(value):
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def shown_count(count):
    return str(count) if count < 10**15 else f"{Decimal(count):.1e}"


def wrong(place, expected, got):
    return SweepError(f"{place}: expected {expected}, got {got}")


def strict_json(path, shown):
    """Refuses what the program refuses: duplicate keys, NaN, numbers beyond a double."""

    def pairs(items):
        found = dict(items)
        if len(found) < len(items):
            names = [name for name, _ in items]
            twice = next(name for name in names if names.count(name) > 1)
            raise wrong(shown, "each key once in an object", f'"{twice}" twice')
        return found

    def number(text):
        if not math.isfinite(float(text)):
            got = text if len(text) <= 20 else f"{text[:17]}... of {len(text)} characters"
            raise wrong(shown, "finite numbers", got)
        return float(text)

    def integer(text):
        number(text)
        return int(text)

    try:
        with open(path, encoding="utf-8") as file:
            return json.load(
                file, object_pairs_hook=pairs, parse_float=number, parse_int=integer, parse_constant=number
            )
    except OSError as error:
        raise wrong(shown, "a file", error.strerror.lower()) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise wrong(f"{shown}: {where}", "JSON", error.msg.lower()) from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise wrong(shown, "JSON in UTF-8", type(error).__name__) from None
    except ValueError as error:  # a name that no file can have
        raise wrong(shown_value(shown), "a file", str(error)) from None


def require(place, value, kind, expected):
    if not isinstance(value, kind) or isinstance(value, bool):
        raise wrong(place, expected, shown_value(value))
    return value


def check_keys(place, found, known):
    for key in found:
        if key not in known:
            nearest = max(known, key=lambda name: difflib.SequenceMatcher(None, key, name).ratio())
            listed = ", ".join(sorted(known))
            raise SweepError(f"{place}/{key}: unknown key; known here: {listed}; nearest: {nearest}")


def span(place, node):
    """The values of {"from", "to", "step"}; decimal steps, so that 0.1 + 0.2 is 0.3."""
    check_keys(place, node, ["from", "to", "step"])
    for key in ("from", "to", "step"):
        if key not in node:
            raise wrong(f"{place}/{key}", "a number", "nothing")
        require(f"{place}/{key}", node[key], (int, float), "a number")
    first, last, step = (Decimal(repr(node[key])) for key in ("from", "to", "step"))
    if step == 0 or (last - first) / step < 0:
        raise wrong(f"{place}/step", "a step from `from` towards `to`", node["step"])
    count = int((last - first) / step) + 1
    if count > MOST_POINTS:
        raise wrong(place, f"at most {MOST_POINTS} values", shown_count(count))
    whole = all(isinstance(node[key], int) for key in ("from", "step"))
    return [(int if whole else float)(first + i * step) for i in range(count)]


def values(place, node, span_allowed=True):
    """A non-empty array of distinct values, or a span."""
    if span_allowed and isinstance(node, dict):
        return span(place, node)
    kinds = "an array of values" + (' or {"from", "to", "step"}' if span_allowed else "")
    require(place, node, list, kinds)
    if not node:
        raise wrong(place, "at least one value", "[]")
    seen = {}
    for i, value in enumerate(node):
        text = json.dumps(value, sort_keys=True)
        if text in seen:
            raise wrong(f"{place}/{i}", "distinct values", f"{shown_value(value)} twice")
        seen[text] = i
    return node


def changes(place, node):
    """An object pointer -> value."""
    require(place, node, dict, 'an object {"/pointer": value}')
    for pointer in node:
        check_pointer(place, pointer)
    return node


def check_pointer(place, pointer):
    if not POINTER.fullmatch(pointer):
        expected = "a JSON pointer such as /cache/capacity_experts"
        raise wrong(f"{place}: {shown_value(pointer)}", expected, "none")


def moved(path, spec_folder, config_folder):
    """A path that is relative to the specification, as the configuration would write it."""
    if os.path.isabs(path):
        return path
    return os.path.relpath(os.path.join(spec_folder, path), config_folder or ".")


def file_or_name(place, value, folders, null=False):
    """A model or device: a bare name, an object, or a file, which ends in .json."""
    if (null and value is None) or isinstance(value, dict):
        return value
    require(place, value, str, "a name, a file or an object" + (" or null" if null else ""))
    return moved(value, *folders) if value.endswith(".json") else value


def policy_changes(place, entry):
    if isinstance(entry, str):
        entry = {"routing": entry}
    require(place, entry, dict, 'a routing policy or {"routing", "eviction", "prefetch"}')
    check_keys(place, entry, list(POLICIES))
    if not entry:
        raise wrong(place, "at least one of routing, eviction, prefetch", "{}")
    result = {}
    for key, pointer in POLICIES.items():
        if key in entry:
            value = require(f"{place}/{key}", entry[key], (str, dict), "a name or an object")
            result[pointer + "/policy" if isinstance(value, str) else pointer] = value
    return result


def named_axes(root, spec, folders):
    """The axes traces, models, devices, policies, seeds: each a list of {pointer: value}."""
    def of(name, read, **options):
        if name in spec:
            place = f"{root}/{name}"
            found = values(place, spec[name], **{"span_allowed": False, **options})
            yield [read(f"{place}/{i}", value) for i, value in enumerate(found)]

    def trace(place, value):
        return {"/trace/path": moved(require(place, value, str, "a file"), *folders)}

    def seed(place, value):
        return {"/seed": require(place, value, int, "an integer")}

    return [
        *of("traces", trace),
        *of("models", lambda place, value: {"/model": file_or_name(place, value, folders)}),
        *of("devices", lambda place, value: {"/device": file_or_name(place, value, folders, True)}),
        *of("policies", policy_changes),
        *of("seeds", seed, span_allowed=True),
    ]  # fmt: skip


def grid_axes(root, spec):
    grid = changes(f"{root}/grid", spec.get("grid", {}))
    if "grid" in spec and not grid:
        raise wrong(f"{root}/grid", "at least one pointer", "{}")
    return [
        [{pointer: value} for value in values(f"{root}/grid: {pointer}", node)]
        for pointer, node in grid.items()
    ]


def listed_points(root, spec):
    return [
        changes(f"{root}/list/{i}", entry)
        for i, entry in enumerate(values(f"{root}/list", spec.get("list"), False))
    ]


def check_together(place, parts):
    """Changes of one point, in their order: none may undo another."""
    done = []
    for pointer in itertools.chain(*parts):
        for earlier in done:
            if pointer == earlier or earlier.startswith(pointer + "/"):
                raise wrong(place, "changes that leave each other alone", f"{earlier} and then {pointer}")
            if {pointer, earlier} <= CAPACITIES:
                raise wrong(place, "one capacity in a point", f"{earlier} and {pointer}")
        done.append(pointer)


def product(place, fixed, axes):
    count = math.prod(len(axis) for axis in axes)
    if count > MOST_POINTS:
        raise wrong(place, f"at most {MOST_POINTS} points", shown_count(count))
    shapes = set()
    for parts in itertools.product(*axes):
        shape = tuple(tuple(part) for part in parts)
        if shape not in shapes:
            check_together(place, [fixed, *parts])
            shapes.add(shape)
        yield {pointer: value for part in parts for pointer, value in part.items()}


def fingerprint(config, fixed, point):
    text = json.dumps([config, fixed, point], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def all_changes(shown, spec, fixed, folders):
    root = f"{shown}: "
    axes = named_axes(root, spec, folders)
    if "grid" in spec or "list" not in spec:
        place = f"{shown}: /grid" if "grid" in spec else shown
        yield from product(place, fixed, [*axes, *grid_axes(root, spec)])
    if "list" in spec:
        yield from product(f"{shown}: /list", fixed, [*axes, listed_points(root, spec)])


def read_sweep(path):
    """The points of a specification, in its order, equal ones once. Raises SweepError."""
    shown = str(path)
    spec = require(f"{shown}: /", strict_json(path, shown), dict, "an object")
    check_keys(f"{shown}: ", spec, KEYS)
    if spec.get("schema") != SCHEMA:
        raise wrong(f"{shown}: /schema", f'"{SCHEMA}"', shown_value(spec.get("schema")))
    name = require(f"{shown}: /config", spec.get("config"), str, "a configuration file")
    config = os.path.normpath(os.path.join(os.path.dirname(shown), name))
    base = strict_json(config, f"{shown}: /config: {config}")
    fixed = changes(f"{shown}: /set", spec.get("set", {}))
    folders = (os.path.dirname(shown), os.path.dirname(config))
    points = {}
    for point in all_changes(shown, spec, fixed, folders):
        key = fingerprint(base, fixed, point)
        if key not in points:
            overrides = [f"{p}={json.dumps(v)}" for p, v in [*fixed.items(), *point.items()]]
            points[key] = Point(len(points), key, point, overrides)
    return Sweep(shown, config, list(points.values()))


def kind_of(value):
    """What numbers have in common, or the value: a misspelt name is not found in a number."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return "a number" if number else json.dumps(value, sort_keys=True)


def covering(points):
    """Points that between them have every value of every pointer, of numbers the first: what is worth
    checking first."""
    seen, chosen = set(), []
    for point in points:
        new = {(p, kind_of(v)) for p, v in point.point.items()} - seen
        if new or not chosen:
            seen |= new
            chosen.append(point)
    return chosen

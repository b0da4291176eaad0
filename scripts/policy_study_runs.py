"""The runs behind scripts/policy_study.py: which cases, and what is taken from their results."""

import concurrent.futures
import json
import os
import pathlib
import subprocess
from typing import NamedTuple

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
CONFIG = "configs/phone.json"

EXPERTS = 64  # of a layer, in the bundled trace
CAPACITIES = {"A quarter": 16, "Half": 32}
LAMBDAS = [0.05, 0.1, 0.2, 0.3, 0.4, 0.5]
AT_DROPPED = [0.02, 0.05, 0.1, 0.15, 0.2]


class Curve(NamedTuple):
    """A routing policy and the parameter that is swept; the values go away from plain top-k."""

    name: str
    policy: str
    parameter: str
    values: list
    fixed: dict = {}


CURVES = [
    Curve("Cache-Prior", "cache_prior", "lambda",
          [0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 1]),
    Curve("Max rank", "max_rank", "M", [8, 9, 10, 12, 14, 16, 20, 24, 32, 48, 64]),
    Curve("Cumulative threshold", "cumulative_threshold", "p_thr",
          [0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1]),
    Curve("Pruning by ratio (ODP)", "odp", "mu", [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
    Curve("Pruning to fewer experts", "top_p", "k_max", [8, 7, 6, 5, 4, 3, 2], {"P": 1}),
    Curve("Dropping cold experts", "drop_cold", "F",
          [0, 0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5]),
]  # fmt: skip
BOUNDS = {"Belady": "belady", "MIN with bypass": "min_bypass"}


class Case(NamedTuple):
    capacity: int
    routing: str  # JSON, so that a case is hashable
    eviction: str


def case(capacity, eviction="lru", **routing):
    return Case(capacity, json.dumps(routing), eviction)


def curve_cases(curve, capacity):
    return [
        case(capacity, policy=curve.policy, **curve.fixed, **{curve.parameter: value})
        for value in curve.values
    ]


def plain(capacity, eviction="lru"):
    return case(capacity, eviction, policy="top_k")


class Run(NamedTuple):
    """What the study takes from a result. Misses are per access that plain top-k would make, also
    where a policy runs fewer experts."""

    misses: int
    misses_per_token: float
    miss_ratio: float
    mib_per_token: float
    experts: float
    dropped: float
    p95_dropped: float
    agreement: float
    ran_mass: float  # probability of the experts that ran


def run(sim, which):
    settings = {
        "device": None,
        "routing": json.loads(which.routing),
        "cache/capacity_experts": which.capacity,
        "cache/eviction": {"policy": which.eviction},
    }
    command = [sim, "run", "--config", CONFIG, "--json", "-"]
    for key, value in settings.items():
        command += ["--set", f"/{key}={json.dumps(value)}"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}\n{done.stderr}")
    result = json.loads(done.stdout)
    routing, cache, tokens = result["routing"], result["cache"], result["tokens"]["measured"]
    native = tokens * len(routing["by_layer"]) * result["config"]["routing"]["k"]
    return Run(
        cache["misses"],
        cache["misses"] / tokens,
        cache["misses"] / native,
        cache["mib_per_token"],
        routing["experts_per_token_layer"],
        routing["dropped_mass"],
        routing["p95"]["dropped_mass"],
        routing["agreement"],
        routing["retained_mass_absolute"],
    )


def run_all(sim, cases):
    """{case: run}; equal cases are run once."""
    wanted = list(dict.fromkeys(cases))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(wanted, pool.map(lambda which: run(sim, which), wanted)))


def registered_curves(sim):
    """The curves whose policy the program has."""
    done = subprocess.run([sim, "list", "routing", "--json"], stdout=subprocess.PIPE, check=True)
    known = {policy["name"] for policy in json.loads(done.stdout)}
    return [curve for curve in CURVES if curve.policy in known]


def cut_cases(capacity):
    """[(name, case)] of the table of what Cache-Prior cuts."""
    return [
        ("`top_k`, `lru`", plain(capacity)),
        *(
            (f"`cache_prior` lambda {value}, `lru`",
             case(capacity, policy="cache_prior", **{"lambda": value}))
            for value in LAMBDAS
        ),
        *((f"`top_k`, `{policy}`", plain(capacity, policy)) for policy in BOUNDS.values()),
    ]  # fmt: skip


def all_cases(curves):
    return [
        which
        for capacity in CAPACITIES.values()
        for which in [
            *(which for _, which in cut_cases(capacity)),
            *(which for curve in curves for which in curve_cases(curve, capacity)),
        ]
    ]


def points_of(runs, curve, capacity):
    """[(dropped mass, miss ratio)] in the order of the sweep."""
    return [(runs[which].dropped, runs[which].miss_ratio) for which in curve_cases(curve, capacity)]


def interpolated(points, x):
    """y at x of a line through points [(x, y)], of the first stretch that reaches it; else None."""
    for (left, y_left), (right, y_right) in zip(points, points[1:]):
        if min(left, right) <= x <= max(left, right) and left != right:
            return y_left + (y_right - y_left) * (x - left) / (right - left)
    return None

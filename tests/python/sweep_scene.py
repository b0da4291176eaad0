"""What the tests of scripts/sweep.py share: a specification, its folder, its undisturbed results."""

import json
import subprocess
import sys

import pytest

from conftest import REPOSITORY
from sweep_cluster import GENEROUS_S

SCRIPT = REPOSITORY / "scripts/sweep.py"
CAPACITIES = [8, 12, 16, 24]
LAMBDAS = [0.1, 0.3]
BASE = {
    "trace": {"path": "trace.safetensors"},
    "model": "olmoe-1b-7b",
    "device": "oneplus-15r",
    "routing": {"policy": "top_k"},
    "cache": {"capacity_experts": 16},
}
GRID = {
    "schema": "moesim.sweep/1",
    "config": "config.json",
    "set": {"/routing/policy": "cache_prior"},
    "grid": {"/cache/capacity_experts": CAPACITIES, "/routing/lambda": LAMBDAS},
}
POINTS = len(CAPACITIES) * len(LAMBDAS)
FAILING = {**GRID, "grid": {"/cache/capacity_experts": [8, 4, 16]}}  # 4 < k


@pytest.fixture(scope="module")
def scene(tmp_path_factory, run_sim):
    """A folder with a trace, a configuration and the specification spec.json."""
    folder = tmp_path_factory.mktemp("sweep")
    made = run_sim("trace", "synth", "--tokens", 24, "--layers", 16, "--experts", 64, "--top-k", 8,
                   "--out", folder / "trace.safetensors")  # fmt: skip
    assert made.returncode == 0, made.stderr
    (folder / "config.json").write_text(json.dumps(BASE))
    write_spec(folder, GRID)
    return folder


def write_spec(folder, spec, name="spec.json"):
    text = spec if isinstance(spec, str) else json.dumps(spec)
    (folder / name).write_text(text)
    return name


def start(folder, sim, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, SCRIPT, "--sim", sim, *map(str, arguments)],
        **{"cwd": folder, "stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
           "stderr": subprocess.PIPE, "text": True, **options},
    )  # fmt: skip


@pytest.fixture(scope="module")
def sweep(scene, sim):
    """sweep(*arguments, sim=...): the CompletedProcess in the scene."""

    def run(*arguments, sim=sim, **options):
        process = start(scene, sim, *arguments, **options)
        out, err = process.communicate(timeout=2 * GENEROUS_S)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run


def results(out):
    """{point as text: document} of results.jsonl, in which every point stands once."""
    lines = (out / "results.jsonl").read_text().splitlines()
    documents = [json.loads(line) for line in lines]
    found = {json.dumps(document["point"]): document for document in documents}
    assert len(found) == len(documents)
    return found


@pytest.fixture(scope="module")
def expected(sweep, scene):
    """The results of an undisturbed sweep on this machine."""
    ran = sweep("spec.json", "--out", "expected")
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr
    return results(scene / "expected")


def refused(ran, *parts):
    assert (ran.returncode, ran.stdout) == (2, ""), ran.stderr
    assert ran.stderr.startswith("sweep.py: error: ")
    assert ran.stderr.count("\n") == 1
    for part in parts:
        assert part in ran.stderr, ran.stderr


def other_sim(folder, script):
    path = folder / "other-sim"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path

"""scripts/sweep.py: points from a specification, results that survive kills, parts that are merged."""

import contextlib
import csv
import json
import os
import pty
import random
import resource
import signal
import sqlite3
import subprocess
import sys

import pytest

from conftest import REPOSITORY
from sweep_cluster import GENEROUS_S, Cluster, KillingSim, has_slurm, missing_tools

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


# --- results -----------------------------------------------------------------------------------


def test_a_point_is_what_sim_run_says_of_it_and_the_point(expected, scene, run_sim):
    assert len(expected) == POINTS
    for document in expected.values():
        point = document.pop("point")
        settings = [f"{pointer}={json.dumps(value)}" for pointer, value in point.items()]
        ran = run_sim("run", "--config", "config.json", "--json", "-", "--set",
                      "/routing/policy=cache_prior", "--set", settings[0], "--set", settings[1],
                      cwd=scene)  # fmt: skip
        assert json.loads(ran.stdout) == document
        document["point"] = point


def test_points_stand_in_the_order_of_the_grid_whatever_the_jobs(expected, sweep, scene):
    order = [json.loads(text) for text in expected]
    assert order == [
        {"/cache/capacity_experts": c, "/routing/lambda": x} for c in CAPACITIES for x in LAMBDAS
    ]
    assert sweep("spec.json", "--out", "one-job", "--jobs", 1).returncode == 0
    for name in ("results.jsonl", "results.csv"):
        assert (scene / "one-job" / name).read_bytes() == (scene / "expected" / name).read_bytes()


def test_the_csv_has_the_headline_numbers(expected, scene):
    with open(scene / "expected/results.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == POINTS
    for row, document in zip(rows, expected.values()):
        assert row["outcome"] == "done"
        assert int(row["/cache/capacity_experts"]) == document["point"]["/cache/capacity_experts"]
        assert float(row["tpot_p99_ms"]) == document["throughput"]["tpot_ms"]["p99"]
        assert float(row["hit_rate"]) == document["cache"]["hit_rate"]
        assert float(row["j_per_token"]) == document["energy"]["j_per_token"]


def test_the_database_has_one_row_a_point(expected, scene):
    with contextlib.closing(sqlite3.connect(scene / "expected/sweep.sqlite")) as database:
        rows = database.execute("SELECT outcome, result FROM points").fetchall()
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert sorted(result for _, result in rows) == sorted(
        json.dumps(document, separators=(",", ":")) for document in expected.values()
    )


def test_sim_sweep_gives_the_same_lines(sweep, scene, run_sim):
    """No matter in which order."""
    if "sweep" not in run_sim("--help").stdout:
        pytest.skip("this program has no `sim sweep`")
    (scene / "same.json").write_text(json.dumps({**BASE, "routing": {"policy": "cache_prior"}}))
    write_spec(scene, {**GRID, "config": "same.json", "set": {}}, "same-spec.json")
    assert sweep("same-spec.json", "--out", "same").returncode == 0
    axes = [f"{pointer}={','.join(map(str, values))}" for pointer, values in GRID["grid"].items()]
    ran = run_sim("sweep", "--config", "same.json", "--vary", axes[0], "--vary", axes[1],
                  "--out", "same.jsonl", cwd=scene)  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    lines = (scene / "same.jsonl").read_text().splitlines()
    assert {json.dumps(json.loads(line)["point"]): json.loads(line) for line in lines} == results(scene / "same")


def listed(sweep, scene, **spec):
    write_spec(scene, {"schema": "moesim.sweep/1", "config": "config.json", **spec}, "listed.json")
    ran = sweep("listed.json", "--list")
    assert ran.returncode == 0, ran.stderr
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [entry["index"] for entry in found] == list(range(len(found)))
    assert len({entry["fingerprint"] for entry in found}) == len(found)
    return [entry["point"] for entry in found]


def test_every_kind_of_axis(sweep, scene):
    points = listed(
        sweep, scene,
        traces=["a.safetensors", "/b.safetensors"], models=["m", {"name": "x"}], devices=[None, "d.json"],
        policies=["top_k", {"routing": {"policy": "max_rank"}, "eviction": "lfu", "prefetch": "none"}],
        seeds={"from": 1, "to": 2, "step": 1}, grid={"/execution/lanes": [1, 2]},
        list=[{"/execution/lanes": 8, "/execution/threads": 2}],
    )  # fmt: skip
    assert len(points) == 2**5 * (2 + 1)
    assert points[0] == {"/trace/path": "a.safetensors", "/model": "m", "/device": None,
                         "/routing/policy": "top_k", "/seed": 1, "/execution/lanes": 1}  # fmt: skip
    assert points[-1] == {
        "/trace/path": "/b.safetensors", "/model": {"name": "x"}, "/device": "d.json",
        "/routing": {"policy": "max_rank"}, "/cache/eviction/policy": "lfu", "/prefetch/policy": "none",
        "/seed": 2, "/execution/lanes": 8, "/execution/threads": 2,
    }  # fmt: skip


def test_spans_step_in_decimals_and_equal_points_count_once(sweep, scene):
    steps = {"from": 0, "to": 0.3, "step": 0.1}
    points = listed(sweep, scene, grid={"/routing/lambda": steps}, list=[{"/routing/lambda": 0.1}])
    assert [point["/routing/lambda"] for point in points] == [0, 0.1, 0.2, 0.3]
    assert listed(sweep, scene) == [{}]
    assert listed(sweep, scene, grid={"/seed": {"from": 5, "to": 1, "step": -2}}) == [
        {"/seed": 5}, {"/seed": 3}, {"/seed": 1},
    ]  # fmt: skip


def test_files_are_relative_to_the_specification(sweep, scene):
    (scene / "sub").mkdir()
    spec = {"schema": "moesim.sweep/1", "config": "../config.json", "traces": ["../trace.safetensors"]}
    write_spec(scene / "sub", spec)
    ran = sweep("sub/spec.json", "--out", "sub/out")
    assert ran.returncode == 0, ran.stderr
    (document,) = results(scene / "sub/out").values()
    assert document["config"]["trace"]["path"] == "trace.safetensors"
    assert document["inputs"][0]["path"] == "config.json"


# --- specification errors ----------------------------------------------------------------------

SPEC_ERRORS = [
    ('{"schema": "moesim.sweep/1"', "bad.json: line 1, column 28: expected JSON, got"),
    ('{"schema": 1, "schema": 2}', 'bad.json: expected each key once in an object, got "schema" twice'),
    ('{"seeds": [1e999]}', "bad.json: expected finite numbers, got 1e999"),
    ('{"seeds": [NaN]}', "bad.json: expected finite numbers, got NaN"),
    ([], "bad.json: /: expected an object, got []"),
    ({"schema": 1}, 'bad.json: /schema: expected "moesim.sweep/1", got 1'),
    ({"config": 7}, "bad.json: /config: expected a configuration file, got 7"),
    ({"config": "absent.json"}, "bad.json: /config: absent.json: expected a file, got no such file"),
    ({"gird": {}}, "bad.json: /gird: unknown key; known here: config, ", "; nearest: grid\n"),
    ({"grid": []}, 'bad.json: /grid: expected an object {"/pointer": value}, got []'),
    ({"grid": {}}, "bad.json: /grid: expected at least one pointer, got {}"),
    ({"grid": {"seed": [1]}}, 'bad.json: /grid: "seed": expected a JSON pointer such as'),
    ({"grid": {"/seed": 1}}, 'bad.json: /grid: /seed: expected an array of values or {"from", "to", "step"}, got 1'),
    ({"grid": {"/seed": []}}, "bad.json: /grid: /seed: expected at least one value, got []"),
    ({"grid": {"/seed": [1, 2, 1]}}, "bad.json: /grid: /seed/2: expected distinct values, got 1 twice"),
    ({"grid": {"/seed": {"from": 1, "to": 2}}}, "bad.json: /grid: /seed/step: expected a number, got nothing"),
    ({"grid": {"/seed": {"from": 1, "to": 2, "stp": 1}}}, "/seed/stp: unknown key; known here: from, step, to; nearest: step"),
    ({"grid": {"/seed": {"from": 1, "to": 2, "step": 0}}}, "/seed/step: expected a step from `from` towards `to`, got 0"),
    ({"grid": {"/seed": {"from": 1, "to": "x", "step": 1}}}, '/seed/to: expected a number, got "x"'),
    ({"grid": {"/seed": {"from": 1, "to": 1e9, "step": 1}}}, "/seed: expected at most 1000000 values, got 1000000000"),
    ({"grid": {p: list(range(1001)) for p in ("/seed", "/a")}}, "/grid: expected at most 1000000 points, got 1002001"),
    ({"list": {}}, "bad.json: /list: expected an array of values, got {}"),
    ({"list": [3]}, 'bad.json: /list/0: expected an object {"/pointer": value}, got 3'),
    ({"seeds": [1.5]}, "bad.json: /seeds/0: expected an integer, got 1.5"),
    ({"traces": [1]}, "bad.json: /traces/0: expected a file, got 1"),
    ({"models": [1]}, "bad.json: /models/0: expected a name, a file or an object, got 1"),
    ({"devices": [1]}, "bad.json: /devices/0: expected a name, a file or an object or null, got 1"),
    ({"policies": [1]}, 'bad.json: /policies/0: expected a routing policy or {"routing", "eviction", "prefetch"}, got 1'),
    ({"policies": [{}]}, "bad.json: /policies/0: expected at least one of routing, eviction, prefetch, got {}"),
    ({"policies": [{"evict": "lru"}]}, "/policies/0/evict: unknown key; known here: eviction, prefetch, routing; nearest: eviction"),
    ({"policies": [{"routing": 1}]}, "/policies/0/routing: expected a name or an object, got 1"),
    ({"seeds": [1], "grid": {"/seed": [1]}}, "/grid: expected changes that leave each other alone, got /seed and then /seed"),
    ({"grid": {"/routing/lambda": [1], "/routing": [{}]}}, "got /routing/lambda and then /routing"),
    ({"list": [{"/cache/capacity_mib": 1, "/cache/capacity_experts": 1}]}, "/list: expected one capacity in a point, got"),
    ({"grid": {"/cache/capcity_experts": [8]}}, 'bad.json: point {"/cache/capcity_experts": 8}: config.json: /cache/capcity_experts: unknown key', "nearest: capacity_experts"),
    ({"policies": ["top_k", "topk"]}, 'bad.json: point {"/routing/policy": "topk"}: config.json: /routing/policy: unknown value', "nearest: top_k"),
]  # fmt: skip


@pytest.mark.parametrize("case", SPEC_ERRORS, ids=range(len(SPEC_ERRORS)))
def test_a_wrong_specification_is_one_line_and_nothing_runs(case, sweep, scene):
    spec, *parts = case
    if isinstance(spec, dict):
        spec = {"schema": "moesim.sweep/1", "config": "config.json", **spec}
    write_spec(scene, spec, "bad.json")
    refused(sweep("bad.json", "--out", "never"), *parts)
    assert not (scene / "never").exists()


USAGE = [
    (["absent.json"], "absent.json: expected a file, got no such file"),
    (["spec.json"], "--out: expected a folder or a database, got none"),
    (["spec.json", "--out", "config.json"], "config.json: expected a folder, or a database *.sqlite, got file exists"),
    (["spec.json", "--out", "no/where.db"], "no/where.db: expected a file in a folder that exists, got none"),
    (["spec.json", "--out", "x", "--jobs", "0"], "expected an integer >= 1, got 0"),
    (["spec.json", "--out", "x", "--shard", "3/3"], "expected I/N with 0 <= I < N, got 3/3"),
    (["spec.json", "--out", "x", "--point", "8"], "--point: expected an index below 8, got 8"),
    (["spec.json", "--out", "x", "--merge"], "--merge: expected databases of parts, got none in x"),
    (["spec.json", "--out", "x", "--merge", "y.db"], "--merge y.db: expected a database of a sweep, got no such file"),
    (["spec.json", "--out", "x", "--scheduler", "tcp://127.0.0.1:9"], "--scheduler tcp://127.0.0.1:9: expected a running dask-scheduler, got"),
    (["spec.json", "--out", "x", "--sim", "/absent"], "--sim /absent: expected the program sim (build it, or set MOESIM_SIM), got no such file"),
    (["spec.json", "--out", "x", "--sim", "/bin/echo"], "--sim /bin/echo: expected the program sim, got 'echo "),
]  # fmt: skip


@pytest.mark.parametrize("case", USAGE, ids=range(len(USAGE)))
def test_wrong_usage_is_one_line_and_leaves_nothing(case, sweep, scene):
    arguments, part = case
    if "--scheduler" in arguments and missing_tools():
        pytest.skip(missing_tools())
    before = sorted(scene.rglob("*"))
    refused(sweep(*arguments), part)
    assert sorted(scene.rglob("*")) == before


def test_without_dask_one_line_names_the_package(sweep, tmp_path):
    (tmp_path / "distributed.py").write_text("raise ImportError('no Dask here')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = sweep("spec.json", "--out", "x", "--scheduler", "tcp://127.0.0.1:9", env=environment)
    refused(ran, "--scheduler: expected Dask (Debian's python3-distributed), got: ")


# --- points that fail --------------------------------------------------------------------------

FAILING = {**GRID, "grid": {"/cache/capacity_experts": [8, 4, 16]}}  # 4 < k
LINE = 'config.json: /cache: expected a capacity of 0 or at least k = 8 experts'


def test_a_refused_point_is_recorded_and_the_others_run(sweep, scene):
    write_spec(scene, FAILING, "failing.json")
    ran = sweep("failing.json", "--out", "failing")
    assert (ran.returncode, ran.stdout) == (2, "")
    first, last = ran.stderr.splitlines()
    assert first.startswith('sweep.py: point 1 {"/cache/capacity_experts": 4}: ' + LINE)
    assert last == "sweep.py: 2 of 3 points have a result, 1 refused"
    assert len(results(scene / "failing")) == 2
    with open(scene / "failing/results.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["outcome"] for row in rows] == ["done", "refused", "done"]
    assert rows[1]["error"].startswith(LINE)


def test_fail_fast_stops_at_the_first_failure(sweep, scene):
    write_spec(scene, FAILING, "failing.json")
    ran = sweep("failing.json", "--out", "fast", "--fail-fast", "--jobs", 1)
    assert ran.returncode == 2
    assert ran.stderr.endswith("sweep.py: 1 of 3 points have a result, 1 missing, 1 refused\n")


def other_sim(folder, script):
    path = folder / "other-sim"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_a_defect_of_the_program_ends_with_70(sweep, scene, sim, tmp_path):
    script = f'case "$*" in *--json*) echo "sim: error: defect of the program: x" >&2; exit 70;; esac\nexec {sim} "$@"'
    ran = sweep("spec.json", "--out", "defect", sim=other_sim(tmp_path, script))
    assert ran.returncode == 70
    assert "exit status 70: defect of the program: x\n" in ran.stderr
    assert ran.stderr.endswith(f"0 of {POINTS} points have a result, {POINTS} defect\n")


def test_a_program_that_cannot_check_a_point_is_named_before_anything_runs(sweep, sim, tmp_path):
    script = f'[ "$1" = --version ] && exec {sim} "$@"\necho broken >&2; exit 1'
    ran = sweep("spec.json", "--out", "never", sim=other_sim(tmp_path, script))
    refused(ran, "spec.json: point {", "}: exit status 1: broken")


def test_attempts_at_a_program_that_is_always_killed_are_bounded(sweep, scene, sim, tmp_path):
    killer = KillingSim(tmp_path / "killer", sim)
    body = killer.path.read_text().replace("target=$PPID", "target=$$")
    killer.path.write_text(body)
    killer.kill_at("any")
    write_spec(scene, {**GRID, "grid": {"/seed": [1, 2]}}, "two.json")
    ran = sweep("two.json", "--out", "lost", "--retries", 2, sim=killer.path)
    assert ran.returncode == 2
    assert "the program was ended by SIGKILL" in ran.stderr
    assert ran.stderr.endswith("0 of 2 points have a result, 2 lost\n")
    assert killer.calls() == 2 * (1 + 2)
    # What failed is tried again; the results are those of a sweep that was not disturbed.
    again = sweep("two.json", "--out", "lost", "--resume")
    assert again.returncode == 0, again.stderr
    assert len(results(scene / "lost")) == 2


# --- kills and resumption ----------------------------------------------------------------------


def test_a_client_killed_at_random_points_loses_and_repeats_nothing(expected, sweep, scene, sim, tmp_path):
    dice = random.Random(6)
    for round_ in range(3):
        killer = KillingSim(tmp_path / f"killer{round_}", sim)
        at = sorted(dice.sample(range(1, POINTS + 1), 3))
        for call in at:
            killer.kill_at(call)
        out = f"killed{round_}"
        for _ in at:
            ran = sweep("spec.json", "--out", out, "--resume", "--jobs", 1, sim=killer.path)
            assert ran.returncode == -signal.SIGKILL
        ran = sweep("spec.json", "--out", out, "--resume", "--jobs", 1, sim=killer.path)
        assert ran.returncode == 0, ran.stderr
        assert results(scene / out) == expected
        assert killer.calls() == POINTS + len(at)  # a point that has ended is not run again


def test_an_interrupt_keeps_what_has_ended(expected, sweep, scene, sim, tmp_path):
    killer = KillingSim(tmp_path / "killer", sim)
    killer.kill_at(4, sent="INT")
    ran = sweep("spec.json", "--out", "interrupted", "--jobs", 1, sim=killer.path)
    assert ran.returncode == 130
    assert ran.stderr == "sweep.py: interrupted; what has ended is kept, go on with --resume\n"
    assert not (scene / "interrupted/results.csv").exists()
    assert sweep("spec.json", "--out", "interrupted", "--resume").returncode == 0
    assert results(scene / "interrupted") == expected


def test_resuming_runs_only_what_is_missing(expected, sweep, scene, sim, tmp_path):
    killer = KillingSim(tmp_path / "killer", sim)
    smaller = {**GRID, "grid": {**GRID["grid"], "/cache/capacity_experts": CAPACITIES[1:3]}}
    write_spec(scene, smaller, "smaller.json")
    assert sweep("smaller.json", "--out", "grown", sim=killer.path).returncode == 0
    assert killer.calls() == POINTS // 2
    assert sweep("spec.json", "--out", "grown", "--resume", sim=killer.path).returncode == 0
    assert killer.calls() == POINTS
    assert results(scene / "grown") == expected
    assert sweep("spec.json", "--out", "grown", "--resume", sim=killer.path).returncode == 0
    assert killer.calls() == POINTS


def test_what_is_there_is_gone_on_with_only_when_asked(expected, sweep):
    refused(sweep("spec.json", "--out", "expected"),
            "expected/sweep.sqlite: expected no file, or --resume to go on with it, got a file")  # fmt: skip


def test_a_database_in_use_or_of_others_is_refused(sweep, scene):
    with contextlib.closing(sqlite3.connect(scene / "used.db")) as database:
        assert sweep("spec.json", "--out", "used.db").returncode == 0
        database.execute("BEGIN IMMEDIATE")
        refused(sweep("spec.json", "--out", "used.db", "--resume"),
                "used.db: expected a database that nobody else uses, got one that another sweep has open")  # fmt: skip
    with contextlib.closing(sqlite3.connect(scene / "other.db")) as database:
        database.execute("CREATE TABLE a(b)")
    refused(sweep("spec.json", "--out", "other.db", "--resume"),
            "other.db: expected a database of a sweep, got another database")  # fmt: skip
    (scene / "text.db").write_text("no database, but long enough to have a header" * 40)
    refused(sweep("spec.json", "--out", "text.db", "--resume"),
            "text.db: expected a database of a sweep, got file is not a database")  # fmt: skip


def test_results_of_other_programs_and_inputs_are_not_mixed(sweep, scene, sim, tmp_path):
    (scene / "config2.json").write_text(json.dumps({**BASE, "model": "model.json"}))
    model = json.loads((REPOSITORY / "configs/models/olmoe-1b-7b.json").read_text())
    (scene / "model.json").write_text(json.dumps(model))
    spec = {**GRID, "config": "config2.json", "grid": {"/seed": [1, 2]}}
    write_spec(scene, spec, "mixed.json")
    assert sweep("mixed.json", "--out", "mixed").returncode == 0

    other = other_sim(tmp_path, f'[ "$1" = --version ] && echo "sim 9.9 (abc)" && exit\nexec {sim} "$@"')
    refused(sweep("mixed.json", "--out", "mixed", "--resume", sim=other),
            "mixed/sweep.sqlite: expected results of sim ", ", got sim 9.9 (abc): start a new one")  # fmt: skip
    ran = sweep("mixed.json", "--out", "fresh", sim=other)
    assert ran.returncode == 2
    assert ": program: expected sim 9.9 (abc), got sim " in ran.stderr

    (scene / "model.json").write_text(json.dumps({**model, "vocab_size": 100}))
    refused(sweep("mixed.json", "--out", "mixed", "--resume"),
            "mixed/sweep.sqlite: model.json: expected SHA-256 ", " as when its points ran, got ")  # fmt: skip


def test_a_full_disk_is_one_line_and_can_be_gone_on_from(expected, sweep, scene):
    def small_files():  # the database outgrows them
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, 64 * 1024))

    refused(sweep("spec.json", "--out", "full", preexec_fn=small_files),
            "the database cannot be written: ", "; what has ended before is kept")  # fmt: skip
    assert sweep("spec.json", "--out", "full", "--resume").returncode == 0
    assert results(scene / "full") == expected


def test_a_file_that_changes_under_way_is_noticed(sweep, scene, sim, tmp_path):
    (scene / "config3.json").write_text(json.dumps({**BASE, "model": "model3.json"}))
    model = (REPOSITORY / "configs/models/olmoe-1b-7b.json").read_text()
    (scene / "model3.json").write_text(model)
    write_spec(scene, {**GRID, "config": "config3.json", "grid": {"/seed": [1, 2]}}, "changing.json")
    script = f'{sim} "$@"; status=$?\ncase "$*" in *--json*) echo >>model3.json;; esac; exit $status'
    ran = sweep("changing.json", "--out", "changing", "--jobs", 1, sim=other_sim(tmp_path, script))
    assert ran.returncode == 2
    assert "model3.json: expected SHA-256 " in ran.stderr
    assert ran.stderr.endswith("1 of 2 points have a result, 1 refused\n")


def test_an_export_that_cannot_be_written_is_one_line(expected, sweep):
    refused(sweep("spec.json", "--out", "expected", "--resume", "--csv", "no/where.csv"),
            "no/where.csv: expected a file that can be written, got no such file or directory")  # fmt: skip


def test_progress_only_on_a_terminal(sweep, scene, sim):
    pytest.importorskip("tqdm", reason="needs Debian's python3-tqdm")
    ours, theirs = pty.openpty()
    process = start(scene, sim, "spec.json", "--out", "bar", stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while chunk := os.read(ours, 4096):
            shown += chunk
    os.close(ours)
    assert process.communicate(timeout=GENEROUS_S)[0] == ""
    assert f"{POINTS}/{POINTS}".encode() in shown
    assert sweep("spec.json", "--out", "nobar").stderr == (
        f"sweep.py: {POINTS} of {POINTS} points have a result\n"
    )


# --- parts -------------------------------------------------------------------------------------


def test_parts_are_merged_to_the_same_results(expected, sweep, scene):
    for i in range(3):
        ran = sweep("spec.json", "--out", "parts", "--shard", f"{i}/3", "--resume")
        assert ran.returncode == 0, ran.stderr
        assert (scene / "parts/results.csv").exists() == (i > 0)  # a part exports nothing
        merged = sweep("spec.json", "--out", "parts", "--merge")
        assert merged.returncode == (2 if i < 2 else 0)
    assert results(scene / "parts") == expected
    assert merged.stderr == f"sweep.py: {POINTS} of {POINTS} points have a result\n"


def test_single_points_and_named_databases_are_merged(expected, sweep, scene):
    for i in range(POINTS - 1):
        assert sweep("spec.json", "--out", f"single-{i}.db", "--point", i).returncode == 0
    names = [f"single-{i}.db" for i in range(POINTS - 1)]
    ran = sweep("spec.json", "--out", "singles", "--merge", *names)
    assert ran.returncode == 2
    assert ran.stderr == f"sweep.py: {POINTS - 1} of {POINTS} points have a result, 1 missing\n"
    assert sweep("spec.json", "--out", "singles", "--resume").returncode == 0
    assert results(scene / "singles") == expected


# Stands in for Slurm's: runs every task of an array at once and prints an id.
SBATCH = """\
#!/usr/bin/env bash
echo "$@" >>"$SBATCH_LOG"
last=none
for argument; do
  case $argument in
    --array=0-*) last=${argument#--array=0-} ;;
    --wrap=*) job=${argument#--wrap=} ;;
  esac
done
if [[ $last == none ]]; then bash -c "$job"; else
  for task in $(seq 0 "$last"); do SLURM_ARRAY_TASK_ID=$task bash -c "$job"; done
fi
echo "17;cluster"
"""


def slurm(scene, sim, *arguments, **environment):
    return subprocess.run(
        [REPOSITORY / "scripts/sweep_slurm.sh", *arguments], cwd=scene, capture_output=True, text=True,
        env={**os.environ, "MOESIM_SIM": str(sim), **environment}, timeout=600, check=False,
    )  # fmt: skip


def test_the_slurm_recipe_with_a_stand_in_for_sbatch(expected, scene, sim, tmp_path):
    (tmp_path / "sbatch").write_text(SBATCH)
    (tmp_path / "sbatch").chmod(0o755)
    log = tmp_path / "log"
    ran = slurm(scene, sim, "spec.json", "stand in", "3", "--time=1",
                PATH=f"{tmp_path}:{os.environ['PATH']}", SBATCH_LOG=str(log))  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert results(scene / "stand in") == expected
    array, merge = log.read_text().splitlines()
    assert "--array=0-2 " in array and "--time=1" in array
    assert "--dependency=afterany:17 " in merge and "--time=1" in merge


@pytest.mark.parametrize(("arguments", "line"), [
    (["spec.json"], "expected SPEC.json FOLDER N, got 1 arguments (see --help)"),
    (["spec.json", "x", "0"], "expected a number of parts > 0, got 0"),
    (["spec.json", "x", "2"], "expected Slurm's sbatch on PATH, got none"),
])  # fmt: skip
def test_the_slurm_recipe_says_what_is_wrong(arguments, line, scene, sim, tmp_path):
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    ran = slurm(scene, sim, *arguments, PATH=str(tmp_path))
    assert (ran.returncode, ran.stderr) == (2, f"sweep_slurm.sh: error: {line}\n")


@pytest.mark.skipif(not has_slurm(), reason="needs Slurm (sbatch); the recipe is untested on a real one")
def test_the_slurm_recipe(expected, scene, sim):
    ran = slurm(scene, sim, "spec.json", "slurm", "2", "--wait")
    assert ran.returncode == 0, ran.stderr
    assert results(scene / "slurm") == expected


# --- a cluster ---------------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path):
    """cluster(**settings): a scheduler that ends with the test."""
    if missing_tools():
        pytest.skip(missing_tools())
    with contextlib.ExitStack() as stack:
        yield lambda **settings: Cluster(tmp_path, stack, **settings)


def test_killed_workers_and_clients_lose_and_repeat_nothing(expected, scene, sim, tmp_path, cluster):
    """In each round two workers die with a point in their hands, and then the client."""
    there = cluster()
    dice = random.Random(16)
    there.add_worker()
    for round_ in range(3):
        killer = KillingSim(tmp_path / f"killer{round_}", sim)
        first, second, third = sorted(dice.sample(range(1, POINTS - 1), 3))
        killer.kill_at(first)
        killer.kill_at(second)
        killer.kill_at(third + 2, tmp_path / "client.pid")  # two more calls by now
        out, status = f"cluster{round_}", None
        there.add_worker()
        there.add_worker()
        for attempt in range(2):
            process = start(scene, killer.path, "spec.json", "--out", out, "--resume",
                            "--scheduler", there.address)  # fmt: skip
            (tmp_path / "client.pid").write_text(f"{process.pid}\n")
            error = process.communicate(timeout=2 * GENEROUS_S)[1]
            assert process.returncode == (-signal.SIGKILL, 0)[attempt], error
        assert error == f"sweep.py: {POINTS} of {POINTS} points have a result\n"
        assert results(scene / out) == expected
        assert (scene / out / "results.csv").read_bytes() == (scene / "expected/results.csv").read_bytes()


def test_a_point_that_kills_its_workers_is_given_up(sweep, scene, sim, tmp_path, cluster):
    there = cluster(SCHEDULER__ALLOWED_FAILURES="0")
    there.add_worker(nanny=True)
    killer = KillingSim(tmp_path / "killer", sim)
    killer.kill_at("any")
    write_spec(scene, {**GRID, "grid": {"/seed": [1]}}, "deadly.json")
    ran = sweep("deadly.json", "--out", "deadly", "--retries", 1, "--scheduler", there.address,
                sim=killer.path)  # fmt: skip
    assert ran.returncode == 2
    assert 'point 0 {"/seed": 1}: KilledWorker: ' in ran.stderr
    assert ran.stderr.endswith("0 of 1 points have a result, 1 lost\n")
    assert killer.calls() == 2


def test_failures_on_a_cluster_are_those_of_one_machine(sweep, scene, cluster):
    there = cluster()
    there.add_worker()
    write_spec(scene, FAILING, "failing.json")
    here = sweep("failing.json", "--out", "failed-here")
    far = sweep("failing.json", "--out", "failed-there", "--scheduler", there.address)
    assert (far.returncode, far.stderr) == (here.returncode, here.stderr)
    for name in ("results.jsonl", "results.csv"):
        assert (scene / "failed-there" / name).read_bytes() == (scene / "failed-here" / name).read_bytes()


def test_a_scheduler_that_dies_ends_the_run_with_one_line(expected, scene, sim, tmp_path, cluster):
    there = cluster(COMM__TIMEOUTS__CONNECT="2s")
    there.add_worker()
    killer = KillingSim(tmp_path / "killer", sim)
    (tmp_path / "scheduler.pid").write_text(f"{there.scheduler.pid}\n")
    killer.kill_at(3, tmp_path / "scheduler.pid")
    environment = {**os.environ, "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "2s"}
    process = start(scene, killer.path, "spec.json", "--out", "orphan", "--scheduler", there.address,
                    env=environment)  # fmt: skip
    out, error = process.communicate(timeout=2 * GENEROUS_S)
    refused(subprocess.CompletedProcess([], process.returncode, out, error),
            "the scheduler is gone; what has ended is kept, go on with --resume")  # fmt: skip
    assert subprocess.run([sys.executable, SCRIPT, "--sim", sim, "spec.json", "--out", "orphan", "--resume"],
                          cwd=scene, capture_output=True, check=False).returncode == 0  # fmt: skip
    assert results(scene / "orphan") == expected

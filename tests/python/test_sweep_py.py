"""scripts/sweep.py: points from a specification, their results, what is wrong with either."""

import contextlib
import csv
import json
import os
import sqlite3

import pytest

from sweep_cluster import KillingSim, missing_tools
from sweep_scene import (  # noqa: F401
    BASE, CAPACITIES, FAILING, GRID, LAMBDAS, POINTS,
    expected, other_sim, refused, results, scene, sweep, write_spec,
)  # fmt: skip
from sweep_spec import covering, read_sweep
from sweep_store import export, on_one_line


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
    lines = (scene / "expected/results.jsonl").read_text().splitlines()
    with contextlib.closing(sqlite3.connect(scene / "expected/sweep.sqlite")) as database:
        rows = database.execute("SELECT outcome, result FROM points").fetchall()
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert sorted(result for _, result in rows) == sorted(lines)
    assert len(lines) == len(expected)


def test_sim_sweep_gives_the_same_lines(sweep, scene, run_sim):
    """Byte for byte, no matter in which order."""
    if "sweep" not in run_sim("--help").stdout:
        pytest.skip("this program has no `sim sweep`")
    (scene / "same.json").write_text(json.dumps({**BASE, "routing": {"policy": "cache_prior"}}))
    write_spec(scene, {**GRID, "config": "same.json", "set": {}}, "same-spec.json")
    assert sweep("same-spec.json", "--out", "same").returncode == 0
    axes = [f"{pointer}={','.join(map(str, values))}" for pointer, values in GRID["grid"].items()]
    ran = run_sim("sweep", "--config", "same.json", "--vary", axes[0], "--vary", axes[1],
                  "--jobs", 1, "--out", "same.jsonl", cwd=scene)  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    ours, theirs = ((scene / name).read_bytes().splitlines() for name in ("same/results.jsonl", "same.jsonl"))
    assert sorted(ours) == sorted(theirs)
    assert len(ours) == POINTS


def test_a_result_keeps_the_text_of_its_numbers_and_strings():
    text = '{\n  "a": [0.3171629842283403000, 1E2],\n  "b c": "x \\" y,\\\\",\n  "d": {}\n}\n'
    assert on_one_line(text, {"/é": [0.1, " "]}) == (
        '{"a":[0.3171629842283403000,1E2],"b c":"x \\" y,\\\\","d":{},"point":{"/é":[0.1," "]}}'
    )


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


def test_exports_are_utf_8_in_any_locale(tmp_path, monkeypatch):
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "ascii")
    export(tmp_path / "x", "é\n")
    assert (tmp_path / "x").read_bytes() == "é\n".encode()


def test_names_are_checked_once_however_long_an_axis_of_numbers_is(scene):
    write_spec(scene, {**GRID, "grid": {"/seed": list(range(300)), "/trace/prefill": ["warm", "cold"],
                                        "/x": [True, False]}}, "long.json")  # fmt: skip
    chosen = covering(read_sweep(scene / "long.json").points)
    assert [list(point.point.values()) for point in chosen] == [
        [0, "warm", True], [0, "warm", False], [0, "cold", True],
    ]  # fmt: skip


# --- specification errors ----------------------------------------------------------------------

SPEC_ERRORS = [
    ('{"schema": "moesim.sweep/1"', "bad.json: line 1, column 28: expected JSON, got"),
    ('{"schema": 1, "schema": 2}', 'bad.json: expected each key once in an object, got "schema" twice'),
    ('{"seeds": [1e999]}', "bad.json: expected finite numbers, got 1e999"),
    ('{"seeds": [NaN]}', "bad.json: expected finite numbers, got NaN"),
    (f'{{"seeds": [{"9" * 5000}]}}', "bad.json: expected finite numbers, got 99999999999999999... of 5000 characters\n"),
    ({"config": "a\0b"}, 'a\\u0000b": expected a file, got embedded null byte\n'),
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
    ({"grid": {"/seed": {"from": 0, "to": 1e308, "step": 1e-300}}}, "/seed: expected at most 1000000 values, got 1.0e+608\n"),
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
    (["spec.json", "--out", "x", "--scheduler", "foo"], "--scheduler foo: expected SCHEME://HOST:PORT, got none"),
    (["spec.json", "--out", "x", "--scheduler", "tls://127.0.0.1:9"], "--scheduler tls://127.0.0.1:9: expected a running dask-scheduler, got"),
    (["spec.json", "--sim", "/absent"], "--out: expected a folder or a database, got none"),
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


def test_a_defect_of_the_program_ends_with_70(sweep, scene, sim, tmp_path):
    script = f'case "$*" in *--json*) echo "sim: error: defect of the program: x" >&2; exit 70;; esac\nexec {sim} "$@"'
    ran = sweep("spec.json", "--out", "defect", sim=other_sim(tmp_path, script))
    assert ran.returncode == 70
    assert "exit status 70: defect of the program: x\n" in ran.stderr
    assert ran.stderr.endswith(f"0 of {POINTS} points have a result, {POINTS} defect\n")


@pytest.mark.parametrize(("deed", "status", "line"), [
    ("kill -40 $$", 2, "the program was ended by signal 40\n"),
    ("printf 'sim: error: caf\\351\\n' >&2; exit 70", 70, "exit status 70: caf\ufffd\n"),
])  # fmt: skip
def test_odd_ends_of_the_program_are_one_line(deed, status, line, sweep, scene, sim, tmp_path):
    write_spec(scene, {**GRID, "grid": {"/seed": [1]}}, "one.json")
    script = f'case "$*" in *--json*) {deed};; esac\nexec {sim} "$@"'
    ran = sweep("one.json", "--out", f"odd{status}", "--retries", 0, sim=other_sim(tmp_path, script))
    assert ran.returncode == status
    assert ran.stderr.startswith('sweep.py: point 0 {"/seed": 1}: ' + line)


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

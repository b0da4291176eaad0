"""scripts/sweep.py under kills, in parts and on a cluster: nothing lost, nothing twice."""

import contextlib
import json
import os
import pty
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

import sweep_engines
import sweep_task
from conftest import REPOSITORY
from sweep_cluster import GENEROUS_S, Cluster, KillingSim, has_slurm, missing_tools
from sweep_scene import (  # noqa: F401
    BASE, CAPACITIES, FAILING, GRID, POINTS, SCRIPT,
    expected, other_sim, refused, results, scene, start, sweep, write_spec,
)  # fmt: skip
from sweep_spec import SweepError
from sweep_store import check_export


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


def test_what_an_interrupt_has_ended_does_not_run_again(sweep, scene, sim, tmp_path):
    """A Ctrl-C reaches the programs and the script."""
    deed = f'echo "$*" >>{tmp_path}/calls; mkdir {tmp_path}/once 2>/dev/null && kill -INT $PPID; kill -INT $$'
    script = f'case "$*" in *--json*) {deed};; esac\nexec {sim} "$@"'
    ran = sweep("spec.json", "--out", "group", "--jobs", 2, sim=other_sim(tmp_path, script))
    assert (ran.returncode, ran.stdout) == (130, "")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls and len(set(calls)) == len(calls)


def test_attempts_end_with_an_interrupt_and_while_the_sweep_stops(monkeypatch):
    ran, stopping = [], threading.Event()

    def run_point(*task):
        ran.append(task)
        return sweep_task.LOST, sweep_task.ended_by(task[0])

    monkeypatch.setattr(sweep_task, "run_point", run_point)
    assert sweep_engines.attempts((9,), 3, stopping)[1] == "the program was ended by SIGKILL"
    assert len(ran) == 4
    sweep_engines.attempts((signal.SIGINT,), 3, stopping)
    assert len(ran) == 5
    stopping.set()
    assert sweep_engines.attempts((9,), 3, stopping)[0] == sweep_task.LOST
    assert len(ran) == 5


def test_few_points_are_in_hand_at_a_time(monkeypatch):
    monkeypatch.setattr(sweep_task, "run_point", lambda point: (sweep_task.DONE, str(point)))
    taken = []
    points = (taken.append(i) or i for i in range(50))
    engine = sweep_engines.here(points, lambda point: (point,), 3, 0)
    for ended, result in enumerate(engine, 1):
        assert result == (result[0], sweep_task.DONE, str(result[0]))
        assert len(taken) < ended + 3  # the next begins once this one is stored
    assert ended == len(taken) == 50


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


def test_exports_are_looked_at_before_any_point_runs(sweep, scene, sim, tmp_path):
    killer = KillingSim(tmp_path / "killer", sim)
    (tmp_path / "folder").mkdir()
    for option in ("--csv", "--jsonl"):
        for target, part in (
            ("no/where.csv", "a file in a folder that exists, got none"),
            (tmp_path / "folder", "a file, got a folder"),
            ("unborn", "a file, got a folder"),
            ("./spec.json", "a file of its own, got the specification"),
            ("config.json", "a file of its own, got the configuration"),
            ("unborn/sweep.sqlite", "a file of its own, got the database"),
        ):
            ran = sweep("spec.json", "--out", "unborn", option, target, sim=killer.path)
            refused(ran, f"{option} {target}: expected {part}")
    refused(sweep("spec.json", "--out", "unborn", "--csv", "both", "--jsonl", "both", sim=killer.path),
            "--jsonl both: expected a file of its own, got that of --csv")  # fmt: skip
    assert killer.calls() == 0
    assert not (scene / "unborn").exists()


def test_an_export_folder_without_permission_is_refused(sweep, tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(SweepError, match="--csv x: expected a folder that can be written, got one that cannot"):
        check_export("--csv x", tmp_path / "x", set(), {})


def test_exports_may_lie_in_the_folder_that_the_sweep_makes(expected, sweep, scene):
    ran = sweep("spec.json", "--out", "born/here", "--csv", "born/here/my.csv", "--jsonl", "born/my.jsonl")
    assert ran.returncode == 0, ran.stderr
    for ours, theirs in (("here/my.csv", "results.csv"), ("my.jsonl", "results.jsonl")):
        assert (scene / "born" / ours).read_bytes() == (scene / "expected" / theirs).read_bytes()


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


def test_a_part_without_points_says_so(sweep, scene):
    ran = sweep("spec.json", "--out", "empty", "--shard", f"{POINTS}/{POINTS + 1}")
    assert (ran.returncode, ran.stderr) == (0, "sweep.py: no points in this shard\n")


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
    for round_ in range(2):
        killer = KillingSim(tmp_path / f"killer{round_}", sim)
        first, second, third = sorted(dice.sample(range(1, POINTS - 1), 3))
        killer.kill_at(first)
        killer.kill_at(second)
        killer.kill_at(third + 2, tmp_path / "client.pid")  # two more calls by now
        out = f"cluster{round_}"
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

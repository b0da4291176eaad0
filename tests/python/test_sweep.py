"""`sim sweep` from outside: its grid, its file, what it refuses, and what is left when it is killed."""

import csv
import json
import random
import signal
import subprocess
import time

import pytest

SHORT = ["--set", "/trace/max_tokens=60"]
GRID = ["--vary", "/cache/capacity_experts=8,12,16", "--vary", "/routing/policy=top_k,max_rank"]
POINTS = [(capacity, policy) for capacity in (8, 12, 16) for policy in ("top_k", "max_rank")]


@pytest.fixture
def sweep(run_sim, tmp_path):
    """sweep(*arguments, name="out.jsonl"): the CompletedProcess; the file lies in tmp_path."""

    def run(*arguments, name="out.jsonl", config="configs/phone.json"):
        return run_sim("sweep", "--config", config, "--out", tmp_path / name, *arguments)

    return run


def lines_of(path):
    text = path.read_text(encoding="utf-8")
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def values_of(line):
    return tuple(line["point"].values())


def test_each_point_is_what_a_run_gives(run_sim, sweep, tmp_path):
    done = sweep(*SHORT, *GRID)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no status line where it is no terminal
    lines = lines_of(tmp_path / "out.jsonl")
    assert sorted(map(values_of, lines)) == sorted(POINTS)
    for line in lines:
        point = line.pop("point")
        assert list(point) == ["/cache/capacity_experts", "/routing/policy"]
        sets = [f"--set={pointer}={json.dumps(value)}" for pointer, value in point.items()]
        alone = run_sim("--config", "configs/phone.json", *SHORT, *sets, "--json", "-")
        assert json.loads(alone.stdout) == line
    rows = done.stdout.splitlines()
    assert rows[0].split()[:2] == ["/cache/capacity_experts", "/routing/policy"]
    assert rows[0].endswith("hit %  tok/s  MiB/token")
    assert [tuple(row.split()[:2]) for row in rows[1:]] == [(str(c), p) for c, p in POINTS]


def test_the_content_does_not_depend_on_the_number_of_jobs(sweep, tmp_path):
    for device in ("null", "oneplus-15r"):
        outputs = []
        for jobs in (1, 2, 3):
            name = f"{device}{jobs}.jsonl"
            done = sweep(*SHORT, *GRID, "--set", f"/device={device}", "--jobs", jobs, name=name)
            assert done.returncode == 0, done.stderr
            outputs.append((done.stdout, sorted((tmp_path / name).read_text().splitlines())))
        assert outputs[0] == outputs[1] == outputs[2]


def test_a_file_that_exists_is_refused_and_resumed(sweep, tmp_path):
    out = tmp_path / "out.jsonl"
    assert sweep(*SHORT, *GRID).returncode == 0
    whole = out.read_text()
    again = sweep(*SHORT, *GRID)
    assert again.returncode == 2
    assert "expected a new file, got one that exists (--resume goes on with it)" in again.stderr
    lines = whole.splitlines(keepends=True)
    out.write_text("".join(lines[:2]) + lines[2][:1000])  # killed while it wrote the third
    resumed = sweep(*SHORT, *GRID, "--resume", "--jobs", 1)
    assert resumed.returncode == 0, resumed.stderr
    assert "sim: 2 of 6 points were there" in resumed.stderr
    assert out.read_text().startswith("".join(lines[:2]))
    assert sorted(out.read_text().splitlines()) == sorted(whole.splitlines())


def test_foreign_lines_are_refused_and_left_alone(sweep, tmp_path):
    out = tmp_path / "out.jsonl"
    assert sweep(*SHORT, *GRID).returncode == 0
    lines = out.read_text().splitlines(keepends=True)
    other_program = json.loads(lines[0])
    other_program["program"]["commit"] = "elsewhere"
    cases = [
        ("".join(lines), [*SHORT, *GRID, "--set", "/seed=2"],
         "line 1: expected a point of this sweep, got one of another configuration: "
         "/cache/capacity_experts="),
        (lines[0] * 2, [*SHORT, *GRID], "line 2: expected each point once, got it twice"),
        ("{}\n", [*SHORT, *GRID], "line 1: expected a result of this sweep, got something else"),
        ("oops\nhalf", [*SHORT, *GRID], "line 1: expected a result of this sweep"),
        ("my notes", [*SHORT, *GRID], "expected the lines of a sweep, got something else at its end"),
        (json.dumps(other_program) + "\n", [*SHORT, *GRID],
         "line 1: expected a result of this program, {"),
    ]  # fmt: skip
    for text, arguments, message in cases:
        out.write_text(text)
        done = sweep(*arguments, "--resume")
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
        assert out.read_text() == text


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--vary", "/cache/capacity_experts=8,-1"],
         "point 2 of 2 (/cache/capacity_experts=-1): configs/phone.json: /cache/capacity_experts"),
        (["--vary", "/cache/capacity_experts=8:65:57"], "point 2 of 2 (/cache/capacity_experts=65)"),
        (["--vary", "/routing/policy=top_k,topk"], "nearest: top_k"),
        (["--vary", "/seed/x=1"], "point 1 of 1 (/seed/x=1): --set /seed/x: expected an object"),
        (["--vary", "/routing/policy=top_k", "--vary", "/cache/eviction/policy=belady",
          "--set", "/trace/max_tokens=0"], "(/routing/policy=top_k /cache/eviction/policy=belady): "
         "configs/phone.json: /trace/max_tokens"),
        (["--vary", '/cache=[{"scope":"layer","capacity_experts":8},'
                    '{"capacity_experts":8,"scope":"layer"}]'], "expected each value once, got twice"),
        (["--vary", "/seed=9007199254740993:9007199254740995:1"], "got a number beyond 2^53"),
        (["--vary", "seed=1"], "--vary seed=1: expected /POINTER=VALUES"),
        (["--vary", "/seed=1", "--set", "seed"], "--set seed: expected /POINTER=VALUE"),
        (["--vary", "/seed=1", "--jobs", "0"], "--jobs"),
        ([], "--vary"),
    ],
)  # fmt: skip
def test_a_grid_with_a_bad_point_writes_nothing(sweep, tmp_path, arguments, message):
    done = sweep(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("sim: error: ") and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written(run_sim, tmp_path):
    for out in (tmp_path, tmp_path / "no" / "out.jsonl"):
        done = run_sim("sweep", "--config", "configs/phone.json", *SHORT, "--vary", "/seed=1",
                       "--out", out)  # fmt: skip
        assert done.returncode == 2
        assert f"sim: error: {out}: " in done.stderr


def test_an_object_replaces_and_later_axes_go_into_it(sweep, tmp_path):
    caches = [{"scope": "global", "eviction": {"policy": "lfu"}}, {"overflow": "keep_event"}]
    done = sweep(*SHORT, "--vary", f"/cache={json.dumps(caches)}",
                 "--vary", "/cache/capacity_fraction=0.25:0.5:0.25")  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line in lines_of(tmp_path / "out.jsonl"):
        cache, fraction = line["point"].values()
        assert line["config"]["cache"]["capacity_fraction"] == fraction
        assert line["config"]["cache"]["scope"] == cache.get("scope", "layer")


def start(sim, repo_root, out, *arguments):
    return subprocess.Popen(
        [sim, "sweep", "--config", "configs/phone.json", "--out", out, "--jobs", "2",
         "--set", "/trace/max_tokens=200", "--vary", "/seed=1:12:1", *arguments],
        cwd=repo_root, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def wait_for_lines(out, count, process):
    while process.poll() is None:
        if out.exists() and out.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.002)


def test_killed_again_and_again_it_loses_and_repeats_nothing(sim, repo_root, tmp_path):
    out = tmp_path / "out.jsonl"
    draw = random.Random(7)
    kept, kills = [], 0
    for attempt in range(60):
        process = start(sim, repo_root, out, "--resume")
        wait_for_lines(out, len(kept) + draw.randint(0, 2), process)
        time.sleep(draw.uniform(0, 0.03))
        process.kill()
        process.communicate()
        if out.exists():
            before, kept = kept, out.read_bytes().splitlines(keepends=True)
            if kept and not kept[-1].endswith(b"\n"):
                kept.pop()
            assert kept[: len(before)] == before
        if process.returncode == 0:
            break
        kills += 1
        if draw.random() < 0.3 and out.exists():  # as a write that was cut
            with out.open("ab") as file:
                file.write(b'{"schema":"moesim.res')
    assert kills > 2
    last = start(sim, repo_root, out, "--resume")
    assert last.wait() == 0, last.stderr.read()
    assert sorted(line["point"]["/seed"] for line in lines_of(out)) == list(range(1, 13))
    fresh = tmp_path / "fresh.jsonl"
    assert start(sim, repo_root, fresh).wait() == 0
    assert sorted(out.read_text().splitlines()) == sorted(fresh.read_text().splitlines())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_how_to_go_on(sim, repo_root, tmp_path, number):
    out = tmp_path / "out.jsonl"
    process = start(sim, repo_root, out, "--vary", "/routing/lambda=0.01:0.2:0.01")
    wait_for_lines(out, 1, process)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"the same command with --resume goes on with {out}" in stderr
    assert stdout == ""
    assert 1 <= len(lines_of(out)) < 240


def test_two_sweeps_cannot_write_one_file(sim, repo_root, tmp_path):
    out = tmp_path / "out.jsonl"
    first = start(sim, repo_root, out, "--vary", "/routing/lambda=0.01:0.2:0.01")
    wait_for_lines(out, 1, first)
    second = start(sim, repo_root, out, "--resume")
    _, stderr = second.communicate(timeout=60)
    first.kill()
    first.communicate()
    assert second.returncode == 2
    assert "another sweep is writing it" in stderr


UPSTREAM = {
    "belady": ("global", {"policy": "belady"}),
    "lru": ("global", {"policy": "lru"}),
    "lfu": ("global", {"policy": "lfu", "ties": "touch"}),
    "random": ("global", {"policy": "random"}),
    "layer": ("layer", {"policy": "lru"}),
    "layerlfu": ("layer", {"policy": "lfu", "ties": "touch"}),
}


@pytest.fixture(scope="module")
def curve(run_sim, data_dir, tmp_path_factory):
    """What qwen-curve.csv says, and the lines of one sweep over the same points."""
    with (data_dir / "phone_measurements/qwen-curve.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    folder = tmp_path_factory.mktemp("curve")
    route = data_dir / "raw_traces/Helldez__BigMoeOnEdge/qwen.route.csv"
    trace = folder / "qwen.safetensors"
    done = run_sim("trace", "import", "--format", "bigmoeonedge", route, "--out", trace)
    assert done.returncode == 0, done.stderr
    config = folder / "qwen.json"
    config.write_text(json.dumps({"schema": 1, "trace": {"path": trace.name}, "device": None,
                                  "routing": {"policy": "top_k"},
                                  "cache": {"capacity_mib": 1000}}))  # fmt: skip
    caches = [
        {"scope": scope, "overflow": "keep_event", "eviction": eviction}
        for scope, eviction in UPSTREAM.values()
    ]
    budgets = sorted({int(row["budget_mib"]) for row in rows})
    done = run_sim("sweep", "--config", config, "--out", folder / "curve.jsonl",
                   "--vary", f"/cache={json.dumps(caches)}",
                   "--vary", f"/cache/capacity_mib={','.join(map(str, budgets))}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = {json.dumps(cache): name for cache, name in zip(caches, UPSTREAM)}
    lines = {}
    for line in lines_of(folder / "curve.jsonl"):
        cache, budget = line["point"].values()
        lines[budget, names[json.dumps(cache)]] = line
    return rows, lines


def test_the_66_points_of_a_published_replay_come_out_of_one_sweep(curve):
    rows, lines = curve
    assert len(rows) == len(lines) == 66
    for row in rows:
        line = lines[int(row["budget_mib"]), row["policy"]]
        if row["policy"] == "random":  # draws from a seed of its own
            continue
        decode, prefill = line["cache"], line["prefill"]
        hits = decode["hits"] + prefill["hits"]
        accesses = decode["accesses"] + prefill["accesses"]
        read = decode["bytes_read"] + prefill["bytes_read"]
        assert f"{100 * hits / accesses:.3f}" == row["hit_pct_cum"], row
        assert f"{100 * decode['hit_rate']:.3f}" == row["hit_pct_decode"], row
        assert f"{read / 2**20:.1f}" == row["read_mib"], row


def test_random_eviction_is_no_better_than_chance_between_bounds(curve):
    _, lines = curve
    for (budget, policy), line in lines.items():
        if policy == "random":
            rate = line["cache"]["hit_rate"]
            assert rate < lines[budget, "belady"]["cache"]["hit_rate"]
            smaller = [b for b, p in lines if p == "random" and b < budget]
            assert all(lines[b, "random"]["cache"]["hit_rate"] < rate for b in smaller)

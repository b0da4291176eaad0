"""`sim compare` from outside: numbers, intervals, verdicts and refusals."""

import json

import pytest

SHORT = ["--config", "configs/phone.json", "--set", "/trace/max_tokens=300"]


@pytest.fixture(scope="module")
def runs(run_sim, tmp_path_factory):
    """NAME -> (result file, tokens file) of a few runs."""
    folder = tmp_path_factory.mktemp("runs")
    settings = {
        "a": [],
        "b": ["--set", "/routing/policy=top_k"],
        "noise": ["--set", "/trace/warmup_tokens=0", "--set", "/seed=2"],
        "warm": ["--set", "/trace/warmup_tokens=50"],
        "random1": ["--set", "/cache/eviction/policy=random"],
        "random2": ["--set", "/cache/eviction/policy=random", "--set", "/seed=2"],
        "untimed": ["--set", "/device=null"],
        "untimed_lfu": ["--set", "/device=null", "--set", "/cache/eviction/policy=lfu"],
        "all": ["--set", "/device=null", "--set", "/cache/capacity_experts=64",
                "--set", "/cache/initial=head"],
    }  # fmt: skip
    files = {}
    for name, arguments in settings.items():
        files[name] = (folder / f"{name}.json", folder / f"{name}.csv")
        done = run_sim("run", *SHORT, *arguments, "--json", files[name][0],
                       "--tokens-csv", files[name][1])  # fmt: skip
        assert done.returncode == 0, done.stderr
    return files


@pytest.fixture
def compare(run_sim, runs):
    def run(a, b, *arguments, tokens=True):
        extra = ["--tokens-csv", runs[a][1], runs[b][1]] if tokens else []
        done = run_sim("compare", runs[a][0], runs[b][0], *extra, *arguments)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    return run


def test_a_real_difference_has_an_interval_that_leaves_out_none(compare, runs):
    document = json.loads(compare("a", "b", "--json"))
    assert document["schema"] == "moesim.comparison/1"
    results = [json.loads(runs[name][0].read_text()) for name in "ab"]
    metrics = {row["pointer"]: row for row in document["metrics"]}
    speeds = [result["throughput"]["decode_tokens_per_s"] for result in results]
    row = metrics["/throughput/decode_tokens_per_s"]
    assert [row["a"], row["b"]] == speeds
    assert row["relative"] == speeds[1] / speeds[0] - 1
    interval = document["interval"]
    assert interval["of"] == "wall_ms" and interval["paired"] and interval["tokens"] == [300, 300]
    assert interval["low"] < interval["ratio_a_over_b"] < interval["high"] < 1
    means = [result["throughput"]["tpot_ms"]["mean"] for result in results]
    assert interval["ratio_a_over_b"] == pytest.approx(means[0] / means[1], rel=1e-12)
    slower = f"{100 * (1 - means[0] / means[1]):.3g}"
    assert document["verdict"].startswith(f"B is {slower} % slower (95 % interval ")
    assert document["verdict"].endswith(" 300 tokens, paired).")
    changed = {row["pointer"]: row for row in document["config"]}
    assert changed["/routing/policy"]["a"] == "cache_prior"
    assert changed["/routing/policy"]["b"] == "top_k"
    assert changed["/routing/lambda"] == {"pointer": "/routing/lambda", "a": 0.05}
    assert document["others"] == []


def test_the_other_way_round_it_is_faster(compare):
    assert " % faster (95 % interval " in compare("b", "a")


def test_what_the_tokens_do_not_show_is_said_so(compare):
    text = compare("random1", "random2")
    assert "No difference that the tokens show: B is " in text
    assert "/seed: 1 -> 2" in text


def test_equal_runs(compare):
    text = compare("a", "noise")
    assert "No difference: the mean time of a token is the same of both." in text
    assert "/seed: 1 -> 2" in text


def test_other_tokens_are_not_paired(compare):
    document = json.loads(compare("a", "warm", "--json"))
    assert not document["interval"]["paired"]
    assert document["interval"]["tokens"] == [300, 250]
    assert "250 tokens, not paired" in document["verdict"]


def test_without_time_misses_are_compared(compare):
    document = json.loads(compare("untimed", "untimed_lfu", "--json"))
    assert document["interval"]["of"] == "misses"
    assert document["verdict"].startswith("Without time: B misses ")
    assert "only one of them misses" in compare("untimed", "all")


def test_without_tokens_no_interval_is_made_up(compare):
    text = compare("a", "b", tokens=False)
    assert " % slower; how sure that is cannot be said without tokens (--tokens-csv" in text
    assert json.loads(compare("a", "b", "--json", tokens=False))["interval"] is None


def test_the_interval_is_that_of_its_seed(compare):
    first = compare("a", "b", "--json")
    assert first == compare("a", "b", "--json")
    other = json.loads(compare("a", "b", "--json", "--seed", "2"))
    assert other["interval"]["low"] != json.loads(first)["interval"]["low"]


def test_lines_of_a_sweep_can_be_chosen(run_sim, tmp_path):
    out = tmp_path / "s.jsonl"
    done = run_sim("sweep", *SHORT, "--vary", "/cache/capacity_experts=8,16", "--out", out,
                   "--jobs", "1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = run_sim("compare", f"{out}:1", f"{out}:2", "--json")
    document = json.loads(done.stdout)
    assert [document[side]["point"] for side in "ab"] == [
        {"/cache/capacity_experts": 8},
        {"/cache/capacity_experts": 16},
    ]
    assert [row["pointer"] for row in document["config"]] == ["/cache/capacity_experts"]
    for source, message in [
        (out, f"expected one of its 2 lines, {out}:1 to {out}:2"),
        (f"{out}:3", "expected a line from 1 to 2, got 3"),
        (f"{out}:0", "expected a line from 1 to 2, got 0"),
        (f"{out}:x", "no such file"),
    ]:
        refused = run_sim("compare", source, f"{out}:1")
        assert refused.returncode == 2
        assert message in refused.stderr and refused.stderr.count("\n") == 1


def test_inputs_that_are_none(run_sim, runs, tmp_path):
    a, a_csv = map(str, runs["a"])
    b_csv = str(runs["b"][1])
    bad = {"text.json": "oops", "other.json": '{"schema": "x"}',
           "inputs.json": '{"schema": "moesim.result/1", "config": {}, "cache": {}, "inputs": [1]}',
           "empty.csv": "",
           "cell.csv": "token,sequence,position,wall_ms,misses\n1,0,0,fast,2\n",
           "short.csv": "token,sequence,position,wall_ms,misses\n1,0\n",
           "rows.csv": "token,sequence,position,wall_ms,misses\n"}  # fmt: skip
    for name, text in bad.items():
        (tmp_path / name).write_text(text)
    cases = [
        (["none.json", a], "none.json: expected a file, got nothing"),
        ([tmp_path / "text.json", a], "text.json: expected JSON, got an error at line 1"),
        ([a, tmp_path / "other.json"], "other.json: expected a result of sim run --json"),
        ([a, tmp_path / "inputs.json"], "inputs.json: expected a result of sim run --json"),
        ([a + ":1", a], "expected no line number, because the file is one result"),
        ([a, a, "--tokens-csv", a_csv, b_csv], "b.csv: expected the tokens of "),
        ([a, a, "--tokens-csv", a_csv, tmp_path / "empty.csv"], "without the column token"),
        ([a, a, "--tokens-csv", a_csv, tmp_path / "cell.csv"],
         "cell.csv: line 2: wall_ms: expected a number, got fast"),
        ([a, a, "--tokens-csv", a_csv, tmp_path / "short.csv"],
         "short.csv: line 2: position: expected a number, got nothing"),
        ([a, a, "--tokens-csv", a_csv, tmp_path / "rows.csv"], "rows.csv: expected rows, got none"),
        ([a], "B is required"),
        ([a, a, "--tokens-csv", a_csv], "--tokens-csv"),
    ]  # fmt: skip
    for arguments, message in cases:
        done = run_sim("compare", *arguments)
        assert done.returncode == 2, arguments
        assert message in done.stderr
        assert done.stderr.startswith("sim: error: ") and done.stderr.count("\n") == 1
        assert done.stdout == ""

"""Several sequences in lock-step, through the program: the bundled trace has ten of 256 tokens."""

import csv
import json

import pytest

CONFIG = ["run", "--config", "configs/phone.json", "--set", "/routing/policy=top_k"]


@pytest.fixture(scope="module")
def result(run_sim):
    def run(*pairs, extra=()):
        settings = [argument for pair in pairs for argument in ("--set", pair)]
        done = run_sim(*CONFIG, *settings, "--json", "-", *extra)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_batches_of_the_bundled_trace(result, tmp_path):
    table = tmp_path / "tokens.csv"
    single = result()
    batch = result("/execution/batch=5", extra=("--tokens-csv", table))
    assert "batch" not in single
    assert batch["tokens"] == single["tokens"]
    block = batch["batch"]
    assert block["size"] == 5 and block["passes"] == 512 and block["tokens_per_pass"] == 5
    assert block["scheduler"] is None
    assert block["distinct_experts_per_pass"] * 512 == batch["cache"]["accesses"]
    assert batch["cache"]["accesses"] < single["cache"]["accesses"]
    assert batch["cache"]["hits"] + batch["cache"]["misses"] == batch["cache"]["accesses"]
    # The experts of a token, and how far they are from the model's own, are as before.
    assert batch["routing"]["experts_per_token_layer"] == 8
    assert batch["routing"]["agreement"] == 1
    parts = sum(batch["time_ms_per_token"].values())
    assert parts == pytest.approx(batch["throughput"]["tpot_ms"]["mean"])
    rate = 5000 / batch["throughput"]["tpot_ms"]["mean"]
    assert batch["throughput"]["decode_tokens_per_s"] == pytest.approx(rate)
    with table.open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 2560
    for column in ("hits", "misses"):
        assert sum(int(row[column]) for row in rows) == batch["cache"][column]
    assert sum(int(row["read_bytes"]) for row in rows) == batch["cache"]["bytes_read"]
    assert [row["sequence"] for row in rows[:6]] == ["0", "1", "2", "3", "4", "0"]
    assert len({row["wall_ms"] for row in rows[:5]}) == 1


def test_the_token_scheduler_uses_fewer_experts(result):
    batch = result("/execution/batch=5", "/device=null")
    split = result("/execution/batch=5", "/execution/scheduler=expertflow", "/device=null")
    outcome = split["batch"]["scheduler"]
    # All ten sequences are under way throughout, so the given order is that of two plain batches.
    assert outcome["objective_before"] == batch["cache"]["accesses"]
    assert outcome["objective_after"] == split["cache"]["accesses"]
    assert outcome["objective_after"] < outcome["objective_before"]
    assert outcome["steps"] == 256
    assert outcome["kv_copy_bytes"] is None
    assert result("/execution/batch=5", "/execution/scheduler=expertflow")["batch"]["scheduler"][
        "kv_copy_bytes"] > 0


@pytest.mark.parametrize(("settings", "message"), [
    (("/execution/batch=0",), "/execution/batch: expected an integer in [1, 4096], got 0"),
    (("/execution/batch=2", "/trace/max_tokens=256"),
     "/execution/batch: expected 1, got 2: the trace"),
    (("/execution/batch=2", "/cache/reset=sequence"), "/cache/reset: expected never with a batch"),
    (("/execution/scheduler=expertflow",), "/execution/scheduler: expected none with a batch of 1"),
    (("/execution/batch=10", "/execution/scheduler=expertflow"),
     "/execution/scheduler: expected none, because the 10 sequences"),
])
def test_what_cannot_be_batched(run_sim, settings, message):
    done = run_sim(*CONFIG, *[argument for pair in settings for argument in ("--set", pair)])
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("sim: error: configs/phone.json: ") and message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_timeline_of_batches(run_sim, tmp_path):
    path = tmp_path / "timeline.json"
    done = run_sim(*CONFIG, "--set", "/execution/batch=4", "--set", "/trace/max_tokens=1024",
                   "--timeline", path, "--timeline-tokens", 2)
    assert done.returncode == 0, done.stderr
    names = [event["name"] for event in json.loads(path.read_text())["traceEvents"]]
    assert names.count("4 tokens from 0") == 1 and names.count("4 tokens from 1") == 1


def test_the_summary_says_what_a_batch_is(run_sim):
    done = run_sim(*CONFIG, "--set", "/execution/batch=5", "--set",
                   "/execution/scheduler=expertflow")
    assert "5.00 sequences a pass (at most 5)" in done.stdout
    assert "distinct experts of the model's own routing" in done.stdout

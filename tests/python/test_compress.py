"""sim compress: what it writes, what a run makes of it, and wrong inputs."""

import hashlib
import json

import pytest

CONFIG = "configs/phone.json"


@pytest.fixture
def compress(run_sim, repo_root, tmp_path):
    """compress(*options): the document, the file and the completed process."""

    def run(*options, config=CONFIG):
        out = tmp_path / "allocation.json"
        result = run_sim("compress", "--config", config, "--out", out, *options, cwd=repo_root)
        assert result.returncode == 0, result.stderr
        return json.loads(out.read_text()), out, result

    return run


def refused(run_sim, repo_root, tmp_path, *options):
    """The one line of an error; nothing may be printed or written."""
    out = tmp_path / "allocation.json"
    result = run_sim("compress", "--config", CONFIG, "--out", out, *options, cwd=repo_root)
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("sim: error: ")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
    return result.stderr


def test_every_layer_meets_its_budget(compress, repo_root):
    document, _, result = compress("--bits", "2.25")
    assert document["schema"] == "moesim.allocation/1"
    assert [sum(row) for row in document["bits"]] == [144] * 16
    for row in document["bits"]:
        assert len(row) == 64
        assert set(row) == {1, 2, 3}  # at least one of two and of three bits
    assert document["size"]["mean_bits"] == 2.25
    assert document["objective"]["total"] == pytest.approx(
        sum(document["objective"]["by_budget"]))
    for best, second in zip(document["objective"]["by_budget"],
                            document["objective"]["runner_up_by_budget"]):
        assert best <= second
    for factor in ("frequency", "weight"):
        for row in document["factors"][factor]:
            assert sum(row) == pytest.approx(1)
    inputs = {entry["path"]: entry["sha256"] for entry in document["provenance"]["inputs"]}
    assert inputs[CONFIG] == hashlib.sha256((repo_root / CONFIG).read_bytes()).hexdigest()
    assert len(inputs) == 4  # configuration, trace, model, device
    assert "2.250 bits per expert weight" in result.stdout


def test_the_objective_is_that_of_the_factors(compress):
    document, _, _ = compress("--bits", "2", "--exponents", "1,1,2")
    eps = {1: 2.92, 2: 2.48, 3: 1}
    total = 0
    for bits, phi, w in zip(document["bits"], document["factors"]["frequency"],
                            document["factors"]["weight"]):
        total += sum(p * q * eps[b] ** 2 for b, p, q in zip(bits, phi, w))
    assert document["objective"]["total"] == pytest.approx(total)


def test_a_global_budget_is_no_worse_than_one_per_layer(compress):
    by_layer, _, _ = compress("--bits", "2")
    in_all, _, _ = compress("--bits", "2", "--global")
    assert sum(map(sum, in_all["bits"])) == 2 * 16 * 64
    assert in_all["objective"]["total"] <= by_layer["objective"]["total"]
    assert len(in_all["objective"]["by_budget"]) == 1
    assert in_all["problem"]["budget"] == "global"


def test_at_most_and_exactly_the_budget_agree(compress):
    exactly, _, _ = compress("--bits", "1.75")
    at_most, _, _ = compress("--bits", "1.75", "--at-most")
    assert at_most["bits"] == exactly["bits"]
    assert at_most["problem"]["row"] == "at_most"


def test_measured_errors_and_layer_scales(compress, tmp_path):
    # Two bits are as good as four for expert 0, and nearly so for the others.
    rows = [[5, 1, 1]] + [[5, 2, 1]] * 63
    errors = tmp_path / "errors.json"
    errors.write_text(json.dumps({"schema": "moesim.errors/1", "source": "made up",
                                  "bits": [1, 2, 4], "errors": rows}))
    document, _, _ = compress("--bits", "3", "--bit-set", "2,4", "--min-counts", "0,0",
                              "--errors", errors, "--exponents", "0,0,1")
    assert all(row[0] == 2 for row in document["bits"])
    assert all(row.count(4) == 32 for row in document["bits"])
    assert document["problem"]["errors"] == "made up"
    assert any(entry["path"] == str(errors) for entry in document["provenance"]["inputs"])
    # One layer alone matters, so that a global budget goes there.
    scales = ",".join(["0"] * 15 + ["1"])
    scaled, _, _ = compress("--bits", "2.05", "--global", "--bit-set", "2,4", "--min-counts",
                            "0,0", "--errors", errors, "--exponents", "0,0,1", "--layer-scales",
                            scales, "--at-most")
    # 2099 bits in all: 25 experts of four bits, all of them in the last layer.
    assert [row.count(4) for row in scaled["bits"]] == [0] * 15 + [25]


def test_a_run_takes_the_allocation(compress, run_sim, repo_root):
    document, out, _ = compress("--bits", "2", "--overhead", "0.25")
    result = run_sim("--config", CONFIG, "--set", f"/weights/allocation={out}", "--json", "-",
                     "--set", "/trace/max_tokens=100", cwd=repo_root)
    assert result.returncode == 0, result.stderr
    run = json.loads(result.stdout)
    params = 3 * 2048 * 1024
    assert run["weights"]["expert_bits"] == pytest.approx(2.25)
    assert run["weights"]["expert_bytes"]["min"] == params * 1.25 / 8
    assert run["weights"]["expert_bytes"]["max"] == params * 3.25 / 8
    assert run["weights"]["expert_bytes"]["mean"] == pytest.approx(params * 2.25 / 8)
    assert run["flash"]["bytes"] == run["cache"]["bytes_read"] > 0
    assert run["config"]["weights"]["allocation"] == str(out)
    sha = hashlib.sha256(out.read_bytes()).hexdigest()
    assert {"path": str(out), "sha256": sha} in run["inputs"]
    summary = run_sim("--config", CONFIG, "--set", f"/weights/allocation={out}",
                      "--set", "/trace/max_tokens=100", cwd=repo_root).stdout
    assert "1.69 MiB an expert on average (0.94 to 2.44), 2.25 bits" in summary
    # The allocation as an object gives the same run.
    inline = json.dumps({"bits": document["bits"], "overhead_bits": 0.25})
    again = run_sim("--config", CONFIG, "--set", f"/weights/allocation={inline}", "--json", "-",
                    "--set", "/trace/max_tokens=100", cwd=repo_root)
    assert json.loads(again.stdout)["throughput"] == run["throughput"]


def test_the_configuration_may_name_the_file_to_come(run_sim, repo_root, tmp_path):
    config = json.loads((repo_root / CONFIG).read_text())
    config["trace"]["path"] = str(repo_root / "traces/reference-moe-small.safetensors")
    config["trace"]["max_tokens"] = 50
    config["model"] = "olmoe-1b-7b"
    config["device"] = None
    config["weights"]["allocation"] = "allocation.json"
    (tmp_path / "run.json").write_text(json.dumps(config))
    early = run_sim("--config", "run.json", cwd=tmp_path)
    assert early.returncode == 2
    assert "run.json: /weights/allocation: allocation.json: expected a file" in early.stderr
    made = run_sim("compress", "--config", "run.json", "--bits", "2", "--out", "allocation.json",
                   cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert run_sim("--config", "run.json", cwd=tmp_path).returncode == 0


def test_an_allocation_of_another_shape(compress, run_sim, repo_root, tmp_path):
    document, out, _ = compress("--bits", "2")
    document["bits"] = document["bits"][:12]
    out.write_text(json.dumps(document))
    result = run_sim("--config", CONFIG, "--set", f"/weights/allocation={out}", cwd=repo_root)
    assert result.returncode == 2
    assert f"{out}: /bits: expected 16 layers of 64 experts" in result.stderr
    assert "got 12 of 64" in result.stderr


def test_a_policy_override_of_on_miss_drops_its_parameters(run_sim, repo_root, tmp_path):
    config = json.loads((repo_root / CONFIG).read_text())
    config["trace"]["path"] = str(repo_root / "traces/reference-moe-small.safetensors")
    config["model"] = "olmoe-1b-7b"
    config["device"] = None
    config["weights"]["on_miss"] = {"policy": "hobbit", "low_bits": 3, "thresholds": [0.5, 0.8]}
    (tmp_path / "run.json").write_text(json.dumps(config))

    def on_miss(*extra):
        shown = run_sim("--config", "run.json", "--print-config", *extra, cwd=tmp_path)
        assert shown.returncode == 0, shown.stderr
        return json.loads(shown.stdout)["weights"]["on_miss"]

    assert on_miss("--set", "/weights/on_miss/policy=slices") == {
        "policy": "slices", "low_bits": 3.0, "thresholds": [0.5, 0.8]}
    assert on_miss("--set", "/weights/on_miss/policy=full") == {"policy": "full"}


@pytest.mark.parametrize("options, parts", [
    (["--bits", "5"], ["--bits: expected a number in [1, 3], the range of the bit set, got 5"]),
    (["--bits", "two"], ["--bits", "two"]),
    ([], ["--bits is required"]),
    (["--bits", "1"], ["--bits: expected a budget that can be met", "at least 0, 1, 1"]),
    (["--bits", "2", "--bit-set", "2,1"], ["--bit-set: expected increasing integers", "got 2,1"]),
    (["--bits", "4", "--bit-set", "2,4,8"], ["--bit-set: expected bit-widths out of 1, 2, 3"]),
    (["--bits", "2", "--min-counts", "1,2"], ["--min-counts: expected 3 integers", "got 2"]),
    (["--bits", "2", "--min-counts", "1,200,200"], ["--min-counts: expected a product"]),
    (["--bits", "2", "--exponents", "1,2"], ["--exponents: expected alpha,beta,gamma, got 2"]),
    (["--bits", "2", "--exponents", "1,1,-1"], ["--exponents: expected three numbers in [0, 16]"]),
    (["--bits", "2", "--layer-scales", "1"], ["--layer-scales: expected 16 numbers", "got 1"]),
    (["--bits", "2", "--layer-scales", ",".join(["-1"] * 16)], ["expected numbers >= 0, got -1"]),
    (["--bits", "2", "--overhead", "99"], ["--overhead: expected a number in [0, 16], got 99"]),
    (["--bits", "2", "--rest-bits", "-1"], ["--rest-bits: expected a number in [0, 32], got -1"]),
    (["--bits", "2", "--errors", "nothing.json"], ["nothing.json", "no such file"]),
    (["--bits", "2", "--errors", CONFIG], [f"{CONFIG}: /schema"]),
    (["--bits", "2", "--set", "/trace/path=nothing"], ["/trace/path", "no such file"]),
])
def test_wrong_options(run_sim, repo_root, tmp_path, options, parts):
    message = refused(run_sim, repo_root, tmp_path, *options)
    for part in parts:
        assert part in message


def test_errors_that_are_too_large(run_sim, repo_root, tmp_path):
    errors = tmp_path / "errors.json"
    errors.write_text(json.dumps({"schema": "moesim.errors/1", "bits": [1, 2, 3],
                                  "errors": [[1e300, 1, 1]] * 64}))
    result = run_sim("compress", "--config", CONFIG, "--bits", "2", "--errors", errors, "--out",
                     tmp_path / "a.json", cwd=repo_root)
    assert result.returncode == 2
    assert "--exponents: expected costs of at most 1e+200" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["errors.json"]


def test_a_place_that_cannot_be_written(run_sim, repo_root, tmp_path):
    result = run_sim("compress", "--config", CONFIG, "--bits", "2", "--out",
                     tmp_path / "no/such/folder.json", cwd=repo_root)
    assert result.returncode == 2
    assert "no/such/folder.json" in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_costs_of_a_trace_without_weights(run_sim, tmp_path):
    # Compact, without weights.
    ids = bytes([0, 1, 2, 3] * 10)
    header = json.dumps({
        "__metadata__": {"format": "moesim.trace", "version": "1", "top_k": "2", "gate": "A",
                         "experts": "8"},
        "topk_ids": {"dtype": "U8", "shape": [10, 2, 2], "data_offsets": [0, len(ids)]}}).encode()
    (tmp_path / "ids.safetensors").write_bytes(
        len(header).to_bytes(8, "little") + header + ids)
    (tmp_path / "run.json").write_text(json.dumps(
        {"trace": {"path": "ids.safetensors"}, "cache": {"capacity_experts": 4}}))
    options = ["compress", "--config", "run.json", "--bits", "2", "--out", "a.json"]
    result = run_sim(*options, cwd=tmp_path)
    assert result.returncode == 2
    assert "needs router_logits or topk_weights, which the trace ids.safetensors lacks" in (
        result.stderr)
    result = run_sim(*options, "--exponents", "1,0,1", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    document = json.loads((tmp_path / "a.json").read_text())
    assert document["factors"]["weight"] is None
    assert document["size"]["label_bits"] is None  # no model
    assert document["factors"]["frequency"][0] == [0.5, 0.5, 0, 0, 0, 0, 0, 0]

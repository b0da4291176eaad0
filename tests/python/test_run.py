"""`sim run` from outside: what a script and a person get."""

import csv
import io
import json

import pytest

PHONE = "configs/phone.json"
SHORT = ["--set", "/trace/max_tokens=40"]


@pytest.fixture(scope="module")
def result(run_sim):
    done = run_sim("--config", PHONE, *SHORT, "--json", "-")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run_json(run_sim, *arguments):
    done = run_sim("run", "--config", PHONE, *SHORT, "--json", "-", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_result_has_the_keys_of_the_contract(result):
    expected = {
        "program": {"version", "commit"},
        "tokens": {"prefill", "warmup", "measured"},
        "throughput": {"decode_tokens_per_s", "ttft_ms", "tpot_ms"},
        "time_ms_per_token": {"compute", "flash_stall", "admission", "predictor", "overhead"},
        "cache": {"accesses", "hits", "misses", "hit_rate", "evictions", "cold_misses", "bytes_read",
                  "mib_per_token", "mean_lifetime_tokens", "token_cycle_mib"},
        "flash": {"reads", "bytes", "busy_fraction", "mean_in_flight", "lane_ms_per_token",
                  "copy_ms_per_token"},
        "prefetch": {"issued", "useful", "late", "wasted_bytes", "recall", "precision"},
        "routing": {"experts_per_token_layer", "agreement", "retained_mass", "dropped_mass",
                    "total_variation", "jensen_shannon", "gate_l2", "logit_regret", "by_layer"},
        "bounds": {"belady_hit_rate", "belady_executed_hit_rate", "min_bypass_hit_rate",
                   "min_bypass_executed_hit_rate", "hit_rate_upper_bound",
                   "hit_rate_lower_bound", "executed_hit_rate_upper_bound",
                   "executed_hit_rate_lower_bound", "dependency_ms", "flash_ms", "dram_ms"},
        "memory": {"budget_mib", "dense_mib", "kv_peak_mib", "expert_cache_mib", "over_budget_mib"},
        "energy": {"j_per_token", "by_component"},
    }
    assert result["schema"] == "moesim.result/1"
    for block, keys in expected.items():
        assert keys <= set(result[block]), block
    assert set(result["throughput"]["tpot_ms"]) == {"mean", "p50", "p90", "p95", "p99", "max"}
    assert len(result["routing"]["by_layer"]) == 16
    assert isinstance(result["warnings"], list)


PROXIES = {
    "experts_per_token_layer", "agreement", "swap_rate", "retained_mass", "retained_mass_absolute",
    "dropped_mass", "skipped_mass", "total_variation", "jensen_shannon", "gate_l2", "logit_regret",
    "logit_range", "logit_regret_over_mean_range", "kl_bias",
}  # fmt: skip


def test_every_proxy_has_a_mean_and_a_p95_per_layer_and_in_all(result):
    routing = result["routing"]
    for block in [routing, *routing["by_layer"]]:
        assert PROXIES <= set(block)
        assert PROXIES == set(block["p95"])
        # Cache-Prior on full logits: nothing is unknown.
        assert all(isinstance(block[name], float) for name in PROXIES)
        assert all(isinstance(block["p95"][name], float) for name in PROXIES)
        assert block["total_variation"] == pytest.approx(block["dropped_mass"])
        assert block["p95"]["dropped_mass"] > block["dropped_mass"] > 0 < block["kl_bias"]
    for name in PROXIES - {"logit_regret_over_mean_range"}:
        mean = sum(layer[name] for layer in routing["by_layer"]) / len(routing["by_layer"])
        assert routing[name] == pytest.approx(mean), name


def test_the_mean_lifetime_is_that_of_littles_law(run_sim):
    """Apart from what is held at the end: 256 of 11,000 and more loads."""
    done = run_sim("--config", PHONE, "--set", "/trace/max_tokens=300", "--json", "-")
    cache = json.loads(done.stdout)["cache"]
    assert cache["little_lifetime_tokens"] == pytest.approx(256 * 300 / cache["loads"])
    assert cache["mean_lifetime_tokens"] == pytest.approx(cache["little_lifetime_tokens"], rel=0.03)


def test_what_has_no_bias_and_what_has_no_loads_is_null(run_sim):
    top_k = ["--set", "/routing/policy=top_k"]
    assert run_json(run_sim, *top_k)["routing"]["kl_bias"] is None
    streaming = run_json(run_sim, *top_k, "--set", "/cache/capacity_experts=0")
    assert streaming["cache"]["little_lifetime_tokens"] is None


def test_the_summary_calls_the_proxies_what_they_are(run_sim):
    swapping = run_sim("--config", PHONE, *SHORT).stdout
    assert "own choice (divergence proxies, not quality)" in swapping
    assert "  - open loop: the recorded logits do not react" in swapping
    assert "skipped mass" not in swapping
    pruning = run_sim("--config", PHONE, *SHORT, "--set", '/routing={"policy": "odp", "mu": 0.5}')
    assert "% of the router's weight had no other expert in its place" in pruning.stdout
    own = run_sim("--config", PHONE, *SHORT, "--set", "/routing/policy=top_k").stdout
    assert "open loop" not in own


def test_the_parts_of_the_time_add_up(result):
    mean = result["throughput"]["tpot_ms"]["mean"]
    assert sum(result["time_ms_per_token"].values()) == pytest.approx(mean, rel=1e-12)
    assert sum(result["critical_path_ms_per_token"].values()) == pytest.approx(mean, rel=1e-12)
    assert result["throughput"]["decode_tokens_per_s"] == pytest.approx(1000 / mean, rel=1e-12)


def test_bytes_are_what_the_flash_delivered(result):
    cache = result["cache"]
    assert cache["hits"] + cache["misses"] == cache["accesses"] == 40 * 16 * 8
    assert cache["bytes_read"] == cache["misses"] * 12 * 2**20 == result["flash"]["bytes"]
    assert cache["mib_per_token"] == pytest.approx(cache["bytes_read"] / 2**20 / 40)


def test_inputs_are_named_as_written_and_checked(result, repo_root):
    import hashlib

    paths = {entry["path"]: entry["sha256"] for entry in result["inputs"]}
    assert set(paths) == {PHONE, "../traces/reference-moe-small.safetensors",
                          "models/olmoe-1b-7b.json", "devices/oneplus-15r.json"}
    trace = (repo_root / "traces/reference-moe-small.safetensors").read_bytes()
    assert paths["../traces/reference-moe-small.safetensors"] == hashlib.sha256(trace).hexdigest()


def test_equal_inputs_give_equal_bytes(run_sim, tmp_path):
    outputs = []
    for name in ("a", "b"):
        files = [tmp_path / f"{name}.{kind}" for kind in ("json", "csv", "trace")]
        done = run_sim("--config", PHONE, *SHORT, "--json", files[0], "--tokens-csv", files[1],
                       "--timeline", files[2], "--timeline-tokens", 2)
        assert done.returncode == 0, done.stderr
        outputs.append([done.stdout, *(file.read_bytes() for file in files)])
    assert outputs[0] == outputs[1]


def test_json_on_stdout_is_alone_there(run_sim):
    done = run_sim("--config", PHONE, *SHORT, "--json", "-")
    json.loads(done.stdout)
    assert all(line.startswith("sim: warning: ") for line in done.stderr.splitlines())


def test_the_summary_says_what_is_recorded_and_what_is_assumed(run_sim):
    done = run_sim("--config", PHONE, *SHORT)
    assert done.returncode == 0
    assert done.stderr == ""
    for part in ("tokens/s", "recorded", "reference-moe-small", "assumed", "olmoe-1b-7b",
                 "oneplus-15r", "hit rate", "flash stall", "open loop"):
        assert part in done.stdout


def test_the_token_table(run_sim, tmp_path):
    path = tmp_path / "tokens.csv"
    done = run_sim("--config", PHONE, *SHORT, "--set", "/trace/warmup_tokens=10", "--tokens-csv",
                   path, "--json", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    text = path.read_text()
    assert text.splitlines()[0] == ("token,sequence,position,wall_ms,compute_ms,stall_ms,"
                                    "admission_ms,predictor_ms,overhead_ms,read_bytes,hits,misses,"
                                    "experts")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [int(row["token"]) for row in rows] == list(range(10, 40))
    parts = ["compute_ms", "stall_ms", "admission_ms", "predictor_ms", "overhead_ms"]
    for row in rows:
        assert float(row["wall_ms"]) == pytest.approx(sum(float(row[p]) for p in parts), abs=1e-6)
        assert int(row["hits"]) + int(row["misses"]) == int(row["experts"]) == 128
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["tokens"] == {"prefill": 0, "warmup": 10, "measured": 30}
    mean = sum(float(row["wall_ms"]) for row in rows) / 30
    assert result["throughput"]["tpot_ms"]["mean"] == pytest.approx(mean, rel=1e-9)


def test_the_timeline_has_its_tracks_and_shows_stalls(run_sim, tmp_path):
    path = tmp_path / "timeline.json"
    done = run_sim("--config", PHONE, *SHORT, "--timeline", path, "--timeline-tokens", 3)
    assert done.returncode == 0, done.stderr
    events = json.loads(path.read_text())["traceEvents"]
    names = {e["args"]["name"] for e in events if e["ph"] == "M"}
    assert {"decode", "flash", "cache", "tokens", "compute", "lane 0", "lane 3"} <= names
    slices = [e for e in events if e["ph"] == "X"]
    assert sum(e["cat"] == "token" for e in slices) == 3
    stalls = [e for e in slices if e["cat"] == "flash_stall"]
    assert stalls and all("STALL" in e["name"] for e in stalls)
    # The compute track is covered without gaps or overlap from its first slice to its last.
    compute = sorted((e for e in slices if e["pid"] == 1 and e["tid"] == 2), key=lambda e: e["ts"])
    for before, after in zip(compute, compute[1:]):
        assert before["ts"] + before["dur"] == pytest.approx(after["ts"], abs=1e-3)


def test_a_run_without_a_device_has_no_time(run_sim):
    result = run_json(run_sim, "--set", "/device=null")
    assert result["throughput"] is None
    assert result["memory"] is None
    assert result["cache"] == run_json(run_sim)["cache"]


def test_a_trace_alone_is_enough_for_the_cache(run_sim, tmp_path, repo_root):
    config = {"trace": {"path": str(repo_root / "traces/reference-moe-small.safetensors"),
                        "max_tokens": 20},
              "device": None, "cache": {"capacity_fraction": 0.5}}
    (tmp_path / "c.json").write_text(json.dumps(config))
    done = run_sim("--config", "c.json", "--json", "-", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["cache"]["bytes_read"] is None
    assert result["cache"]["accesses"] == 20 * 16 * 8
    assert run_sim("--config", "c.json", cwd=tmp_path).returncode == 0


def test_setting_one_capacity_removes_the_others(run_sim):
    result = run_json(run_sim, "--set", "/cache/capacity_fraction=0.5")
    assert "capacity_experts" not in result["config"]["cache"]
    assert result["memory"]["expert_cache_mib"] == pytest.approx(6144)


def test_setting_a_policy_drops_parameters_that_it_lacks_and_says_so(run_sim):
    result = run_json(run_sim, "--set", "/routing/policy=top_k")
    assert any("lambda" in w and "keep_top" in w for w in result["warnings"])
    assert result["routing"]["agreement"] == 1


def test_print_config_is_complete_and_runs_to_the_same_result(run_sim, result, tmp_path, repo_root):
    done = run_sim("run", "--config", PHONE, *SHORT, "--print-config")
    assert done.returncode == 0
    config = json.loads(done.stdout)
    assert config["routing"]["range"] == "mean"
    config["trace"]["path"] = str(repo_root / "traces/reference-moe-small.safetensors")
    config["model"], config["device"] = "olmoe-1b-7b", "oneplus-15r"
    (tmp_path / "c.json").write_text(json.dumps(config))
    again = run_sim("--config", "c.json", "--json", "-", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["throughput"] == result["throughput"]


@pytest.mark.parametrize("overlap", ["none", "expert", "projection"])
def test_overlap_modes_read_the_same_bytes(run_sim, result, overlap):
    other = run_json(run_sim, "--set", f"/execution/overlap={overlap}")
    assert other["cache"] == result["cache"]
    assert other["flash"]["bytes"] == result["flash"]["bytes"]
    assert sum(other["time_ms_per_token"].values()) == pytest.approx(
        other["throughput"]["tpot_ms"]["mean"])


def test_traps_are_warned_about(run_sim):
    result = run_json(run_sim, "--set", "/cache/scope=global", "--set", "/cache/capacity_mib=1000",
                      "--set", "/routing/policy=top_k")
    assert result["cache"]["hits"] == 0
    assert any("token cycle" in w for w in result["warnings"])
    result = run_json(run_sim, "--set", "/cache/capacity_fraction=0.9")
    assert any("budget" in w for w in result["warnings"])
    assert result["memory"]["over_budget_mib"] > 0


@pytest.mark.parametrize("what", ["routing", "eviction", "prefetch", "models", "devices"])
def test_list(run_sim, what):
    text = run_sim("list", what)
    assert text.returncode == 0 and text.stdout
    entries = json.loads(run_sim("list", what, "--json").stdout)
    assert [e["name"] for e in entries] == sorted(e["name"] for e in entries)
    assert all(e["description"] for e in entries)
    names = {e["name"] for e in entries}
    expected = {"routing": {"top_k", "cache_prior", "max_rank", "cumulative_threshold", "odp", "top_p",
                            "tsallis_hybrid", "des", "cecar", "drop_cold", "bounded_regret"},
                "eviction": {"lru", "lfu", "belady", "min_bypass"},
                "prefetch": {"none", "oracle"},
                "models": {"olmoe-1b-7b", "qwen3-30b-a3b"},
                "devices": {"oneplus-15r", "a40-pcie4", "rtx-4090-nvme", "sn40l-node"}}[what]
    assert expected <= names


def test_tiers(run_sim):
    tiers = ["--set", "/device=rtx-4090-nvme", "--set", "/tiers/host_dram/capacity_mib=6000",
             "--set", "/trace/max_tokens=200"]
    result = run_json(run_sim, *tiers)
    (tier,) = result["tiers"]
    assert tier["name"] == "host_dram" and tier["capacity_mib"] == 6000
    assert tier["accesses"] == result["cache"]["misses"] > 0
    assert tier["hits"] + tier["misses"] == tier["accesses"]
    assert tier["bytes_out"] == result["cache"]["bytes_read"]
    assert tier["bytes_in"] == result["flash"]["bytes"]
    summary = run_sim("--config", PHONE, *tiers).stdout
    assert "store stall" in summary and "MiB per token from the store" in summary
    assert f"of {tier['accesses']} requests found there" in summary
    # A policy of the command line drops what the one of the file had, in a tier as in the cache.
    lfu = {"host_dram": {"eviction": {"policy": "lfu", "counts": "resident"}}}
    done = run_sim("--config", PHONE, "--set", "/device=rtx-4090-nvme", "--set",
                   f"/tiers={json.dumps(lfu)}", "--set", "/tiers/host_dram/eviction/policy=lfu",
                   "--print-config")
    assert json.loads(done.stdout)["tiers"]["host_dram"]["eviction"]["counts"] == "resident"


def test_graph(run_sim):
    done = run_sim("graph", "--config", PHONE, "--set", "/execution/overlap=projection")
    assert done.returncode == 0
    assert done.stdout.startswith("digraph token {")
    assert done.stdout.count("fetch_down") == 16 * 8

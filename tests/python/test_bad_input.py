"""Bad input: exit status 2, one line with file, place, expected and got, and nothing else written."""

import json
import struct

import pytest

EXPERTS, LAYERS, TOKENS = 64, 16, 4


def make_trace(path, layers=LAYERS, experts=EXPERTS, value=0.5, metadata=None):
    """A full trace of F32 logits, all equal but for their index."""
    count = TOKENS * layers * experts
    logits = struct.pack(f"<{count}f", *([value] + [i % experts / experts for i in range(1, count)]))
    header = {
        "__metadata__": {"format": "moesim.trace", "version": "1", "top_k": "8", "gate": "B",
                         **(metadata or {})},
        "router_logits": {"dtype": "F32", "shape": [TOKENS, layers, experts],
                          "data_offsets": [0, len(logits)]},
    }
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + logits)


def base_config():
    return {
        "trace": {"path": "trace.safetensors"},
        "model": "olmoe-1b-7b",
        "device": "oneplus-15r",
        "routing": {"policy": "top_k"},
        "cache": {"capacity_experts": 16},
    }


@pytest.fixture
def scene(tmp_path, run_sim):
    """check(config, expected parts): runs it and checks the one line; `extra` are more arguments."""
    make_trace(tmp_path / "trace.safetensors")

    def check(config, *parts, extra=()):
        text = config if isinstance(config, str) else json.dumps(config)
        (tmp_path / "config.json").write_text(text)
        before = sorted(p.name for p in tmp_path.iterdir())
        result = run_sim("run", "--config", "config.json", "--json", "out.json",
                         "--tokens-csv", "out.csv", *extra, cwd=tmp_path)
        assert result.returncode == 2, result.stderr
        assert result.stdout == ""
        assert result.stderr.startswith("sim: error: ")
        assert result.stderr.count("\n") == 1
        for part in parts:
            assert part in result.stderr, result.stderr
        assert sorted(p.name for p in tmp_path.iterdir()) == before

    check.folder = tmp_path
    return check


def changed(**sections):
    config = base_config()
    for name, value in sections.items():
        config[name] = value
    return config


def test_the_base_configuration_runs(scene, run_sim):
    (scene.folder / "config.json").write_text(json.dumps(base_config()))
    result = run_sim("--config", "config.json", cwd=scene.folder)
    assert result.returncode == 0, result.stderr


def test_missing_configuration(tmp_path, run_sim):
    result = run_sim("--config", "nothing.json", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == "sim: error: nothing.json: expected a file, got nothing: no such file\n"


def test_directory_instead_of_a_configuration(tmp_path, run_sim):
    result = run_sim("--config", ".", cwd=tmp_path)
    assert result.returncode == 2
    assert "expected a file, got a directory" in result.stderr


def test_missing_trace(scene):
    scene(changed(trace={"path": "nothing.safetensors"}), "nothing.safetensors", "no such file")


def test_directory_instead_of_a_trace(scene):
    (scene.folder / "folder").mkdir()
    scene(changed(trace={"path": "folder"}), "folder", "expected a file, got a directory")


def test_missing_model_file(scene):
    scene(changed(model="models/nothing.json"), "config.json: /model", "models/nothing.json")


def test_unknown_builtin_model(scene):
    scene(changed(model="olmoe-1b-7c"), "/model", "olmoe-1b-7c", "nearest: olmoe-1b-7b")


def test_truncated_trace(scene):
    path = scene.folder / "trace.safetensors"
    path.write_bytes(path.read_bytes()[:-5])
    scene(base_config(), "trace.safetensors", "router_logits")


def test_overlapping_tensors(scene):
    path = scene.folder / "trace.safetensors"
    data = struct.pack("<4f", *[0.0] * 4)
    header = {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
              "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    scene(base_config(), "trace.safetensors", "overlap")


def test_header_of_ten_gigabytes(scene):
    path = scene.folder / "trace.safetensors"
    path.write_bytes(struct.pack("<Q", 10 * 10**9) + path.read_bytes()[8:])
    scene(base_config(), "trace.safetensors", "10000000000")


def test_nan_logits(scene):
    make_trace(scene.folder / "trace.safetensors", value=float("nan"))
    scene(base_config(), "trace.safetensors", "router_logits",
          "[token 0, layer 0, expert 0]", "got NaN")


def test_layers_differ_from_the_model(scene):
    make_trace(scene.folder / "trace.safetensors", layers=12)
    scene(base_config(), "trace.safetensors", "expected 16 MoE layers", "got 12")


def test_experts_differ_from_the_model(scene):
    make_trace(scene.folder / "trace.safetensors", experts=32)
    scene(base_config(), "trace.safetensors", "expected 64 experts", "got 32")


def test_k_larger_than_the_number_of_experts(scene):
    scene(changed(routing={"policy": "top_k", "k": 65}), "/routing/k", "64 experts", "got 65")


def test_capacity_between_0_and_k_under_trim(scene):
    scene(changed(cache={"capacity_experts": 3}), "/cache", "k = 8", "got 3")
    scene(changed(cache={"capacity_mib": 80, "scope": "global"}), "/cache", "k = 8")


def test_capacity_above_the_number_of_experts(scene):
    scene(changed(cache={"capacity_experts": 65}), "/cache/capacity_experts", "[0, 64]", "got 65")


def test_unknown_policies(scene):
    scene(changed(routing={"policy": "cache_pior"}), "/routing/policy", "cache_pior",
          "nearest: cache_prior")
    scene(changed(cache={"capacity_experts": 16, "eviction": {"policy": "lro"}}),
          "/cache/eviction/policy", "nearest: l")
    scene(changed(prefetch={"policy": "oracel"}), "/prefetch/policy", "nearest: oracle")


def test_misspelt_keys(scene):
    scene(changed(cahce={}), "/cahce", "unknown key", "nearest: cache")
    scene(changed(cache={"capacity_experts": 16, "scoop": "layer"}), "/cache/scoop",
          "nearest: scope")
    scene(changed(routing={"policy": "cache_prior", "lambada": 0.1}), "/routing/lambada",
          "nearest: lambda")
    scene(changed(trace={"path": "trace.safetensors", "warmup": 3}), "/trace/warmup",
          "nearest: warmup_tokens")
    scene(changed(execution={"lane": 4}), "/execution/lane", "nearest: lanes")


def test_duplicate_key(scene):
    text = json.dumps(base_config())[:-1] + ', "seed": 1, "seed": 2}'
    scene(text, "config.json: /seed: duplicate key")


def test_a_number_as_a_string(scene):
    scene(changed(cache={"capacity_experts": "16"}), "/cache/capacity_experts",
          'expected an integer', 'got "16"')
    scene(changed(routing={"policy": "cache_prior", "lambda": "0.1"}), "/routing/lambda",
          'got "0.1"')


def test_values_out_of_range(scene):
    scene(changed(routing={"policy": "cache_prior", "lambda": 1.5}), "/routing/lambda", "got 1.5")
    scene(changed(cache={"capacity_mib": -5}), "/cache/capacity_mib", "got -5")
    scene(changed(execution={"lanes": 0}), "/execution/lanes", "got 0")
    scene(changed(weights={"expert_bits": 0}), "/weights/expert_bits", "got 0")


def test_conflicting_capacities(scene):
    scene(changed(cache={"capacity_experts": 16, "capacity_mib": 3000}), "/cache",
          "capacity_experts and capacity_mib")
    scene(changed(cache={"scope": "layer"}), "/cache", "expected one of capacity_experts")


def test_text_that_is_not_json(scene):
    scene('{"trace": ', "config.json", "line 1")


def test_json_that_is_nested_too_deeply(scene):
    scene('{"trace": ' + "[" * 300000 + "]" * 300000 + "}", "config.json", "at most 64 levels")


def test_a_name_that_is_too_long(scene, run_sim):
    (scene.folder / "config.json").write_text(json.dumps(base_config()))
    result = run_sim("--config", "config.json", "--json", "x" * 300, cwd=scene.folder)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "cannot be written" in result.stderr


def test_more_lanes_than_the_device_takes(scene):
    scene(changed(execution={"lanes": 64}), "/execution/lanes", "qd_limit, 32, got 64")


def test_a_policy_that_needs_what_the_trace_lacks(scene):
    path = scene.folder / "trace.safetensors"
    ids = bytes(range(8)) * (TOKENS * LAYERS)
    header = {"__metadata__": {"format": "moesim.trace", "version": "1", "top_k": "8", "gate": "B",
                               "experts": "64"},
              "topk_ids": {"dtype": "U8", "shape": [TOKENS, LAYERS, 8],
                           "data_offsets": [0, len(ids)]}}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + ids)
    scene(changed(routing={"policy": "max_rank"}), "/routing/policy", "max_rank", "router_logits")
    scene(changed(routing={"policy": "odp"}), "/routing", "topk_weights")
    for policy in ["top_p", "tsallis_hybrid", "cecar", "bounded_regret"]:
        scene(changed(routing={"policy": policy}), "/routing/policy", policy, "router_logits")
    for policy in ["des", "drop_cold"]:
        scene(changed(routing={"policy": policy}), "/routing/policy", policy, "topk_weights")
    scene(changed(routing={"policy": "odp", "mu": 0.5, "protect": "code", "as_prompt": True}),
          "/routing/protect", "router_input_l1")
    scene(changed(routing={"policy": "top_k", "k": 9}), "/routing/k", "got 9")


def test_an_offline_policy_with_a_routing_that_looks_at_the_cache(scene):
    cache = {"capacity_experts": 16, "eviction": {"policy": "belady"}}
    scene(changed(routing={"policy": "cache_prior"}, cache=cache), "/cache/eviction/policy",
          "belady", "cache_prior")
    scene(changed(routing={"policy": "cache_prior"}, prefetch={"policy": "oracle"}),
          "/prefetch/policy", "oracle")


def test_overrides(scene):
    scene(base_config(), "--set cache/capacity_experts=3", "/POINTER=VALUE",
          extra=["--set", "cache/capacity_experts=3"])
    scene(base_config(), "/routing/lambda", extra=["--set", "/routing/lambda=0.1"])
    scene(base_config(), "/seed/x", extra=["--set", "/seed=3", "--set", "/seed/x=1"])
    scene(base_config(), "/cache/capacity_mib", extra=["--set", "/cache/capacity_mib=x"])


def test_an_output_that_cannot_be_written(scene, run_sim):
    (scene.folder / "config.json").write_text(json.dumps(base_config()))
    result = run_sim("--config", "config.json", "--json", "no/such/folder/out.json",
                     cwd=scene.folder)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "no/such/folder/out.json" in result.stderr
    assert result.stdout == ""


def test_memory_and_page_faults(scene):
    scene(changed(memory={"app_budget_mib": 0}), "/memory/app_budget_mib", "got 0")
    scene(changed(memory={"buffers_mib": -1}), "/memory/buffers_mib", "got -1")
    scene(changed(memory={"dense_pages": "swap"}), "/memory/dense_pages", "anonymous, file, pinned")
    scene(changed(memory={"budget": 1}), "/memory/budget", "unknown key")
    scene(changed(device=None, memory={"buffers_mib": 1}), "/memory", "expected none", "device")
    scene(changed(device="rtx-4090-nvme", memory={"dense_pages": "file"}), "/memory/dense_pages",
          "rtx-4090-nvme has no flash.mmap_fault_us")
    mmap = {"read_path": "mmap"}
    scene(changed(execution={"read_path": "pread"}), "/execution/read_path", "direct, mmap")
    scene(changed(execution={**mmap, "overlap": "expert"}), "/execution/overlap", "expected none")
    scene(changed(execution={**mmap, "lanes": 8}), "/execution/lanes", "4 threads", "got 8")
    scene(changed(execution=mmap, prefetch={"policy": "previous_token"}), "/prefetch/policy",
          "expected none with execution.read_path mmap")
    scene(changed(execution=mmap, device=None), "/execution/read_path", "without a device")
    scene(changed(execution=mmap, device="rtx-4090-nvme"), "/execution/read_path", "a tier lies")

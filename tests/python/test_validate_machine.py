"""sim validate --config: the same decode for real and simulated, and the matrix of cells over it.

What is checked is that the same work was done. No time is.
"""

import itertools
import json
import os
import subprocess
import sys

import pytest

# A model of a few MiB; temporary folders may lie where there are no direct reads.
SMALL = ["--buffered", "--repeats", "2", "--set", "/trace/max_tokens=12", "--set", "/trace/warmup_tokens=2",
         "--set", "/model/hidden_size=64", "--set", "/model/moe_intermediate_size=32",
         "--set", "/model/vocab_size=500"]  # fmt: skip
CONFIG = "configs/validate.json"


@pytest.fixture(scope="module")
def validate(run_sim):
    def run(*arguments):
        return run_sim("validate", "--config", CONFIG, *SMALL, *arguments)

    return run


@pytest.fixture(scope="module")
def result(validate, tmp_path_factory):
    folder = tmp_path_factory.mktemp("validation")
    done = validate("--out", folder / "v.json", "--set", "/execution/overlap=projection")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in folder.iterdir()] == ["v.json"]  # nothing of the experts
    return json.loads((folder / "v.json").read_text()), done.stdout


def test_the_result_has_the_documented_form(result):
    document, _ = result
    assert document["schema"] == "moesim.validation/1"
    for side in ("real", "simulated"):
        assert document[side]["throughput"]["tpot_ms"].keys() == {"mean", "p50", "p90", "p95", "p99", "max"}
        assert {"compute", "flash_stall", "admission", "predictor", "overhead"} == document[side][
            "time_ms_per_token"].keys()  # fmt: skip
        assert document[side]["cache"]["accesses"] == 10 * 16 * 8
    assert {"mean", "p50", "p90", "p99", "per_token_mape", "correlation"} <= document["error"].keys()
    assert document["noise"]["repeats"] == 2
    assert len(document["tokens"]) == document["tokens_measured"] == 10


def test_both_did_the_same_work(result):
    document, text = result
    assert document["outputs_match"] is True and document["counts_match"] is True
    assert document["real"]["cache"] == document["simulated"]["cache"]
    assert document["real"]["flash"]["bytes"] == document["real"]["cache"]["bytes_read"] > 0
    for token in document["tokens"]:
        for key in ("read_bytes", "hits", "misses"):
            assert token["real"][key] == token["simulated"][key]
        parts = [token["real"][f"{part}_ms"] for part in ("compute", "stall", "overhead")]
        assert sum(parts) == pytest.approx(token["real"]["wall_ms"])
    assert "equal in both" in text and "equal to the reference's of 12 tokens" in text


def test_products_are_told_apart_by_where_the_weights_were(result):
    document, text = result
    assert document["products"].keys() == {"dense", "resident_experts", "read_experts"}
    for rates in document["products"].values():
        assert rates["real_gbps"] > 0 and rates["simulated_gbps"] > 0
    for kind, name in (("dense", "outside the experts"), ("resident_experts", "experts that were resident"),
                       ("read_experts", "experts just read")):  # fmt: skip
        rates = document["products"][kind]
        assert f"  {name:<31}{rates['real_gbps']:>11.1f}{rates['simulated_gbps']:>12.1f}\n" in text


def test_without_a_cache_no_expert_is_resident(validate):
    done = validate("--out", "-", "--set", "/cache/capacity_experts=0", "--set", "/trace/max_tokens=4",
                    "--set", "/trace/warmup_tokens=0")  # fmt: skip
    assert done.returncode == 0, done.stderr
    products = json.loads(done.stdout)["products"]
    assert products["resident_experts"] is None and products["read_experts"]["real_gbps"] > 0


def test_an_error_is_simulated_over_real_less_one(result):
    document, _ = result
    real, simulated = (document[s]["throughput"]["tpot_ms"] for s in ("real", "simulated"))
    for key in ("mean", "p50", "p90", "p99"):
        assert document["error"][key] == pytest.approx(simulated[key] / real[key] - 1)
    means = document["noise"]["real_mean_ms"]
    assert document["noise"]["mean"] == pytest.approx(max(means) / min(means) - 1)


def test_a_store_can_be_kept_and_is_checked(validate, tmp_path):
    store = tmp_path / "experts"
    first = validate("--out", "-", "--store", store)
    assert first.returncode == 0, first.stderr
    before = (store.stat().st_mtime_ns, store.stat().st_size)
    again = validate("--out", "-", "--store", store, "--reference-tokens", "1")
    assert again.returncode == 0, again.stderr
    assert (store.stat().st_mtime_ns, store.stat().st_size) == before
    sums = [json.loads(done.stdout)["outputs_checksum"] for done in (first, again)]
    assert sums[0] == sums[1]
    other = validate("--out", "-", "--store", store, "--seed", "2")
    assert other.returncode == 2
    assert "expected the experts of this configuration and seed" in other.stderr


def test_damaged_experts_are_found(validate, tmp_path):
    store = tmp_path / "experts"
    assert validate("--store", store).returncode == 0
    data = bytearray(store.read_bytes())
    for place in range(len(data) // 2, len(data), 4096):
        data[place] ^= 0x40
    store.write_bytes(data)
    done = validate("--store", store, "--out", tmp_path / "v.json")
    assert done.returncode == 2 and "are not what was written" in done.stderr
    assert not (tmp_path / "v.json").exists()


def test_what_cannot_be_done_is_one_line_and_leaves_nothing(validate, run_sim, tmp_path):
    def refused(*arguments, says, run=validate):
        done = run(*arguments)
        assert done.returncode == 2, done.stdout
        lines = [line for line in done.stderr.splitlines() if line.startswith("sim: error: ")]
        assert len(lines) == 1 and says in lines[0], done.stderr
        assert list(tmp_path.iterdir()) == []

    here = ("--dir", tmp_path)
    refused(*here, "--max-memory-gib", "0.001", says="--max-memory-gib: expected at least")
    refused(*here, "--max-disk-gib", "0.001", says="--max-disk-gib: expected at least")
    refused(*here, "--set", "/memory/expert_pages=on_demand", says="/memory/expert_pages: expected reserved")
    refused(*here, "--set", "/prefetch/policy=previous_token", says="/prefetch/policy: expected none")
    refused(*here, "--device", "no-such-device", says="no-such-device")
    refused("--dir", tmp_path / "none", says="no such folder")
    refused("--out", tmp_path / "none/v.json", says="no such folder")
    refused("--config", tmp_path / "none.json", says="no such file", run=lambda *a: run_sim("validate", *a))
    refused(says="expected --targets or --config", run=lambda *a: run_sim("validate", *a))
    assert run_sim("validate", "--config", CONFIG, "--targets", "x").returncode == 2
    assert run_sim("validate", "--targets", "x", "--repeats", "2").returncode == 2


def test_the_cells_of_the_matrix_meet_each_other(repo_root):
    sys.path.insert(0, str(repo_root / "scripts"))
    from machine_cells import CACHE_SHARES, LANES, OVERLAPS, POLICIES, all_cells

    cells = all_cells(["1024x512", "1024x256"])
    assert len(cells) >= 24
    assert len({cell.name for cell in cells}) == len(cells)
    for share, (name, values) in itertools.product(
        CACHE_SHARES, [("lanes", LANES), ("overlap", OVERLAPS), ("policy", POLICIES)]
    ):
        assert {getattr(cell, name) for cell in cells if cell.share == share} == set(values)


@pytest.mark.skipif(bool(os.environ.get("MOESIM_SANITIZED")), reason="slow there, and the same work")
def test_the_matrix_goes_on_where_it_was_stopped(sim, repo_root, tmp_path):
    device = tmp_path / "device.json"
    text = json.loads((repo_root / "configs/devices/ddr4-laptop.json").read_text())
    text["cpu"].setdefault("f16_kernel_gbps", 10)
    text["provenance"]["/cpu/f16_kernel_gbps"] = {"tag": "estimate", "source": "made up"}
    device.write_text(json.dumps(text))
    command = [sys.executable, repo_root / "scripts/validate_machine.py", "--work", tmp_path / "work",
               "--device", device, "--sizes", "64x32", "64x16", "--rounds", "2", "--tokens", "12",
               "--no-page", "--buffered"]  # fmt: skip
    environment = {**os.environ, "MOESIM_SIM": str(sim)}

    def run(cells):
        done = subprocess.run([*command, "--cells", str(cells)], env=environment, capture_output=True,
                              text=True, check=False, timeout=300)  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(1)
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").glob("lru-*.json")}
    assert len(first) == 2
    page = run(2)
    assert {path: path.stat().st_mtime_ns for path in first} == first
    results = json.loads((tmp_path / "work/results.json").read_text())
    assert results["summary"]["cells"] == 2 and results["rounds"] == 2
    assert results["summary"]["all_outputs_match"] and results["summary"]["all_counts_match"]
    for cell in results["cells"]:
        assert cell["error"]["mean"] == pytest.approx(cell["simulated_ms"]["mean"] / cell["real_ms"]["mean"] - 1)
        assert sorted(cell["real_means_ms"])[0] == cell["real_ms"]["mean"]
    assert "Over 2 cells the median absolute error" in page
    assert all(len(cell["products"]) == 2 for cell in results["cells"])
    for row in ("products, experts just read: longer by", "waits for reads: longer by",
                "share of the missing time, products"):  # fmt: skip
        assert f"| {row} | " in page

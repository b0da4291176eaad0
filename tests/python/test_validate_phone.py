"""How far simulations are from a measured phone, and the page that says so (third-party rows)."""

import json
import os
import statistics
import subprocess
import sys

import pytest


@pytest.fixture(scope="module")
def phone(run_sim, data_dir, tmp_path_factory):
    out = tmp_path_factory.mktemp("phone") / "out.json"
    done = run_sim("validate", "--targets", data_dir / "phone_measurements/targets.json", "--no-band",
                   "--out", out, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text())


def counted(phone):
    return [r for r in phone["rows"] if not r["fitted"]]


def test_the_phones_decode_times_are_met(phone):
    assert all(r["simulated"] for r in phone["rows"])
    assert len(counted(phone)) >= 13
    walls = [abs(r["error"]["wall_ms"]["mean"]) for r in counted(phone)]
    assert statistics.median(walls) <= 0.10
    reading = [abs(r["error"]["io_ms"]) for r in counted(phone) if "io_ms" in r["error"]]
    assert len(reading) >= 12 and statistics.median(reading) <= 0.10
    for one in phone["rows"]:
        if one["state"] == "cool":
            assert abs(one["error"]["wall_ms"]["mean"]) <= 0.20, one["id"]


def test_the_phones_traced_rows_have_the_recorded_hits(phone):
    own = [r for r in phone["rows"] if r["standin"] is None and r["error"].get("hit_pct") is not None]
    assert [r["id"] for r in own] == ["QT"]
    assert abs(own[0]["error"]["hit_pct"]) <= 0.1
    assert own[0]["per_token"]["tokens"] == 123
    assert own[0]["per_token"]["median_abs_error"] < 0.15
    assert phone["summary"]["largest_hit_difference_points"] <= 0.1


def test_every_scored_contrast_of_the_phone_has_the_right_sign(phone):
    scored = [c for c in phone["contrasts"] if c["score"]]
    assert len(scored) == 10
    assert [c["id"] for c in scored if not c["sign_right"]] == []


def test_no_row_that_is_conditioned_misses_its_bytes(phone):
    for one in phone["rows"]:
        if one["standin"] and "conditioned" in one["standin"]:
            assert abs(one["error"]["mib_per_token"]) < 0.003, one["id"]


@pytest.mark.skipif("MOESIM_SANITIZED" in os.environ, reason="the same runs with a slow program")
def test_the_validation_page_is_what_the_program_says(repo_root, sim, data_dir):
    done = subprocess.run(
        [sys.executable, repo_root / "scripts/make_validation_page.py", "--check", "--sim", sim,
         data_dir / "phone_measurements/targets.json"],
        capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or "docs/validation.md is stale"

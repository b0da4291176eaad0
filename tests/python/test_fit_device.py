"""scripts/fit_device.py: the calibrated phone out of its committed inputs."""

import json
import shutil
import subprocess
import sys

import pytest


def fit(repo_root, sim, *arguments):
    return subprocess.run([sys.executable, repo_root / "scripts/fit_device.py", *map(str, arguments),
                           "--sim", str(sim)], capture_output=True, text=True, check=False)


def test_the_committed_device_is_what_the_committed_inputs_give(repo_root, sim):
    done = fit(repo_root, sim, repo_root / "configs/calibration/oneplus-15r.json", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    inputs = json.loads((repo_root / "configs/calibration/oneplus-15r.json").read_text())
    device = json.loads((repo_root / "configs/devices/oneplus-15r.json").read_text())
    assert set(device["fitted_rows"]) == set(inputs["rows"])


@pytest.fixture
def copies(repo_root, tmp_path):
    """Inputs and device in a folder of their own; inputs are changed by change(function)."""
    device = tmp_path / "device.json"
    shutil.copy(repo_root / "configs/devices/oneplus-15r.json", device)
    inputs = json.loads((repo_root / "configs/calibration/oneplus-15r.json").read_text())
    inputs["device"] = "device.json"

    def change(action):
        action(inputs)
        (tmp_path / "inputs.json").write_text(json.dumps(inputs))
        return tmp_path / "inputs.json"

    change.device = device
    return change


def test_a_changed_input_changes_the_device_and_nothing_else(repo_root, sim, copies):
    before = json.loads(copies.device.read_text())

    def slower(inputs):
        inputs["rows"]["C1"]["compute_median_ms"] *= 1.1
        inputs["rows"]["Q8"]["mgmt_ms"] *= 2

    inputs = copies(slower)
    text = copies.device.read_text()
    assert fit(repo_root, sim, inputs, "--check").returncode == 1
    assert copies.device.read_text() == text
    done = fit(repo_root, sim, inputs)
    assert done.returncode == 0, done.stderr
    after = json.loads(copies.device.read_text())
    assert after["cpu"]["q4_kernel_gbps"] < 0.92 * before["cpu"]["q4_kernel_gbps"]
    assert after["memory"]["admit_us_per_page"] == pytest.approx(
        2 * before["memory"]["admit_us_per_page"], rel=0.002)
    after["cpu"]["q4_kernel_gbps"] = before["cpu"]["q4_kernel_gbps"]
    after["memory"]["admit_us_per_page"] = before["memory"]["admit_us_per_page"]
    assert after == before
    assert fit(repo_root, sim, inputs, "--check").returncode == 0


def test_a_table_of_slower_flash_gives_slower_flash(repo_root, sim, copies, tmp_path):
    before = json.loads(copies.device.read_text())["flash"]

    def slower(inputs):
        for table in inputs["flash"]["tables"]:
            table["rows"] = [[kib, lanes, rate * 0.8] for kib, lanes, rate in table["rows"]]
        for name in inputs["flash"]["rows"]:
            inputs["rows"][name]["io_ms"] *= 1.2

    done = fit(repo_root, sim, copies(slower), "--out", tmp_path / "other.json")
    assert done.returncode == 0, done.stderr
    after = json.loads((tmp_path / "other.json").read_text())["flash"]
    assert after["bw_gbps"] < 0.9 * before["bw_gbps"]
    assert json.loads(copies.device.read_text())["flash"] == before


def test_a_device_without_the_number_to_fit_is_left_as_it_is(repo_root, sim, copies):
    device = json.loads(copies.device.read_text())
    del device["flash"]["bounce_gbps"]
    text = json.dumps(device, indent=2)
    copies.device.write_text(text)
    done = fit(repo_root, sim, copies(lambda inputs: None))
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "the device file has no number flash.bounce_gbps to replace" in done.stderr
    assert copies.device.read_text() == text


def test_the_device_has_to_name_the_rows_it_was_fitted_to(repo_root, sim, copies):
    done = fit(repo_root, sim, copies(lambda inputs: inputs["flash"]["rows"].pop()), "--check")
    assert done.returncode == 1
    assert '/fitted_rows: expected ["C1", "C2-1"' in done.stderr

"""sim calibrate on the command line. No test looks at a time: the machine may be busy."""

import json
import os
import resource
import signal
import subprocess
import tempfile

import pytest

# As small as it gets; docs/calibration.md.
TINY = ["--quick", "--budget-s", "2", "--max-disk-gib", "0.03"]


def is_unfit(done):
    """Why this machine cannot be calibrated at all, or None."""
    lacking = ("Highway", "O_DIRECT", "to be free", "to be available")
    if done.returncode == 2 and any(word in done.stderr for word in lacking):
        return done.stderr
    return None


@pytest.fixture(scope="module")
def calibrated(run_sim, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrated")
    scratch = folder / "scratch"
    scratch.mkdir()
    out = folder / "this.json"
    done = run_sim("calibrate", *TINY, "--out", out, "--dir", scratch, timeout=300)
    if is_unfit(done):
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    return done, out, scratch


def test_the_device_runs_and_nothing_else_is_left(run_sim, calibrated):
    done, out, scratch = calibrated
    assert os.listdir(scratch) == []
    assert sorted(os.listdir(out.parent)) == ["scratch", "this.json"]
    run = run_sim("run", "--config", "configs/phone.json", "--set", f"/device={out}",
                  "--set", "/trace/max_tokens=2")
    assert run.returncode == 0, run.stderr
    assert "this-machine" in run.stdout


def test_the_summary_has_values_and_spreads_and_progress_has_phases(calibrated):
    done, out, _ = calibrated
    for what in ("flash/bw_gbps", "dram/cpu_gbps", "cpu/f16_kernel_gbps", "held-out error",
                 "memory/admit_us_per_page", f"written: {out}"):
        assert what in done.stdout
    phases = [line.split(": ")[1].split(",")[0] for line in done.stderr.splitlines()]
    assert phases == ["memory and kernels", "overheads", "scratch file", "flash", "page faults",
                      "admission", "fit"]
    assert "\r" not in done.stderr


def test_the_device_names_no_place(calibrated, tmp_path):
    _, out, scratch = calibrated
    text = out.read_text()
    device = json.loads(text)
    assert str(scratch.parent) not in text and os.uname().nodename not in text.split()
    assert device["calibration"]["reads"] and device["calibration"]["products"]
    assert "cores" not in device["cpu"] and "energy" not in device
    for entry in device["provenance"].values():
        assert entry["source"].startswith("sim calibrate, 20")
        assert 0 <= entry.get("spread", 0) <= 1


def test_another_name_and_buffered_reads(run_sim, calibrated, tmp_path):
    out = tmp_path / "d.json"
    done = run_sim("calibrate", *TINY, "--out", out, "--name", "desk", "--buffered", timeout=300)
    assert done.returncode == 0, done.stderr
    device = json.loads(out.read_text())
    assert device["name"] == "desk"
    assert device["provenance"]["/flash/bw_gbps"]["tag"] == "estimate"
    assert "note: reads went through the page cache" in done.stdout
    assert os.listdir(tmp_path) == ["d.json"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_it_is_stopped(sim, calibrated, tmp_path, number):
    process = subprocess.Popen(
        [sim, "calibrate", "--quick", "--max-disk-gib", "0.03", "--budget-s", "60",
         "--out", tmp_path / "d.json"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True)
    with process:
        # Stopped while the scratch file is there: it is made before the first phase.
        assert "memory" in process.stderr.readline()
        process.send_signal(number)
        assert process.wait(timeout=60) == -number
    assert os.listdir(tmp_path) == []


def refused(done, message):
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1 and message in done.stderr
    assert done.stdout == ""


def test_folders_that_do_not_do_are_refused(run_sim, calibrated, tmp_path):
    out = tmp_path / "d.json"
    refused(run_sim("calibrate", *TINY, "--out", out, "--dir", tmp_path / "none"),
            "no such folder for the scratch file")
    refused(run_sim("calibrate", *TINY, "--out", tmp_path / "none" / "d.json"),
            "no such folder to write the device file to")
    refused(run_sim("calibrate", *TINY, "--out", tmp_path), "got a folder")
    plain = tmp_path / "plain"
    plain.write_text("")
    refused(run_sim("calibrate", *TINY, "--out", out, "--dir", plain), "got a file")
    assert os.listdir(tmp_path) == ["plain"]


def test_a_folder_that_is_read_only_is_refused(sim, calibrated):
    # As somebody else where root runs the tests, who may write everywhere; so not in tmp_path.
    as_other = {"user": 65534, "group": 65534} if os.geteuid() == 0 else {}
    with tempfile.TemporaryDirectory() as name:
        locked = os.path.join(name, "locked")
        os.mkdir(locked, mode=0o555)
        os.chmod(name, 0o777)
        try:
            done = subprocess.run(
                [sim, "calibrate", *TINY, "--out", os.path.join(name, "d.json"), "--dir", locked],
                stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
                **as_other)
        except PermissionError:
            pytest.skip("nobody else may run the program")
        refused(done, "nothing may be written to this folder")


def test_limits_are_refused(run_sim, calibrated, tmp_path):
    out = tmp_path / "d.json"
    refused(run_sim("calibrate", "--out", out, "--max-disk-gib", "9"), "expected a number in")
    refused(run_sim("calibrate", "--out", out, "--max-memory-gib", "0.2"),
            "--max-memory-gib: expected at least")
    refused(run_sim("calibrate", "--out", out, "--budget-s", "-3"), "--budget-s")
    refused(run_sim("calibrate"), "--out is required")
    assert os.listdir(tmp_path) == []


def test_a_file_system_without_direct_reads_is_refused_unless_told(run_sim, calibrated, tmp_path):
    memory = "/dev/shm"
    if not os.access(memory, os.W_OK):
        pytest.skip("no tmpfs at hand")
    probe = os.path.join(memory, f"moesim-test-{os.getpid()}")
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_RDWR | os.O_DIRECT, 0o600))
        pytest.skip("this tmpfs takes direct reads")
    except OSError:
        pass
    finally:
        if os.path.exists(probe):
            os.remove(probe)
    refused(run_sim("calibrate", *TINY, "--out", tmp_path / "d.json", "--dir", memory),
            "--buffered")


def test_a_write_that_fails_leaves_nothing(sim, calibrated, tmp_path):
    # As a disk that is full: no file may become longer. Python ignores SIGXFSZ and hands that on.
    limit = 4 << 20
    done = subprocess.run(
        [sim, "calibrate", *TINY, "--out", tmp_path / "d.json"], stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=300, check=False, restore_signals=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    assert done.returncode == 2
    assert "the scratch file could not be written" in done.stderr.splitlines()[-1]
    assert os.listdir(tmp_path) == []

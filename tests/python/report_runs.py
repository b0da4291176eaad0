"""Real results for the tests of scripts/report.py: few tokens of the bundled trace."""

import json
import os
import subprocess
import sys

from conftest import REPOSITORY

DEVICES = ["oneplus-15r", "ddr4-laptop"]
POLICIES = ["top_k", "cache_prior", "cumulative_threshold"]
CAPACITIES = [8, 16, 32]
TOKENS = 192
PHONE = REPOSITORY / "configs/phone.json"


def run(run_sim, folder, name, *settings, tokens=True):
    """One result NAME.json, with NAME.csv beside it."""
    words = ["run", "--config", PHONE, "--set", f"/trace/max_tokens={TOKENS}", "--json", folder / f"{name}.json"]
    for setting in settings:
        words += ["--set", setting]
    words += ["--tokens-csv", folder / f"{name}.csv"] if tokens else []
    done = run_sim(*words)
    assert done.returncode == 0, done.stderr
    return folder / f"{name}.json"


def grid(run_sim, folder):
    return [
        run(run_sim, folder, f"{device}-{policy}-{capacity}", f"/device={device}", f"/routing/policy={policy}",
            f"/cache/capacity_experts={capacity}")
        for device in DEVICES
        for policy in POLICIES
        for capacity in CAPACITIES
    ]  # fmt: skip


def as_sweep(results, path):
    """The same results as the lines of a sweep, each with the block `point`."""
    lines = []
    for result in results:
        document = json.loads(result.read_text())
        cache = document["config"]["cache"]["capacity_experts"]
        document["point"] = {"/device": document["config"]["device"], "/cache/capacity_experts": cache}
        lines.append(json.dumps(document))
    path.write_text("\n".join(lines) + "\n")
    return path


def validation_of_rows(path):
    """A document of `sim validate --targets`, in little: one row that was fitted to, one that was not."""
    rows = [
        {"id": "A", "fitted": True, "measured": {"wall_ms": {"mean": 500, "p99": 900}, "io_ms": 400, "stall_ms": 0},
         "simulated": {"wall_ms": {"mean": 505, "p99": 700}, "io_ms": 410, "stall_ms": 0}},
        {"id": "B <b>", "fitted": False, "measured": {"wall_ms": {"mean": 200, "p99": 250}, "compute_ms": 90},
         "simulated": {"wall_ms": {"mean": 230, "p99": 260}, "compute_ms": 91}},
        {"id": "C", "fitted": False, "measured": {"wall_ms": {"mean": 300}}, "simulated": None, "reason": "none"},
    ]  # fmt: skip
    path.write_text(json.dumps({"schema": "moesim.validation/1", "rows": rows, "contrasts": [], "summary": {}}))
    return path


def validation_of_machine(path, noise):
    def side(mean):
        return {"throughput": {"tpot_ms": {"mean": mean, "p50": mean, "p90": mean, "p99": 2 * mean}},
                "time_ms_per_token": {"compute": mean / 2}, "io_ms_per_token": mean / 3}  # fmt: skip

    document = {"schema": "moesim.validation/1", "real": side(100), "simulated": side(108),
                "error": {"mean": 0.08}, "noise": {"repeats": 3, "mean": noise}}  # fmt: skip
    path.write_text(json.dumps(document))
    return path


def report(*words, cwd=REPOSITORY, **environment):
    """scripts/report.py with these arguments."""
    return subprocess.run(
        [sys.executable, REPOSITORY / "scripts/report.py", *map(str, words)],
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
    )

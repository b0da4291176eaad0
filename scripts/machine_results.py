"""What the runs of the validation matrix say together: errors of cells and the noise floor."""

import datetime
import statistics

PERCENTILES = ["mean", "p50", "p90", "p99"]


def speed_of(run):
    """Memory and reads around the run, over what the device file says; None where nobody looked."""
    state = run["machine_state"]
    if not state:
        return None
    return {key: statistics.mean(now[key] for now in state["measured"]) / expected
            for key, expected in state["device_file"].items()}  # fmt: skip


def longer_waits(run):
    real, simulated = (run[side]["time_ms_per_token"]["flash_stall"] for side in ("real", "simulated"))
    return real / simulated - 1 if simulated > 0 else None


def distance_of(run):
    """How far the machine was from the calibrated speed, as a share; 0 where nobody looked."""
    state = run["machine_state"]
    return state["largest_distance"] if state else 0.0


def cell_result(cell, runs):
    """The run in the middle by mean time stands for the cell; noise is the largest distance from it."""
    means = [run["real"]["throughput"]["tpot_ms"]["mean"] for run in runs]
    middle = means.index(statistics.median_low(means))
    run = runs[middle]
    real, simulated = run["real"], run["simulated"]
    noise = max(abs(mean / means[middle] - 1) for mean in means)
    return {
        "name": cell.name,
        "policy": cell.policy,
        "expert_mib": cell.size.expert_mib,
        "cache_share": cell.share,
        "lanes": cell.lanes,
        "overlap": cell.overlap,
        "hit_rate": real["cache"]["hit_rate"],
        "mib_per_token": real["cache"]["mib_per_token"],
        "real_ms": {key: real["throughput"]["tpot_ms"][key] for key in PERCENTILES},
        "simulated_ms": {key: simulated["throughput"]["tpot_ms"][key] for key in PERCENTILES},
        "real_parts_ms": real["time_ms_per_token"],
        "simulated_parts_ms": simulated["time_ms_per_token"],
        "error": {key: run["error"][key] for key in [*PERCENTILES, "per_token_mape", "correlation"]},
        "noise": noise,
        "real_means_ms": means,
        "products": [run["products"] for run in runs],
        "waits_longer": [longer_waits(run) for run in runs],
        "machine_off": [distance_of(run) for run in runs],
        "machine_speed": [speed_of(run) for run in runs],
        "attempts": [run["attempts"] for run in runs],
        # Of the first tokens with the reference's, of all tokens with each other.
        "outputs_match": all(run["outputs_match"] for run in runs)
        and len({run["outputs_checksum"] for run in runs}) == 1,
        "counts_match": all(run["counts_match"] for run in runs),
    }


def summary_of(cells, tolerance):
    errors = [abs(cell["error"]["mean"]) for cell in cells]
    off = [distance for cell in cells for distance in cell["machine_off"]]
    return {
        "runs": len(off),
        "attempts": sum(sum(cell["attempts"]) for cell in cells),
        "runs_beyond_tolerance": sum(distance > tolerance for distance in off),
        "tolerance": tolerance,
        "cells": len(cells),
        "median_abs_error": statistics.median(errors),
        "largest_abs_error": max(errors),
        "median_noise": statistics.median(cell["noise"] for cell in cells),
        "beyond_twice_noise": sum(abs(c["error"]["mean"]) > 2 * c["noise"] for c in cells),
        "median_per_token_mape": statistics.median(c["error"]["per_token_mape"] for c in cells),
        "all_outputs_match": all(cell["outputs_match"] for cell in cells),
        "all_counts_match": all(cell["counts_match"] for cell in cells),
    }


def collect(device, runs, options):
    """`device`: the device file. `runs`: {cell: results of sim validate, one a round}."""
    cells = [cell_result(cell, of_cell) for cell, of_cell in runs.items()]
    first = next(iter(runs.values()))[0]
    return {
        "schema": "moesim.validation-matrix/1",
        "date": datetime.date.today().isoformat(),
        "program": first["program"],
        "simd": first["real_path"]["simd"],
        "device": {key: device[key] for key in ["name", "description", "flash", "dram", "cpu"]},
        "rounds": len(next(iter(runs.values()))),
        "tokens": first["tokens_measured"],
        "cells": cells,
        "threads": options.threads,
        "reference_tokens": first["reference_tokens"],
        "summary": summary_of(cells, options.tolerance),
    }

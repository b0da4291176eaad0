#!/usr/bin/python3
"""Validates the simulation on this machine: one calibration, then real decoding beside its simulation.

    scripts/validate_machine.py --work DIR            # calibrates, decodes, writes the page's figures
    scripts/validate_machine.py --work DIR --no-page  # the same; tables on standard output only
    scripts/validate_machine.py --page                # draws the committed results again

A run counts where the machine is about as fast as when it was calibrated, by probes before and after.
DIR holds the device file, the experts and the result of every run; a run that is there is not
repeated, so a run that was stopped goes on. The cells of the matrix are run in rounds, each round in
another random order: what the real runs of a cell differ by from round to round is the noise floor.
Results go to docs/validation_machine.json and .svg, and into docs/validation.md.
"""

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

from machine_cells import Cell, all_cells
from machine_results import collect, distance_of
from machine_section import PAGE, draw, put_into_page, section
from whole_files import write_whole

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIG = REPOSITORY / "configs/validate.json"
RESULTS = REPOSITORY / "docs/validation_machine.json"
FIGURE = REPOSITORY / "docs/validation_machine.svg"


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stderr.strip()}")
    return done.stdout


def calibrate(options):
    device = options.work / "device.json"
    if options.device:
        return options.device
    if not device.exists():
        print("calibrating", flush=True)
        quick = ["--quick"] if options.quick else []
        run([options.sim, "calibrate", "--out", device, "--dir", options.work, *quick])
    return device


def validate_once(options, device, cell, out):
    if out.exists():
        return json.loads(out.read_text())
    partial = out.with_suffix(".partial")  # it becomes `out` only if both did the same work
    command = [options.sim, "validate", "--config", CONFIG, "--device", device, "--out", partial,
               "--store", options.work / f"experts-{cell.size.name}.store", "--repeats", "1",
               "--reference-tokens", str(options.reference_tokens),
               "--max-disk-gib", str(options.max_disk_gib),
               "--max-memory-gib", str(options.max_memory_gib)]  # fmt: skip
    if options.buffered:
        command.append("--buffered")
    for setting in cell.settings(options):
        command += ["--set", setting]
    run(command)
    partial.rename(out)
    return json.loads(out.read_text())


def validate(options, device, cell, number):
    """One real run of the cell. A machine that others use is not always the one that was calibrated:
    of some attempts the first counts whose speed of memory and flash, before and after the run, is near
    the calibrated one, else the nearest. The time of the run itself decides nothing."""
    attempts = []
    for attempt in range(options.attempts):
        out = options.work / f"{cell.name}-{number}-{attempt}.json"
        attempts.append(validate_once(options, device, cell, out))
        if distance_of(attempts[-1]) <= options.tolerance:
            return attempts[-1], len(attempts)
    return min(attempts, key=distance_of), len(attempts)


def require_same_settings(options, device):
    """Runs of a folder that were made otherwise are not mixed with new ones."""
    names = ["tokens", "threads", "buffered", "reference_tokens", "sizes"]
    settings = {name: getattr(options, name) for name in names}
    settings["device"] = hashlib.sha256(device.read_bytes()).hexdigest()
    settings["program"] = run([options.sim, "--version"]).strip()
    path = options.work / "settings.json"
    if not path.exists():
        path.write_text(json.dumps(settings))
    elif json.loads(path.read_text()) != settings:
        raise SystemExit(f"{path}: expected the settings that the runs of this folder were made with")


def measure(options):
    options.work.mkdir(parents=True, exist_ok=True)
    device = calibrate(options)
    require_same_settings(options, device)
    cells = all_cells(options.sizes)[: options.cells]
    chance = random.Random(options.seed)
    runs = {cell: [] for cell in cells}
    for number in range(options.rounds):
        order = list(cells)
        chance.shuffle(order)
        for done, cell in enumerate(order):
            result, attempts = validate(options, device, cell, number)
            result["attempts"] = attempts
            runs[cell].append(result)
            real, error = result["real"]["throughput"]["tpot_ms"]["mean"], result["error"]["mean"]
            print(f"round {number + 1}, {done + 1:>2} of {len(order)}: {cell.name:<36}"
                  f"{real:9.2f} ms a token, simulated {100 * error:+6.1f} %, machine {100 * distance_of(result):.0f} % off"
                  f" (attempt {attempts})", flush=True)  # fmt: skip
    return collect(json.loads(device.read_text()), runs, options)


def parse(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--work", type=Path, help="folder for the runs; needed to measure")
    parser.add_argument("--device", type=Path, help="a device file, instead of calibrating")
    parser.add_argument("--quick", action="store_true", help="calibrate with --quick")
    parser.add_argument("--rounds", type=int, default=3, help="real runs of each cell")
    parser.add_argument("--cells", type=int, default=None, help="only the first so many")
    parser.add_argument("--attempts", type=int, default=3, help="at a run near the calibrated speed")
    parser.add_argument("--tolerance", type=float, default=0.06, help="what is near, as a share")
    parser.add_argument("--tokens", type=int, default=56, help="tokens of a run, 8 of them warm-up")
    parser.add_argument("--threads", type=int, default=1, help="that compute")
    parser.add_argument("--reference-tokens", type=int, default=16, help="checked against the reference")
    parser.add_argument("--sizes", nargs=2, default=["1024x512", "1024x256"],
                        help="hidden x intermediate size of the two models")  # fmt: skip
    parser.add_argument("--max-disk-gib", type=float, default=8)
    parser.add_argument("--max-memory-gib", type=float, default=4)
    parser.add_argument("--buffered", action="store_true", help="read through the page cache")
    parser.add_argument("--seed", type=int, default=1, help="of the order of the cells")
    parser.add_argument("--sim", default=os.environ.get("MOESIM_SIM", REPOSITORY / "build/release/bin/sim"))
    parser.add_argument("--page", action="store_true", help="measure nothing, draw docs again")
    parser.add_argument("--no-page", action="store_true", help="leave docs alone")
    options = parser.parse_args(arguments)
    if options.page == (options.work is not None):
        parser.error("expected either --work DIR or --page")
    return options


def main(arguments=None):
    options = parse(arguments)
    if options.page:
        results = json.loads(RESULTS.read_text())
    else:
        results = measure(options)
    text = section(results)
    if options.no_page:
        (options.work / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        print(text)
    else:
        if not options.page:
            write_whole(RESULTS, json.dumps(results, indent=1) + "\n")
        draw(results, FIGURE)
        put_into_page(text, PAGE)
    same = results["summary"]["all_outputs_match"] and results["summary"]["all_counts_match"]
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())

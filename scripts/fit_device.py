#!/usr/bin/env python3
"""Fits the values of a device file that nobody measured directly, and writes them into it.

    scripts/fit_device.py configs/calibration/oneplus-15r.json          # writes the device file
    scripts/fit_device.py configs/calibration/oneplus-15r.json --check  # says whether it would change

The inputs are one committed file: tables of a flash benchmark, and a few rows of a real engine. What is
fitted, each with a physical meaning and none per row:

  flash.bw_gbps, dev_cmd_us, host_delay_us, bounce_gbps   by `sim fit-flash`, tables and io of rows
  cpu.<format>_kernel_gbps   weights and key-value bytes of a token over its median compute time, less
                             the overhead of its layers, at the device's clock
  memory.admit_us_per_page   time of managing the cache over the pages of what was read

Everything else in the device file stays as it is, its sources too. `fitted_rows` names the rows, which
`sim validate --targets` then leaves out of its error.
"""

import argparse
import csv
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from whole_files import write_whole

REPOSITORY = Path(__file__).resolve().parents[1]


def fit_flash(sim, inputs, clock_ghz):
    """The values of `flash` that sim fit-flash finds."""
    flash = inputs["flash"]
    with tempfile.TemporaryDirectory() as folder:
        arguments = [sim, "fit-flash", "--json", "--fit-bounce"]
        arguments += ["--copy-gbps", str(flash["copy_gbps"])]
        arguments += ["--rows-weight", str(flash["rows_weight"])]
        for number, table in enumerate(flash["tables"]):
            path = Path(folder) / f"table{number}.csv"
            with path.open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["read_kib", "lanes", "mib_per_s"])
                writer.writerows(table["rows"])
            arguments += ["--table", str(path)]
        rows = Path(folder) / "rows.json"
        rows.write_text(
            json.dumps([engine_row(name, inputs["rows"][name], clock_ghz) for name in flash["rows"]])
        )
        arguments += ["--engine-rows", str(rows)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr.strip())
    return json.loads(done.stdout)


def engine_row(name, row, clock_ghz):
    return {
        "name": name,
        "lanes": row["lanes"],
        "layers": row["layers"],
        "experts_per_token": row["k"],
        "read_fraction": row["read_fraction"],
        "io_ms": row["io_ms"],
        "bounce": row["bounce"],
        "clock": row["clock_ghz"] / clock_ghz,
    }


def kernel_gbps(rows, device):
    """Bytes over compute time at the device's clock; the mean where there are several rows."""
    clock_ghz = device["cpu"]["clock_ghz"]
    overhead_ms = device["cpu"]["layer_overhead_us"] / 1000
    rates = []
    for row in rows:
        compute_ms = row["compute_median_ms"] * row["clock_ghz"] / clock_ghz
        kernel_ms = compute_ms - overhead_ms * row["hidden_layers"]
        rates.append((row["weight_bytes"] + row["kv_bytes"]) / kernel_ms / 1e6)
    return sum(rates) / len(rates)


def admit_us_per_page(row, device):
    pages = row["read_bytes"] / (device["memory"]["page_kib"] * 1024)
    return row["mgmt_ms"] * 1000 / pages * row["clock_ghz"] / device["cpu"]["clock_ghz"]


def fitted_values(sim, inputs, device):
    """{(section, key): number}, rounded as the device file has them."""
    fit = fit_flash(sim, inputs, device["cpu"]["clock_ghz"])["flash"]
    values = {
        ("flash", key): fit[key] for key in ("bw_gbps", "dev_cmd_us", "host_delay_us", "bounce_gbps")
    }
    for kernel in inputs["kernels"]:
        rows = [inputs["rows"][name] for name in kernel["rows"]]
        values["cpu", kernel["format"] + "_kernel_gbps"] = round(kernel_gbps(rows, device), 2)
    admission = inputs["rows"][inputs["admission"]["row"]]
    values["memory", "admit_us_per_page"] = round(admit_us_per_page(admission, device), 3)
    return values


def rows_used(inputs):
    names = set(inputs["flash"]["rows"]) | {inputs["admission"]["row"]}
    for kernel in inputs["kernels"]:
        names |= set(kernel["rows"])
    return sorted(names)


def replace_numbers(text, values):
    """The text of a device file with other numbers; layout and everything else as it is."""
    for (section, key), value in values.items():
        start = text.index(f'"{section}": {{')
        head, tail = text[:start], text[start:]
        tail, count = re.subn(rf'("{key}": )[-+0-9.eE]+', rf"\g<1>{value:g}", tail, count=1)
        if count != 1:
            raise SystemExit(f"the device file has no number {section}.{key} to replace")
        text = head + tail
    written = json.loads(text)
    for (section, key), value in values.items():
        if written[section].get(key) != float(f"{value:g}"):
            raise SystemExit(f"the device file has no number {section}.{key} to replace")
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inputs", type=Path, help="configs/calibration/NAME.json")
    parser.add_argument("--out", type=Path, help="device file to write (default: the one fitted)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if it is stale")
    parser.add_argument("--sim", default=str(REPOSITORY / "build/release/bin/sim"))
    options = parser.parse_args()

    inputs = json.loads(options.inputs.read_text())
    path = options.inputs.parent / inputs["device"]
    text = path.read_text()
    device = json.loads(text)
    values = fitted_values(options.sim, inputs, device)
    if device.get("fitted_rows") != rows_used(inputs):
        raise SystemExit(f"{path}: /fitted_rows: expected {json.dumps(rows_used(inputs))}")
    for (section, key), value in values.items():
        print(f"{section}.{key} {value:g} (was {device[section].get(key)})")
    fitted = replace_numbers(text, values)
    if options.check:
        sys.exit(0 if fitted == text else 1)
    write_whole(options.out or path, fitted)


if __name__ == "__main__":
    main()

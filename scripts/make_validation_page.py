#!/usr/bin/env python3
"""Writes docs/validation.md: simulations beside measured rows, from `sim validate --targets`, and the
committed results of scripts/validate_machine.py.

    scripts/make_validation_page.py TARGETS.json           # writes docs/validation.md
    scripts/make_validation_page.py TARGETS.json --check   # exit 1 where the page is stale

TARGETS.json: measured rows (docs/validation.md says which); the recorded routing lies in ../raw_traces
beside its folder, or where --traces says. The page is scripts/validation_page.md with the tables put
in; its figures follow from the program, the device file, the measurements and
docs/validation_machine.json alone.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from machine_section import BEGIN, END, section
from whole_files import write_whole

REPOSITORY = Path(__file__).resolve().parents[1]
TEMPLATE = Path(__file__).resolve().parent / "validation_page.md"
PAGE = REPOSITORY / "docs/validation.md"
MATRIX = REPOSITORY / "docs/validation_machine.json"
MARK = "@TABLES@\n"


def tables(options):
    command = [options.sim, "validate", "--targets", str(options.targets), "--markdown"]
    if options.traces:
        command += ["--traces", str(options.traces)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr.strip())
    return done.stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", type=Path, help="measured rows, schema phone-measurements/1")
    parser.add_argument("--traces", type=Path, help="folder that recorded routing is relative to")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if it is stale")
    parser.add_argument("--sim", default=str(REPOSITORY / "build/release/bin/sim"))
    options = parser.parse_args()

    template = TEMPLATE.read_text()
    if MARK not in template:
        raise SystemExit(f"{TEMPLATE}: expected a line {MARK.strip()}, got none")
    matrix = section(json.loads(MATRIX.read_text()))
    page = template.replace(BEGIN + END, BEGIN + matrix + END).replace(MARK, tables(options))
    if options.check:
        sys.exit(0 if PAGE.is_file() and PAGE.read_text() == page else 1)
    write_whole(PAGE, page)


if __name__ == "__main__":
    main()

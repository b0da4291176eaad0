#!/usr/bin/python3
"""Runs a sweep from a JSON specification, here or on a cluster (docs/sweeping_from_scripts.md).

    scripts/sweep.py SPEC.json --out FOLDER                                  on this machine
    scripts/sweep.py SPEC.json --out FOLDER --scheduler tcp://HOST:8786      through Dask
    scripts/sweep.py SPEC.json --out FOLDER --shard I/N                      one of N parts, then --merge
    scripts/sweep.py SPEC.json --list                                        the points, one a line

The program is --sim, $MOESIM_SIM, or that of the release build.
"""

import argparse
import concurrent.futures
import contextlib
import hashlib
import json
import os
import pathlib
import re
import sqlite3
import sys

import sweep_engines
import sweep_task
from sweep_spec import SweepError, covering, read_sweep, wrong
from sweep_store import Store, check_export, csv_text, export, jsonl_text

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
DATABASES = {".sqlite", ".sqlite3", ".db"}
USER_ERROR, DEFECT, INTERRUPTED = 2, 70, 130
# Messages on what no other value of the sweep could mend.
MISSPELT = re.compile(r"unknown (key|value)|: expected (/POINTER|a JSON pointer|an object at)")


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise SweepError(f"{message} (see sweep.py --help)")


def at_least(least):
    def read(text):
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"expected an integer >= {least}, got {text}")
        return int(text)

    return read


def shard(text):
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or int(match[1]) >= int(match[2]):
        raise argparse.ArgumentTypeError(f"expected I/N with 0 <= I < N, got {text}")
    return int(match[1]), int(match[2])


def arguments_of(argv):
    parser = Parser(prog="sweep.py", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("spec", metavar="SPEC.json", help="the specification")
    add("--out", metavar="FOLDER_OR_DB",
        help="a folder for sweep.sqlite, results.csv and results.jsonl; or the database alone, *.sqlite or *.db")
    add("--resume", action="store_true", help="go on with what is there: only points without a result run")
    add("--scheduler", metavar="tcp://HOST:PORT", help="run on the workers of this Dask scheduler")
    add("--jobs", type=at_least(1), metavar="N",
        help="points at a time (default: cores here, twice the threads of the cluster)")
    add("--retries", type=at_least(0), default=3, metavar="N",
        help="further attempts at a point whose program or worker was killed (3)")
    add("--fail-fast", action="store_true", help="stop at the first point that fails")
    add("--csv", metavar="FILE", help="headline metrics, one row a point")
    add("--jsonl", metavar="FILE", help="result documents, one a line, as sim sweep writes them")
    add("--sim", metavar="PATH", help="the program, on every machine",
        default=os.environ.get("MOESIM_SIM") or str(REPOSITORY / "build/release/bin/sim"))
    add_parts(parser.add_mutually_exclusive_group().add_argument)
    return parser.parse_args(argv)


def add_parts(add):
    add("--shard", type=shard, metavar="I/N", help="only the points whose index leaves I when divided by N")
    add("--point", type=at_least(0), metavar="I", help="only the point with this index")
    add("--merge", nargs="*", metavar="DB",
        help="gather the databases of parts (default: those in the folder)")
    add("--list", action="store_true", help="print the points and run nothing")


def program_of(sim):
    """(version, commit) of the program."""
    try:
        ran = sweep_task.call(sim, ["--version"], None)
    except OSError as error:
        expected = "the program sim (build it, or set MOESIM_SIM)"
        raise wrong(f"--sim {sim}", expected, error.strerror.lower()) from None
    match = re.fullmatch(r"sim (\S+) \((\S+)\)\n", ran.stdout)
    if not match:
        raise wrong(f"--sim {sim}", "the program sim", repr(ran.stdout[:40]))
    return match.groups()


def check_names(sim, sweep):
    """Misspelt keys and names are found before anything runs: a few points with every value in them."""
    def look(point):
        settings = [part for change in point.overrides for part in ("--set", change)]
        return sweep_task.call(sim, ["run", "--config", sweep.config, "--print-config", *settings], None)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        chosen = covering(sweep.points)
        for point, ran in zip(chosen, pool.map(look, chosen)):
            place = f"{sweep.shown}: point {json.dumps(point.point)}"
            line = sweep_task.error_of(ran.stderr)
            if ran.returncode == USER_ERROR and MISSPELT.search(line):
                raise SweepError(f"{place}: {line}")
            if ran.returncode not in (0, USER_ERROR):
                raise SweepError(f"{place}: exit status {ran.returncode}: {line}")


def check_inputs(store, sweep):
    """Results of files that have changed since are not gone on with. Another configuration makes
    other points, so it does not matter here."""
    folder = os.path.dirname(sweep.config)
    for path, digest in store.inputs().items():
        for file in (os.path.join(folder, path), path):
            if os.path.isfile(file) and not os.path.samefile(file, sweep.config):
                with open(file, "rb") as opened:
                    now = hashlib.file_digest(opened, "sha256").hexdigest()
                if now != digest:
                    expected = f"SHA-256 {digest[:12]} as when its points ran"
                    raise wrong(f"{store.path}: {path}", expected, f"{now[:12]}: start a new sweep")
                break


def part_of(sweep, arguments):
    """(the points to run, the name of their database in a folder)."""
    points = sweep.points
    if arguments.point is not None:
        if arguments.point >= len(points):
            raise wrong("--point", f"an index below {len(points)}", arguments.point)
        return [points[arguments.point]], f"part-point-{arguments.point}.sqlite"
    if arguments.shard:
        index, count = arguments.shard
        return points[index::count], f"part-{index}-of-{count}.sqlite"
    return points, "sweep.sqlite"


def database_of(out, name):
    path = pathlib.Path(out)
    if path.suffix in DATABASES:
        if not path.parent.is_dir():
            raise wrong(path, "a file in a folder that exists", "none")
        return path
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise wrong(path, "a folder, or a database *.sqlite", error.strerror.lower()) from None
    return path / name


def check_exports(arguments, sweep, name):
    """What could only fail after every point has run is looked at before any does."""
    out = pathlib.Path(os.path.realpath(arguments.out))
    alone = pathlib.Path(arguments.out).suffix in DATABASES
    made = set() if alone else {out, *out.parents}
    taken = {os.path.realpath(arguments.spec): "the specification",
             os.path.realpath(sweep.config): "the configuration",
             str(out if alone else out / name): "the database"}  # fmt: skip
    for option, target in (("--csv", arguments.csv), ("--jsonl", arguments.jsonl)):
        if target is not None:
            check_export(f"{option} {target}", pathlib.Path(os.path.realpath(target)), made, taken)
            taken[os.path.realpath(target)] = f"that of {option}"


def progress(total, before):
    """A bar on a terminal; nothing elsewhere, or where tqdm (Debian's python3-tqdm) is missing."""
    try:
        import tqdm
    except ImportError:
        return contextlib.nullcontext()
    return tqdm.tqdm(total=total, initial=before, unit="point", disable=None)


def run_points(store, sweep, points, arguments, engine):
    """Runs what has no result yet."""
    outcomes = store.outcomes()
    left = [p for p in points if outcomes.get(p.fingerprint) != sweep_task.DONE]
    folder = os.getcwd()
    task = lambda point: (arguments.sim, sweep.config, point.overrides, folder)  # noqa: E731
    jobs = arguments.jobs or (None if arguments.scheduler else os.cpu_count())
    results = engine(left, task, jobs, arguments.retries)
    with contextlib.closing(results), progress(len(points), len(points) - len(left)) as bar:
        for point, outcome, text in results:
            outcome, error = store.add(point.fingerprint, point.point, outcome, text)
            if bar is not None:
                bar.update()
            if outcome != sweep_task.DONE and arguments.fail_fast:
                break


def parts_to_merge(arguments):
    folder = pathlib.Path(arguments.out or ".")
    parts = [pathlib.Path(name) for name in arguments.merge]
    if not parts and folder.is_dir():
        parts = sorted(folder.glob("part-*.sqlite"))
    if not parts:
        raise wrong("--merge", "databases of parts", f"none in {folder}")
    for part in parts:
        if not part.is_file():
            raise wrong(f"--merge {part}", "a database of a sweep", "no such file")
    return parts


def write_exports(store, points, arguments):
    folder = pathlib.Path(arguments.out)
    whole = folder.is_dir() and arguments.shard is None and arguments.point is None
    csv_file = arguments.csv or (folder / "results.csv" if whole else None)
    jsonl_file = arguments.jsonl or (folder / "results.jsonl" if whole else None)
    if csv_file:
        export(csv_file, csv_text(store, points))
    if jsonl_file:
        export(jsonl_file, jsonl_text(store, points))


def verdict(store, points):
    """Says what failed and what is missing; the exit status."""
    if not points:
        print("sweep.py: no points in this shard", file=sys.stderr)
        return 0
    counts = {}
    for point, outcome, error, _ in store.rows(points):
        counts[outcome] = counts.get(outcome, 0) + 1
        if outcome not in (sweep_task.DONE, "missing"):
            print(f"sweep.py: point {point.index} {json.dumps(point.point)}: {error}", file=sys.stderr)
    done = counts.pop(sweep_task.DONE, 0)
    rest = "".join(f", {n} {name}" for name, n in sorted(counts.items()))
    print(f"sweep.py: {done} of {len(points)} points have a result{rest}", file=sys.stderr)
    if sweep_task.DEFECT in counts:
        return DEFECT
    return USER_ERROR if counts else 0


def list_points(points):
    for point in points:
        print(json.dumps({"index": point.index, "fingerprint": point.fingerprint, "point": point.point}))
    return 0


def sweep_with(arguments):
    sweep = read_sweep(arguments.spec)
    if arguments.list:
        return list_points(sweep.points)
    if arguments.out is None:
        raise wrong("--out", "a folder or a database", "none")
    arguments.sim = os.path.abspath(arguments.sim)
    program = program_of(arguments.sim)
    points, name = part_of(sweep, arguments)
    check_exports(arguments, sweep, name)
    engine = sweep_engines.here
    parts = []
    if arguments.merge is not None:
        parts = parts_to_merge(arguments)
    else:
        check_names(arguments.sim, sweep)
        if arguments.scheduler:
            engine = sweep_engines.cluster(arguments.scheduler)
    goes_on = arguments.resume or arguments.merge is not None
    store = Store(database_of(arguments.out, name), program, must_be_new=not goes_on)
    try:
        if set(store.outcomes()) & {point.fingerprint for point in points}:
            check_inputs(store, sweep)
        if arguments.merge is not None:
            for part in parts:
                store.merge(part)
        else:
            run_points(store, sweep, points, arguments, engine)
        write_exports(store, points, arguments)
        return verdict(store, points)
    finally:
        store.close()


def main(argv):
    try:
        return sweep_with(arguments_of(argv))
    except SweepError as error:
        print(f"sweep.py: error: {sweep_task.one_line(str(error))}", file=sys.stderr)
        return USER_ERROR
    except sqlite3.Error as error:
        line = f"the database cannot be written: {error}; what has ended before is kept"
        print(f"sweep.py: error: {line}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("sweep.py: interrupted; what has ended is kept, go on with --resume", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

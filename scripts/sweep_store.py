"""Where the results of a sweep live: one SQLite file, one row and one transaction a point."""

import csv
import io
import json
import os
import pathlib
import re
import sqlite3

from sweep_spec import SweepError, wrong
from whole_files import write_whole

APPLICATION = 0x6D6F6573  # "moes", so that no other database is taken for a sweep's
TABLES = """
CREATE TABLE points(
  fingerprint TEXT PRIMARY KEY, point TEXT NOT NULL,
  outcome TEXT NOT NULL CHECK (outcome IN ('done', 'refused', 'defect', 'lost')),
  error TEXT, result TEXT, CHECK ((outcome = 'done') = (result IS NOT NULL))
) WITHOUT ROWID;
CREATE TABLE inputs(path TEXT PRIMARY KEY, sha256 TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE program(version TEXT NOT NULL, "commit" TEXT NOT NULL);
"""
# A point that has a result keeps it; one that failed may be tried again.
INSERT = """
INSERT INTO points VALUES (?, ?, ?, ?, ?) ON CONFLICT (fingerprint) DO UPDATE
SET outcome = excluded.outcome, error = excluded.error, result = excluded.result
WHERE points.outcome <> 'done'
"""
STRING_OR_BLANKS = re.compile(r'("(?:[^"\\]|\\.)*")|\s+')
METRICS = {
    "decode_tokens_per_s": ("throughput", "decode_tokens_per_s"),
    "ttft_ms": ("throughput", "ttft_ms"),
    **{f"tpot_{n}_ms": ("throughput", "tpot_ms", n) for n in ("mean", "p50", "p90", "p95", "p99", "max")},
    **{f"{part}_ms_per_token": ("time_ms_per_token", part)
       for part in ("compute", "flash_stall", "admission", "predictor", "overhead")},
    "measured_tokens": ("tokens", "measured"),
    "accesses": ("cache", "accesses"),
    "hits": ("cache", "hits"),
    "misses": ("cache", "misses"),
    "hit_rate": ("cache", "hit_rate"),
    "belady_hit_rate": ("bounds", "belady_hit_rate"),
    "bytes_read": ("cache", "bytes_read"),
    "mib_per_token": ("cache", "mib_per_token"),
    "experts_per_token_layer": ("routing", "experts_per_token_layer"),
    "agreement": ("routing", "agreement"),
    "dropped_mass": ("routing", "dropped_mass"),
    "j_per_token": ("energy", "j_per_token"),
    "over_budget_mib": ("memory", "over_budget_mib"),
}  # fmt: skip


def on_one_line(text, point):
    """The document as `sim sweep` writes it: without blanks, the point last, numbers as they were."""
    compact = STRING_OR_BLANKS.sub(lambda match: match[1] or "", text)
    added = json.dumps(point, separators=(",", ":"), ensure_ascii=False)
    return f'{compact[:-1]},"point":{added}}}'


class Store:
    """A sweep's database, locked against a second writer while it is open."""

    def __init__(self, path, program, must_be_new=False):
        self.path, self.program = pathlib.Path(path), program
        exists = self.path.exists() and self.path.stat().st_size > 0
        if exists and must_be_new:
            raise wrong(self.path, "no file, or --resume to go on with it", "a file")
        try:
            self.connection = self._connect()
            self._prepare()
        except sqlite3.Error as error:
            raise self._explained(error) from None

    def _connect(self):
        connection = sqlite3.connect(self.path, timeout=0, isolation_level=None)
        # Exclusive: no shared memory, which network file systems lack, and no second writer.
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if application != APPLICATION and (application or tables):
            raise wrong(self.path, "a database of a sweep", "another database")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _prepare(self):
        self.connection.execute("BEGIN IMMEDIATE")
        if not self.connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            for statement in TABLES.split(";"):
                self.connection.execute(statement)
            self.connection.execute("INSERT INTO program VALUES (?, ?)", self.program)
            self.connection.execute(f"PRAGMA application_id = {APPLICATION}")
        self.connection.execute("COMMIT")
        found = self.connection.execute('SELECT version, "commit" FROM program').fetchone()
        if tuple(found) != tuple(self.program):
            ours, theirs = ("sim {} ({})".format(*program) for program in (self.program, found))
            raise wrong(self.path, f"results of {theirs}", f"{ours}: start a new one")

    def _explained(self, error):
        if "locked" in str(error):
            return wrong(self.path, "a database that nobody else uses", "one that another sweep has open")
        return wrong(self.path, "a database of a sweep", str(error))

    def close(self):
        self.connection.close()

    def outcomes(self):
        return dict(self.connection.execute("SELECT fingerprint, outcome FROM points"))

    def inputs(self):
        return dict(self.connection.execute("SELECT path, sha256 FROM inputs"))

    def add(self, fingerprint, point, outcome, text):
        """Commits one point; returns what stands there: (outcome, error or None)."""
        result = None
        try:
            with_point, inputs = self._checked(point, text) if outcome == "done" else (None, {})
            result, error = with_point, None if outcome == "done" else text
        except SweepError as problem:
            outcome, error, inputs = "refused", str(problem), {}
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany("INSERT OR IGNORE INTO inputs VALUES (?, ?)", inputs.items())
        row = (fingerprint, json.dumps(point), outcome, error, result)
        self.connection.execute(INSERT, row)
        self.connection.execute("COMMIT")
        return outcome, error

    def _checked(self, point, text):
        """The result with its point, and the inputs; of the same program and files as the others."""
        document = json.loads(text)
        made_by = (document["program"]["version"], document["program"]["commit"])
        if made_by != tuple(self.program):
            raise wrong("program", "sim {} ({})".format(*self.program), "sim {} ({})".format(*made_by))
        inputs = {entry["path"]: entry["sha256"] for entry in document["inputs"]}
        known = self.inputs()
        for path, digest in inputs.items():
            if known.get(path, digest) != digest:
                raise wrong(path, f"SHA-256 {known[path][:12]} as at other points", digest[:12])
        # What comes from a part has its point already.
        return text if "point" in document else on_one_line(text, point), inputs

    def rows(self, points):
        """(Point, outcome, error, document) in the order of the points; `missing` where there is none."""
        for point in points:
            found = self.connection.execute(
                "SELECT outcome, error, result FROM points WHERE fingerprint = ?", (point.fingerprint,)
            ).fetchone()
            outcome, error, result = found or ("missing", None, None)
            yield point, outcome, error, result

    def merge(self, path):
        """Takes the points of another sweep's database; returns how many it has."""
        other = Store(path, self.program)
        try:
            taken = 0
            query = "SELECT fingerprint, point, outcome, error, result FROM points"
            for fingerprint, point, outcome, error, result in other.connection.execute(query):
                self.add(fingerprint, json.loads(point), outcome, error or result)
                taken += 1
            return taken
        finally:
            other.close()


def metric(document, path):
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return "" if document is None else document


def plain(value):
    return value if isinstance(value, str) else json.dumps(value)


def csv_text(store, points):
    pointers = list(dict.fromkeys(pointer for point in points for pointer in point.point))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["index", *pointers, "outcome", *METRICS, "warnings", "error", "fingerprint"])
    for point, outcome, error, result in store.rows(points):
        document = json.loads(result) if result else {}
        writer.writerow([
            point.index,
            *(plain(point.point[p]) if p in point.point else "" for p in pointers),
            outcome,
            *(metric(document, path) for path in METRICS.values()),
            len(document["warnings"]) if result else "",
            error or "",
            point.fingerprint,
        ])  # fmt: skip
    return out.getvalue()


def jsonl_text(store, points):
    return "".join(result + "\n" for _, _, _, result in store.rows(points) if result)


def check_export(place, file, made, taken):
    """`made`: folders that will be there; `taken`: {file: what it is}."""
    if file.is_dir() or file in made:
        raise wrong(place, "a file", "a folder")
    if not file.parent.is_dir() and file.parent not in made:
        raise wrong(place, "a file in a folder that exists", "none")
    if file.parent.is_dir() and not os.access(file.parent, os.W_OK | os.X_OK):
        raise wrong(place, "a folder that can be written", "one that cannot")
    if str(file) in taken:
        raise wrong(place, "a file of its own", taken[str(file)])


def export(path, text):
    try:
        write_whole(pathlib.Path(path), text.encode(errors="backslashreplace"))  # UTF-8 anywhere
    except OSError as error:
        raise wrong(path, "a file that can be written", os.strerror(error.errno).lower()) from None

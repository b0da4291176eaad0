"""What scripts/report.py is given: results of `sim run` and `sim sweep`, per-token CSVs, validations.

Everything is read and checked here, once; what is wrong raises ReportError with one line that names
the file and the place.
"""

import csv
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from report_error import ReportError
from report_json import is_finite, is_number, parse_json, read_text, shown

RESULT = "moesim.result/1"
VALIDATION = "moesim.validation/1"
TOKEN_COLUMNS = ["token", "sequence", "position", "wall_ms", "compute_ms", "stall_ms", "admission_ms",
                 "predictor_ms", "overhead_ms", "read_bytes", "hits", "misses", "experts"]  # fmt: skip


@dataclass
class Run:
    """One result: where it is from, the document, and its per-token columns where they were given."""

    source: str  # FILE, or FILE:LINE in a sweep
    path: Path
    document: dict
    tokens: dict | None = None  # column -> float array [measured tokens]
    tokens_source: str | None = None

    @property
    def config(self):
        return self.document["config"]

    def at(self, pointer):
        """The value at a JSON pointer; None where it, or something above it, is absent or null."""
        value = self.document
        for key in pointer.split("/")[1:]:
            if not isinstance(value, dict) or key not in value:
                return None
            value = value[key]
        return value

    def number(self, pointer):
        """A finite number, or None where the result does not know it."""
        value = self.at(pointer)
        if value is None:
            return None
        if not is_number(value):
            raise ReportError(f"{self.source}: {pointer}: expected a number or null, got {shown(value)}")
        return float(value)


@dataclass
class Given:
    runs: list = field(default_factory=list)
    validations: list = field(default_factory=list)  # (source, document)
    notes: list = field(default_factory=list)  # what was left out, and why


def documents_of(path, notes):
    """(source, document) of each result in a file: JSON, or with the ending .jsonl one a line."""
    text = read_text(path)
    if Path(path).suffix != ".jsonl":
        return [(str(path), parse_json(text, path))]
    lines = [(f"{path}:{number}", line) for number, line in enumerate(text.split("\n"), 1)]
    if lines[-1][1]:
        notes.append(f"{lines[-1][0]} is left out: it is cut, as of a sweep that runs or was killed.")
    return [(source, parse_json(line, source)) for source, line in lines[:-1] if line.strip()]


def require(document, source, pointer, kind, name):
    value = document
    for key in pointer.split("/")[1:]:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ReportError(f"{source}: {pointer}: expected {name}, got {shown(value)}")


def require_texts(document, source, pointer):
    require(document, source, pointer, list, "an array")
    for number, text in enumerate(document[pointer[1:]]):
        if not isinstance(text, str):
            raise ReportError(f"{source}: {pointer}/{number}: expected text, got {shown(text)}")


def check_result(document, source):
    require(document, source, "/config/routing/policy", str, "the name of a policy")
    require(document, source, "/config/cache", dict, "an object")
    require(document, source, "/config/trace", dict, "an object")
    require(document, source, "/config/trace/path", (str, type(None)), "text or null")
    require(document, source, "/config/trace/prefill", (str, type(None)), "text or null")
    for key in ("max_tokens", "warmup_tokens"):
        require(document, source, f"/config/trace/{key}", (int, type(None)), "a whole number or null")
        if (document["config"]["trace"].get(key) or 0) < 0:
            raise ReportError(f"{source}: /config/trace/{key}: expected at least 0, got {document['config']['trace'][key]}")
    require(document, source, "/cache/hit_rate", (int, float), "a number")
    require(document, source, "/tokens/measured", int, "a whole number")
    require(document, source, "/routing", dict, "an object")
    require(document, source, "/inputs", list, "an array")
    for key in ("version", "commit"):
        require(document, source, f"/program/{key}", str, "text")
    require_texts(document, source, "/warnings")
    if document.get("notes") is not None:
        require_texts(document, source, "/notes")
    for number, entry in enumerate(document["inputs"]):
        for key in ("path", "sha256"):
            require(entry, f"{source}: /inputs/{number}", f"/{key}", str, "text")
    if document["tokens"]["measured"] < 1:
        raise ReportError(f"{source}: /tokens/measured: expected at least 1, got {document['tokens']['measured']}")
    if document.get("throughput") is not None:
        require(document, source, "/throughput/decode_tokens_per_s", (int, float), "a number")
        for key in ("mean", "p50", "p99"):
            require(document, source, f"/throughput/tpot_ms/{key}", (int, float), "a number")
        require(document, source, "/time_ms_per_token", dict, "an object")


def check_validation(document, source):
    if document.get("program") is not None:
        require(document, source, "/program", dict, "an object")
    if "rows" in document:
        require(document, source, "/rows", list, "an array")
        for number, row in enumerate(document["rows"]):
            place = f"{source}: /rows/{number}"
            require(row, place, "/id", str, "text")
            require(row, place, "/measured", dict, "an object")
        return
    if document.get("noise") is not None:
        require(document, source, "/noise", dict, "an object")
        require(document, source, "/noise/mean", (int, float, type(None)), "a number or null")
    for side in ("real", "simulated"):
        require(document, source, f"/{side}/throughput/tpot_ms", dict, "an object")


def add_documents(given, path):
    """Sorts the documents of a file into `given`; returns the runs among them."""
    runs = []
    for source, document in documents_of(path, given.notes):
        schema = document.get("schema") if isinstance(document, dict) else None
        if schema == RESULT:
            check_result(document, source)
            runs.append(Run(source, Path(path), document))
        elif schema == VALIDATION:
            check_validation(document, source)
            given.validations.append((source, document))
        else:
            raise ReportError(f"{source}: /schema: expected {RESULT} or {VALIDATION}, got {shown(schema)}")
    given.runs += runs
    return runs


def read_tokens(path):
    """Columns of a per-token CSV as float arrays."""
    rows = list(csv.reader(read_text(path).splitlines()))
    if not rows or rows[0] != TOKEN_COLUMNS:
        got = ",".join(rows[0]) if rows else "nothing"
        raise ReportError(f"{path}:1: expected {','.join(TOKEN_COLUMNS)}, got {got[:60]}")
    if len(rows) == 1:
        raise ReportError(f"{path}: expected a row for each token, got none")
    for number, row in enumerate(rows[1:], 2):
        if len(row) != len(TOKEN_COLUMNS):
            raise ReportError(f"{path}:{number}: expected {len(TOKEN_COLUMNS)} values, got {len(row)}")
        for name, text in zip(TOKEN_COLUMNS, row):
            if not is_finite(text):
                raise ReportError(f"{path}:{number}: {name}: expected a number, got {text!r}")
    table = np.array(rows[1:], dtype=float)
    return {name: table[:, column] for column, name in enumerate(TOKEN_COLUMNS)}


def mismatch(run, tokens):
    """Why these tokens are not those of this run; None where they are."""
    facts = [("tokens", run.document["tokens"]["measured"], len(tokens["token"])),
             ("hits", run.number("/cache/hits"), tokens["hits"].sum()),
             ("misses", run.number("/cache/misses"), tokens["misses"].sum()),
             ("ms a token", run.number("/throughput/tpot_ms/mean") or 0.0, tokens["wall_ms"].mean())]  # fmt: skip
    for name, of_run, of_tokens in facts:
        if of_run is not None and not math.isclose(of_run, of_tokens, rel_tol=1e-9):
            return f"the result has {of_run:.12g} {name}, the tokens {of_tokens:.12g}"
    return None


def attach(run, path, tokens):
    if run.tokens is None:
        run.tokens, run.tokens_source = tokens, str(path)


def attach_named(runs, path, source):
    """The form RESULT.json:TOKENS.csv."""
    if len(runs) != 1:
        raise ReportError(f"{source}: expected one result to go with {path}, got {len(runs)}")
    tokens = read_tokens(path)
    why = mismatch(runs[0], tokens)
    if why:
        raise ReportError(f"{path}: is not of {source}: {why}")
    attach(runs[0], path, tokens)


def attach_by_content(given, path):
    """A CSV of its own belongs to the results whose counts and mean time it has."""
    tokens = read_tokens(path)
    fitting = [run for run in given.runs if mismatch(run, tokens) is None]
    if not fitting:
        raise ReportError(f"{path}: belongs to none of the {len(given.runs)} results: none has its "
                          f"{len(tokens['token'])} tokens, hits, misses and mean time")  # fmt: skip
    for run in fitting:
        attach(run, path, tokens)


def neighbours(path):
    """Where the per-token CSV of a result may be without being named; a sweep has none."""
    return [] if Path(path).suffix == ".jsonl" else [Path(path).with_suffix(e) for e in (".csv", ".tokens.csv")]


def attach_neighbour(given, run):
    """NAME.csv or NAME.tokens.csv beside NAME.json, if it is a per-token CSV."""
    if run.source != str(run.path):
        return
    for path in neighbours(run.path):
        if not path.is_file() or not read_text(path).startswith(",".join(TOKEN_COLUMNS)):
            continue
        tokens = read_tokens(path)
        why = mismatch(run, tokens)
        if why is None:
            return attach(run, path, tokens)
        given.notes.append(f"{path} is not used, it is of another run than {run.source}: {why}.")


def split_pair(argument):
    """RESULT.json:TOKENS.csv -> both parts; anything else -> (argument, None)."""
    first, colon, second = argument.rpartition(":")
    pair = colon and first.endswith(".json") and second.endswith(".csv")
    return (first, second) if pair else (argument, None)


def drop_repeated(given):
    """A result given twice says nothing new."""
    kept = {}
    for run in given.runs:
        content = json.dumps({k: v for k, v in run.document.items() if k != "point"}, sort_keys=True)
        first = kept.setdefault(content, run)
        if first is not run:
            given.notes.append(f"{run.source} is the same result as {first.source} and counted once.")
            if first.tokens is None:
                first.tokens, first.tokens_source = run.tokens, run.tokens_source
    given.runs = list(kept.values())


def read_given(arguments, measured=()):
    """Reads every argument of the command line; `measured` holds validations only."""
    given, tables = Given(), []
    for argument in arguments:
        path, tokens = split_pair(argument)
        if path.endswith(".csv"):
            tables.append(path)
            continue
        runs = add_documents(given, path)
        if tokens:
            attach_named(runs, tokens, path)
    for path in measured:
        if add_documents(given, path):
            raise ReportError(f"{path}: /schema: expected {VALIDATION}, got {shown(RESULT)}")
    for path in tables:
        attach_by_content(given, path)
    for run in given.runs:
        if run.tokens is None:
            attach_neighbour(given, run)
    drop_repeated(given)
    if not given.runs and not given.validations:
        raise ReportError(f"{' '.join(arguments) or 'arguments'}: expected at least one result, got none")
    return given

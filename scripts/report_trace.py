"""How often each expert of each layer is chosen in a trace (docs/trace_format.md): for the heat map.

The choice is the model's own, counted over the decoded tokens that the run used. Groups of experts
(n_group) and their limits are left out; a trace whose gate has them is said to have been counted
without.
"""

import hashlib
import json
import re
import struct
from pathlib import Path

import numpy as np

from report_error import ReportError
from report_json import shown
from report_numbers import expert_counts, top_k

DTYPES = {"F16": "<f2", "F32": "<f4", "U8": "u1", "U16": "<u2", "I32": "<i4"}
CHUNK = 4096  # tokens at a time: logits become doubles


def read_header(path):
    """(metadata, tensors, where the data begins) of a safetensors file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if 8 + length > size:
            raise ReportError(f"{path}: header: expected a length within the file, got {length}")
        try:
            header = json.loads(file.read(length))
        except ValueError as error:
            raise ReportError(f"{path}: header: expected a JSON object, got {error}") from None
    if not isinstance(header, dict):
        raise ReportError(f"{path}: header: expected a JSON object, got {shown(header)}")
    metadata = header.pop("__metadata__", {})
    if metadata.get("format") != "moesim.trace":
        raise ReportError(f"{path}: expected format moesim.trace, got {metadata.get('format')}")
    return metadata, header, 8 + length


def tensor(path, header, start, name):
    """A tensor as a mapped array; BF16 as its 16 bits. None where the file has none of this name."""
    if name not in header:
        return None
    kind, shape = header[name]["dtype"], tuple(header[name]["shape"])
    dtype = "<u2" if kind == "BF16" else DTYPES.get(kind)
    first, last = header[name]["data_offsets"]
    if dtype is None or last - first != np.dtype(dtype).itemsize * int(np.prod(shape)):
        raise ReportError(f"{path}: tensor {name}: expected a whole tensor of a known type, got {kind}")
    if start + last > path.stat().st_size:
        raise ReportError(f"{path}: tensor {name}: expected to end within the file")
    return np.memmap(path, dtype=dtype, mode="r", offset=start + first, shape=shape)


def as_doubles(values, kind):
    if kind == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return values.astype(np.float64)


def selection_scores(logits, gate, bias):
    """What the gate ranks by. Without a bias the logits do, whose order every gate keeps."""
    if bias is None:
        return logits
    if gate[:1] in ("D", "E") or gate == "sigmoid":
        return 1 / (1 + np.exp(-logits)) + bias
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) + bias


def tokens_used(phase, rows, config):
    """Indices of the measured decoded tokens: those after the warm-up, up to max_tokens rows."""
    limit = config.get("max_tokens") or rows
    decoded = np.arange(min(limit, rows))
    if phase is not None:
        decoded = decoded[np.asarray(phase[: len(decoded)]) == 1]
    return decoded[config.get("warmup_tokens") or 0 :]


def read_counts(path, config, k):
    """(counts [layers, experts], tokens, remark) of the model's own choice.

    `config`: the block `trace` of a result's configuration. `k`: experts per token and layer.
    """
    path = Path(path)
    metadata, header, start = read_header(path)
    logits = tensor(path, header, start, "router_logits")
    phase = tensor(path, header, start, "phase")
    if logits is None:
        return counts_of_ids(path, header, start, metadata, tokens_used_of(phase, config), k)
    used = tokens_used(phase, logits.shape[0], config)
    bias = tensor(path, header, start, "selection_bias")
    kind, gate = header["router_logits"]["dtype"], metadata.get("gate", "")
    counts = np.zeros(logits.shape[1:], dtype=np.int64)
    for first in range(0, len(used), CHUNK):
        part = as_doubles(logits[used[first : first + CHUNK]], kind)
        counts += expert_counts(top_k(selection_scores(part, gate, bias), k), logits.shape[2])
    remark = "The limits of the gate's groups of experts are left out. " if re.search(r"\dg;", gate) else ""
    return counts, len(used), remark


def tokens_used_of(phase, config):
    return lambda rows: tokens_used(phase, rows, config)


def counts_of_ids(path, header, start, metadata, used_of, k):
    ids = tensor(path, header, start, "topk_ids")
    if ids is None:
        raise ReportError(f"{path}: expected a tensor router_logits or topk_ids, got neither")
    absent = -1 if ids.dtype.kind == "i" else np.iinfo(ids.dtype).max
    used = used_of(ids.shape[0])
    chosen = np.array(ids[used][:, :, :k], dtype=np.int64)
    chosen[chosen == absent] = -1
    experts = int(metadata.get("experts", chosen.max() + 1))
    return expert_counts(chosen, experts), len(used), ""


def checksum(path):
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def expected_checksum(run):
    path = run.at("/config/trace/path")
    return next((entry["sha256"] for entry in run.document["inputs"] if entry["path"] == path), None)


def trace_places(run):
    """Where the trace of a run may be: its path from the configuration's folder and from the result's."""
    name = run.at("/config/trace/path")
    if name is None or expected_checksum(run) is None:
        return []
    config = Path(run.document["inputs"][0]["path"])
    return [config.parent / name, run.path.parent / config.parent / name]


def find_trace(run, given=()):
    """(path, None) of the file that the run read, or (None, why not). Its checksum decides.

    Looked at: the files given, then where the result says. REQUIRES: files given exist; one that is of no run is the caller's to refuse.
    """
    name, expected = run.at("/config/trace/path"), expected_checksum(run)
    if name is None or expected is None:
        return None, "the result names no trace"
    for path in [*map(Path, given), *trace_places(run)]:
        if path.is_file() and checksum(path) == expected:
            return path, None
    return None, f"the trace {name} was not found with the checksum that the run recorded"

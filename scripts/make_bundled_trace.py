#!/usr/bin/env python3
"""Makes a bundled trace out of a recording of the reference MoE.

Takes the model's folder (with config.json and trace.safetensors), keeps router_logits, token_ids
and sequence byte for byte, and writes the metadata that docs/trace_format.md asks for. The same
recording gives the same bytes.

    scripts/make_bundled_trace.py REFERENCE_FOLDER --out traces/reference-moe-small.safetensors
"""

import argparse
import hashlib
import json
import os
import pathlib
import struct
import sys

import numpy as np

DTYPES = {"F16": np.float16, "I32": np.int32}
# Wide elements first, so that each tensor is aligned although the format allows no gap.
KEPT = ("token_ids", "sequence", "router_logits")
PROVENANCE = (
    "{model}: a {layers}-layer language model with {experts} experts per layer, top {top_k}, trained "
    "for this project; teacher-forced on held-out text of five kinds (WikiText-2 CC BY-SA 3.0, GSM8K "
    "MIT, PEPs public domain or CC0, Rust RFCs MIT or Apache-2.0, Shakespeare public domain)"
)


class Recording:
    """A safetensors file, read whole."""

    def __init__(self, path):
        image = path.read_bytes()
        (length,) = struct.unpack_from("<Q", image)
        header = json.loads(image[8 : 8 + length])
        self.metadata = header.pop("__metadata__")
        self._header = header
        self._data = image[8 + length :]

    def tensor(self, name):
        entry = self._header[name]
        begin, end = entry["data_offsets"]
        values = np.frombuffer(self._data[begin:end], dtype=DTYPES[entry["dtype"]])
        return entry["dtype"], values.reshape(entry["shape"])


def contract_metadata(recorded, config):
    """Gate B is softmax over all experts, not renormalised over the selected."""
    if (recorded["gate"], recorded["norm_topk_prob"]) != ("softmax", "false"):
        raise ValueError(f"expected a softmax gate without renormalisation, got {recorded['gate']}")
    if int(recorded["top_k"]) != config["top_k"]:
        raise ValueError(f"config.json has top_k {config['top_k']}, the trace {recorded['top_k']}")
    model = recorded["model"]
    return {
        "format": "moesim.trace",
        "version": "1",
        "model": model,
        "top_k": recorded["top_k"],
        "gate": "B",
        "ranked": "1",
        "experts": str(config["experts"]),
        "kinds": recorded["kinds"],
        "provenance": PROVENANCE.format(model=model, **config),
    }


def image_of(tensors, metadata):
    header = {"__metadata__": metadata}
    data = b""
    for name, (dtype, values) in tensors.items():
        begin = len(data)
        data += np.ascontiguousarray(values).tobytes()
        header[name] = {
            "dtype": dtype,
            "shape": list(values.shape),
            "data_offsets": [begin, len(data)],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def make(reference, out):
    config = json.loads((reference / "config.json").read_text())
    recording = Recording(reference / "trace.safetensors")
    tensors = {name: recording.tensor(name) for name in KEPT}
    logits = tensors["router_logits"][1]
    if logits.shape[1:] != (config["layers"], config["experts"]):
        raise ValueError(f"config.json does not fit router_logits of shape {logits.shape}")
    if not np.isfinite(logits).all():
        raise ValueError("router_logits has a value that is not finite")
    image = image_of(tensors, contract_metadata(recording.metadata, config))
    temporary = out.with_name(out.name + ".tmp")
    temporary.write_bytes(image)
    os.replace(temporary, out)
    return image


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference", type=pathlib.Path, help="folder of the reference model")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the trace to write")
    arguments = parser.parse_args()
    try:
        image = make(arguments.reference, arguments.out)
    except (OSError, KeyError, ValueError, struct.error) as error:
        sys.exit(f"make_bundled_trace: error: {arguments.reference}: {error}")
    print(f"{hashlib.sha256(image).hexdigest()}  {arguments.out}  ({len(image)} bytes)")


if __name__ == "__main__":
    main()

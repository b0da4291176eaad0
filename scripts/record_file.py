"""Writes a recording as a trace (docs/trace_format.md) with numpy alone. Errors of a recording are one line."""

import json
import os
import pathlib
import struct
import tempfile

import numpy as np

CODES = {"F16": 2, "BF16": 2, "F32": 4, "I32": 4, "U8": 1}


class RecordError(Exception):
    """What the user can mend; its text is one line: place, expected, got."""


def wrong(place, expected, got):
    return RecordError(f"{place}: expected {expected}, got {got}")


def safetensors_bytes(tensors, metadata):
    """`tensors`: {name: (dtype code, array whose bytes are the tensor's)}. Wide elements first, so that
    each tensor is aligned although the format allows no gap."""
    header, parts, begin = {"__metadata__": metadata}, [], 0
    for name, (code, array) in sorted(tensors.items(), key=lambda item: -CODES[item[1][0]]):
        data = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
        header[name] = {
            "dtype": code,
            "shape": list(array.shape),
            "data_offsets": [begin, begin + len(data)],
        }
        parts.append(data)
        begin += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([struct.pack("<Q", len(text)), text, *parts])


def check_place(path):
    """Before anything is recorded: whether the file can be made."""
    folder = pathlib.Path(path).absolute().parent
    if not folder.is_dir():
        raise wrong(f"--out {path}", "a file in a folder that exists", f"no folder {folder}")
    if pathlib.Path(path).is_dir():
        raise wrong(f"--out {path}", "a file", "a folder")


def write_trace(path, tensors, metadata):
    """The file appears whole or not at all."""
    path = pathlib.Path(path)
    name = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.absolute().parent, delete=False) as file:
            name = file.name
            file.write(safetensors_bytes(tensors, metadata))
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as error:
        if name and os.path.exists(name):
            os.unlink(name)
        raise wrong(f"--out {path}", "a file that can be written", error.strerror.lower()) from None

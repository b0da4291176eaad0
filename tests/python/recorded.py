"""What the tests of scripts/record_trace.py share: recordings of small_moe.py, read back."""

import importlib.util
import json
import struct

import numpy as np
import pytest

import record_trace
from conftest import REPOSITORY

SMALL = REPOSITORY / "tests/python/small_moe.py"
PROMPT = "A phone"
DTYPES = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I32": "<i4", "U8": "u1"}


def read(path):
    """(metadata, {name: array}) of a safetensors file."""
    image = path.read_bytes()
    (length,) = struct.unpack_from("<Q", image)
    header = json.loads(image[8 : 8 + length])
    metadata = header.pop("__metadata__")
    data = image[8 + length :]
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[begin:end], DTYPES[entry["dtype"]]).reshape(entry["shape"])
        if entry["dtype"] == "BF16":
            values = (values.astype("<u4") << 16).view("<f4")
        tensors[name] = values
    return metadata, tensors


@pytest.fixture
def record(tmp_path, capsys, monkeypatch):
    """record(factory, *arguments): (metadata, tensors, the model) of a recording of small_moe.py. Its own
    copy of the module stands in sys.modules, so that the model can be looked into."""

    def run(factory, *arguments):
        out = tmp_path / f"{factory}.safetensors"
        status = record_trace.main(
            ["--module", f"{SMALL}:{factory}", "--out", str(out), *map(str, arguments)]
        )
        error = capsys.readouterr().err
        assert status == 0, error
        run.path, run.error = out, error
        return (*read(out), run.made[-1])

    load = importlib.util.module_from_spec

    def loaded(spec):
        module = load(spec)
        if spec.name == "small_moe":
            execute = spec.loader.exec_module

            def exec_module(it):
                execute(it)
                run.made = it.MADE

            monkeypatch.setattr(spec.loader, "exec_module", exec_module)
        return module

    monkeypatch.setattr(importlib.util, "module_from_spec", loaded)
    return run


def refused(capsys, arguments, *parts):
    assert record_trace.main([str(argument) for argument in arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("record_trace.py: error: ")
    assert printed.err.count("\n") == 1
    for part in parts:
        assert part in printed.err, printed.err


def generate(*extra, new=5):
    return ["--prompt", PROMPT, "--max-new-tokens", new, *extra]

"""How often a trace's experts are chosen: scripts/report_trace.py on traces written by hand."""

import json
import struct

import numpy as np
import pytest

from report_error import ReportError
from report_trace import read_counts


def test_a_trace_that_is_none_is_one_line(tmp_path):
    for content, message in [
        (b"abc", "header: expected a length within the file, got 3"),
        (struct.pack("<Q", 2) + b"[]", "header: expected a JSON object, got []"),
        (struct.pack("<Q", 2) + b"{}", "expected format moesim.trace, got None"),
    ]:
        (tmp_path / "t").write_bytes(content)
        with pytest.raises(ReportError) as caught:
            read_counts(tmp_path / "t", {}, 1)
        assert message in str(caught.value)


def trace_file(path, tensors, **metadata):
    header, data = {"__metadata__": {"format": "moesim.trace", "version": "1", **metadata}}, b""
    for name, kind, values in tensors:
        raw = values.tobytes()
        header[name] = {"dtype": kind, "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_experts_of_compact_bf16_and_biased_traces(tmp_path):
    ids = np.array([[[2, 0]], [[1, 255]], [[0, 1]]], np.uint8)
    phase = np.array([0, 1, 1], np.uint8)
    path = trace_file(tmp_path / "a", [("phase", "U8", phase), ("topk_ids", "U8", ids)], experts="4")
    counts, tokens, _ = read_counts(path, {}, 2)
    assert (counts.tolist(), tokens) == ([[1, 2, 0, 0]], 2)
    assert read_counts(path, {"warmup_tokens": 1}, 1)[0].tolist() == [[1, 0, 0, 0]]
    assert read_counts(path, {"max_tokens": 2}, 1)[0].tolist() == [[0, 1, 0, 0]]
    logits = np.array([[[1.0, 2.0, -3.0]]], np.float32)
    bf16 = (logits.view(np.uint32) >> 16).astype(np.uint16)
    path = trace_file(tmp_path / "b", [("router_logits", "BF16", bf16)])
    assert read_counts(path, {}, 1)[0].tolist() == [[0, 1, 0]]
    bias = np.array([[0.0, 0.0, 1.0]], np.float32)
    path = trace_file(tmp_path / "c", [("router_logits", "F32", logits), ("selection_bias", "F32", bias)],
                      gate="D(8g;4;x2.5)")  # fmt: skip
    counts, _, remark = read_counts(path, {}, 1)
    assert counts.tolist() == [[0, 0, 1]] and "groups" in remark

"""scripts/report.py refuses what it cannot use with one line, and writes nothing then."""

import errno
import json
import subprocess
import sys

import pytest

import report_runs as runs
from whole_files import write_whole

pytest.importorskip("plotly", reason="needs the Debian package python3-plotly")


@pytest.fixture(scope="module")
def results(run_sim, tmp_path_factory):
    """Two results."""
    folder = tmp_path_factory.mktemp("runs")
    words = ["/routing/policy=top_k"], ["/routing/policy=top_k", "/cache/capacity_experts=8"]
    return [runs.run(run_sim, folder, str(number), *of) for number, of in enumerate(words)]


def change(results, tmp_path, action):
    document = json.loads(results[0].read_text())
    action(document)
    (tmp_path / "r.json").write_text(json.dumps(document))


BAD_RESULTS = [
    (lambda d: d.update(schema="moesim.result/2"),
     "r.json: /schema: expected moesim.result/1 or moesim.validation/1, got \"moesim.result/2\""),
    (lambda d: d["config"].pop("routing"), "r.json: /config/routing/policy: expected the name of a policy, got null"),
    (lambda d: d["cache"].update(hit_rate="high"), "r.json: /cache/hit_rate: expected a number, got \"high\""),
    (lambda d: d["cache"].update(token_cycle_mib=[1]),
     "r.json: /cache/token_cycle_mib: expected a number or null, got [1]"),
    (lambda d: d["tokens"].update(measured=0), "r.json: /tokens/measured: expected at least 1, got 0"),
    (lambda d: d.update(throughput={}), "r.json: /throughput/decode_tokens_per_s: expected a number, got null"),
    (lambda d: d.update(inputs=[{"path": 1}]), "r.json: /inputs/0: /path: expected text, got 1"),
    (lambda d: d.update(warnings=None), "r.json: /warnings: expected an array, got null"),
    (lambda d: d.update(warnings=[1, {}]), "r.json: /warnings/0: expected text, got 1"),
    (lambda d: d.update(notes=["a", {}]), "r.json: /notes/1: expected text, got {}"),
    (lambda d: d.pop("program"), "r.json: /program/version: expected text, got null"),
    (lambda d: d["throughput"].update(tpot_ms={}), "r.json: /throughput/tpot_ms/mean: expected a number, got null"),
    (lambda d: d["config"].update(trace=7), "r.json: /config/trace: expected an object, got 7"),
    (lambda d: d["config"]["trace"].update(path=7), "r.json: /config/trace/path: expected text or null, got 7"),
    (lambda d: d["config"]["trace"].update(prefill=[]), "r.json: /config/trace/prefill: expected text or null, got []"),
    (lambda d: d["config"]["trace"].update(max_tokens="x"),
     'r.json: /config/trace/max_tokens: expected a whole number or null, got "x"'),
    (lambda d: d["config"]["trace"].update(warmup_tokens=-1),
     "r.json: /config/trace/warmup_tokens: expected at least 0, got -1"),
]  # fmt: skip


@pytest.mark.parametrize(("action", "message"), BAD_RESULTS)
def test_a_bad_result_is_one_line(results, tmp_path, action, message):
    change(results, tmp_path, action)
    refused(tmp_path, ["r.json", "--out", "o.html"], message)


def refused(folder, words, message):
    before = sorted(folder.iterdir())
    done = runs.report(*words, cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"report.py: error: {message}\n")
    assert sorted(folder.iterdir()) == before


BAD_FILES = [
    ({}, ["none.json"], "none.json: cannot be read: no such file or directory"),
    ({"a.json": "{"}, ["a.json"],
     "a.json: expected JSON, got expecting property name enclosed in double quotes at line 1, column 2"),
    ({"a.json": '{"x": NaN}'}, ["a.json"], "a.json: expected JSON, got NaN is no JSON number"),
    ({"a.json": '{"x": 1e999}'}, ["a.json"], "a.json: expected JSON, got 1e999 is no finite number"),
    ({"a.json": f'{{"x": {"9" * 400}}}'}, ["a.json"],
     f"a.json: expected JSON, got {'9' * 37}... is no finite number"),
    ({"a.json": '{"x": 1, "x": 1}'}, ["a.json"], 'a.json: expected JSON, got "x" twice in an object'),
    ({"a.json": "[]"}, ["a.json"], "a.json: /schema: expected moesim.result/1 or moesim.validation/1, got null"),
    ({"s.jsonl": "{}\n{\n"}, ["s.jsonl"],
     "s.jsonl:2: expected JSON, got expecting property name enclosed in double quotes at line 1, column 2"),
    ({"s.jsonl": "\n"}, ["s.jsonl"], "s.jsonl: expected at least one result, got none"),
    ({"t.csv": "a,b\n"}, ["t.csv"], "t.csv:1: expected token,sequence,position,wall_ms,compute_ms,stall_ms,"
     "admission_ms,predictor_ms,overhead_ms,read_bytes,hits,misses,experts, got a,b"),
    ({"v.json": '{"schema": "moesim.validation/1", "rows": [{"id": "A"}]}'}, ["v.json"],
     "v.json: /rows/0: /measured: expected an object, got null"),
    ({"v.json": '{"schema": "moesim.validation/1"}'}, ["v.json"],
     "v.json: /real/throughput/tpot_ms: expected an object, got null"),
    ({"v.json": '{"schema": "moesim.validation/1", "noise": 7}'}, ["v.json"],
     "v.json: /noise: expected an object, got 7"),
    ({"v.json": '{"schema": "moesim.validation/1", "noise": {"mean": "x"}}'}, ["v.json"],
     'v.json: /noise/mean: expected a number or null, got "x"'),
    ({"v.json": '{"schema": "moesim.validation/1", "rows": [], "program": 7}'}, ["v.json"],
     "v.json: /program: expected an object, got 7"),
    ({}, [], "arguments: expected at least one result, got none"),
    *(({}, ["--at", size], f"argument --at: expected a finite number above 0, got {size}")
      for size in ("nan", "-5", "0", "inf", "x")),
    ({}, ["--color"], "unrecognized arguments: --color"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "words", "message"), BAD_FILES)
def test_a_bad_file_is_one_line(tmp_path, files, words, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    refused(tmp_path, [*words, "--out", "o.html"], message)


def test_a_file_that_is_no_text_is_one_line(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xff\xfe")
    refused(tmp_path, ["a.json", "--out", "o.html"], "a.json: expected text in UTF-8, got other bytes")


def test_what_does_not_go_with_the_results_is_one_line(results, tmp_path):
    (tmp_path / "r.json").write_text(results[0].read_text())
    (tmp_path / "x.csv").write_text(results[1].with_suffix(".csv").read_text())
    (tmp_path / "x.safetensors").write_bytes(b"no trace")
    lines = (tmp_path / "x.csv").read_text().splitlines()
    (tmp_path / "y.csv").write_text("\n".join([*lines[:2], lines[2].replace(",0,", ",nan,", 1)]))
    (tmp_path / "z.csv").write_text("\n".join([lines[0], "1,2"]))
    (tmp_path / "v.json").write_text('{"schema": "moesim.validation/1", "rows": []}')
    for words, message in [
        (["r.json", "x.csv"], "x.csv: belongs to none of the 1 results: none has its 192 tokens, hits, misses and mean time"),
        (["r.json", "y.csv"], "y.csv:3: sequence: expected a number, got 'nan'"),
        (["r.json", "z.csv"], "z.csv:2: expected 13 values, got 2"),
        (["v.json:x.csv"], "v.json: expected one result to go with x.csv, got 0"),
        (["r.json", "--measured", "r.json"], 'r.json: /schema: expected moesim.validation/1, got "moesim.result/1"'),
        (["r.json", "--trace", "x.safetensors"],
         "x.safetensors: expected the trace of a result, got a file with another checksum"),
        (["r.json", "--trace", "none"], "none: cannot be read: no such file or directory"),
        (["r.json", "--baseline", "odp"], "--baseline: expected one of top_k, got odp"),
        (["r.json", "--markdown", "no/o.md"], "--markdown no/o.md: expected an existing folder, got no"),
        (["r.json", "--png", "r.json"], "--png r.json: expected a folder, got a file"),
    ]:  # fmt: skip
        refused(tmp_path, [*words, "--out", "o.html"], message)
    refused(tmp_path, ["r.json", "--out", "no/o.html"], "--out no/o.html: expected an existing folder, got no")
    done = runs.report("r.json:x.csv", "--out", "o.html", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("report.py: error: x.csv: is not of r.json: the result has ")


def test_a_report_replaces_none_of_its_files(results, tmp_path):
    (tmp_path / "r.json").write_text(results[0].read_text())
    (tmp_path / "r.csv").write_text(results[0].with_suffix(".csv").read_text())
    (tmp_path / "x.csv").write_text((tmp_path / "r.csv").read_text())
    trace = runs.REPOSITORY / "traces/reference-moe-small.safetensors"
    (tmp_path / "t.safetensors").write_bytes(trace.read_bytes())
    (tmp_path / "link.html").symlink_to("r.json")
    runs.validation_of_rows(tmp_path / "v.json")
    (tmp_path / "pictures/miss-ratio.png").mkdir(parents=True)
    content = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    for words, place, got in [
        (["--out", "r.json"], "--out r.json", "the input r.json"),
        (["--out", "./pictures/../r.json"], "--out pictures/../r.json", "the input r.json"),
        (["--out", "link.html"], "--out link.html", "the input r.json"),
        (["--out", "r.csv"], "--out r.csv", "the input r.csv"),
        (["x.csv", "--out", "x.csv"], "--out x.csv", "the input x.csv"),
        (["r.json:x.csv", "--out", "x.csv"], "--out x.csv", "the input x.csv"),
        (["--measured", "v.json", "--out", "v.json"], "--out v.json", "the input v.json"),
        (["--trace", "t.safetensors", "--out", "t.safetensors"], "--out t.safetensors", "the input t.safetensors"),
        (["--out", "o.html", "--markdown", "r.json"], "--markdown r.json", "the input r.json"),
        (["--out", "o.html", "--markdown", "o.html"], "--markdown o.html", "that of --out"),
        (["--out", "miss-ratio.png", "--png", "."], "--png miss-ratio.png", "that of --out"),
        (["--out", "o", "--png", "o/p"], "--out o", "the folder of --png"),
    ]:  # fmt: skip
        refused(tmp_path, ["r.json", *words], f"{place}: expected a file of its own, got {got}")
    refused(tmp_path, ["r.json", "--out", "o.html", "--png", "pictures"],
            "--png pictures/miss-ratio.png: expected a file, got a folder")  # fmt: skip
    assert {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == content


def test_the_trace_that_a_result_names_is_not_replaced(results, tmp_path):
    document = json.loads(results[0].read_text())
    document["inputs"][0]["path"] = "phone.json"
    document["config"]["trace"]["path"] = document["inputs"][1]["path"] = "t.safetensors"
    (tmp_path / "r.json").write_text(json.dumps(document))
    (tmp_path / "t.safetensors").write_bytes(b"of another run")
    refused(tmp_path, ["r.json", "--out", "t.safetensors"],
            "--out t.safetensors: expected a file of its own, got the input t.safetensors")  # fmt: skip


def test_a_file_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "ascii")
    write_whole(tmp_path / "x", "\N{SNOWMAN}\n")
    assert (tmp_path / "x").read_bytes() == "\N{SNOWMAN}\n".encode()
    (tmp_path / "folder").mkdir()

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "tmp123"))

    monkeypatch.setattr("os.replace", fail)
    for name, number in [("x", errno.ENOSPC), ("folder", errno.EISDIR), ("none/x", errno.ENOENT)]:
        with pytest.raises(OSError, match=f"'{tmp_path / name}'$") as caught:
            write_whole(tmp_path / name, "new")
        assert caught.value.errno == number
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "x"]
    assert (tmp_path / "x").read_bytes() == "\N{SNOWMAN}\n".encode()


def test_a_picture_replaces_no_report(tmp_path):
    (tmp_path / "o.html").write_text("page")
    for out, message in [
        ("o.html", "--out o.html: expected a file of its own, got the input o.html"),
        (".", "--out .: expected a file, got a folder"),
        ("no/o.png", "--out no/o.png: expected an existing folder, got no"),
    ]:
        script = runs.REPOSITORY / "scripts/report_picture.py"
        done = subprocess.run([sys.executable, script, "o.html", "--out", out], cwd=tmp_path, capture_output=True,
                              text=True, check=False, timeout=60)  # fmt: skip
        assert (done.returncode, done.stderr) == (2, f"report_picture.py: error: {message}\n")
    assert (tmp_path / "o.html").read_text() == "page"


def test_scripts_are_run_by_the_python_that_has_their_packages():
    for name in ("report.py", "report_picture.py", "sweep.py"):
        text = (runs.REPOSITORY / "scripts" / name).read_text(encoding="utf-8")
        assert text.startswith("#!/usr/bin/python3\n"), name


@pytest.mark.parametrize(
    ("module", "package", "words"),
    [("numpy", "NumPy, the Debian package python3-numpy", []),
     ("plotly", "Plotly, the Debian package python3-plotly", []),
     ("matplotlib", "matplotlib, the Debian package python3-matplotlib", ["--png", "pictures"])],
)  # fmt: skip
def test_a_package_that_is_missing_is_named(results, tmp_path, module, package, words):
    (tmp_path / f"{module}.py").write_text(f"raise ModuleNotFoundError('gone', name={module!r})")
    (tmp_path / "r.json").write_text(results[0].read_text())
    done = runs.report("r.json", "--out", "o.html", *words, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("report.py: error: ") and done.stderr.endswith(f"needs {package}\n")
    assert not (tmp_path / "o.html").exists()

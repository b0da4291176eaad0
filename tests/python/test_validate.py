"""sim validate --targets: measured rows beside simulated ones."""

import json
import statistics

import pytest

MEASURED = {
    "tok_s": 4.0, "tok_s_all_tokens": 3.9, "wall_ms": {"mean": 250.0, "p50": 240.0, "p90": None, "p99": 400.0},
    "io_ms": 180.0, "compute_ms": 60.0, "stall_ms": 0.0, "mgmt_ms": None, "mib_per_token": 214.4,
    "hit_pct": None, "byte_hit_pct": None, "median": {"io_ms": 170.0, "mgmt_ms": None},
    "majflt_per_token": 3.0, "tokens_used": 10, "tokens_dropped": 2,
}


def row(name, measured=None, **changes):
    """A short run of OLMoE with 4 experts a token and no cache on a built-in phone."""
    return {
        "id": name, "group": "olmoe-1b-7b", "device": "oneplus-15r", "model": "OLMoE-1B-7B",
        "format": "Q4_K_M", "top_k": 4, "cache_mib": 0, "lanes": 4, "overlap": False, "mmap": False,
        "prefetch": None, "drop_cold_frac": None, "eviction": None, "cache_scope": None,
        "expert_layout": "slices", "reads_per_expert": 3, "dense_policy": "anon", "threads": 4,
        "tokens": 12, "prompt_tokens": 2, "expert_bytes_by_layer_count": [[3000000, 8], [4000000, 8]],
        "layers": 16, "experts": 64, "dense_bytes_per_token": 150000000, "head_bytes_per_token": 60000000,
        "route_trace": None, "state": "cool", "sensors": {}, "measured": {**MEASURED, **(measured or {})},
        "what else a file may say": [1, 2], **changes,
    }


def targets():
    rows = [
        row("serial"),
        row("two lanes", lanes=2, state="hot"),
        row("cached", {"byte_hit_pct": 40.0, "hit_pct": 38.0}, cache_mib=600, overlap=True),
        row("elsewhere", device="a-phone"),
        row("unheard of", model="nobody-1b", group="nobody"),
        row("C1"),  # the device names it as one that it was fitted to
    ]
    contrasts = [
        {"id": "lanes", "what": "lanes 4 -> 2", "a": "serial", "b": "two lanes", "metric": "tok_s",
         "effect_pct": -12.0, "score": True},
        {"id": "cache", "what": "a cache", "a": "serial", "b": "cached", "metric": "mib_per_token",
         "effect_pct": 30.0, "score": True},
        {"id": "device", "what": "", "a": "serial", "b": "elsewhere", "metric": "tok_s", "effect_pct": 5.0},
    ]
    return {"schema": "phone-measurements/1", "units": "ms", "rows": rows, "contrasts": contrasts}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("validate")
    (folder / "targets.json").write_text(json.dumps(targets()))
    return folder


@pytest.fixture(scope="module")
def validate(scene, run_sim):
    """validate(*arguments): the run on the file of the scene, which has to succeed."""

    def run(*arguments):
        done = run_sim("validate", "--targets", "targets.json", *arguments, cwd=scene)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    return run


@pytest.fixture(scope="module")
def result(validate):
    return json.loads(validate("--out", "-"))


@pytest.fixture
def refused(tmp_path, run_sim):
    """refused(targets, part, ...): exit status 2, one line that has the parts, and no file."""

    def check(content, *parts, extra=()):
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "t.json").write_text(text)
        done = run_sim("validate", "--targets", "t.json", "--out", "out.json", *extra, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert done.stdout == ""
        assert done.stderr.startswith("sim: error: ") and done.stderr.count("\n") == 1
        for part in parts:
            assert part in done.stderr
        assert [p.name for p in tmp_path.iterdir()] == ["t.json"]

    return check


def keys_of(value):
    """Keys, nested as they are; anything but an object is a leaf."""
    return {k: keys_of(v) for k, v in value.items()} if isinstance(value, dict) else None


# The table on the terminal


def test_the_table_has_measured_and_simulated_side_by_side(validate):
    text = validate()
    header = text.splitlines()[0].split()
    assert header == "tok/s mean p50 p90 p99 io compute stall mgmt MiB hit %".split()
    block = text[text.index("\nserial (cool)\n") + 1:].splitlines()[1:5]
    assert block[0].split() == ["measured", "4.00", "250.0", "240.0", "-", "400.0", "180.0", "60.0",
                                "0.0", "-", "214.4", "-"]
    assert block[1].split()[0] == "simulated"
    assert block[2].split()[:2] == ["error,", "%"]
    assert block[3].startswith("  band      tok/s ")
    assert "\ntwo lanes (hot)\n" in text
    assert "\ncached (cool, synthetic routing, conditioned on the bytes read (noise " in text
    assert '\nelsewhere (cool)\n  not simulated: no description of the device "a-phone"\n' in text
    assert "  not simulated: no model description of nobody-1b with 16 layers of 64 experts\n" in text
    assert "\nC1 (cool, fitted)\n" in text
    assert "measured  -12.0 %, simulated" in text and ": right\n" in text and ": WRONG\n" in text
    assert ": not simulated (not scored)\n" in text
    assert "1 of 2 scored contrasts have the right sign; 1 rows were fitted to" in text
    assert "2 were not simulated" in text


def test_markdown_has_the_same_rows(validate):
    text = validate("--markdown", "--no-band")
    tables = [t.splitlines() for t in text.strip().split("\n\n") if t.startswith("|")]
    assert len(tables) == 4
    for table in tables:
        assert len({line.count("|") for line in table}) == 1, table
    assert len(tables[0]) == 2 + 6 and "| C1 (fitted) | cool |" in tables[0][-1]
    assert "not simulated: no description of the device" in text
    assert "every expert is read |" in text
    assert "| lanes 4 -> 2 | serial -> two lanes | tok_s | -12.0 % | " in text


# The document


def test_the_document_has_the_keys_of_the_contract(result):
    assert result["schema"] == "moesim.validation/1"
    assert result["targets"] == "targets.json" and result["devices"] == ["oneplus-15r"]
    assert [r["id"] for r in result["rows"]] == [r["id"] for r in targets()["rows"]]
    for one in result["rows"]:
        assert {"id", "simulated", "error", "band", "fitted", "standin"} <= set(one)
    for contrast in result["contrasts"]:
        assert {"a", "b", "metric", "measured_pct", "simulated_pct", "sign_right"} <= set(contrast)


def test_simulated_rows_have_the_keys_of_what_was_measured(result):
    rows = {r["id"]: r for r in result["rows"]}
    for name in ("serial", "two lanes", "cached", "C1"):
        simulated = rows[name]["simulated"]
        assert keys_of(simulated) == keys_of(rows[name]["measured"])
        assert simulated["mgmt_ms"] is None and simulated["majflt_per_token"] is None
        assert simulated["wall_ms"]["p90"] is None and simulated["tok_s"] > 0
        assert simulated["tokens_used"] == 10 and simulated["tokens_dropped"] == 2
        assert "reason" not in rows[name]


def test_errors_are_simulated_over_measured_less_one_and_points_for_hit_rates(result):
    rows = {r["id"]: r for r in result["rows"]}
    for name in ("serial", "cached"):
        simulated, error = rows[name]["simulated"], rows[name]["error"]
        assert error["io_ms"] == pytest.approx(simulated["io_ms"] / 180.0 - 1)
        assert error["wall_ms"]["p99"] == pytest.approx(simulated["wall_ms"]["p99"] / 400.0 - 1)
        assert error["io_ms_per_mib"] == pytest.approx(
            (simulated["io_ms"] / simulated["mib_per_token"]) / (180.0 / 214.4) - 1)
        assert "mgmt_ms" not in error and "stall_ms" not in error
    cached = rows["cached"]
    assert cached["error"]["hit_pct"] == pytest.approx(cached["simulated"]["hit_pct"] - 38.0)


def test_rows_without_a_cache_read_every_expert_and_others_their_measured_bytes(result):
    rows = {r["id"]: r for r in result["rows"]}
    whole = (4 * 56e6 + 64 * 3 * 4096) / 2**20
    assert rows["serial"]["simulated"]["mib_per_token"] == pytest.approx(whole)
    assert rows["serial"]["standin"] is None
    assert rows["cached"]["standin"].startswith("synthetic routing, conditioned on the bytes read")
    assert rows["cached"]["simulated"]["byte_hit_pct"] == pytest.approx(40.0, abs=0.2)


def test_a_row_of_an_unknown_device_or_model_is_null_with_a_reason(result):
    rows = {r["id"]: r for r in result["rows"]}
    for name, part in (("elsewhere", '"a-phone"'), ("unheard of", "nobody-1b")):
        assert rows[name]["simulated"] is None and part in rows[name]["reason"]
        assert rows[name]["error"] is None and rows[name]["band"] is None


def test_bands_contain_what_was_simulated(result):
    rows = {r["id"]: r for r in result["rows"]}
    serial = rows["serial"]
    for key in ("tok_s", "io_ms", "compute_ms"):
        low, high = serial["band"][key]
        assert low <= serial["simulated"][key] <= high and low < high
    low, high = serial["band"]["wall_ms"]["mean"]
    assert low < serial["simulated"]["wall_ms"]["mean"] < high


def test_the_summary_counts_what_it_says(result):
    summary = result["summary"]
    assert summary["not_fitted"]["rows"] == 3
    assert summary["rows_fitted"] == 1 and summary["rows_not_simulated"] == 2
    assert {s["name"]: s["rows"] for s in summary["by_state"]} == {"cool": 2, "hot": 1}
    assert [s["name"] for s in summary["by_group"]] == ["olmoe-1b-7b"]
    errors = [abs(r["error"]["wall_ms"]["mean"]) for r in result["rows"]
              if r["simulated"] and not r["fitted"]]
    assert summary["not_fitted"]["median_abs_error"]["wall_mean"] == pytest.approx(statistics.median(errors))
    assert summary["not_fitted"]["largest_abs_error"]["wall_mean"] == pytest.approx(max(errors))
    assert summary["contrasts_scored"] == 2 and summary["contrasts_right"] == 1
    assert [c["sign_right"] for c in result["contrasts"]] == [True, False, None]


# Options


def test_chosen_rows_come_in_the_order_asked_for_with_their_own_contrasts(validate, result):
    some = json.loads(validate("--rows", "two lanes,serial", "--no-band", "--out", "-"))
    assert [r["id"] for r in some["rows"]] == ["two lanes", "serial"]
    assert [c["id"] for c in some["contrasts"]] == ["lanes"]
    full = {r["id"]: r for r in result["rows"]}
    for one in some["rows"]:
        assert one["simulated"] == full[one["id"]]["simulated"]
        assert one["band"] is None


def test_a_device_file_stands_for_what_rows_name(validate, repo_root, scene):
    device = json.loads((repo_root / "configs/devices/oneplus-15r.json").read_text())
    device["fitted_rows"] = ["serial"]
    device["flash"]["bw_gbps"] /= 2
    (scene / "slow.json").write_text(json.dumps(device))
    arguments = ["--rows", "serial,elsewhere", "--no-band", "--out", "-"]
    slow = json.loads(validate("--device", "slow.json", *arguments))
    usual = json.loads(validate("--device", "oneplus-15r", *arguments))
    assert slow["devices"] == ["slow.json"]
    assert [r["fitted"] for r in slow["rows"]] == [True, False]
    assert slow["rows"][1]["simulated"]["io_ms"] > 1.3 * usual["rows"][1]["simulated"]["io_ms"]
    assert slow["rows"][0]["simulated"] == slow["rows"][1]["simulated"]


def test_two_runs_give_the_same_bytes_and_leave_no_file(run_sim, scene, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    texts = []
    for name in ("one.json", "two.json"):
        done = run_sim("validate", "--targets", "targets.json", "--rows", "cached,two lanes", "--out",
                       scene / name, cwd=scene)
        assert done.returncode == 0, done.stderr
        texts.append((done.stdout, (scene / name).read_bytes()))
    assert texts[0] == texts[1]
    assert json.loads(texts[0][1])["rows"][0]["id"] == "cached"
    assert run_sim("validate", "--targets", "targets.json", "--device", "none", cwd=scene).returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_without_contrasts_the_table_is_whole(run_sim, tmp_path):
    (tmp_path / "t.json").write_text(json.dumps({"schema": "phone-measurements/1", "rows": [row("a")]}))
    done = run_sim("validate", "--targets", "t.json", "--no-band", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "contrasts\n" not in done.stdout and "0 of 0 scored contrasts" in done.stdout
    assert run_sim("validate", "--targets", "t.json", "--no-band", "--markdown", cwd=tmp_path).returncode == 0


def test_bytes_that_are_no_text_do_not_break_the_document(run_sim, tmp_path):
    (tmp_path / "raw_traces").mkdir()
    (tmp_path / "raw_traces" / "r.csv").write_bytes(b"# route_trace v1\n# \xff=\xfe\n\xff,\xfe\n")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "t.json").write_text(
        json.dumps({"schema": "phone-measurements/1", "rows": [row("a", route_trace="r.csv")]}))
    done = run_sim("validate", "--targets", "in/t.json", "--out", "-", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (one,) = json.loads(done.stdout)["rows"]
    assert one["simulated"] is None and "r.csv" in one["reason"]


# Bad input


def test_defects_of_the_file_are_one_line(refused):
    refused("{", "t.json: ")
    refused({"schema": "x", "rows": []}, 't.json: /schema: expected "phone-measurements/1", got "x"')
    refused({"schema": "phone-measurements/1", "rows": []}, "/rows: expected at least one row, got none")
    refused({"schema": "phone-measurements/1", "rows": [row("a"), row("a")]}, "/rows/1/id: expected ")
    refused({"schema": "phone-measurements/1", "rows": [row("a", lanes=0)]}, "/rows/0/lanes: expected ")


def test_mistakes_on_the_command_line_are_one_line(refused):
    good = {"schema": "phone-measurements/1", "rows": [row("a")]}
    refused(good, 't.json: expected the id of a row, got "b"', extra=("--rows", "a,b"))
    refused(good, "a-phone", "known: ", extra=("--device", "a-phone"))
    refused(good, "no.json: ", extra=("--device", "no.json"))
    refused(good, extra=("--no-such-option",))


def test_a_place_that_cannot_be_written_is_refused_before_the_simulations(run_sim, scene):
    def refused(part, *arguments):
        done = run_sim("validate", "--targets", "none.json", *arguments, cwd=scene)
        assert done.returncode == 2 and done.stdout == ""
        assert part in done.stderr and done.stderr.count("\n") == 1

    # That the targets are not there is found out later.
    refused("none/out.json: cannot be written: no such folder", "--out", "none/out.json")
    refused("expected a file, got a directory", "--out", ".")
    refused("--markdown: expected a file as --out", "--markdown", "--out", "-")


def test_rows_beyond_the_device_are_simulated_with_a_note(run_sim, tmp_path):
    rows = [row("lanes", lanes=1000),
            row("usual", {"byte_hit_pct": 40.0}, prefetch="transition", cache_mib=600)]
    (tmp_path / "t.json").write_text(json.dumps({"schema": "phone-measurements/1", "rows": rows}))
    done = run_sim("validate", "--targets", "t.json", "--no-band", "--out", "-", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lanes, usual = json.loads(done.stdout)["rows"]
    assert lanes["simulated"] and "1000 lanes cut to the" in lanes["notes"][0]
    assert usual["notes"] == [] and 'prefetch "transition": a noisy oracle' in usual["standin"]


def test_a_file_that_is_not_there_or_not_named(run_sim, tmp_path):
    assert run_sim("validate").returncode == 2
    done = run_sim("validate", "--targets", "none.json", cwd=tmp_path)
    assert done.returncode == 2 and "none.json: " in done.stderr and done.stderr.count("\n") == 1


def test_no_place_for_temporary_files_is_one_line(refused, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    refused({"schema": "phone-measurements/1", "rows": [row("a")]}, "TMPDIR: a folder for temporary files")

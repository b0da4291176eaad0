"""sim fit-flash on the command line, and what sim list says of the devices' values."""

import json

import pytest

TABLE = "read_kib,lanes,mib_per_s\n" + "".join(
    # 100 us on the host, 10 us and 2 GB/s on the device.
    f"{kib},{lanes},{min(lanes / (110e-6 + kib / 2e9 * 1024), 1 / (10e-6 + kib / 2e9 * 1024)) * kib / 1024}\n"
    for kib in (128, 512, 2048) for lanes in (1, 2, 8))

ROW = {"name": "serial", "lanes": 1, "experts_per_token": 4, "io_ms": 4 * 10 * (0.11 + 0.5 + 0.4),
       "bounce": True, "layers": [{"count": 10, "reads": [1000000]}]}


@pytest.fixture
def files(tmp_path):
    (tmp_path / "t.csv").write_text(TABLE)
    (tmp_path / "rows.json").write_text(json.dumps([ROW]))
    return {name: str(tmp_path / name) for name in ("t.csv", "rows.json")}


def test_without_rows_the_result_has_the_three_values_and_the_copy(run_sim, files):
    done = run_sim("fit-flash", "--table", files["t.csv"], "--json")
    assert done.returncode == 0, done.stderr
    fit = json.loads(done.stdout)
    assert set(fit) == {"flash", "rms_pct", "rows"}
    assert set(fit["flash"]) == {"bw_gbps", "dev_cmd_us", "host_delay_us", "copy_gbps"}
    assert fit["flash"]["bw_gbps"] == pytest.approx(2, rel=0.01)
    assert fit["flash"]["host_delay_us"] == pytest.approx(100, rel=0.02)
    text = run_sim("fit-flash", "--table", files["t.csv"]).stdout
    assert "bounce" not in text and "engine" not in text


def test_rows_of_an_engine_tell_the_rate_of_the_bounce_copy(run_sim, files):
    arguments = ["fit-flash", "--table", files["t.csv"], "--engine-rows", files["rows.json"],
                 "--fit-bounce"]
    fit = json.loads(run_sim(*arguments, "--json").stdout)
    assert fit["flash"]["bounce_gbps"] == pytest.approx(2.5, rel=0.05)
    (row,) = fit["engine_rows"]["rows"]
    assert row["name"] == "serial" and row["lanes"] == 1
    assert row["measured_io_ms"] == pytest.approx(ROW["io_ms"])
    assert row["simulated_io_ms"] / row["measured_io_ms"] - 1 == pytest.approx(
        row["error_pct"] / 100)
    assert abs(row["error_pct"]) < 1 and fit["engine_rows"]["rms_pct"] < 1
    text = run_sim(*arguments).stdout
    assert "(fitted)" in text and "serial" in text and "over 1 engine rows" in text
    given = run_sim(*arguments[:-1], "--bounce-gbps", "2.5", "--rows-weight", "0").stdout
    assert "bounce_gbps    2.500  (given)" in given


def test_several_tables_count_together(run_sim, files):
    twice = json.loads(run_sim("fit-flash", "--table", files["t.csv"], "--table", files["t.csv"],
                               "--json").stdout)
    once = json.loads(run_sim("fit-flash", "--table", files["t.csv"], "--json").stdout)
    assert len(twice["rows"]) == 2 * len(once["rows"])
    assert twice["flash"]["bw_gbps"] == pytest.approx(once["flash"]["bw_gbps"], rel=0.01)


def test_what_cannot_be_fitted_is_refused(run_sim, files):
    done = run_sim("fit-flash", "--table", files["t.csv"], "--fit-bounce")
    assert done.returncode == 2
    assert "bounce_gbps: expected a rate, because no engine row with bounce tells one" in done.stderr
    assert run_sim("fit-flash", "--table", files["t.csv"], "--fit-bounce", "--bounce-gbps",
                   "2").returncode == 2


def test_devices_are_listed_with_the_tags_of_the_values_that_matter_most(run_sim):
    devices = {d["name"]: d for d in json.loads(run_sim("list", "devices", "--json").stdout)}
    phone = devices["oneplus-15r"]
    assert set(phone["tags"]) == {"measured", "vendor", "derived", "estimate"}
    values = {v["key"]: v for v in phone["key_values"]}
    assert values["dram/total_gbps"]["tag"] == "measured"
    assert values["dram/total_gbps"]["value"] == 61.9
    assert values["flash/bw_gbps"]["tag"] == "derived"
    assert values["cpu/q4_kernel_gbps"]["tag"] == "derived"
    assert all(v["source"] for v in values.values())
    for device in devices.values():
        assert device["key_values"], device["name"]
    assert "key_values" not in json.loads(run_sim("list", "models", "--json").stdout)[0]
    text = run_sim("list", "devices").stdout
    assert "dram/total_gbps 61.9 (measured)" in text
    assert "flash/bw_gbps 0.3 (estimate)" in text  # the eMMC, of which nothing is measured

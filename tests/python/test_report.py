"""scripts/report.py: what stands in a report, and that it is the same each time."""

import json
import re
import struct
from html.parser import HTMLParser

import numpy as np
import pytest

import report_page
import report_runs as runs
from report_build import build
from report_results import read_given
from report_rows import group_of
from report_series import make_points
from report_trace import read_counts

pytest.importorskip("plotly", reason="needs the Debian package python3-plotly")

SECTIONS = ["results", "miss-ratio", "speed", "pareto", "latency", "parts", "experts", "measured",
            "configuration", "inputs", "caveats"]  # fmt: skip


class Page(HTMLParser):
    """What a test asks of a page: texts of cells by table, ids, and references to other files."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.references, self.tables, self.texts, self.open = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.open.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.references += [given[k] for k in ("href", "src") if k in given]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "small" and self.tables and self.tables[-1][-1]:
            self.tables[-1][-1][-1] += " "

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data):
        if "script" in self.open or "style" in self.open:
            return
        self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data

    @property
    def text(self):
        return " ".join(self.texts)


def charts_of(text):
    return json.loads(re.search(r'id="report-data">(.*?)</script>', text, re.DOTALL)[1])


@pytest.fixture(scope="module")
def results(run_sim, tmp_path_factory):
    return runs.grid(run_sim, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def written(results, tmp_path_factory):
    """A report of everything: (folder, text of the page, Page)."""
    folder = tmp_path_factory.mktemp("report")
    rows = runs.validation_of_rows(folder / "rows.json")
    done = runs.report(*results, "--measured", rows, "--out", folder / "report.html", "--markdown",
                       folder / "report.md", "--png", folder / "png")  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (folder / "report.html").read_text()
    return folder, text, Page(text)


def test_a_page_has_every_section_and_refers_to_no_other_file(written):
    _, text, page = written
    assert [i for i in page.ids if i in SECTIONS] == SECTIONS
    assert set(page.references) == {"data:,", *(f"#{s}" for s in SECTIONS)}
    assert len(set(page.ids)) == len(page.ids)
    own = text.replace(report_page.plotly_js(), "")
    assert "http" not in own and "@import" not in own and "url(" not in own
    assert "class=\"missing\"" not in own.replace("<noscript><p class=\"missing\">", "")


def test_the_headline_has_the_numbers_of_the_results(written, results):
    table = written[2].tables[0]
    assert len(table) == 1 + len(results)
    assert [c.split(",")[0].strip() for c in table[0]] == ["policy", "device", "cache", "speed",
        "speed against top_k", "p99 latency", "hit rate", "read per token", "dropped mass", "energy",
        "speed against the fastest"]  # fmt: skip
    document = json.loads(next(r for r in results if r.stem == "oneplus-15r-cache_prior-16").read_text())
    row = next(r for r in table if r[0].startswith("cache_prior") and r[1:3] == ["oneplus-15r", "3072"])
    for cell, value in [(row[3], document["throughput"]["decode_tokens_per_s"]),
                        (row[5], document["throughput"]["tpot_ms"]["p99"]),
                        (row[6], 100 * document["cache"]["hit_rate"]),
                        (row[7], document["cache"]["mib_per_token"]),
                        (row[8], 100 * document["routing"]["dropped_mass"]),
                        (row[9], document["energy"]["j_per_token"])]:  # fmt: skip
        assert float(re.search(r"[\d.]+", cell)[0]) == pytest.approx(value, rel=6e-3)
    low, high = map(float, re.search(r"([\d.]+) to ([\d.]+)$", row[3]).groups())
    assert low < document["throughput"]["decode_tokens_per_s"] < high


def test_the_best_of_each_group_is_marked(written):
    table = written[2].tables[0]
    groups = {}
    for row in table[1:]:
        groups.setdefault((row[1], row[2]), []).append(row)
    assert len(groups) == len(runs.DEVICES) * len(runs.CAPACITIES)
    for rows in groups.values():
        speeds = [float(re.search(r"[\d.]+", row[3])[0]) for row in rows]
        for row, speed in zip(rows, speeds):
            assert ("\N{BLACK STAR}" in row[3]) == (speed == max(speeds)) == (row[10] == "fastest")
        assert [row[4] == "baseline" for row in rows] == [row[0].startswith("top_k") for row in rows]
        assert ["\N{BLACK STAR}" in row[8] for row in rows] == [row[0].startswith("top_k") for row in rows]


def test_every_chart_has_traces_and_a_table_of_its_numbers(written):
    _, text, page = written
    charts = charts_of(text)
    devices = sorted(runs.DEVICES)
    assert sorted(c["id"] for c in charts) == sorted(
        ["miss-ratio", "experts", "measured"]
        + [f"{kind}-{device}" for kind in ("speed", "pareto-dropped-mass", "latency", "parts") for device in devices]
    )
    for chart in charts:
        assert {f"chart-{chart['id']}", f"legend-{chart['id']}", f"title-{chart['id']}"} <= set(page.ids)
        assert chart["data"] and all(trace["x"] for trace in chart["data"])
    assert len(page.tables) == 1 + len(charts) + 2 + 2  # the headline, configurations, inputs and program
    assert all(len(table) > 1 for table in page.tables)


def test_curves_have_the_numbers_of_the_results(written, results):
    charts = {c["id"]: c for c in charts_of(written[1])}
    documents = {r.stem: json.loads(r.read_text()) for r in results}
    miss = {t["name"]: t for t in charts["miss-ratio"]["data"]}
    assert list(miss) == [*runs.POLICIES, "Belady"] and miss["Belady"]["line"]["dash"] == "dash"
    for name, pointer in [("top_k", "hit_rate"), ("Belady", "belady_hit_rate")]:
        of = [documents[f"oneplus-15r-top_k-{c}"] for c in runs.CAPACITIES]
        block = "bounds" if name == "Belady" else "cache"
        assert miss[name]["y"] == pytest.approx([100 * (1 - d[block][pointer]) for d in of])
        assert miss[name]["x"] == [d["memory"]["expert_cache_mib"] for d in of]
    cycle = documents["oneplus-15r-top_k-8"]["cache"]["token_cycle_mib"]
    assert [s["x0"] for s in charts["miss-ratio"]["layout"]["shapes"]] == [cycle]
    bars = charts["parts-ddr4-laptop"]["data"]
    means = [documents[f"ddr4-laptop-{p}-16"]["throughput"]["tpot_ms"]["mean"] for p in runs.POLICIES]
    assert [sum(x) for x in zip(*(b["x"] for b in bars))] == pytest.approx(means)
    latency = [t for t in charts["latency-oneplus-15r"]["data"] if t["mode"] == "markers"]
    for trace, policy in zip(latency, runs.POLICIES):
        tpot = documents[f"oneplus-15r-{policy}-16"]["throughput"]["tpot_ms"]
        assert trace["x"] == pytest.approx([tpot["p50"], tpot["p99"]])


def test_the_use_of_experts_adds_up_to_the_accesses_of_top_k(results):
    given = read_given([str(r) for r in results if r.stem == "oneplus-15r-top_k-16"])
    run = given.runs[0]
    trace = runs.REPOSITORY / "traces/reference-moe-small.safetensors"
    counts, tokens, _ = read_counts(trace, run.at("/config/trace"), 8)
    assert counts.sum() == run.number("/cache/accesses") and tokens == runs.TOKENS
    section = next(s for s in build(given).sections if s.id == "experts")
    assert section.charts[0].traces[0]["z"][3][5] == pytest.approx(100 * counts[3, 5] / tokens, abs=1e-3)


def test_measured_times_are_set_beside_simulated_ones(written):
    chart = next(c for c in charts_of(written[1]) if c["id"] == "measured")
    traces = {t["name"]: t for t in chart["data"]}
    assert (traces["mean time"]["x"], traces["mean time"]["y"]) == ([200], [230])
    assert (traces["mean time, fitted to"]["x"], traces["I/O, fitted to"]["y"]) == ([500], [410])
    assert traces["within 10 %"]["fill"] == "toself"
    assert ("0 of 1 mean times that the device was not fitted to lie within 10 % of the measured one; their "
            "median absolute error is 15.0 %") in written[2].text  # fmt: skip
    assert "B <b>" in written[2].text and "B <b>" not in written[1]


def test_configurations_inputs_warnings_and_the_caveat_are_there(written, results):
    text = written[2].text
    documents = [json.loads(r.read_text()) for r in results]
    for document in documents:
        for entry in document["inputs"]:
            assert entry["sha256"] in text
        for warning in document["warnings"]:
            assert warning in text
    assert "open loop: the recorded logits do not react to a swap or a drop" in text
    assert text.count('"capacity_experts": 8') == len(results) / len(runs.CAPACITIES)


def test_markdown_and_pictures(written):
    folder, _, _ = written
    text = (folder / "report.md").read_text()
    shown = re.findall(r"!\[[^]]*\]\((png/[^)]*)\)", text)
    assert sorted(f"png/{p.name}" for p in (folder / "png").iterdir()) == sorted(shown)
    for name in shown:
        data = (folder / name).read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n" and struct.unpack(">I", data[16:20])[0] > 1000
    lines = re.findall(r"^\| oneplus-15r \| \d+ \| .*", text, re.MULTILINE)
    assert len(lines) == len(runs.POLICIES) * len(runs.CAPACITIES)


def test_equal_inputs_give_equal_bytes(written, results, tmp_path):
    folder, _, _ = written
    done = runs.report(*results, "--measured", folder / "rows.json", "--out", tmp_path / "report.html",
                       "--markdown", tmp_path / "report.md", "--png", tmp_path / "png")  # fmt: skip
    assert done.returncode == 0, done.stderr
    files = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*") if p.is_file())
    assert len(files) == 2 + 11
    for file in files:
        assert (tmp_path / file).read_bytes() == (folder / file).read_bytes(), file


def test_a_sweep_gives_what_its_results_give(results, tmp_path):
    sweep = runs.as_sweep(results, tmp_path / "sweep.jsonl")
    given = read_given([str(sweep)])
    alone = make_points(read_given(list(map(str, results))).runs)
    assert [p.key() for p in make_points(given.runs)] == [p.key() for p in alone]
    assert all(run.tokens is None for run in given.runs)
    text = report_page.page(build(given))
    assert "0 with per-token times" in text and f"{sweep}:18" in text
    latency = next(c for c in charts_of(text) if c["id"] == "latency-oneplus-15r")
    assert latency["data"][0]["y"] == [50, 90, 95, 99, 100]


def test_the_cut_line_of_a_sweep_is_left_out(results, tmp_path):
    sweep = runs.as_sweep(results[:2], tmp_path / "sweep.jsonl")
    sweep.write_text(sweep.read_text()[:-100])
    given = read_given([str(sweep)])
    assert len(given.runs) == 1
    assert given.notes == [f"{sweep}:2 is left out: it is cut, as of a sweep that runs or was killed."]


def test_a_csv_finds_its_result_in_a_sweep(results, tmp_path):
    sweep = runs.as_sweep(results, tmp_path / "sweep.jsonl")
    tokens = results[4].with_suffix(".csv")
    given = read_given([str(sweep), str(tokens)])
    assert [i for i, run in enumerate(given.runs) if run.tokens is not None] == [4]
    assert given.runs[4].tokens["wall_ms"].mean() == pytest.approx(given.runs[4].number("/throughput/tpot_ms/mean"))


def test_a_csv_with_times_is_of_no_run_without(run_sim, results, tmp_path):
    words = ["/device=null", "/routing/policy=top_k", "/cache/capacity_experts=8"]
    without = runs.run(run_sim, tmp_path, "without", *words, tokens=False)
    given = read_given([str(without), str(results[0]), str(results[0].with_suffix(".csv"))])
    assert [run.tokens is None for run in given.runs] == [True, False]


def test_a_csv_beside_a_result_that_is_of_another_run_is_not_used(results, tmp_path):
    (tmp_path / "a.json").write_text(results[0].read_text())
    (tmp_path / "a.csv").write_text(results[1].with_suffix(".csv").read_text())
    done = runs.report("a.json", "--out", "o.html", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.startswith("report.py: note: a.csv is not used, it is of another run than a.json: ")
    assert "a.csv is not used" in (tmp_path / "o.html").read_text()


def names(run_sim, folder, *settings):
    given = [runs.run(run_sim, folder, str(i), *words, tokens=False) for i, words in enumerate(settings)]
    return make_points(read_given(list(map(str, given))).runs)


def test_names_say_what_differs_and_no_more(run_sim, tmp_path):
    points = names(run_sim, tmp_path, ["/routing/lambda=0.1"], ["/routing/lambda=0.2"], ["/routing/policy=top_k"],
                   ["/routing/lambda=0.1", "/cache/eviction/policy=lfu"])  # fmt: skip
    assert [p.setting for p in points] == ["cache_prior, eviction lru, lambda 0.1", "cache_prior, eviction lru, lambda 0.2",
                                           "top_k, eviction lru", "cache_prior, eviction lfu, lambda 0.1"]  # fmt: skip
    assert {p.place for p in points} == {"oneplus-15r"}
    points = names(run_sim, tmp_path, ["/trace/max_tokens=64"], ["/trace/max_tokens=32"])
    assert [(p.setting, p.place) for p in points] == [("cache_prior", "oneplus-15r, max_tokens 64"),
                                                     ("cache_prior", "oneplus-15r, max_tokens 32")]  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "mib"),
    [("/cache/capacity_mib=3000", 3000), ("/cache/capacity_fraction=0.2", 12 * 16 * 12),
     ("/cache/capacity_experts=10", 10 * 16 * 12)],
)  # fmt: skip
def test_the_size_of_a_cache_is_known_without_a_device(run_sim, tmp_path, setting, mib):
    point, = names(run_sim, tmp_path, ["/device=null", setting])
    assert (point.capacity, point.device) == (mib, "none")


def test_sections_say_what_they_lack(run_sim, tmp_path, results):
    result = runs.run(run_sim, tmp_path, "r", "/device=null", tokens=False)
    sections = {s.id: s for s in build(read_given([str(result)])).sections}
    for name in ("speed", "pareto", "latency", "parts"):
        assert sections[name].missing.startswith("Needs results with a device")
    assert sections["measured"].missing == "Needs a document of sim validate (--measured FILE)."
    assert sections["miss-ratio"].missing is None and sections["experts"].missing is None
    moved = json.loads(results[0].read_text())
    moved["inputs"][1]["sha256"] = "0" * 64
    (tmp_path / "moved.json").write_text(json.dumps(moved))
    heat = next(s for s in build(read_given([str(tmp_path / "moved.json")])).sections if s.id == "experts")
    assert heat.charts == [] and "--trace FILE" in heat.missing


def test_a_result_without_the_bound_has_no_floor(results, tmp_path):
    document = json.loads(results[0].read_text())
    document["bounds"]["belady_hit_rate"] = None
    (tmp_path / "r.json").write_text(json.dumps(document))
    chart = build(read_given([str(tmp_path / "r.json")])).sections[0].charts[0]
    assert [t["name"] for t in chart.traces] == ["top_k"] and "No result has the bound" in chart.summary


def test_a_validation_alone_makes_a_report(tmp_path):
    runs.validation_of_machine(tmp_path / "v.json", 0.02)
    done = runs.report("v.json", "--out", "o.html", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    page = Page((tmp_path / "o.html").read_text())
    assert "1 of 1 mean times" in page.text and "Needs a result of sim run or sim sweep." in page.text


def test_a_difference_inside_the_noise_is_said_to_be_so(results, tmp_path):
    quiet, loud = (runs.validation_of_machine(tmp_path / f"{n}.json", n) for n in (0.001, 9.0))
    few = [str(r) for r in results if r.stem.startswith("oneplus-15r") and r.stem.endswith("-16")]
    texts = [report_page.page(build(read_given(few, [str(v)]))) for v in (quiet, loud)]
    assert ["inside the noise: real runs differ by 900.0 %" in text for text in texts] == [False, True]


def test_runs_that_the_bootstrap_cannot_tell_apart_are_not_different(results):
    """The same tokens, each some µs slower or faster at random."""
    given = read_given([str(results[0]), str(results[3])])
    one, other = given.runs
    noise = np.random.default_rng(4).normal(0, 0.5, runs.TOKENS)
    other.tokens = {**one.tokens, "wall_ms": one.tokens["wall_ms"] + noise}
    other.document["throughput"]["decode_tokens_per_s"] = 1000 / other.tokens["wall_ms"].mean()
    other.document["config"]["cache"] = one.document["config"]["cache"]
    rows = build(given).rows
    assert len({group_of(row) for row in rows}) == 1
    slower = next(row for row in rows if row.fastest is not row)
    assert "speed" in slower.equal and "speed" in slower.fastest.best
    assert "inside the noise: the interval includes 0" in report_page.page(build(given))


def test_perplexity_is_shown_where_a_result_has_it(results, tmp_path):
    for number, result in enumerate(results[:2]):
        document = json.loads(result.read_text())
        document["quality"] = {"perplexity": 7.5 + number}
        (tmp_path / f"{number}.json").write_text(json.dumps(document))
    text = report_page.page(build(read_given([str(tmp_path / "0.json"), str(tmp_path / "1.json")])))
    assert "perplexity" in Page(text).tables[0][0][-2]
    assert "pareto-perplexity-oneplus-15r" in [c["id"] for c in charts_of(text)]


def test_a_result_given_twice_counts_once(results):
    given = read_given([str(results[0]), str(results[0])])
    assert len(given.runs) == 1 and "counted once" in given.notes[0]


def test_the_size_shown_can_be_chosen(results):
    given = read_given(list(map(str, results)))
    assert build(given).capacity == 3072
    assert build(given, at=1.0).capacity == 1536
    assert 'value="1536" selected' in report_page.page(build(given, at=1.0))


@pytest.mark.parametrize("names", [("\u624b\u673a", "\u7535\u8bdd"), ("A 1", "a-1"), ("a", "A", "a-2")])
def test_devices_whose_names_look_alike_have_charts_of_their_own(results, tmp_path, names):
    for number, name in enumerate(names):
        document = json.loads(results[0].read_text())
        document["config"]["device"] = name
        (tmp_path / f"{number}.json").write_text(json.dumps(document))
    given = [f"{number}.json" for number in range(len(names))]
    done = runs.report(*given, "--out", "o.html", "--markdown", "o.md", "--png", "png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "o.html").read_text()
    charts = [c["id"] for c in charts_of(text)]
    speeds = [c for c in charts if c.startswith("speed")]
    assert len(set(charts)) == len(charts) and len(speeds) == len(names)
    assert len(set(Page(text).ids)) == len(Page(text).ids)
    assert sorted(p.stem for p in (tmp_path / "png").iterdir()) == sorted(charts)
    shown = re.findall(r"!\[[^]]*\]\(png/([^)]*)\.png\)", (tmp_path / "o.md").read_text())
    assert shown == charts


def test_a_time_of_nothing_can_be_drawn(results, tmp_path):
    document = json.loads(results[0].read_text())
    document["time_ms_per_token"] = {}
    (tmp_path / "r.json").write_text(json.dumps(document))
    done = runs.report("r.json", "--out", "o.html", "--png", "png", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_half_surrogates_are_shown_as_escapes(results, tmp_path):
    document = json.loads(results[0].read_text())
    document["config"]["device"] = "x\ud800"
    (tmp_path / "r.json").write_text(json.dumps(document))
    done = runs.report("r.json", "--out", "o.html", "--markdown", "o.md", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "x\\ud800" in (tmp_path / "o.html").read_text(encoding="utf-8")

"""A report in a real browser: it draws every chart, asks the network for nothing, and can be used by
mouse, keyboard and phone, in light and dark. The pictures lie in pytest's temporary folder."""

import json
import shutil
import struct
import subprocess
import sys

import pytest

import report_browser
import report_runs as runs

pytest.importorskip("plotly", reason="needs the Debian package python3-plotly")
pytest.importorskip("selenium", reason="needs the Debian package python3-selenium")
if not (shutil.which("chromium") and shutil.which("chromedriver")):
    pytest.skip("needs the Debian packages chromium and chromium-driver", allow_module_level=True)

from selenium.webdriver.common.keys import Keys  # noqa: E402


@pytest.fixture(scope="module")
def page(run_sim, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    results = runs.grid(run_sim, folder)
    done = runs.report(*results, "--measured", runs.validation_of_rows(folder / "rows.json"), "--out",
                       folder / "report.html")  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    driver = report_browser.open_browser()
    yield driver
    driver.quit()


@pytest.fixture
def shown(browser, page):
    """shown(**options of report_browser.show): the browser with the page open in it."""

    def open_page(**options):
        browser.get("about:blank")  # so that the page begins anew, with empty logs
        for log in ("browser", "performance"):
            browser.get_log(log)
        report_browser.show(browser, page, **options)
        return browser

    return open_page


def requests_of(browser):
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


def use(browser):
    """Everything on the page once: sizes, themes, legends, details."""
    for script in (
        "document.querySelectorAll('details').forEach((d) => { d.open = true; })",
        "document.querySelectorAll('button').forEach((b) => b.click())",
        "document.querySelectorAll('#size option').forEach((o) => {"
        " size.value = o.value; size.dispatchEvent(new Event('change')); })",
        "window.dispatchEvent(new Event('beforeprint')); window.dispatchEvent(new Event('afterprint'))",
    ):
        browser.execute_script(script)


def test_no_error_and_no_request(shown, page):
    browser = shown()
    use(browser)
    assert [entry for entry in browser.get_log("browser") if "favicon" not in entry["message"]] == []
    asked = [url for url in requests_of(browser) if not url.startswith(("data:", "blob:", "about:"))]
    assert asked == [page.as_uri()]


COUNT = """
const plot = document.getElementById('chart-' + arguments[0]);
const box = plot.getBoundingClientRect();
return [plot.querySelectorAll('.scatterlayer .trace, .barlayer .trace, .heatmaplayer .hm').length,
        box.width, box.height, plot.closest('figure').querySelectorAll('details td').length,
        document.getElementById('legend-' + arguments[0]).querySelectorAll('button').length];
"""


def test_every_chart_is_drawn(shown):
    browser = shown()
    charts = json.loads(browser.execute_script("return document.getElementById('report-data').textContent"))
    assert len(charts) == 11
    for chart in charts:
        traces, width, height, cells, entries = browser.execute_script(COUNT, chart["id"])
        assert traces == len(chart["data"]), chart["id"]
        assert width > 400 and height > 200 and cells > 0, chart["id"]
        named = {t["name"] for t in chart["data"] if t.get("showlegend", True) and t["type"] != "heatmap"}
        assert entries == len(named), chart["id"]


COLUMN = """
return [...document.querySelectorAll('table.headline tbody tr')].filter((r) => !r.hidden)
  .map((r) => Number(r.cells[arguments[0]].dataset.value));
"""


def order(browser, column):
    return browser.execute_script("return document.querySelectorAll('table.headline th[aria-sort]').length"), \
        browser.find_elements("css selector", "table.headline thead th")[column].get_attribute("aria-sort")  # fmt: skip


def test_tables_sort_by_click_and_by_keyboard(shown):
    browser = shown()
    speeds = browser.execute_script(COLUMN, 3)
    assert len(speeds) == len(runs.DEVICES) * len(runs.POLICIES) and speeds != sorted(speeds)
    button = browser.find_elements("css selector", "table.headline thead button")[3]
    button.click()
    assert browser.execute_script(COLUMN, 3) == sorted(speeds) and order(browser, 3) == (1, "ascending")
    button.send_keys(Keys.ENTER)
    assert browser.execute_script(COLUMN, 3) == sorted(speeds, reverse=True)
    assert order(browser, 3) == (1, "descending")
    other = browser.find_elements("css selector", "table.headline thead button")[5]
    other.send_keys(Keys.SPACE)
    assert browser.execute_script(COLUMN, 5) == sorted(browser.execute_script(COLUMN, 5))
    assert (order(browser, 3), order(browser, 5)) == ((1, None), (1, "ascending"))


def test_the_cache_size_filters_the_headline(shown):
    browser = shown()
    browser.execute_script("size.value = ''; size.dispatchEvent(new Event('change'))")
    assert len(browser.execute_script(COLUMN, 2)) == 18
    browser.find_element("id", "size").send_keys("1536")
    assert set(browser.execute_script(COLUMN, 2)) == {1536}


def focused(browser, script):
    return browser.execute_script(f"const e = document.activeElement; return {script}")


def test_the_keyboard_reaches_and_shows_everything(shown):
    browser = shown()
    body = browser.find_element("css selector", "body")
    body.send_keys(Keys.TAB)
    assert focused(browser, "[e.className, e.getBoundingClientRect().left]") == ["skip", 0]
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.execute_script("return location.hash") == "#results"
    seen = set()
    for _ in range(200):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        tag, text, outline = focused(browser, "[e.tagName, e.textContent, getComputedStyle(e).outlineStyle]")
        if tag == "BODY":
            break
        assert outline == "solid", (tag, text)
        seen.add((tag, text.split(",")[0]))
    assert {("BUTTON", "speed"), ("BUTTON", "Belady"), ("SUMMARY", "Numbers of this chart")} <= seen
    assert any(tag == "SELECT" for tag, _ in seen)


def test_a_series_can_be_switched_off(shown):
    browser = shown()
    button = browser.find_element("css selector", "#legend-miss-ratio button")
    button.send_keys(Keys.ENTER)
    assert button.get_attribute("aria-pressed") == "false"
    assert browser.execute_script(COUNT, "miss-ratio")[0] == len(runs.POLICIES)
    button.send_keys(Keys.ENTER)
    assert browser.execute_script(COUNT, "miss-ratio")[0] == len(runs.POLICIES) + 1


STYLE = """
const css = (e) => getComputedStyle(e);
return [css(document.body).backgroundColor, css(document.body).color,
        css(document.querySelector('#chart-miss-ratio .xtick text')).fill];
"""


def luminance(colour):
    channels = [int(c) / 255 for c in colour.strip("rgba()").split(",")[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_both_themes_have_contrast_and_a_toggle(shown, dark):
    browser = shown(dark=dark)
    toggle = browser.find_element("id", "theme")
    for is_dark in (dark, not dark):
        paper, ink, ticks = browser.execute_script(STYLE)
        assert (luminance(paper) < 0.1) == is_dark
        assert contrast(paper, ink) >= 7 and contrast(paper, ticks) >= 7
        assert toggle.text == ("Light theme" if is_dark else "Dark theme")
        toggle.send_keys(Keys.ENTER)


@pytest.mark.parametrize("width", [320, 390, 768, 1200])
def test_no_width_scrolls_sideways(shown, width):
    browser = shown(width=width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    for plot in browser.find_elements("css selector", ".plot .main-svg"):
        assert plot.rect["x"] >= 0 and plot.rect["x"] + plot.rect["width"] <= width


@pytest.mark.parametrize(("name", "options"), [("light", {}), ("dark", {"dark": True}), ("phone", {"width": 390}),
                                               ("dark-phone", {"width": 390, "dark": True})])  # fmt: skip
def test_pictures_for_the_eye(shown, page, name, options):
    picture = report_browser.screenshot(shown(**options))
    (page.parent / f"{name}.png").write_bytes(picture)
    assert struct.unpack(">I", picture[16:20])[0] == options.get("width", 1200)
    assert len(picture) > 50_000


def picture(repo_root, *words):
    return subprocess.run([sys.executable, repo_root / "scripts/report_picture.py", *map(str, words)],
                          capture_output=True, text=True, check=False, timeout=120)  # fmt: skip


def test_the_picture_of_the_readme_can_be_made(page, repo_root, tmp_path):
    done = picture(repo_root, page, "--out", tmp_path / "p.png", "--height", "700")
    assert (done.returncode, done.stderr) == (0, "")
    assert struct.unpack(">II", (tmp_path / "p.png").read_bytes()[16:24]) == (1200, 700)
    done = picture(repo_root, tmp_path / "none.html", "--out", tmp_path / "q.png")
    assert done.returncode == 2 and not (tmp_path / "q.png").exists()
    assert done.stderr == f"report_picture.py: error: {tmp_path}/none.html: expected a report, got no file\n"

"""A report as one HTML file without any reference to another: report_template.html, .css and .js with
the tables, the charts' data and Plotly.js put in. Equal reports give equal bytes."""

import json
import re
from html import escape
from pathlib import Path

import report_words as words
from report_error import ReportError
from report_format import mib, size, span
from report_plotly import figure
from report_series import ordered

HERE = Path(__file__).resolve().parent


def plotly_js():
    try:
        from plotly.offline import get_plotlyjs

        return get_plotlyjs()
    except (ImportError, OSError):
        raise ReportError("needs Plotly, the Debian package python3-plotly") from None


def script_json(value):
    """JSON that may stand in a script element."""
    return json.dumps(value, allow_nan=False, sort_keys=True, separators=(",", ":")).replace("<", "\\u003c")


def header_cell(title, numeric):
    kind = ' class="number"' if numeric else ""
    return f'<th scope="col"{kind}><button type="button">{escape(title)}</button></th>'


def cell(text, value=None):
    """A table cell; `value` is what a column is sorted by."""
    attributes = f' class="number" data-value="{value!r}"' if isinstance(value, float) else ""
    return f"<td{attributes}>{text}</td>"


NUMBER = re.compile(r"^[+\N{MINUS SIGN}-]?\d+(\.\d+)?( %| MiB)?$")
NAMES = ["version", "commit", "SHA-256"]  # even if they have digits only


def plain_cell(text, numeric):
    if not numeric or not NUMBER.match(text):
        return cell(escape(text))
    return cell(escape(text), float(text.split()[0].replace("\N{MINUS SIGN}", "-")))


def scrolled(table, label):
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{table}</div>'


def is_numeric(column):
    return all(NUMBER.match(text) or text in ("", "n/a") for text in column)


def table(header, rows, label):
    """A sortable table of texts; columns of numbers are sorted as such."""
    numeric = [title not in NAMES and is_numeric(row[c] for row in rows) for c, title in enumerate(header)]
    head = "".join(map(header_cell, header, numeric))
    body = "".join("<tr>" + "".join(map(plain_cell, row, numeric)) + "</tr>\n" for row in rows)
    html = f'<table class="sortable"><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>'
    return scrolled(html, label)


def metric_cell(row, metric):
    value = row.values[metric.key]
    text = escape(words.FORMS[metric.key](value))
    mark = words.cell_mark(row, metric.key)
    if mark:
        said = "best" if metric.key in row.best else "not different from the best"
        text = f'<span class="mark" role="img" aria-label="{said}">{mark}</span> {text}'
    low_high = row.interval(metric.key)
    if low_high:
        text += f"<small>{escape(span(low_high, words.FORMS[metric.key]))}</small>"
    best = f"<strong>{text}</strong>" if metric.key in row.best else text
    return cell(best, value)


def difference_cell(found):
    small = ", ".join(filter(None, [found.interval, found.none]))
    text = escape(found.text) + (f"<small>{escape(small)}</small>" if small else "")
    return cell(text, found.share)


def policy_cell(point):
    """The policy; on a narrow screen, where their columns are hidden, also device and size."""
    name = escape(point.setting).replace("_", "_<wbr>")
    return f'<th scope="row">{name}<small class="narrow">{escape(point.place)}, {mib(point.capacity)}</small></th>'


def headline_row(row, report, metrics):
    capacity = row.point.capacity
    cells = [policy_cell(row.point), cell(escape(row.point.place)), cell(size(capacity), capacity),
             *(metric_cell(row, m) for m in metrics)]  # fmt: skip
    if report.baseline:
        against = words.against_baseline(row, report.rows, report.baseline, report.noise)
        cells.insert(4, difference_cell(against))
    cells.append(difference_cell(words.verdict(row, report.noise)))
    return f'<tr data-size="{size(capacity)}">{"".join(cells)}</tr>\n'


def headline(report):
    metrics = words.metrics_shown(report.rows)
    titles = [(words.metric_title(m), True) for m in metrics]
    columns = [("policy", False), ("device", False), ("cache, MiB", True), *titles]
    if report.baseline:
        columns.insert(4, (f"speed against {report.baseline}", True))
    columns.append(("speed against the fastest", True))
    head = "".join(header_cell(*column) for column in columns)
    body = "".join(headline_row(row, report, metrics) for row in report.rows)
    html = f'<table class="sortable headline"><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>'
    return size_choice(report) + scrolled(html, "Results")


def size_choice(report):
    sizes = sorted({r.point.capacity for r in report.rows if r.point.capacity is not None})
    if len(sizes) < 2:
        return ""
    options = [f'<option value="{size(s)}"{" selected" if s == report.capacity else ""}>{size(s)} MiB'
               "</option>" for s in sizes]  # fmt: skip
    return ('<p class="choice"><label for="size">Cache size</label> <select id="size">'
            f'<option value="">all</option>{"".join(options)}</select></p>\n')  # fmt: skip


def chart_html(chart):
    name = escape(chart.id)
    numbers = table(chart.header, chart.rows, f"Numbers of: {chart.title}")
    return (f'<figure class="chart"><h3 id="title-{name}">{escape(chart.title)}</h3>\n'
            f'<p id="summary-{name}" class="summary">{escape(chart.summary)}</p>\n'
            f'<div class="plot" id="chart-{name}" role="img" aria-labelledby="title-{name}" '
            f'aria-describedby="summary-{name}"></div>\n<div class="legend" id="legend-{name}"></div>\n'
            f"<details><summary>Numbers of this chart</summary>{numbers}</details></figure>\n")  # fmt: skip


def section_html(section):
    missing = f'<p class="missing">{escape(section.missing)}</p>\n' if section.missing else ""
    charts = "".join(map(chart_html, section.charts))
    grid = f'<div class="charts">{charts}</div>' if charts else ""
    return block(section.id, section.title, f"<p>{escape(section.intro)}</p>\n{missing}{grid}")


def block(identity, title, content):
    return (f'<section id="{identity}" aria-labelledby="heading-{identity}">'
            f'<h2 id="heading-{identity}">{escape(title)}</h2>\n{content}\n</section>\n')  # fmt: skip


def results_block(report):
    if not report.rows:
        return block("results", "Results", '<p class="missing">Needs a result of sim run or sim sweep.</p>')
    decided = words.decisions(report.rows, report.capacity, report.baseline, report.noise)
    items = "".join(f"<li><strong>{escape(where)}:</strong> {escape(text)}</li>\n" for where, text in decided)
    listed = f'<ul class="decisions">{items}</ul>\n' if items else ""
    return block("results", "Results", f'{listed}{headline(report)}<p class="note">{escape(words.LEGEND)}</p>')


def configuration_block(report):
    if not report.points:
        return ""
    alike = table(["key", "value"], words.same_configuration(report.points), "What all results have alike")
    header, rows = words.differing_configuration(report.points)
    content = f"<details><summary>What all {len(report.points)} have alike</summary>{alike}</details>\n"
    if len(header) > 1:
        differ = table(header, rows, "What differs")
        content += f"<details><summary>What differs, by result</summary>{differ}</details>\n"
    full = "".join(
        f"<details><summary>{escape(p.run.source)}</summary>"
        f"<pre>{escape(json.dumps(p.run.config, indent=2, ensure_ascii=False))}</pre></details>\n"
        for p in report.points
    )
    content += f"<details><summary>Every resolved configuration</summary>{full}</details>"
    return block("configuration", "Configuration", content)


def inputs_block(report):
    inputs = table(["file", "SHA-256", "results"], words.input_rows(report.points), "Input files")
    programs = table(["version", "commit", "documents"],
                     words.program_rows(report.points, report.given.validations), "Program")  # fmt: skip
    return block("inputs", "Inputs and program", (inputs if report.points else "") + programs)


def caveats_block(report):
    found = words.remarks(report.points, report.given, report.given.validations)
    items = "".join(
        f"<li>{escape(text)}{f' <small>({escape(which)})</small>' if which else ''}</li>\n"
        for text, which in found
    )
    return block("caveats", "Warnings and caveats", f"<p>{escape(words.OPEN_LOOP)}</p>\n<ul>{items}</ul>")


def blocks(report):
    parts = [results_block(report), *map(section_html, report.sections), configuration_block(report),
             inputs_block(report), caveats_block(report)]  # fmt: skip
    return [part for part in parts if part]


def navigation(parts):
    found = ordered(re.search(r'<section id="([^"]+)".*?<h2[^>]*>([^<]+)', p).groups() for p in parts)
    return "".join(f'<li><a href="#{identity}">{title}</a></li>' for identity, title in found)


def page(report):
    """The whole file as text."""
    parts = blocks(report)
    fills = {
        "title": escape(report.title),
        "overview": escape(words.overview(report.points, report.given.validations)),
        "navigation": navigation(parts),
        "content": "".join(parts),
        "style": (HERE / "report_template.css").read_text(),
        "script": (HERE / "report_template.js").read_text(),
        "data": script_json([figure(chart) for chart in report.charts]),
        "plotly": plotly_js(),
    }
    template = (HERE / "report_template.html").read_text()
    return re.sub(r"\{\{(\w+)\}\}", lambda match: fills[match[1]], template)

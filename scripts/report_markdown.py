"""A report as Markdown: the words and the headline table, with pictures where --png made them."""

import report_words as words
from report_format import size, span


def escaped(text):
    for character in "\\|<>*_`":
        text = text.replace(character, f"\\{character}")
    return text


def rows_text(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines) + "\n"


def metric_text(row, metric):
    value = words.FORMS[metric.key](row.values[metric.key])
    low_high = row.interval(metric.key)
    text = value + (f" ({span(low_high, words.FORMS[metric.key])})" if low_high else "")
    text = f"**{text}**" if metric.key in row.best else text
    return f"{text} {words.cell_mark(row, metric.key)}".strip()


def headline(report):
    metrics = words.metrics_shown(report.rows)
    header = ["device", "cache, MiB", "policy", *(words.metric_title(m) for m in metrics)]
    if report.baseline:
        header.append(f"speed against {escaped(report.baseline)}")
    header.append("against the fastest")
    rows = []
    for row in report.rows:
        cells = [escaped(row.point.place), size(row.point.capacity), escaped(row.point.setting)]
        cells += [metric_text(row, m) for m in metrics]
        if report.baseline:
            cells.append(words.against_baseline(row, report.rows, report.baseline, report.noise).line())
        rows.append([*cells, words.verdict(row, report.noise).line()])
    return rows_text(header, rows)


def section_text(section, pictures):
    text = f"## {section.title}\n\n{section.intro}\n\n"
    if section.missing:
        text += f"*{escaped(section.missing)}*\n\n"
    for chart in section.charts:
        text += f"### {escaped(chart.title)}\n\n{escaped(chart.summary)}\n\n"
        if pictures is not None:
            text += f"![{escaped(chart.title)}]({pictures}/{words.chart_file(chart)})\n\n"
        elif len(chart.header) <= 8:
            text += rows_text(chart.header, [[escaped(c) for c in row] for row in chart.rows])
    return text


def markdown(report, pictures=None):
    """`pictures`: the folder of the PNGs as the Markdown file sees it; without it, tables."""
    given = report.given
    text = f"# {escaped(report.title)}\n\n{words.overview(report.points, given.validations)}\n\n"
    if report.rows:
        text += "## Results\n\n"
        for where, sentence in words.decisions(report.rows, report.capacity, report.baseline, report.noise):
            text += f"- **{escaped(where)}:** {escaped(sentence)}\n"
        text += f"\n{headline(report)}{words.LEGEND}\n\n"
    text += "".join(section_text(section, pictures) for section in report.sections)
    text += "## Inputs and program\n\n"
    text += rows_text(["file", "SHA-256", "results"], [[escaped(c) for c in r] for r in words.input_rows(report.points)])
    text += rows_text(["version", "commit", "documents"], words.program_rows(report.points, given.validations))
    text += f"## Warnings and caveats\n\n{words.OPEN_LOOP}\n\n"
    for remark, which in words.remarks(report.points, given, given.validations):
        text += f"- {escaped(remark)}{f' ({escaped(which)})' if which else ''}\n"
    return text

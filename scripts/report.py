#!/usr/bin/python3
"""One self-contained HTML report out of results of `sim run`, `sim sweep` and `sim validate`.

    scripts/report.py RESULT... --out report.html [--markdown report.md] [--png FOLDER]

A RESULT is the JSON of one run, a .jsonl file of a sweep, or a document of sim validate. Per-token CSVs
(sim run --tokens-csv) give intervals and the distribution of latencies: NAME.csv beside NAME.json is
taken by itself, RESULT.json:TOKENS.csv names a pair, and a CSV given alone finds its result by its
counts. docs/report.md says what each section shows. Exit status 2 for anything that the user can mend.
"""

import argparse
import io
import math
import os
import sys
from pathlib import Path

try:
    from report_build import build
    from report_error import ReportError, end_with_one_line
    from report_files import check_folder, check_own, inputs_of
    from report_markdown import markdown
    from report_page import page
    from report_png import load_pyplot, write_png
    from report_results import read_given
    from report_words import chart_file
    from whole_files import write_whole
except ModuleNotFoundError as missing:
    if missing.name != "numpy":
        raise
    print("report.py: error: needs NumPy, the Debian package python3-numpy", file=sys.stderr)
    sys.exit(2)


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ReportError(message)


def size_above_0(text):
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a finite number above 0, got {text}")
    return value


def arguments(words):
    parser = Parser(prog="scripts/report.py", description=__doc__.split("\n\n", maxsplit=1)[0],
                    epilog=__doc__.rsplit("\n\n", maxsplit=1)[1])  # fmt: skip
    parser.add_argument("results", nargs="*", metavar="RESULT",
                        help="JSON, .jsonl, RESULT.json:TOKENS.csv or .csv")  # fmt: skip
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.html")
    parser.add_argument("--markdown", type=Path, metavar="FILE.md", help="the words and tables")
    parser.add_argument("--png", type=Path, metavar="FOLDER", help="every chart as a picture")
    parser.add_argument("--measured", action="append", default=[], metavar="FILE",
                        help="a document of sim validate")  # fmt: skip
    parser.add_argument("--trace", action="append", default=[], metavar="FILE",
                        help="the trace, for the use of experts; else looked for where the result says")  # fmt: skip
    parser.add_argument("--baseline", metavar="POLICY",
                        help="what speeds are compared with (top_k, if it is there)")  # fmt: skip
    parser.add_argument("--at", type=size_above_0, metavar="MIB",
                        help="the cache size of what is shown for one size: the nearest to it")  # fmt: skip
    parser.add_argument("--title", default="moesim report")
    return parser.parse_args(words)


def pictures(report, folder):
    """(path, bytes) of every chart."""
    plt = load_pyplot()
    for chart in report.charts:
        buffer = io.BytesIO()
        write_png(plt, chart, buffer)
        yield folder / chart_file(chart), buffer.getvalue()


def outputs_of(options, report):
    """(option, path) of every file."""
    yield "--out", options.out
    if options.markdown:
        yield "--markdown", options.markdown
    for chart in report.charts if options.png else []:
        yield "--png", options.png / chart_file(chart)


def utf_8(text):
    """As bytes, what a name or a result has of half surrogates as escapes."""
    return text.encode(errors="backslashreplace")


def main(words):
    options = arguments(words)
    check_folder(options.out, "--out")
    if options.markdown:
        check_folder(options.markdown, "--markdown")
    if options.png and options.png.exists() and not options.png.is_dir():
        raise ReportError(f"--png {options.png}: expected a folder, got a file")
    given = read_given(options.results, options.measured)
    report = build(given, title=options.title, traces=options.trace, baseline=options.baseline, at=options.at)
    check_own(outputs_of(options, report), inputs_of(options, given), options.png)
    files = [(options.out, utf_8(page(report)))]
    if options.png:
        files += pictures(report, options.png)
    if options.markdown:
        seen = os.path.relpath(options.png, options.markdown.parent) if options.png else None
        files.append((options.markdown, utf_8(markdown(report, seen))))
    if options.png:
        options.png.mkdir(parents=True, exist_ok=True)
    for path, content in files:
        write_whole(path, content)
    for note in given.notes:
        print(f"report.py: note: {note}", file=sys.stderr)


if __name__ == "__main__":
    end_with_one_line("report.py", lambda: main(sys.argv[1:]))

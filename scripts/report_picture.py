#!/usr/bin/python3
"""A picture of the head of a report, as a browser shows it.

    scripts/report_picture.py report.html --out docs/report.png

Needs the Debian packages chromium, chromium-driver and python3-selenium.
"""

import argparse
from pathlib import Path

from report_browser import open_browser, screenshot, show
from report_error import ReportError, end_with_one_line
from report_files import check_folder, check_own
from whole_files import write_whole


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("report", type=Path, metavar="REPORT.html")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.png")
    parser.add_argument("--width", type=int, default=1200, help="pixels (%(default)s)")
    parser.add_argument("--height", type=int, default=1395, help="pixels from the top (%(default)s)")
    parser.add_argument("--dark", action="store_true")
    options = parser.parse_args()
    if not options.report.is_file():
        raise ReportError(f"{options.report}: expected a report, got no file")
    check_folder(options.out, "--out")
    check_own([("--out", options.out)], [options.report])
    browser = open_browser()
    try:
        show(browser, options.report, width=options.width, dark=options.dark)
        picture = screenshot(browser, height=options.height)
    finally:
        browser.quit()
    write_whole(options.out, picture)


if __name__ == "__main__":
    end_with_one_line("report_picture.py", main)

#!/usr/bin/env python3
"""Writes the example policies of a page as source files, so that the build compiles what it shows.

    documented_policies.py PAGE.md FOLDER NAME...

Every fenced cpp block that begins with a comment naming a file (`// src/routing/skip_tail.cpp`) is
one. They must be exactly the names given, which is what CMake compiles.
"""

import pathlib
import re
import sys

BLOCK = re.compile(r"^```cpp\n(// src/\S*?(\w+)\.cpp\n.*?)^```$", re.MULTILINE | re.DOTALL)


def examples(page):
    """{name: (line of its first line, text)} of the examples of a page's text."""
    return {
        match[2]: (page.count("\n", 0, match.start(1)) + 1, match[1])
        for match in BLOCK.finditer(page)
    }


def main(page, folder, *names):
    found = examples(pathlib.Path(page).read_text(encoding="utf-8"))
    if sorted(found) != sorted(names):
        sys.exit(f"{page}: expected the examples {sorted(names)}, found {sorted(found)}")
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    for name, (line, text) in found.items():
        # A complaint of the compiler then names the page.
        marked = f'#line {line} "docs/{pathlib.Path(page).name}"\n{text}'
        (pathlib.Path(folder) / f"{name}.cpp").write_text(marked, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

#!/usr/bin/env python3
"""Checks the order of the layers in src/, and that the library neither prints, exits nor reads the
wall clock. Prints one line `file:line: message` for each violation; exit status 1 where there is one.

It reads the text of the files: what a macro or a called function hides is not seen.
"""

import argparse
import re
import sys
from pathlib import Path

# Lowest first. A layer may include itself and those before it.
LAYERS = (
    "core config trace model hardware cache routing prefetch compression engine metrics kernels "
    "calibration report api python"
).split()
RANK = {layer: rank for rank, layer in enumerate(LAYERS)}
# These time real work on the machine that they run on.
TIMED_LAYERS = {"kernels", "calibration"}
CPP_SUFFIXES = {".h", ".hpp", ".cpp", ".cc"}

COMMENT = r"//[^\n]*|/\*.*?\*/"
STRING = r'R"(?P<delimiter>[^(\s]*)\(.*?\)(?P=delimiter)"|"(?:\\.|[^"\\\n])*"'
# Not the quote within 1'000'000.
CHARACTER = r"(?<![0-9A-Za-z_])'(?:\\.|[^'\\\n])+'"
TOKEN = re.compile(f"(?P<comment>{COMMENT})|{STRING}|{CHARACTER}", re.DOTALL)

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">\n]+)[">]', re.MULTILINE)

# A member function of such a name (`run.exit()`) is none of these.
CALL = r"(?<![\w.>])"
PRINTS = re.compile(
    r"\bw?(?:cout|cerr|clog)\b"
    + rf"|{CALL}(?:printf|vprintf|puts|putchar|perror|syslog)\s*\("
    + rf"|{CALL}v?f(?:printf|puts|putc|write|flush)\s*\([^;]*\b(?:stdout|stderr)\b"
    + rf'|{CALL}print(?:ln)?\s*\(\s*(?:stdout|stderr|"|fg\()'
)
EXITS = re.compile(rf"{CALL}(?:_?exit|_Exit|quick_exit|abort|terminate)\s*\(")
READS_CLOCK = re.compile(
    r"\b(?:steady_clock|system_clock|high_resolution_clock)\b"
    + rf"|{CALL}(?:clock_gettime|gettimeofday|localtime|gmtime)\s*\("
)


def blank(text, strings):
    """The text without comments and, where asked, without what strings hold; same lines."""

    def replace(match):
        token = match.group(0)
        if match.group("comment") is None:
            if not strings:
                return token
            return token[0] + "\n" * token.count("\n") + token[-1]
        return " " + "\n" * token.count("\n")

    return TOKEN.sub(replace, text)


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def include_error(layer, opening, path, root):
    """Why a file of `layer` (None: of sim/) may not have this include; None where it may."""
    if path.startswith(".") or "/../" in path:
        return f'relative include "{path}"; include paths start at src/'
    first = path.split("/")[0] if "/" in path else None
    if opening == "<":
        if first in RANK and (root / "src" / path).is_file():
            return f'<{path}> is a header of the project; write "{path}"'
        return None
    if layer is None:
        return None
    if first == "sim":
        return f'src/ includes "{path}" of sim/'
    if first is None:
        return f'"{path}" does not name its layer'
    if first not in RANK:
        return f'"{path}" names the unknown layer {first}'
    if RANK[first] > RANK[layer]:
        return f'{layer} includes "{path}" of the higher layer {first}'
    return None


def check_includes(path, text, layer, root):
    code = blank(text, strings=False)
    for match in INCLUDE.finditer(code):
        message = include_error(layer, *match.groups(), root)
        if message:
            yield path, line_of(code, match.start(1)), message


def check_calls(path, text, layer):
    code = blank(text, strings=True)
    rules = [(PRINTS, "prints; only sim/ does"), (EXITS, "ends the program; only sim/ does")]
    if layer not in TIMED_LAYERS:
        rules.append((READS_CLOCK, "reads the wall clock; only kernels and calibration do"))
    for pattern, message in rules:
        for match in pattern.finditer(code):
            found = re.match(r"\w+", match.group(0)).group(0)
            yield path, line_of(code, match.start()), f"{found} {message}"


def check(root):
    """All violations of the checkout at `root`, as (path relative to it, line, message)."""
    violations = []
    for file in sorted((root / "src").rglob("*")):
        path = file.relative_to(root)
        if not file.is_file() or path == Path("src/CMakeLists.txt"):
            continue
        layer = path.parts[1] if len(path.parts) > 2 else None
        if layer not in RANK:
            violations.append((path, 1, f"not in a layer; known: {' '.join(LAYERS)}"))
        elif file.suffix in CPP_SUFFIXES:
            text = file.read_text(encoding="utf-8")
            violations += check_includes(path, text, layer, root)
            violations += check_calls(path, text, layer)
    for file in sorted((root / "sim").rglob("*")):
        if file.suffix in CPP_SUFFIXES:
            text = file.read_text(encoding="utf-8")
            violations += check_includes(file.relative_to(root), text, None, root)
    return violations


def main():
    parser = argparse.ArgumentParser(description="Checks the order of the layers in src/.")
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).resolve().parent.parent)
    root = parser.parse_args().root
    if not (root / "src").is_dir():
        parser.error(f"{root} has no folder src")
    violations = check(root)
    for path, line, message in violations:
        print(f"{path}:{line}: {message}")
    if violations:
        sys.exit(1)
    print(f"layers in order: {' '.join(LAYERS)}")


if __name__ == "__main__":
    main()

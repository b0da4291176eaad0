"""Colours, dashes and markers. Colours: Okabe and Ito (2008), told apart by colour-blind readers; its
yellow is left out, which is invisible on white. No meaning is in colour alone: each series has a dash
and a marker of its own, each part of a bar a pattern, and every chart a table.
"""

COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
# Plotly's names; matplotlib's stand beside them.
DASHES = [("solid", "-"), ("dash", (0, (6, 3))), ("dot", (0, (1.5, 2))), ("dashdot", "-."), ("longdash", (0, (10, 3)))]
MARKERS = [("circle", "o"), ("square", "s"), ("diamond", "D"), ("triangle-up", "^"), ("x", "X"),
           ("triangle-down", "v"), ("pentagon", "p")]  # fmt: skip
PATTERNS = [("", ""), ("/", "//"), ("x", "xx"), (".", ".."), ("-", "--")]


def colour(style):
    return COLOURS[style % len(COLOURS)]


def text_on(style):
    """What is read on this colour; the blue is lighter in the dark theme."""
    return "@onblue" if colour(style) == COLOURS[0] else "#000000"


def dash(style):
    return DASHES[style % len(DASHES)]


def marker(style):
    return MARKERS[style % len(MARKERS)]


def pattern(style):
    return PATTERNS[style % len(PATTERNS)]

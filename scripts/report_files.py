"""Which files a report reads and writes: none of them may be another."""

import os

from report_error import ReportError
from report_results import neighbours, split_pair
from report_trace import trace_places


def check_folder(path, option):
    if not path.parent.is_dir():
        raise ReportError(f"{option} {path}: expected an existing folder, got {path.parent}")
    if path.is_dir():
        raise ReportError(f"{option} {path}: expected a file, got a folder")


def inputs_of(options, given):
    """Every file that was read or will be: named, beside a result, or where a result says.

    REQUIRES: options.results were read.
    """
    for argument in options.results:
        path, tokens = split_pair(argument)
        yield from [path] if tokens is None else [path, tokens]
        yield from filter(os.path.isfile, neighbours(path))
    yield from options.measured
    yield from options.trace
    for run in given.runs:
        yield from filter(os.path.isfile, trace_places(run))


def check_own(outputs, inputs, png=None):
    """`outputs`: (option, path) of each file to write; `png`: the folder that is made for pictures."""
    taken = {os.path.realpath(path): f"the input {path}" for path in inputs}
    for folder in [png, *png.parents] if png else []:
        taken[os.path.realpath(folder)] = "the folder of --png"
    for option, path in outputs:
        place = os.path.realpath(path)
        if path.is_dir():
            raise ReportError(f"{option} {path}: expected a file, got a folder")
        if place in taken:
            raise ReportError(f"{option} {path}: expected a file of its own, got {taken[place]}")
        taken[place] = f"that of {option}"

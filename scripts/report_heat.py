"""Use of each expert in each layer, counted in the trace file."""

from report_chart import Chart, Section
from report_error import ReportError
from report_format import slug
from report_series import ordered
from report_trace import checksum, expected_checksum, find_trace, read_counts

INTRO = ("How often the model's own routing chose each expert, as a share of the measured tokens. Few bright "
         "cells in a row: holding those experts serves that layer. An even row: a cache lives on experts that "
         "come back soon.")  # fmt: skip


def check_given(runs, traces):
    """A trace of the command line must exist and be one of those that the results are of."""
    expected = {expected_checksum(run) for run in runs}
    for path in traces:
        try:
            got = checksum(path)
        except OSError as error:
            raise ReportError(f"{path}: cannot be read: {error.strerror.lower()}") from None
        if got not in expected:
            raise ReportError(f"{path}: expected the trace of a result, got a file with another checksum")


def workload_chart(workload, run, path, several):
    k = int(run.number("/config/routing/k") or 1)
    counts, tokens, remark = read_counts(path, run.at("/config/trace"), k)
    shares = 100 * counts / max(1, tokens)
    layers, experts = counts.shape
    even = 100 * k / experts
    return Chart(
        id="experts" + (f"-{slug(workload)}" if several else ""),
        title=f"Experts chosen, by layer: {path.name}" + (f", {workload}" if several else ""),
        summary=f"Share of {tokens} tokens that chose each of {experts} experts in each of {layers} layers, "
        f"{k} a token and layer. Even use would be {even:.3g} %. {remark}".strip(),
        x_title="expert",
        y_title="MoE layer",
        traces=[{"look": "heat", "name": "tokens, %", "style": None, "x": list(range(experts)),
                 "y": list(range(layers)), "z": [[round(float(v), 3) for v in row] for row in shares]}],
        header=["layer", *map(str, range(experts))],
        rows=[[str(layer), *(f"{value:.1f}" for value in row)] for layer, row in enumerate(shares)],
    )  # fmt: skip


def heat_section(points, traces):
    section = Section("experts", "Use of the experts", INTRO)
    check_given([p.run for p in points], traces)
    workloads, reasons = ordered(p.workload for p in points), []
    for workload in workloads:
        run = next(p.run for p in points if p.workload == workload)
        path, why = find_trace(run, traces)
        if path is None:
            reasons.append(why)
        else:
            section.charts.append(workload_chart(workload, run, path, len(workloads) > 1))
    if reasons:
        section.missing = f"Needs the trace file (--trace FILE): {'; '.join(ordered(reasons))}."
    elif not points:
        section.missing = "Needs a result, and the trace file that it names."
    return section

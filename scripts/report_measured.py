"""Measured beside simulated: documents of `sim validate`, of both kinds."""

from pathlib import Path

import numpy as np

from report_chart import Chart, Section
from report_format import figures, signed

BAND = 0.10
MEAN = "mean time"
# Name -> where a measured row has it, and where one side of a machine's validation does.
TIMES = {
    MEAN: (("wall_ms", "mean"), ("throughput", "tpot_ms", "mean")),
    "p99 time": (("wall_ms", "p99"), ("throughput", "tpot_ms", "p99")),
    "I/O": (("io_ms",), ("io_ms_per_token",)),
    "compute": (("compute_ms",), ("time_ms_per_token", "compute")),
}


def positive(document, keys):
    """A number above 0 at the end of these keys; None where there is none."""
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    known = isinstance(document, (int, float)) and not isinstance(document, bool) and document > 0
    return float(document) if known else None


def sides_of(source, document):
    """(what, measured, simulated, fitted, which of the two places in TIMES) of a document."""
    if "rows" not in document:
        yield Path(source).stem, document["real"], document["simulated"], False, 1
    for row in document.get("rows", []):
        yield row["id"], row["measured"], row.get("simulated"), bool(row.get("fitted")), 0


def pairs_of(source, document):
    """(what, time, measured, simulated, fitted), in ms."""
    for what, measured, simulated, fitted, kind in sides_of(source, document):
        for name, places in TIMES.items():
            both = positive(measured, places[kind]), positive(simulated, places[kind])
            if all(both):
                yield what, name, *both, fitted


def pairs(validations):
    for source, document in validations:
        yield from pairs_of(source, document)


def band_of(values):
    low, high = min(values) / 1.2, max(values) * 1.2
    return {"share": BAND, "low": low, "high": high}


def inside_band(measured, simulated):
    return abs(simulated / measured - 1) <= BAND


def measured_traces(found):
    """One trace a time; hollow: rows that the device was fitted to."""
    for style, time in enumerate(TIMES):
        for fitted in (False, True):
            of = [f for f in found if (f[1], f[4]) == (time, fitted)]
            if of:
                yield {"look": "points", "name": time + (", fitted to" if fitted else ""), "style": style,
                       "hollow": fitted, "x": [f[2] for f in of], "y": [f[3] for f in of],
                       "text": [f[0] for f in of]}  # fmt: skip


def summary_of(found):
    errors = [abs(s / m - 1) for _, time, m, s, fitted in found if time == MEAN and not fitted]
    if not errors:
        return "No mean time was measured that the device was not fitted to."
    inside = sum(error <= BAND for error in errors)
    return (f"{inside} of {len(errors)} mean times that the device was not fitted to lie within 10 % of the "
            f"measured one; their median absolute error is {100 * float(np.median(errors)):.1f} %, the largest "
            f"{100 * max(errors):.1f} %.")  # fmt: skip


def measured_chart(found):
    return Chart(
        id="measured",
        title="Measured against simulated",
        summary=summary_of(found),
        x_title="measured, ms",
        y_title="simulated, ms",
        traces=list(measured_traces(found)),
        header=["what", "time", "measured, ms", "simulated, ms", "error", "within 10 %", "fitted to"],
        rows=[[what, time, figures(m, 4), figures(s, 4), signed(s / m - 1),
               "yes" if inside_band(m, s) else "no", "yes" if fitted else "no"]
              for what, time, m, s, fitted in found],
        band=band_of([v for _, _, m, s, _ in found for v in (m, s)]),
        log=True,
    )  # fmt: skip


def measured_section(validations):
    section = Section(
        "measured",
        "Measured against simulated",
        "On the diagonal a simulation is right; the band is 10 % either way. An error is simulated / measured - 1.",
    )
    found = list(pairs(validations))
    if found:
        section.charts.append(measured_chart(found))
    else:
        section.missing = "Needs a document of sim validate (--measured FILE)."
    return section

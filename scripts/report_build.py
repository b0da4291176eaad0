"""Everything of a report but its form: from what was read to rows, sections and words."""

from dataclasses import dataclass

from report_curves import miss_section, pareto_section, speed_section
from report_error import ReportError
from report_format import slug
from report_heat import heat_section
from report_measured import measured_section
from report_rows import make_rows, noise_of
from report_series import default_capacity, make_points, nearest_capacity, ordered
from report_times import latency_section, parts_section


@dataclass
class Report:
    title: str
    given: object
    points: list
    rows: list
    sections: list
    capacity: float | None  # the cache size of what is shown for one size
    baseline: str | None
    noise: float | None

    @property
    def charts(self):
        return [chart for section in self.sections for chart in section.charts]


def choose_baseline(points, wanted):
    settings = ordered(p.setting for p in points)
    if wanted is not None and wanted not in settings:
        raise ReportError(f"--baseline: expected one of {', '.join(settings)}, got {wanted}")
    return wanted or ("top_k" if "top_k" in settings else None)


def choose_capacity(points, wanted):
    return default_capacity(points) if wanted is None else nearest_capacity(points, wanted)


def make_ids_unique(sections):
    """Names that differ may have one slug; elements of the page and files of pictures may not."""
    taken = set()
    for chart in (chart for section in sections for chart in section.charts):
        name = chart.id = slug(chart.id)
        number = 1
        while chart.id in taken:
            number += 1
            chart.id = f"{name}-{number}"
        taken.add(chart.id)


def build(given, *, title="moesim report", traces=(), baseline=None, at=None):
    points = make_points(given.runs)
    rows = make_rows(points)
    rows_of = {id(row.point): row for row in rows}
    styles = {setting: number for number, setting in enumerate(ordered(p.setting for p in points))}
    capacity = choose_capacity(points, at)
    chosen = [row.point for row in rows if row.point.capacity == capacity]
    sections = [
        miss_section(points, styles),
        speed_section(points, styles, rows_of),
        pareto_section(chosen, styles, rows_of),
        latency_section(chosen, styles),
        parts_section(chosen),
        heat_section(points, traces),
        measured_section(given.validations),
    ]
    make_ids_unique(sections)
    baseline = choose_baseline(points, baseline) if points else None
    return Report(title, given, points, rows, sections, capacity, baseline, noise_of(given.validations))

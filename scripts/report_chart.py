"""What a chart is, before anything draws it: report_plotly.py (HTML) and report_png.py do."""

from dataclasses import dataclass, field


@dataclass
class Chart:
    """Traces are dictionaries:

    look    "line" with markers, "curve" without, "points", "floor" (dashed), "front" (thin, dotted),
            "bar" (one part of stacked bars), "heat"
    name    of the legend; several traces of one name share an entry
    style   index of colour, dash and marker; None is the text colour. Of bars: the index of the part
    x, y    numbers (y of bars: categories; z of heat: rows)
    error   (below, above) lists of y, optional
    text    what hovering says of each point, optional
    hidden  not in the legend, optional
    """

    id: str
    title: str
    summary: str  # one sentence: what it shows; the text alternative's first part
    x_title: str
    y_title: str
    traces: list
    header: list  # of the table of its numbers
    rows: list
    marks: list = field(default_factory=list)  # {"axis": "x"|"y", "at", "label"}
    band: dict | None = None  # {"share", "low", "high"}: around the diagonal
    log: bool = False  # both axes
    zero: bool = True  # y begins at 0
    x_zero: bool = False
    top: float | None = None  # y ends here


@dataclass
class Section:
    """A part of the page. `missing`: one line that says what would have to be given; or None."""

    id: str
    title: str
    intro: str
    charts: list = field(default_factory=list)
    missing: str | None = None

"""Charts as PNG for papers: the same numbers and styles, drawn by matplotlib."""

from report_error import ReportError
from report_style import colour, dash, marker, pattern

INK = "black"


def load_pyplot():
    try:
        import matplotlib

        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    except ImportError:
        raise ReportError("--png: needs matplotlib, the Debian package python3-matplotlib") from None
    return plt


def draw_line(axes, trace):
    look, style = trace["look"], trace["style"]
    label = None if trace.get("hidden") else trace["name"]
    if look == "floor":
        axes.plot(trace["x"], trace["y"], color=INK, linestyle="--", linewidth=1.5, label=label)
    elif look == "front":
        axes.plot(trace["x"], trace["y"], color=INK, linestyle=":", linewidth=1.2, label=label)
    else:
        plain = {"color": colour(style), "label": label}
        line = dash(style)[1] if look in ("line", "curve") else "none"
        points = marker(style)[1] if look in ("line", "points") else "none"
        face = "none" if trace.get("hollow") else colour(style)
        axes.errorbar(trace["x"], trace["y"], yerr=trace.get("error"), linestyle=line, marker=points,
                      markersize=5, markerfacecolor=face, capsize=2, linewidth=1.5, **plain)  # fmt: skip


def draw_bars(axes, traces):
    names = traces[0]["y"]
    left = [0.0] * len(names)
    for trace in traces:
        axes.barh(range(len(names)), trace["x"], left=left, color=colour(trace["style"]), edgecolor="white",
                  hatch=pattern(trace["style"])[1], label=trace["name"])  # fmt: skip
        left = [a + b for a, b in zip(left, trace["x"])]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()


def draw_heat(plt, axes, trace):
    image = axes.imshow(trace["z"], cmap="cividis", aspect="auto", vmin=0, interpolation="nearest")
    plt.colorbar(image, ax=axes, label=trace["name"])


def draw_band(axes, band):
    ends, share = [band["low"], band["high"]], band["share"]
    axes.fill_between(ends, [e * (1 - share) for e in ends], [e * (1 + share) for e in ends], color="#dddddd",
                      linewidth=0, label=f"within {100 * share:.0f} %", zorder=0)  # fmt: skip
    axes.plot(ends, ends, color=INK, linewidth=0.8)


def finish(axes, chart):
    for mark in chart.marks:
        draw = axes.axvline if mark["axis"] == "x" else axes.axhline
        draw(mark["at"], color=INK, linewidth=0.8, linestyle=":")
        place = {"xy": (mark["at"], 1), "xycoords": ("data", "axes fraction"), "va": "bottom"}
        if mark["axis"] == "y":
            place = {"xy": (1, mark["at"]), "xycoords": ("axes fraction", "data"), "va": "top", "ha": "right"}
        axes.annotate(mark["label"], fontsize=8, **place)
    if chart.log:
        axes.set(xscale="log", yscale="log")
    elif chart.zero and chart.traces[0]["look"] not in ("bar", "heat"):
        axes.set_ylim(bottom=0, top=chart.top)
    if chart.x_zero:
        axes.set_xlim(left=0)
    axes.set(xlabel=chart.x_title, ylabel=chart.y_title)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, frameon=False, handlelength=3, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)


def write_png(plt, chart, path):
    figure, axes = plt.subplots(figsize=(7.2, 3.6))
    looks = {trace["look"] for trace in chart.traces}
    if chart.band:
        draw_band(axes, chart.band)
    if looks == {"bar"}:
        draw_bars(axes, chart.traces)
    elif looks == {"heat"}:
        draw_heat(plt, axes, chart.traces[0])
    else:
        for trace in chart.traces:
            draw_line(axes, trace)
    finish(axes, chart)
    figure.savefig(path, dpi=200, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)

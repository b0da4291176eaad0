"""A Chart as data and layout of Plotly.js. What depends on the theme (`ink`, `paper`, `grid`) is put
in by report.js: its place holds the name with an @."""

from report_style import colour, dash, marker, pattern, text_on

INK, PAPER, GRID, BAND = "@ink", "@paper", "@grid", "@band"
HEIGHT = 360


def wrapped(text, width=15):
    """Lines of a label, broken at spaces and underscores, so that it fits beside a narrow chart."""
    lines, line = [], ""
    for word in text.replace("_", "_ ").replace("_  ", "_ ").split():
        if line and len(line) + len(word) > width:
            lines.append(line)
            line = ""
        line += word if not line or line.endswith("_") else " " + word
    return "<br>".join([*lines, line])


def colour_of(trace):
    return INK if trace["style"] is None else colour(trace["style"])


def marker_of(trace, size):
    symbol, hollow = marker(trace["style"])[0], trace.get("hollow")
    size += 3 if symbol.startswith("triangle") else 0  # their area is half of a square's
    line = {"color": colour_of(trace), "width": 1.5} if hollow else {"color": PAPER, "width": 0.75}
    return {"color": colour_of(trace), "symbol": symbol + ("-open" if hollow else ""), "size": size, "line": line}


def line_of(trace):
    if trace["look"] == "floor":
        return {"color": INK, "dash": "dash", "width": 2}
    if trace["look"] == "front":
        return {"color": INK, "dash": "dot", "width": 1.5}
    return {"color": colour_of(trace), "dash": dash(trace["style"])[0], "width": 2}


MODES = {"line": "lines+markers", "curve": "lines", "points": "markers", "floor": "lines", "front": "lines"}


def scatter(trace, x_unit, y_unit):
    look = trace["look"]
    drawn = {"type": "scatter", "mode": MODES[look], "name": trace["name"], "x": trace["x"], "y": trace["y"],
             "legendgroup": trace["name"], "cliponaxis": False,
             "hovertemplate": f"%{{x:.4~g}} {x_unit}<br>%{{y:.4~g}} {y_unit}"}  # fmt: skip
    if "lines" in MODES[look]:
        drawn["line"] = line_of(trace)
    if "markers" in MODES[look]:
        drawn["marker"] = marker_of(trace, 9 if look == "points" else 8)
    if "text" in trace:
        drawn["text"] = trace["text"]
        drawn["hovertemplate"] = "%{text}<br>" + drawn["hovertemplate"]
    if "error" in trace:
        below, above = trace["error"]
        drawn["error_y"] = {"type": "data", "symmetric": False, "array": above, "arrayminus": below,
                            "color": colour_of(trace), "thickness": 1.2, "width": 3}  # fmt: skip
    drawn["showlegend"] = not trace.get("hidden", False)
    return drawn


def bar(trace):
    return {"type": "bar", "orientation": "h", "name": trace["name"], "x": trace["x"],
            "y": [wrapped(name) for name in trace["y"]], "texttemplate": "%{x:.3~g}",
            "textposition": "inside", "insidetextanchor": "middle", "textangle": 0,
            "hovertemplate": "%{x:.4~g} ms", "insidetextfont": {"color": text_on(trace["style"])},
            "marker": {"color": colour(trace["style"]), "line": {"color": PAPER, "width": 1},
                       "pattern": {"shape": pattern(trace["style"])[0], "fgcolor": "rgba(0,0,0,0.35)",
                                   "fillmode": "overlay", "size": 7, "solidity": 0.15}}}  # fmt: skip


def heat(trace):
    return {"type": "heatmap", "x": trace["x"], "y": trace["y"], "z": trace["z"], "colorscale": "Cividis",
            "zmin": 0, "hovertemplate": "layer %{y}, expert %{x}: %{z:.3~g} %<extra></extra>",
            "colorbar": {"title": {"text": trace["name"], "side": "right"}, "thickness": 12, "outlinewidth": 0,
                         "tickfont": {"color": INK}}}  # fmt: skip


def axis(title):
    return {"title": {"text": title, "standoff": 8}, "automargin": True, "gridcolor": GRID, "linecolor": INK,
            "zeroline": False, "ticks": "outside", "tickcolor": INK, "showline": True}  # fmt: skip


def layout_of(chart, kinds):
    x, y = axis(chart.x_title), axis(chart.y_title)
    layout = {"xaxis": x, "yaxis": y, "height": HEIGHT, "margin": {"l": 56, "r": 14, "t": 26 if chart.marks else 10, "b": 48},
              "showlegend": False, "font": {"color": INK, "size": 13}, "paper_bgcolor": "rgba(0,0,0,0)",
              "plot_bgcolor": "rgba(0,0,0,0)", "hovermode": "closest", "dragmode": False, "shapes": [],
              "annotations": []}  # fmt: skip
    if kinds == {"bar"}:
        lines = sum(wrapped(name).count("<br>") + 2 for name in chart.traces[0]["y"])
        layout.update(barmode="stack", height=110 + 24 * lines, uniformtext={"minsize": 10, "mode": "hide"})
        y.update(autorange="reversed", ticks="", gridcolor="rgba(0,0,0,0)")
        x["rangemode"] = "tozero"
    elif kinds == {"heat"}:
        layout["height"] = 150 + 16 * len(chart.traces[0]["y"])
        y.update(autorange="reversed", showgrid=False)
        x.update(showgrid=False)
    elif chart.log:
        for one in (x, y):
            one.update(type="log", dtick=1 if chart.band["high"] > 100 * chart.band["low"] else "D2")
    elif chart.zero:
        y["rangemode"] = "tozero"
    if chart.x_zero:
        x["rangemode"] = "tozero"
    if chart.top is not None:
        y.update(range=[0, chart.top])
    return layout


def add_marks(chart, layout):
    for mark in chart.marks:
        vertical = mark["axis"] == "x"
        line = {"type": "line", "line": {"color": INK, "width": 1, "dash": "dot"}, "layer": "below"}
        across = {"x0": mark["at"], "x1": mark["at"], "y0": 0, "y1": 1, "xref": "x", "yref": "paper"}
        along = {"y0": mark["at"], "y1": mark["at"], "x0": 0, "x1": 1, "yref": "y", "xref": "paper"}
        layout["shapes"].append({**line, **(across if vertical else along)})
        above = {"x": mark["at"], "y": 1, "xref": "x", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
        end = {"x": 1, "y": mark["at"], "xref": "paper", "yref": "y", "xanchor": "right", "yanchor": "top"}
        text = {"text": mark["label"], "showarrow": False, "font": {"size": 12}}
        layout["annotations"].append({**text, **(above if vertical else end)})


def band_traces(band):
    """The diagonal and the area around it."""
    ends, share = [band["low"], band["high"]], band["share"]
    area = {"type": "scatter", "mode": "lines", "x": [*ends, *reversed(ends)], "fill": "toself",
            "y": [e * (1 - share) for e in ends] + [e * (1 + share) for e in reversed(ends)],
            "fillcolor": BAND, "line": {"width": 0}, "hoverinfo": "skip",
            "name": f"within {100 * share:.0f} %"}  # fmt: skip
    line = {"type": "scatter", "mode": "lines", "x": ends, "y": ends, "line": {"color": INK, "width": 1},
            "hoverinfo": "skip", "showlegend": False, "name": "equal"}  # fmt: skip
    return [area, line]


def figure(chart):
    """{"id", "data", "layout"} of a Chart."""
    kinds = {t["look"] if t["look"] in ("bar", "heat") else "xy" for t in chart.traces}
    layout = layout_of(chart, kinds)
    add_marks(chart, layout)
    x_unit, y_unit = (title.rpartition(", ")[2] for title in (chart.x_title, chart.y_title))
    drawn = [bar(t) if t["look"] == "bar" else heat(t) if t["look"] == "heat" else scatter(t, x_unit, y_unit)
             for t in chart.traces]  # fmt: skip
    if chart.band:
        drawn = band_traces(chart.band) + drawn
    return {"id": chart.id, "data": drawn, "layout": layout}

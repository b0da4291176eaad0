"use strict";
(function () {
  const charts = JSON.parse(document.getElementById("report-data").textContent);
  const themes = {
    light: { "@ink": "#1b1f24", "@paper": "#ffffff", "@grid": "#e3e6ea", "@band": "rgba(0,0,0,0.10)",
      "@onblue": "#ffffff" },
    dark: { "@ink": "#e8eaed", "@paper": "#14171b", "@grid": "#31373f", "@band": "rgba(255,255,255,0.16)",
      "@onblue": "#000000", "#0072B2": "#2a8fd0" },
  };
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  const hidden = new Map(); // chart id -> names that the reader switched off
  const root = document.documentElement;

  function theme() {
    return root.dataset.theme || (prefersDark.matches ? "dark" : "light");
  }

  // A copy with the colours of the theme in place of their names.
  function painted(value, colours) {
    if (typeof value === "string") return colours[value] || value;
    if (Array.isArray(value)) {
      return typeof value[0] === "number" ? value : value.map((item) => painted(item, colours));
    }
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, painted(item, colours)]));
  }

  function draw(chart, colours, width) {
    const off = hidden.get(chart.id) || new Set();
    const data = painted(chart.data, colours);
    for (const trace of data) {
      trace.visible = !off.has(trace.name);
      trace.hoverlabel = { namelength: -1 };
    }
    const layout = painted(chart.layout, colours);
    layout.dragmode = window.matchMedia("(pointer: fine)").matches ? "zoom" : false;
    if (width) layout.width = width;
    const options = { displayModeBar: false, responsive: !width, doubleClick: "reset" };
    return Plotly.react("chart-" + chart.id, data, layout, options);
  }

  function drawAll(name, width) {
    for (const chart of charts) draw(chart, themes[name], width);
  }

  const symbols = {
    circle: "M18,2.5a4.5,4.5 0 1 0 .01,0Z", square: "M14,3h8v8h-8Z", diamond: "M18,1.5L23.5,7L18,12.5L12.5,7Z",
    "triangle-up": "M18,2L23,11H13Z", "triangle-down": "M18,12L23,3H13Z", pentagon: "M18,2L23,6L21,12H15L13,6Z",
    x: "M14,1.5L18,5L22,1.5L23.5,3L20,7L23.5,11L22,12.5L18,9L14,12.5L12.5,11L16,7L12.5,3Z",
  };
  const dashes = { solid: "", dash: "7 4", dot: "2 3", dashdot: "7 3 2 3", longdash: "11 4" };

  const named = { "@ink": "currentColor", "@band": "currentColor", "#0072B2": "var(--blue)" };

  function shape(element, place, style) {
    return `<${element} ${place} style="${style}"/>`;
  }

  // Lines for a pattern, over a box of 20 x 12.
  const hatches = { "": "", "/": "M9,12L20,1M17,13L28,2", x: "M9,13L20,1M17,13L28,2M9,1L20,13M17,1L28,13",
    ".": "M13,5h2M21,5h2M13,10h2M21,10h2", "-": "M8,5h20M8,9h20" };

  function boxSwatch(trace) {
    const colour = trace.fill ? trace.fillcolor : trace.marker.color;
    const box = shape("rect", 'x="8" y="1" width="20" height="12"',
      `fill:${named[colour] || colour};opacity:${trace.fill ? 0.2 : 1}`);
    const lines = trace.fill ? "" : hatches[trace.marker.pattern.shape];
    return box + shape("path", `d="${lines}"`, "fill:none;stroke:rgba(0,0,0,.6)");
  }

  function lineSwatch(trace) {
    let drawn = "";
    if (trace.line) {
      const dash = dashes[trace.line.dash] || "none";
      const stroke = named[trace.line.color] || trace.line.color;
      drawn += shape("path", 'd="M0,7H36"', `fill:none;stroke:${stroke};stroke-width:2;stroke-dasharray:${dash}`);
    }
    if (trace.marker) {
      const open = trace.marker.symbol.endsWith("-open");
      const c = named[trace.marker.color] || trace.marker.color;
      drawn += shape("path", `d="${symbols[trace.marker.symbol.replace("-open", "")]}"`,
        open ? `fill:none;stroke:${c};stroke-width:1.5` : `fill:${c}`);
    }
    return drawn;
  }

  function swatch(trace) {
    const drawn = trace.type === "bar" || trace.fill ? boxSwatch(trace) : lineSwatch(trace);
    return `<svg width="36" height="14" viewBox="0 0 36 14" aria-hidden="true">${drawn}</svg>`;
  }

  function addLegend(chart) {
    const box = document.getElementById("legend-" + chart.id);
    const off = new Set();
    hidden.set(chart.id, off);
    const entries = new Map();
    for (const trace of chart.data) {
      if (trace.showlegend !== false && trace.type !== "heatmap" && !entries.has(trace.name)) {
        entries.set(trace.name, trace);
      }
    }
    for (const [name, trace] of entries) {
      const button = document.createElement("button");
      button.type = "button";
      button.innerHTML = swatch(trace);
      button.append(name);
      button.setAttribute("aria-pressed", "true");
      button.title = "Show or hide";
      button.addEventListener("click", () => {
        const shown = off.has(name);
        if (shown) off.delete(name);
        else off.add(name);
        button.setAttribute("aria-pressed", String(shown));
        draw(chart, themes[theme()]);
      });
      box.append(button);
    }
  }

  function sortValue(row, column) {
    const cell = row.cells[column];
    if (cell.dataset.value !== undefined) return Number(cell.dataset.value);
    const text = cell.textContent.trim();
    return text === "" || text === "n/a" ? null : text;
  }

  // Numbers before texts, unknown values last whatever the direction; equal ones keep their order.
  function compare(a, b, direction) {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    const order = typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
    return direction * order;
  }

  function sortBy(table, column) {
    const heads = [...table.tHead.rows[0].cells];
    const next = heads[column].getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[column].setAttribute("aria-sort", next);
    const direction = next === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows].map((row) => [sortValue(row, column), row]);
    rows.sort((a, b) => compare(a[0], b[0], direction));
    table.tBodies[0].append(...rows.map((pair) => pair[1]));
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => sortBy(table, column));
    });
  }

  const size = document.getElementById("size");
  function showSize() {
    for (const row of document.querySelectorAll("table.headline tbody tr")) {
      row.hidden = size.value !== "" && row.dataset.size !== size.value;
    }
  }
  if (size) {
    size.addEventListener("change", showSize);
    showSize();
  }

  const toggle = document.getElementById("theme");
  function applyTheme() {
    toggle.textContent = theme() === "dark" ? "Light theme" : "Dark theme";
    drawAll(theme());
  }
  toggle.addEventListener("click", () => {
    root.dataset.theme = theme() === "dark" ? "light" : "dark";
    applyTheme();
  });
  prefersDark.addEventListener("change", applyTheme);
  // Paper is white, and as wide as this in px of CSS.
  window.addEventListener("beforeprint", () => {
    root.dataset.printedFrom = root.dataset.theme || "";
    root.dataset.theme = "light";
    drawAll("light", 660);
  });
  window.addEventListener("afterprint", () => {
    if (root.dataset.printedFrom) root.dataset.theme = root.dataset.printedFrom;
    else delete root.dataset.theme;
    delete root.dataset.printedFrom;
    drawAll(theme());
  });

  charts.forEach(addLegend);
  applyTheme();
})();

// Plots over the trials that the filter leaves. All are drawn as SVG: no WebGL, no function from text.
const style = getComputedStyle(document.documentElement);
// Buttons are listed, so that none which sends data away appears with a newer library.
const CONFIG = {
  responsive: true, displaylogo: false, displayModeBar: "hover", modeBarButtons: [["toImage", "resetScale2d"]],
};
const palette = new Map(); // asking for a style after every change of the page would be slow
const picked = { line: null, x: null, y: null, method: null };

function colour(name) {
  if (!palette.has(name)) palette.set(name, style.getPropertyValue(name).trim());
  return palette.get(name);
}

function inkOf(method) {
  return colour(`--m${methods.indexOf(method) % 8}`);
}

function layout(changes) {
  const axis = { gridcolor: colour("--rule"), linecolor: colour("--rule"), zeroline: false, automargin: true };
  const { xaxis, yaxis, ...rest } = changes;
  return {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest", dragmode: "zoom",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--soft") },
    hoverlabel: { bgcolor: colour("--paper"), bordercolor: colour("--rule"), font: { color: colour("--ink"), size: 12 }, align: "left" },
    margin: { l: 48, r: 16, t: 10, b: 44 }, modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("--soft"), activecolor: colour("--ink") },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, font: { size: 12, color: colour("--ink") } },
    xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, ...rest,
  };
}

// Hover texts are html to the library: what comes from strangers loses its angle brackets.
function safe(text) {
  return String(text).replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

function draw(id, traces, changes, reason = "") {
  const node = byId(id);
  node.classList.toggle("empty", !traces.length);
  if (!traces.length) {
    Plotly.purge(node);
    node.replaceChildren(reason);
    return;
  }
  if (!node.data) node.replaceChildren();
  Plotly.react(node, traces, layout(changes), CONFIG);
  node.removeAllListeners?.("plotly_click");
  node.on("plotly_click", ({ points: [point] }) => {
    const ids = [point.customdata].flat();
    if (ids[0] !== null && ids[0] !== undefined) openTrial(ids[0]);
  });
}

function missing(some, drawn) {
  const left = some.length - drawn;
  return left ? ` ${left} of ${some.length} trials have no result yet, or none here, and are not drawn.` : "";
}

// One line per setting over a key: points of trials that differ in the run seed only.
function series(some, key) {
  const judged = some.filter((t) => t.result && t.values[key] !== null);
  return [...groupBy(judged, (t) => restOf(t, key)).values()].map((group) => {
    const cells = [...groupBy(group, (t) => t.values[key])];
    if (isNumeric(key)) cells.sort(([a], [b]) => a - b);
    return { method: group[0].method, first: group[0], cells };
  }).sort((a, b) => a.method.localeCompare(b.method));
}

function lineTraces(lines, key) {
  const keys = model.keys.map((k) => k.key).filter((k) => k !== key);
  const perMethod = groupBy(lines, (line) => line.method);
  const detailed = lines.length <= 8 && lines.some((line) => line.cells.length > 1);
  return lines.map((line) => {
    const siblings = perMethod.get(line.method);
    const place = siblings.indexOf(line);
    const apart = keys.filter((k) => distinct(siblings.map((s) => s.first.values[k])).length > 1);
    const results = line.cells.map(([, group]) => summary(group));
    const text = settingText(line.first, apart);
    return {
      x: line.cells.map(([x]) => x), y: results.map((r) => 100 * r.mean),
      error_y: { type: "data", array: results.map((r) => (r.half === null ? 0 : 100 * r.half)), thickness: 1.2, width: 3, color: mix(colour("--paper"), inkOf(line.method), 0.6) },
      mode: "lines+markers", type: "scatter", legendgroup: detailed ? undefined : line.method,
      name: safe(detailed ? lineName(line, text, siblings) : line.method), showlegend: detailed || place === 0,
      opacity: siblings.length > 1 ? 1 - 0.55 * (place / (siblings.length - 1)) : 1,
      line: { color: inkOf(line.method), width: 2 },
      marker: { size: 8, color: results.map((r) => (r.several ? inkOf(line.method) : colour("--paper"))), line: { color: inkOf(line.method), width: 1.8 } },
      customdata: line.cells.map(([, group]) => group.map((t) => t.id)),
      hovertemplate: line.cells.map(([x, group], i) => `<b>${safe(line.method)}</b> ${safe(plusMinus(results[i]))} %<br>`
        + `${safe(labels[key])} ${safe(show(x))}${text ? `, ${safe(text)}` : ""}<br>${covers(results[i])}<br>`
        + `random ${plusMinus(summary(group, "random"))} %<extra></extra>`),
    };
  });
}

// What tells a line from its siblings; where no key of the table does, a trial's name.
function lineName(line, text, siblings) {
  if (text) return `${line.method}, ${text}`;
  return siblings.length > 1 ? `${line.method}, ${line.first.name}` : line.method;
}

// The random images of every line; lines with the same baseline, as all of a grid have, are one.
function randomTraces(lines) {
  const traces = new Map();
  for (const line of lines) {
    const results = line.cells.map(([, group]) => summary(group, "random"));
    const x = line.cells.map(([value]) => value), y = results.map((r) => 100 * r.mean);
    const name = JSON.stringify([x, y]);
    if (traces.has(name)) continue;
    traces.set(name, {
      x, y, name: "random real images", legendgroup: "random", showlegend: !traces.size, type: "scatter",
      error_y: { type: "data", array: results.map((r) => (r.half === null ? 0 : 100 * r.half)), thickness: 0.8, width: 2, color: mix(colour("--paper"), colour("--soft"), 0.5) },
      mode: x.length > 1 ? "lines" : "markers", opacity: 0.75, line: { color: colour("--soft"), width: 1.4, dash: "dash" },
      marker: { symbol: "line-ew-open", size: 16, color: colour("--soft"), line: { width: 1.4 } },
      customdata: line.cells.map(([, group]) => group.map((t) => t.id)),
      hovertemplate: results.map((r) => `random real images ${plusMinus(r)} %<br>${covers(r)}<extra></extra>`),
    });
  }
  return [...traces.values()];
}

function drawLine(id, key, some) {
  const lines = series(some, key);
  const values = valuesOf(key, some);
  const drawn = lines.flatMap((line) => line.cells.flatMap(([, group]) => group)).length;
  const type = !isNumeric(key) ? "category" : isLog(values) ? "log" : "linear";
  const shown = values.length > 10 ? [] : type === "linear" ? spaced(values) : values;
  const ticks = shown.length ? { tickvals: shown, ticktext: shown.map((v) => safe(show(v))), tickangle: 0 } : {};
  const traces = [...randomTraces(lines), ...lineTraces(lines, key)];
  draw(id, traces, {
    xaxis: { title: { text: safe(labels[key]) }, type, showgrid: false, ...ticks },
    yaxis: { title: { text: "test top-1, %" } },
  }, "No finished trial here yet.");
  const several = lines.some((line) => line.cells.some(([, group]) => summary(group).several));
  byId(`${id}-note`).textContent = `Mean and 95 % interval (Student t)${several ? "; filled points: over run seeds; open points" : ""}`
    + `: one run, over its judge's training seeds. A line joins trials that differ in nothing else. Dashed: random real images.`
    + missing(some, drawn);
}

// Sorted numbers without those whose labels would overlap.
function spaced(values) {
  const least = 0.055 * (values.at(-1) - values[0]);
  return values.filter((value, i) => i === 0 || value - values[i - 1] >= least);
}

// Trials of the methods in which a key was varied: to the others it is no axis.
function varied(some, key) {
  return [...groupBy(some, (t) => t.method).values()].filter((own) => valuesOf(key, own).length > 1).flat();
}

function drawHeat(some) {
  const own = some.filter((t) => t.method === picked.method);
  const keys = axisKeys(own);
  const [x, y] = [picked.x, picked.y];
  if (keys.length < 2 || x === y) {
    draw("heat", [], {}, keys.length < 2 ? "A map needs trials in which two keys were varied." : "Choose two different keys.");
    byId("heat-note").textContent = "";
    return;
  }
  const [columnsOf, rowsOf] = [valuesOf(x, own), valuesOf(y, own)];
  const cell = (row, column) => own.filter((t) => t.values[x] === column && t.values[y] === row);
  const cells = rowsOf.map((row) => columnsOf.map((column) => heatCell(cell(row, column))));
  const z = cells.map((line) => line.map((c) => c.value));
  const known = z.flat().filter((v) => v !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const small = cells.flat().length <= 120;
  const texts = cells.flatMap((line, i) => line.map((c, j) => ({
    x: j, y: i, text: small || c.value === null ? safe(c.text) : "", showarrow: false,
    font: { size: 12, color: c.value === null ? colour("--soft") : (c.value - low) / (high - low || 1) > 0.5 ? colour("--paper") : colour("--ink") },
  })));
  draw("heat", own.length && known.length ? [{
    type: "heatmap", z, x: columnsOf.map((_, i) => i), y: rowsOf.map((_, i) => i), xgap: 3, ygap: 3, hoverongaps: false,
    colorscale: [[0, colour("--low")], [1, colour("--high")]], showscale: !small, colorbar: { thickness: 10, outlinewidth: 0 },
    customdata: cells.map((line) => line.map((c) => c.ids)), text: cells.map((line) => line.map((c) => safe(c.hover))), hovertemplate: "%{text}<extra></extra>",
  }] : [], {
    annotations: texts,
    xaxis: { title: { text: safe(labels[x]) }, tickvals: columnsOf.map((_, i) => i), ticktext: columnsOf.map((v) => safe(show(v))), showgrid: false },
    yaxis: { title: { text: safe(labels[y]) }, tickvals: rowsOf.map((_, i) => i), ticktext: rowsOf.map((v) => safe(show(v))), showgrid: false },
  }, "No finished trial here yet.");
  const mixed = cells.flat().some((c) => c.settings > 1);
  byId("heat-note").textContent = "Test top-1, %, with the 95 % interval over run seeds, or over judge seeds where a cell is one run."
    + (mixed ? " Cells without an interval average several settings of other keys." : "")
    + missing(own, own.filter((t) => t.result).length);
}

// Trials of one setting have an interval; several settings in a cell are averaged, and it says so.
function heatCell(group) {
  const settings = [...groupBy(group.filter((t) => t.result), (t) => t.setting).values()];
  const ids = settings.flat().map((t) => t.id);
  const states = distinct(group.map((t) => STATUSES[t.status])).join(", ");
  if (!settings.length) return { value: null, text: states, ids: [null], hover: states, settings: 0 };
  const results = settings.map((some) => summary(some));
  const value = 100 * mean(results.map((r) => r.mean));
  if (settings.length > 1) return { value, text: value.toFixed(1), ids, hover: `${value.toFixed(1)} %, mean of ${settings.length} settings`, settings: settings.length };
  return { value, text: plusMinus(results[0]), ids, hover: `${plusMinus(results[0])} %, ${covers(results[0])}`, settings: 1 };
}

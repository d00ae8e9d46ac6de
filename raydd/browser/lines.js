// Plots with a line per trial: learning curves, and parallel coordinates over the swept keys.
const BINS = 10; // colours of the parallel lines: one trace for each, instead of one per trial
const NOWHERE = -0.14; // on an axis, where lines of trials pass that have no such key

// Mean over seeds of the first architecture, where all of them have the epoch.
function meanCurve(trainings, name) {
  const curves = trainings.map((t) => new Map(t[name])).filter((curve) => curve.size);
  if (!curves.length) return [];
  const epochs = [...curves[0].keys()].filter((epoch) => curves.every((curve) => curve.has(epoch)));
  return epochs.map((epoch) => [epoch, mean(curves.map((curve) => curve.get(epoch)))]);
}

function drawCurves(some) {
  const dashes = { finished: "solid", unfinished: "dot", stopped: "dash", failed: "dot" };
  const named = new Set();
  const traces = some.flatMap((trial) => {
    const own = trial.trainings.filter((t) => t.images === "distilled");
    const curve = meanCurve(own.filter((t) => t.architecture === own[0].architecture), "top1");
    if (!curve.length) return [];
    const first = !named.has(trial.method);
    named.add(trial.method);
    return [{
      x: curve.map(([epoch]) => epoch), y: curve.map(([, top1]) => 100 * top1), type: "scatter",
      mode: curve.length > 1 ? "lines" : "markers", name: safe(trial.method), legendgroup: trial.method, showlegend: first,
      line: { color: inkOf(trial.method), width: 1.5, dash: dashes[trial.status] }, marker: { size: 5, color: inkOf(trial.method) },
      opacity: some.length > 40 ? 0.45 : 0.85, customdata: curve.map(() => trial.id),
      hovertemplate: `<b>${safe(trial.name)}</b><br>epoch %{x}: %{y:.1f} %<br>${STATUSES[trial.status]}<extra></extra>`,
    }];
  });
  draw("curves", traces, {
    xaxis: { title: { text: "epoch" }, showgrid: false }, yaxis: { title: { text: "test top-1, %" } },
  }, "No training of the judge has been tested yet.");
  const left = some.length - traces.length;
  byId("curves-note").textContent = "Networks trained on the product, mean over judge seeds. Dashed: stopped early; dotted: unfinished or failed."
    + (left ? ` ${left} of ${some.length} trials have not come so far.` : "");
}

function drawParallel(some) {
  const judged = some.filter((t) => t.result);
  const axes = parallelAxes(judged);
  if (axes.length < 2) {
    draw("parallel", [], {}, "Lines between keys need trials in which at least one key was varied.");
    byId("parallel-note").textContent = "";
    return;
  }
  const top1 = axes.at(-1);
  const bins = groupBy(judged, (t) => Math.min(BINS - 1, Math.floor(BINS * top1.place(t))));
  const traces = [...bins].sort(([a], [b]) => a - b).map(([bin, group]) => ({
    x: group.flatMap(() => [...axes.keys(), null]), y: group.flatMap((t) => [...axes.map((axis) => axis.place(t)), null]),
    customdata: group.flatMap((t) => axes.map(() => t.id).concat(null)), type: "scatter", mode: "lines+markers", connectgaps: false, showlegend: false,
    line: { color: mix(colour("--faint"), colour("--high"), bin / (BINS - 1)), width: 1.6 }, marker: { size: 5 }, opacity: judged.length > 60 ? 0.6 : 0.9,
    text: group.flatMap((t) => Array(axes.length + 1).fill(hoverOf(t))), hovertemplate: "%{text}<extra></extra>",
  }));
  const marks = axes.flatMap((axis, x) => axis.ticks.map(([y, text]) => ({
    x, y, text: safe(text), showarrow: false, xanchor: x === axes.length - 1 ? "left" : "right", xshift: x === axes.length - 1 ? 8 : -8,
    font: { size: 11, color: colour("--soft") }, bgcolor: colour("--paper"), opacity: 0.9, borderpad: 1,
  })));
  const names = axes.map((axis, x) => ({ x, y: 1.09, text: safe(axis.name), showarrow: false, font: { size: 12, color: colour("--ink") } }));
  draw("parallel", traces, {
    margin: { l: 72, r: 56, t: 16, b: 16 }, annotations: [...marks, ...names],
    shapes: axes.map((_, x) => ({ type: "line", x0: x, x1: x, y0: 0, y1: 1, line: { color: colour("--soft"), width: 1 } })),
    xaxis: { visible: false, range: [-0.08, axes.length - 0.92], fixedrange: true }, yaxis: { visible: false, range: [-0.2, 1.15], fixedrange: true },
  });
  byId("parallel-note").textContent = "A line is a finished trial; the stronger its colour, the more accurate; it passes below an axis that it has no value for. The filter above brushes."
    + missing(some, judged.length);
}

// Every axis maps a trial to [0, 1], or below it where the trial lacks the key; accuracy is last.
function parallelAxes(some) {
  const named = (name, title) => ({ title, read: (t) => t[name] });
  const candidates = [
    named("method", "method"), named("dataset", "data set"),
    ...axisKeys(some).slice(0, 7).map((key) => ({ title: labels[key], read: (t) => t.values[key] })),
  ].filter(({ read }) => distinct(some.map(read)).length > 1);
  const top1 = { title: "top-1, %", read: (t) => Number(percent(summary([t]).mean)) };
  return [...candidates, top1].map(({ title, read }) => axisOf(title, read, some));
}

function axisOf(name, read, some) {
  const values = distinct(some.map(read).filter((v) => v !== null && v !== undefined));
  const numeric = values.every((v) => typeof v === "number");
  values.sort((a, b) => (numeric ? a - b : String(a).localeCompare(String(b))));
  const scale = !numeric ? (v) => values.indexOf(v) : isLog(values) ? Math.log : (v) => v;
  const [low, high] = [scale(values[0]), scale(values.at(-1))];
  const at = (value) => (high > low ? (scale(value) - low) / (high - low) : 0.5);
  const shown = values.length <= 6 || !numeric ? values : [values[0], values[Math.floor(values.length / 2)], values.at(-1)];
  const lacks = (trial) => read(trial) === null || read(trial) === undefined;
  const place = (trial) => (lacks(trial) ? NOWHERE : at(read(trial)));
  const ticks = shown.map((value) => [at(value), show(value)]);
  return { name, place, ticks: some.some(lacks) ? [[NOWHERE, "–"], ...ticks] : ticks };
}

function hoverOf(trial) {
  const text = settingText(trial, model.keys.map(({ key }) => key));
  const result = summary([trial]);
  return `<b>${safe(trial.name)}</b><br>${safe(trial.method)}, ${safe(text)}<br>${plusMinus(result)} %, ${covers(result)}`;
}

function mix(from, to, share) {
  const parts = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const [a, b] = [parts(from), parts(to)];
  return `rgb(${a.map((v, i) => Math.round(v + (b[i] - v) * share)).join(",")})`;
}

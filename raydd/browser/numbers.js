// The trials, what a filter leaves of them, and the statistics of every number on the page.
const model = JSON.parse(document.getElementById("data").textContent);
const trials = model.trials;
const labels = Object.fromEntries(model.keys.map(({ key, label }) => [key, label]));
const methods = distinct(trials.map((t) => t.method)).sort();
const STATUSES = {
  finished: "finished", unfinished: "unfinished", stopped: "stopped early", failed: "failed",
};
trials.forEach((trial, id) => {
  trial.id = id;
  trial.identity = Object.keys(trial.config).sort().filter((key) => key !== "seed")
    .map((key) => [key, JSON.stringify(trial.config[key])]);
});

function distinct(values) {
  return [...new Set(values)];
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

// Half-width of the 95 % interval of the mean, Student's t; null for a single value.
function halfWidth(values) {
  if (values.length < 2) return null;
  const middle = mean(values);
  const variance = values.reduce((sum, v) => sum + (v - middle) ** 2, 0) / (values.length - 1);
  return model.quantiles[values.length] * Math.sqrt(variance / values.length);
}

// Mean and interval of trials that differ in their run seed only: over run seeds where there are
// several, else over the judge's seeds within the one run. A seed that was run twice counts once.
function summary(group, images = "distilled") {
  const runs = new Map();
  for (const trial of group) {
    const values = trial.result && trial.result[images];
    if (values && !runs.has(trial.seed)) runs.set(trial.seed, values);
  }
  if (!runs.size) return null;
  const several = runs.size > 1;
  const values = several ? [...runs.values()].map(mean) : [...runs.values()][0];
  return { mean: mean(values), half: halfWidth(values), count: values.length, several };
}

function covers(result) {
  if (result.several) return `${result.count} run seeds`;
  return result.count > 1 ? `1 run, ${result.count} judge seeds` : "1 run, 1 judge seed";
}

function percent(fraction) {
  return (100 * fraction).toFixed(1);
}

function plusMinus(result) {
  return result.half === null ? percent(result.mean)
    : `${percent(result.mean)} ± ${percent(result.half)}`;
}

function groupBy(items, name) {
  const groups = new Map();
  for (const item of items) {
    const key = name(item);
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(item);
  }
  return groups;
}

// Everything but the seed and one key: trials that share it lie on one line over that key.
function restOf(trial, key) {
  return JSON.stringify([trial.method, trial.dataset,
    ...trial.identity.filter(([name]) => name !== key && !name.startsWith(`${key}.`))]);
}

function isNumeric(key, of = trials) {
  const values = of.map((t) => t.values[key]).filter((v) => v !== null);
  return values.length > 0 && values.every((v) => typeof v === "number");
}

function valuesOf(key, of = trials) {
  const values = distinct(of.map((t) => t.values[key]).filter((v) => v !== null));
  return isNumeric(key, of) ? values.sort((a, b) => a - b) : values.sort();
}

// Keys that an axis can show: numbers, or a dozen texts, of which there are at least two.
function axisKeys(of = trials) {
  return model.keys.map(({ key }) => key).filter((key) => {
    const count = valuesOf(key, of).length;
    return count > 1 && (isNumeric(key, of) || count <= 12);
  });
}

// Values over more than an order of magnitude, all above zero, are read on a logarithmic axis.
function isLog(values) {
  return values.length > 2 && values[0] > 0 && values.at(-1) / values[0] >= 20;
}

function show(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number" && !Number.isInteger(value)) return String(+value.toPrecision(5));
  return typeof value === "string" ? value : JSON.stringify(value);
}

function settingText(trial, keys) {
  return keys.filter((key) => trial.values[key] !== null)
    .map((key) => `${labels[key]} ${show(trial.values[key])}`).join(", ");
}

function duration(seconds) {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB"];
  let power = 0;
  while (bytes >= 1024 && power < 3) { bytes /= 1024; power += 1; }
  return power ? `${bytes.toFixed(1)} ${units[power]}` : `${bytes} B`;
}

function when(seconds) {
  return new Date(1000 * seconds).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
}

// How long its journal had not grown when the page was written: a run that was killed says nothing.
function heardText(trial) {
  return trial.heard && trial.status === "unfinished" ? `silent for ${duration(Math.max(0, model.written - trial.heard))}` : "";
}

function secondsMade(trial) {
  return trial.stages.filter((s) => !s.cached).reduce((sum, s) => sum + s.seconds, 0);
}

// An element; strings among the children become text, never markup.
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== ""));
  return node;
}

function byId(id) {
  return document.getElementById(id);
}

function methodColour(method) {
  return `var(--m${methods.indexOf(method) % 8})`;
}

function swatch(method) {
  return el("span", { class: "dot", style: `background:${methodColour(method)}` });
}

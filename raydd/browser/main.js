// Puts the parts together: header, filter bar, selects, theme and keyboard.
function drawAll() {
  const some = visible();
  byId("shown").textContent = `${some.length} of ${trials.length} trials`;
  drawTable(some);
  const keys = axisKeys();
  drawLine("ipc", "method.ipc", some);
  if (picked.line) drawLine("line", picked.line, varied(some, picked.line));
  else draw("line", [], {}, "No key was varied.");
  drawHeat(some);
  drawCurves(some);
  drawParallel(some);
  byId("scroller").removeAttribute("aria-busy");
  const grouped = rows(some).length;
  byId("table-note").textContent = `${grouped} ${view.grouped ? "settings" : "rows"}. Top-1: last epoch, mean ± 95 % interval (Student t), over `
    + (view.grouped ? "run seeds where a setting has several, else over the judge's training seeds of its one run." : "the training seeds of the judge within the run; check “one row per setting” for intervals over run seeds.")
    + " Click a row or a point for its images, curves, cost and configuration.";
}

function fill(select, values, chosen, text = (value) => value) {
  select.replaceChildren(...values.map((value) => el("option", { value, selected: value === chosen }, text(value))));
}

function drawHeader() {
  const parts = model.sweeps.map((sweep) => {
    const begun = trials.filter((t) => t.sweep === sweep.name).length;
    return `${sweep.name} (${sweep.search}): ${begun} ${sweep.planned ? `of ${sweep.planned} ` : ""}trials have begun`;
  });
  byId("about").textContent = [...parts, `Page of ${when(model.written)}.`].join(". ").replace("..", ".");
  const counts = Object.keys(STATUSES).map((status) => [status, STATUSES[status], trials.filter((t) => t.status === status).length]);
  const planned = model.sweeps.reduce((sum, s) => sum + Math.max(0, (s.planned ?? 0) - trials.filter((t) => t.sweep === s.name).length), 0);
  const shown = [...counts, ["planned", "not begun", planned]].filter(([, , count]) => count);
  byId("statuses").replaceChildren(
    el("div", { class: "stack", "aria-hidden": "true" }, shown.map(([status, , count]) => el("i", { class: status, style: `flex:${count}` }))),
    el("div", { class: "legend" }, shown.map(([status, text, count]) => el("span", { class: `state ${status}` }, `${count} ${text}`))));
}

function drawChoices() {
  const names = { method: "methods", dataset: "data sets", status: "statuses", sweep: "sweeps" };
  for (const [name, plural] of Object.entries(names)) {
    const values = distinct(trials.map((t) => t[name]).filter(Boolean)).sort();
    if (values.length < 2) continue;
    const select = el("select", { "aria-label": name, onchange: () => { view.choices[name] = select.value; drawAll(); } });
    fill(select, ["", ...values], "", (value) => (value ? STATUSES[value] ?? value : `all ${plural}`));
    byId("choices").append(select);
  }
}

function drawSelects() {
  const keys = axisKeys();
  const done = trials.filter((t) => t.result);
  const others = axisKeys().filter((key) => key !== "method.ipc" && varied(done, key).length);
  const name = (key) => labels[key];
  picked.line = prefer(/advers|guidance|weight/, others.filter((key) => isNumeric(key))) ?? others[0] ?? keys[0] ?? null;
  const cells = (method) => axisKeys(done.filter((t) => t.method === method)).length;
  picked.method = [...methods].sort((a, b) => cells(b) - cells(a))[0] ?? null;
  pickHeat();
  fill(byId("line-key"), keys, picked.line, name);
  fill(byId("heat-method"), methods, picked.method);
  byId("heat-of").hidden = methods.length < 2;
  for (const [id, part] of [["line-key", "line"], ["heat-x", "x"], ["heat-y", "y"], ["heat-method", "method"]]) {
    byId(id).addEventListener("change", (event) => {
      picked[part] = event.target.value;
      if (part === "method") pickHeat();
      drawAll();
    });
  }
}

// Axes of the map: keys that were varied in its method, those of the last method where they were.
function pickHeat() {
  const keys = axisKeys(trials.filter((t) => t.method === picked.method));
  if (!keys.includes(picked.x)) picked.x = prefer(/^method\.ipc$/, keys);
  if (!keys.includes(picked.y) || picked.y === picked.x) picked.y = prefer(/alpha/, keys.filter((key) => key !== picked.x));
  fill(byId("heat-x"), keys, picked.x, (key) => labels[key]);
  fill(byId("heat-y"), keys, picked.y, (key) => labels[key]);
}

function prefer(pattern, keys) {
  return keys.find((key) => pattern.test(key)) ?? keys[0] ?? null;
}

function start() {
  drawHeader();
  drawChoices();
  drawSelects();
  let waiting = 0;
  byId("text").addEventListener("input", (event) => {
    view.text = event.target.value;
    byId("scroller").setAttribute("aria-busy", "true"); // until the typing pauses
    clearTimeout(waiting);
    waiting = setTimeout(drawAll, 150);
  });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("grouped").addEventListener("change", (event) => { view.grouped = event.target.checked; drawAll(); });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") closePanel(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    palette.clear();
    drawAll();
    if (openId !== null) drawTrainings(trials[openId]);
  });
  drawAll();
}

start();

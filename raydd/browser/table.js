// The filter bar and the table of trials; everything else on the page follows `visible()`.
const view = { text: "", choices: {}, grouped: false, sort: "", down: false };
const COMPARISON = /^([\w.]+)(<=|>=|!=|=|<|>)(.+)$/;
const COMPARE = {
  "<": (a, b) => a < b, ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b,
  "=": (a, b) => a === b, "!=": (a, b) => a !== b,
};

function visible() {
  const words = view.text.toLowerCase().split(/\s+/).filter(Boolean);
  return trials.filter((trial) =>
    Object.entries(view.choices).every(([name, value]) => !value || trial[name] === value)
    && words.every((word) => matches(trial, word)));
}

// A word of the filter: a comparison with a key of the table, else a part of what the row says.
function matches(trial, word) {
  const found = word.match(COMPARISON);
  if (found) {
    const value = named(trial, found[1]);
    if (value === null) return found[2] === "!="; // nothing is neither more nor less than a number
    if (value !== undefined) {
      const number = typeof value === "number" && !Number.isNaN(Number(found[3]));
      if (number) return COMPARE[found[2]](value, Number(found[3]));
      return COMPARE[found[2]](show(value).toLowerCase(), found[3]);
    }
  }
  return haystack(trial).includes(word);
}

function named(trial, name) {
  if (name === "top1") return trial.result ? 100 * summary([trial]).mean : null;
  if (name === "seed") return trial.seed;
  if (["method", "dataset", "status", "sweep"].includes(name)) return trial[name];
  const known = model.keys.find(({ key, label }) => [key, label].some((n) => n.toLowerCase() === name));
  return known && trial.values[known.key];
}

function haystack(trial) {
  trial.haystack ??= [trial.path, trial.method, trial.dataset, STATUSES[trial.status], trial.sweep,
    settingText(trial, model.keys.map(({ key }) => key)), trial.error && trial.error.split("\n").at(-1),
  ].filter(Boolean).join("\n").toLowerCase();
  return trial.haystack;
}

// Columns: what a row (its trials) is sorted by, and the nodes or text of its cell.
function columns() {
  const several = (name) => distinct(trials.map((t) => t[name])).length > 1;
  const plain = (label, read) => ({ label, value: read, cell: (row) => show(read(row)) });
  const all = [
    { label: view.grouped ? "Setting" : "Trial", value: (row) => row[0].name, cell: nameCell },
    { label: "Status", value: (row) => stateOrder(row), cell: stateCell },
    { label: "Method", value: (row) => row[0].method, cell: (row) => [swatch(row[0].method), row[0].method] },
  ];
  if (several("dataset")) all.push(plain("Data set", (row) => row[0].dataset));
  if (several("sweep")) all.push(plain("Sweep", (row) => row[0].sweep));
  for (const { key, label } of model.keys) {
    all.push({ ...plain(label, (row) => row[0].values[key]), numeric: isNumeric(key), title: key });
  }
  const number = (label, value, cell, title) => all.push({ label, value, cell, numeric: true, title });
  number("Seed", (row) => row[0].seed, (row) => distinct(row.map((t) => show(t.seed))).join(", "), "run seed");
  number("Top-1, %", (row) => meanOf(row), (row) => resultCell(row, "distilled"), "last epoch, mean and 95 % interval");
  number("Random, %", (row) => meanOf(row, "random"), (row) => resultCell(row, "random"), "random real images, the same protocol");
  number("Gain", gain, (row) => signed(gain(row)), "points above random real images");
  number("Made in", (row) => cost(row), (row) => (cost(row) === null ? "–" : duration(cost(row))), "seconds of the stages that were not found finished");
  number("Bytes", (row) => weight(row), (row) => (weight(row) === null ? "–" : size(weight(row))), "images, labels and teacher");
  return all;
}

function meanOf(row, images) {
  return summary(row, images)?.mean ?? null;
}

function gain(row) {
  const own = meanOf(row), random = meanOf(row, "random");
  return own === null || random === null ? null : 100 * (own - random);
}

function signed(value) {
  if (value === null) return "–";
  const text = Math.abs(value).toFixed(1);
  return text === "0.0" ? text : `${value > 0 ? "+" : "−"}${text}`;
}

function cost(row) {
  const made = row.filter((t) => t.stages.length);
  return made.length ? made.reduce((sum, t) => sum + secondsMade(t), 0) : null;
}

function weight(row) {
  const sizes = Object.values(row[0].bytes);
  return sizes.length ? sizes.reduce((a, b) => a + b, 0) : null;
}

function stateOrder(row) {
  return Object.keys(STATUSES).findIndex((status) => row.some((t) => t.status === status));
}

function stateCell(row) {
  const counts = [...groupBy(row, (t) => t.status)];
  return counts.map(([status, some]) => el("span",
    { class: `state ${status}`, title: STATUSES[status] },
    row.length > 1 ? `${some.length} ${STATUSES[status]} ` : STATUSES[status],
    row.length === 1 && heardText(row[0]) ? el("span", { class: "half" }, `, ${heardText(row[0])}`) : ""));
}

function nameCell(row) {
  const text = row.length > 1 ? `${row[0].name} and ${row.length - 1} more` : row[0].name;
  return [el("button", { class: "name", type: "button", title: row.map((t) => t.path).join("\n") }, text)];
}

function resultCell(row, images) {
  const result = summary(row, images);
  if (!result) return [el("span", { class: "dash" }, "–")];
  const half = result.half === null ? "" : `± ${percent(result.half)}`;
  const middle = el(images === "distilled" ? "b" : "span", {}, percent(result.mean));
  return [middle, " ", el("span", { class: "half", title: covers(result) }, half)];
}

function rows(some) {
  return view.grouped ? [...groupBy(some, (t) => t.setting).values()] : some.map((t) => [t]);
}

function sorted(all, column) {
  if (!column) return all;
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b
    : String(a).localeCompare(String(b), undefined, { numeric: true }));
  return [...all].sort((left, right) => {
    const [a, b] = [column.value(left), column.value(right)];
    if (a === null || b === null) return (a === null) - (b === null); // what is missing comes last
    return (view.down ? -1 : 1) * compare(a, b);
  });
}

function drawTable(some) {
  const all = columns();
  const table = byId("table");
  const held = document.activeElement?.closest("th")?.dataset.label;
  table.tHead.replaceChildren(el("tr", {}, all.map((column) => {
    const order = view.sort === column.label ? (view.down ? "descending" : "ascending") : null;
    return el("th", { scope: "col", class: column.numeric ? "n" : "", "aria-sort": order, title: column.title ?? null, "data-label": column.label },
      el("button", { type: "button", onclick: () => sortBy(column) }, column.label));
  })));
  const found = sorted(rows(some), all.find((column) => column.label === view.sort));
  table.tBodies[0].replaceChildren(...found.map((row) => el("tr",
    { "data-id": row[0].id, onclick: () => openTrial(row[0].id) },
    all.map((column) => el("td", { class: column.numeric ? "n" : "" }, column.cell(row))))));
  view.order = found.map((row) => row[0].id);
  markOpen();
  if (held) table.tHead.querySelector(`th[data-label="${CSS.escape(held)}"] button`)?.focus();
}

function sortBy(column) {
  if (view.sort === column.label) view.down = !view.down;
  else Object.assign(view, { sort: column.label, down: Boolean(column.numeric) });
  drawTable(visible());
}

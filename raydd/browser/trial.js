// The panel of one trial: what it is, what it made, how its networks learned, what it cost.
let opener = null;
let openId = null;

function openTrial(id) {
  const panel = byId("panel");
  if (panel.hidden) opener = document.activeElement;
  openId = id;
  const trial = trials[id];
  panel.querySelectorAll(".plot").forEach((node) => Plotly.purge(node));
  panel.replaceChildren(...panelParts(trial));
  panel.setAttribute("aria-label", `Trial ${trial.name}`);
  panel.hidden = false;
  panel.scrollTop = 0;
  panel.focus({ preventScroll: true });
  drawTrainings(trial);
  markOpen();
}

function closePanel() {
  const panel = byId("panel");
  if (panel.hidden) return;
  panel.querySelectorAll(".plot").forEach((node) => Plotly.purge(node));
  panel.hidden = true;
  openId = null;
  markOpen();
  if (opener?.isConnected) opener.focus({ preventScroll: true });
}

function markOpen() {
  for (const row of byId("table").tBodies[0].rows) {
    const group = view.grouped && openId !== null && trials[Number(row.dataset.id)].setting === trials[openId].setting;
    row.classList.toggle("open", group || Number(row.dataset.id) === openId);
  }
}

// The next or previous row of the table as it is sorted and filtered now.
function step(by) {
  const place = view.order.indexOf(openId);
  const next = view.order[place + by];
  if (next !== undefined) openTrial(next);
}

function panelParts(trial) {
  const button = (text, label, onclick) => el("button", { type: "button", "aria-label": label, title: label, onclick }, text);
  const top = el("div", { class: "top" },
    el("span", { class: `state ${trial.status}` }, [STATUSES[trial.status], heardText(trial)].filter(Boolean).join(", ")),
    button("↑", "Previous trial of the table", () => step(-1)), button("↓", "Next trial of the table", () => step(1)),
    button("×", "Close (Escape)", closePanel));
  const about = [`${trial.method} on ${trial.dataset}`, settingText(trial, model.keys.map(({ key }) => key)), `seed ${show(trial.seed)}`];
  return [
    top, el("h1", {}, trial.name), el("p", { class: "note" }, about.filter(Boolean).join(", ")),
    el("p", { class: "note" }, trial.path), ...siblingParts(trial), ...resultParts(trial), ...errorParts(trial),
    ...pictureParts(trial), ...trainingParts(trial), ...costParts(trial), ...configParts(trial),
  ];
}

function siblingParts(trial) {
  const group = trials.filter((t) => t.setting === trial.setting);
  if (group.length < 2) return [];
  const all = summary(group);
  const buttons = group.map((t) => el("button", { type: "button", "aria-current": t === trial ? "true" : null, onclick: () => openTrial(t.id) },
    `seed ${show(t.seed)}: ${t.result ? `${percent(summary([t]).mean)} %` : STATUSES[t.status]}`));
  return [el("div", { class: "siblings" }, buttons),
    el("p", { class: "note" }, all ? `This setting: ${plusMinus(all)} % over ${covers(all)}.` : "No run of this setting has finished.")];
}

function resultParts(trial) {
  if (!trial.result) {
    return trial.status === "finished" ? [el("p", {}, "The images were not judged: no network was trained on them.")] : [];
  }
  const [own, random] = [summary([trial]), summary([trial], "random")];
  const figure = (label, kind, text, small) => el("div", {}, label, el("div", { class: `figure ${kind}`, style: `--own:${methodColour(trial.method)}` }, text, el("small", {}, ` ${small}`)));
  const half = (result) => (result.half === null ? "%" : `± ${percent(result.half)} %`);
  const seeds = own.count === 1 ? "one training: no interval" : `mean and 95 % interval over ${own.count} training seeds of the judge`;
  return [
    el("div", { class: "numbers" }, figure("Distilled images", "own", percent(own.mean), half(own)), figure("Random real images", "", percent(random.mean), half(random)),
      figure("Difference", "gain", signed(100 * (own.mean - random.mean)), "points")),
    el("p", { class: "note" }, `Test top-1 at the last epoch of ${trial.result.architecture}: ${seeds}. Each: ${trial.result.distilled.map(percent).join(", ")}; random ${trial.result.random.map(percent).join(", ")}.`),
  ];
}

function errorParts(trial) {
  if (!trial.error) return [];
  return [el("h2", {}, "Why it failed"), el("p", { class: "alert message" }, trial.error.split("\n").at(-1)),
    el("details", {}, el("summary", {}, "The whole text"), el("pre", {}, trial.error))];
}

function pictureParts(trial) {
  if (!trial.pictures.length) {
    return trial.status === "finished" ? [el("p", { class: "note" }, "No pictures: the distilled set is not there, or the page had no room for them.")] : [];
  }
  const rows = trial.pictures[0].class_names.length;
  const which = trial.classes > rows ? ` The first ${rows} of ${trial.classes.toLocaleString("en")} classes.` : "";
  return [el("h2", {}, "Images"), el("div", { class: "sheets" }, trial.pictures.map(sheet)),
    which ? el("p", { class: "note" }, which) : ""];
}

// A sheet holds tiles without gaps; small ones are enlarged by a whole factor, so that pixels stay square.
function sheet(picture) {
  const { class_names: names, columns, tile } = picture;
  const factor = Math.max(1, Math.floor(44 / tile));
  const step = tile * factor + 2;
  const canvas = el("canvas", { width: columns * step - 2, height: names.length * step - 2, role: "img", "aria-label": `${picture.title}: ${picture.caption}` });
  const image = new Image();
  image.onload = () => {
    const pen = canvas.getContext("2d");
    pen.imageSmoothingEnabled = false;
    names.forEach((_, row) => {
      for (let column = 0; column < columns; column += 1) {
        pen.drawImage(image, column * tile, row * tile, tile, tile, column * step, row * step, step - 2, step - 2);
      }
    });
  };
  image.src = picture.source;
  return el("figure", {}, el("figcaption", {}, picture.title),
    el("div", { class: "sheet" }, el("div", { class: "names" }, names.map((name) => el("span", { title: name }, name))), canvas),
    el("p", { class: "note" }, picture.caption));
}

function architectures(trial) {
  return distinct(trial.trainings.map((t) => t.architecture));
}

function trainingParts(trial) {
  if (!trial.trainings.some((t) => t.top1.length || t.loss.length)) return [];
  const pairs = architectures(trial).flatMap((name, i) => [el("h3", {}, name),
    el("div", { class: "pair" }, el("div", { class: "plot", id: `top1-${i}` }), el("div", { class: "plot", id: `loss-${i}` }))]);
  return [el("h2", {}, "Learning curves"), ...pairs, el("p", { class: "note" }, "Thin: one training seed. Thick: their mean. Dashed grey: random real images.")];
}

function drawTrainings(trial) {
  if (!byId("top1-0")) return;
  architectures(trial).forEach((architecture, i) => {
    const own = trial.trainings.filter((t) => t.architecture === architecture);
    for (const [name, title, scale] of [["top1", "test top-1, %", 100], ["loss", "training loss", 1]]) {
      draw(`${name}-${i}`, trainingTraces(trial, own, name, scale), {
        showlegend: false, margin: { l: 44, r: 8, t: 26, b: 36 }, title: { text: title, font: { size: 12, color: colour("--ink") }, x: 0, xanchor: "left", y: 0.98 },
        xaxis: { title: { text: "epoch" }, showgrid: false },
      }, `No ${title} yet.`);
    }
  });
}

function trainingTraces(trial, own, name, scale) {
  return ["random", "distilled"].flatMap((images) => {
    const some = own.filter((t) => t.images === images && t[name].length);
    const ink = images === "random" ? colour("--soft") : inkOf(trial.method);
    const line = (curve, label, width, opacity) => ({
      x: curve.map(([epoch]) => epoch), y: curve.map(([, value]) => scale * value), type: "scatter", mode: curve.length > 1 ? "lines" : "markers", opacity,
      line: { color: ink, width, dash: images === "random" ? "dash" : "solid" }, marker: { color: ink, size: 5 }, customdata: curve.map(() => null),
      hovertemplate: `${label}, epoch %{x}: %{y:.4~g}<extra></extra>`,
    });
    const thin = some.map((t) => line(t[name], `${images}, seed ${t.seed}`, 0.9, 0.45));
    return some.length > 1 ? [...thin, line(meanCurve(some, name), `${images}, mean`, 2.2, 1)] : some.map((t) => line(t[name], images, 2, 1));
  });
}

function costParts(trial) {
  if (!trial.stages.length) return [];
  const longest = Math.max(...trial.stages.map((s) => s.seconds)) || 1;
  const row = (stage) => el("tr", {}, el("td", {}, stage.name, stage.cached ? el("span", { class: "tag" }, "was there") : ""), el("td", { class: "n" }, duration(stage.seconds)),
    el("td", { class: "bar" }, el("i", { style: `width:${(100 * stage.seconds / longest).toFixed(1)}%${stage.cached ? ";opacity:.18" : ""}` })));
  const found = trial.stages.reduce((sum, s) => sum + s.seconds, 0) - secondsMade(trial);
  const bytes = Object.entries(trial.bytes).map(([name, count]) => el("tr", {}, el("td", {}, name), el("td", { class: "n" }, size(count))));
  const total = Object.values(trial.bytes).reduce((a, b) => a + b, 0);
  return [
    el("h2", {}, "Cost"), el("p", {}, `Made in ${duration(secondsMade(trial))}; stages that were there already had taken ${duration(found)}.`),
    el("div", { class: "table" }, el("table", {}, el("tbody", {}, trial.stages.map(row)))),
    el("h3", {}, "Bytes of the product"), el("div", { class: "table" }, el("table", {}, el("tbody", {}, bytes, el("tr", { class: "total" }, el("td", {}, "together"), el("td", { class: "n" }, size(total)))))),
  ];
}

function configParts(trial) {
  const list = (entries) => el("dl", { class: "keys" }, entries.map(([key, value]) => el("div", {}, el("dt", {}, key), el("dd", {}, show(value)))));
  const kin = trials.filter((t) => t.method === trial.method && Object.keys(t.config).length);
  const same = (key) => kin.every((t) => JSON.stringify(t.config[key]) === JSON.stringify(trial.config[key]));
  const own = Object.entries(trial.config).filter(([key]) => !same(key)), set = Object.entries(trial.overrides);
  const all = Object.entries({ ...model.common, ...trial.config }).sort(([a], [b]) => a.localeCompare(b));
  const shown = own.length <= 24 ? [list(own)] : [el("details", {}, el("summary", {}, `${own.length} keys`), list(own))];
  return [
    el("h2", {}, "Configuration"),
    ...(set.length ? [el("h3", {}, "Set by the sweep"), list(set)] : []),
    ...(own.length ? [el("h3", {}, `Not the same in all trials of ${trial.method}`), ...shown] : []),
    ...(all.length ? [el("details", {}, el("summary", {}, `All ${all.length} keys`), list(all))] : [el("p", { class: "note" }, "It cannot be read.")]),
  ];
}

// Memory explorer, the part that is seen: pickers, a bar for each phase of a step, and the same numbers as a table. The
// numbers come from memory_sum.js; Python puts that file in the place of the import below, because an anywidget is one module.
// The same module runs with a Jupyter model or, without a kernel, with the ten-line model of static.py.

import { bytesByPhase, size, verdict } from "./memory_sum.js";

const NAMES = ["model", "method", "optimizer", "batch", "sequence", "checkpointing", "attention", "zero_stage", "gpus", "card"];
const PICKERS = { model: "Model", method: "Method", optimizer: "Optimizer", attention: "Attention", gpus: "GPUs", zero_stage: "ZeRO stage", card: "Card" };
const HINT = "stage 3 cannot shard 4-bit weights";

const picker = (name) => `<label>${PICKERS[name]} <select data-part="${name}"></select></label>`;
const slider = (name, title, last) => `<label class="mx-slide"><span>${title} <b data-part="${name}-text"></b></span>
  <input data-part="${name}" type="range" min="0" max="${last}" step="1" aria-label="${title}"></label>`;

// No <table> and no <p>: a slide theme or a notebook styles those with selectors that no sheet of ours could beat.
const page = ({ batch, sequence }) => `
<div class="mx-controls">
  ${["model", "method", "optimizer", "card"].map(picker).join("")}
  ${slider("batch", "Batch", batch.length - 1)}${slider("sequence", "Sequence", sequence.length - 1)}
  ${["attention", "gpus", "zero_stage"].map(picker).join("")}
  <label class="mx-check"><input data-part="checkpointing" type="checkbox"> checkpointing</label>
</div>
<output class="mx-verdict" data-part="verdict" aria-live="polite"></output>
<div class="mx-panes">
  <div class="mx-chart" data-part="chart" role="img"></div>
  <div class="mx-table" data-part="table" role="table" aria-label="Memory of each rank at the highest point of each phase"></div>
</div>
<div class="mx-note" data-part="note"></div>`;

const slug = (name) => "mx-" + name.replaceAll(" ", "-");
const option = (value, title) => `<option value="${value}">${title}</option>`;

/** A tick every 1, 2 or 5 times a power of ten, at most six on the axis. */
function ticks(longest) {
  const rough = longest / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
  return Array.from({ length: Math.floor(longest / step) + 1 }, (_, i) => i * step);
}

/** A size on an axis: as few digits as it takes. */
const round = (bytes) => (bytes ? size(bytes).replace(/\.0+ |(\.\d*?)0+ /, "$1 ") : "0");

function drawBars({ categories, phases }, rows, { sums, breaks }, card) {
  const longest = 1.03 * Math.max(...sums, card.bytes);
  const percent = (bytes) => (100 * bytes) / longest;
  const bar = (row) => row.map((bytes, i) => (bytes ? `<i class="${slug(categories[i])}" style="width:${percent(bytes)}%"></i>` : "")).join("");
  const side = percent(card.bytes) > 60 ? "mx-left" : "";
  const over = breaks === null ? "" : `<i class="mx-beyond" style="left:${percent(card.bytes)}%"></i>`;
  return `<span></span><div class="mx-cardname"><i class="${side}" style="left:${percent(card.bytes)}%"><span>${card.title}</span></i></div><span></span>` +
    rows.map((row, p) => `<span class="mx-phase">${phases[p]}</span><div class="mx-track">${bar(row)}${over}` +
      `<i class="mx-line" style="left:${percent(card.bytes)}%"></i></div><b class="mx-sum">${size(sums[p])}</b>`).join("") +
    `<span></span><div class="mx-axis">${ticks(longest).map((t) => `<i style="left:${percent(t)}%"><span>${round(t)}</span></i>`).join("")}</div><span></span>`;
}

function drawTable({ categories, phases }, rows, { sums, phase, breaks }) {
  const row = (role, cells, style = "") => `<div role="row" class="${style}">${cells.map((cell, i) =>
    `<span role="${i ? role : role === "cell" ? "rowheader" : role}" class="${i - 1 === phase ? "mx-peak" : ""}">${cell}</span>`).join("")}</div>`;
  const body = categories.map((name, c) => [name, c]).filter(([, c]) => rows.some((terms) => terms[c])).map(([name, c]) =>
    row("cell", [`<i class="${slug(name)}"></i>${name}`, ...rows.map((terms) => size(terms[c]))], c === breaks ? "mx-breaks" : ""));
  return row("columnheader", ["each rank", ...phases]) + body.join("") + row("cell", ["sum", ...sums.map(size)], "mx-total");
}

function render({ model, el }) {
  const { table, titles, choices, cards } = model.get("facts");
  const root = document.createElement("div");
  root.className = "mx";
  root.setAttribute("role", "group");  // no landmark: a page may hold several
  root.setAttribute("aria-label", "Memory explorer");
  root.dataset.lmSuppressShortcuts = "true";  // JupyterLab would take the arrow keys
  root.innerHTML = page(choices);
  const part = Object.fromEntries([...root.querySelectorAll("[data-part]")].map((e) => [e.dataset.part, e]));
  let busy = false;

  const state = () => Object.fromEntries(NAMES.map((name) => [name, model.get(name)]));
  const card = ({ card: name }) => {
    const bytes = Object.fromEntries(cards)[name] ?? Math.trunc(parseFloat(name) * 1e9);
    return { name, bytes, title: / \d+ ?GB$|^[\d.]+ GB$|\dGB$/.test(name) ? name : `${name}, ${bytes / 1e9} GB` };
  };
  const put = (changes) => {
    const now = { ...state(), ...changes };
    if (now.method === "qlora" && now.zero_stage === 3) now.zero_stage = 2;
    busy = true;  // one draw for all of them: between two sets the state is half old, half new
    NAMES.filter((name) => now[name] !== model.get(name)).forEach((name) => model.set(name, now[name]));
    busy = false;
    model.save_changes();
    draw();
  };

  function fill() {
    for (const name of ["model", "method", "optimizer", "attention", "gpus", "zero_stage"]) {
      part[name].innerHTML = choices[name].map((value) => option(value, titles[name]?.[value] ?? value)).join("");
    }
    part.card.innerHTML = cards.map(([name]) => option(name, card({ card: name }).title)).join("");
  }

  function drawPickers(now) {
    if (![...part.card.options].some(({ value }) => value === now.card)) part.card.innerHTML += option(now.card, card(now).title);
    for (const name of Object.keys(PICKERS)) part[name].value = now[name];
    for (const name of ["batch", "sequence"]) {
      part[name].value = choices[name].indexOf(now[name]);
      part[name].setAttribute("aria-valuetext", `${now[name]}${name === "sequence" ? " tokens" : ""}`);
      part[`${name}-text`].textContent = now[name].toLocaleString("en");
    }
    part.checkpointing.checked = now.checkpointing;
    const stage3 = part.zero_stage.options[3];
    stage3.disabled = now.method === "qlora";
    part.zero_stage.title = stage3.disabled ? HINT : "";
  }

  function drawVerdict({ peak, phase, spare, breaks }, target) {
    const words = breaks === null ? `fits, ${size(spare)} to spare` : `${size(-spare)} too much: ${table.categories[breaks]}`;
    part.verdict.className = `mx-verdict ${breaks === null ? "mx-fits" : "mx-fails"}`;
    part.verdict.innerHTML = `<b>${breaks === null ? "✓" : "✗"} ${words}</b> <span>peak ${size(peak)} at ${table.phases[phase]}, ${target.title}</span>`;
  }

  function note(now) {
    const { parameters, methods } = table.models[now.model];
    const trained = methods[now.method].trainable;
    const parts = [`${parameters.toLocaleString("en")} parameters, ${trained.toLocaleString("en")} trained. 1 GB = 10<sup>9</sup> bytes. ` +
      "Not counted: CUDA’s context (0.3 to 0.5 GB) and fragmentation."];
    if (now.zero_stage && now.gpus === 1) parts.push("One GPU shards nothing: ZeRO saves no memory here.");
    if (now.zero_stage > 0 && now.method === "qlora") parts.push(`ZeRO: ${HINT}.`);
    if (now.optimizer.startsWith("paged")) parts.push("The states are paged: they wait in the host’s memory.");
    return parts.join(" ");
  }

  function draw() {
    const now = state();
    const target = card(now);
    const rows = bytesByPhase(table, now);
    const found = verdict(rows, target.bytes);
    drawPickers(now);
    drawVerdict(found, target);
    part.chart.innerHTML = drawBars(table, rows, found, target);
    part.chart.setAttribute("aria-label", `Bars: ${table.phases.map((name, p) => `${name} ${size(found.sums[p])}`).join(", ")}; ` +
      `a line at ${target.title}. The table has the numbers.`);
    part.table.innerHTML = drawTable(table, rows, found);
    part.note.innerHTML = note(now);
  }

  for (const name of ["model", "method", "optimizer", "attention", "card"]) part[name].onchange = () => put({ [name]: part[name].value });
  for (const name of ["gpus", "zero_stage"]) part[name].onchange = () => put({ [name]: Number(part[name].value) });
  for (const name of ["batch", "sequence"]) part[name].oninput = () => put({ [name]: choices[name][part[name].value] });
  part.checkpointing.onchange = () => put({ checkpointing: part.checkpointing.checked });
  root.onkeydown = (event) => {  // slides turn on arrows and space; keys pressed in here are ours, except those that only turn pages
    const turns = ["PageUp", "PageDown"].includes(event.key) && event.target.type !== "range";
    if (!turns && event.key !== "Escape") event.stopPropagation();
  };

  const changed = () => { if (!busy) draw(); };
  const events = NAMES.map((name) => `change:${name}`);
  events.forEach((name) => model.on(name, changed));
  fill();
  draw();
  el.append(root);
  return () => events.forEach((name) => model.off(name, changed));
}

export default { render };

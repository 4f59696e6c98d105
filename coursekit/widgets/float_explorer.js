// Float explorer, the part that is seen: it draws the state (fmt, code, typed, saturate) and writes it back. The numbers
// come from float_codec.js; Python puts that file in the place of the import below, because an anywidget is one module.
// The same module runs with a Jupyter model or, without a kernel, with the ten-line model of static.py.

import { brief, decode, derive, encode, exact, fields, kind, read, shortest, step, ulp, verdict } from "./float_codec.js";

const hex = (code, spec) => "0x" + code.toString(16).toUpperCase().padStart(Math.ceil(spec.bits / 4), "0");

/** The formula with this code's numbers in it, as HTML; for infinity and NaN the rule that makes them so. */
function formula(code, spec) {
  const { sign, exponent, mantissa } = fields(code, spec);
  const { steps } = derive(spec);
  const is = kind(code, spec);
  const field = (name, text) => `<span class="fx-${name}">${text}</span>`;
  const ones = field("exponent", "exponent all ones");
  if (is === "infinity") return `${ones}, ${field("mantissa", "mantissa 0")} → infinity`;
  if (is === "NaN" && spec.specials === "ieee") return `${ones}, ${field("mantissa", "mantissa not 0")} → NaN`;
  if (is === "NaN") return spec.specials === "fnuz" ? "the code that would be −0 → NaN" : "every exponent and mantissa bit 1 → NaN";
  const hidden = is === "normal" ? 1 : 0;
  const power = is === "normal" ? `${exponent}−${spec.bias}` : `1−${spec.bias}`;
  const parts = [
    spec.signed ? `${field("sign", `(−1)<sup>${sign}</sup>`)} × ` : "",
    field("exponent", `2<sup>${power}</sup>`),
    spec.mantissa_bits ? ` × ${field("mantissa", `(${hidden} + ${mantissa}/${steps})`)}` : "",
  ];
  return parts.join("");
}

const MAIN = 10;  // the formats of the course come first, then relatives that few machines have
const EXAMPLES = ["0.1", "1/3", "1.0001", "65504", "70000", "6e-8", "-0", "inf", "nan"];

/** Field and spoken name of a bit, counted from the left. */
function bitRole(index, spec) {
  const place = spec.bits - 1 - index;
  if (spec.signed && index === 0) return { field: "sign", name: "sign bit, 1 means negative" };
  if (place < spec.mantissa_bits) {
    return { field: "mantissa", name: `mantissa bit ${place}, weight 2^${place - spec.mantissa_bits}` };
  }
  const power = place - spec.mantissa_bits;
  return { field: "exponent", name: `exponent bit ${power}, weight 2^${power} = ${2 ** power}` };
}

/** The next two finite numbers of the format in one direction, nearest first; fewer at the end of the line. */
function nextTwo(code, direction, spec) {
  const first = step(code, direction, spec);
  const second = first === null ? null : step(first, direction, spec);
  return [first, second].filter((c) => c !== null).map((c) => decode(c, spec)).filter(Number.isFinite);
}

/** Five numbers in a row to scale, the value among them, and hatched all that rounds to the stored one. */
function drawLine(host, { spec, code, value }) {
  const stored = decode(code, spec);
  host.classList.toggle("fx-empty", !Number.isFinite(stored));
  if (!Number.isFinite(stored)) {
    host.textContent = Number.isNaN(stored) ? "NaN lies nowhere on the number line." : "Infinity: beyond the end of the number line.";
    host.setAttribute("aria-label", host.textContent);
    return;
  }
  const [below, above] = [nextTwo(code, -1, spec), nextTwo(code, 1, spec)];
  const left = below[0] ?? stored - ulp(stored, spec);  // past the end: where the next number would be
  const right = above[0] ?? stored + ulp(stored, spec);
  const reach = 2.2 * Math.max(stored - left, right - stored);
  const place = (x) => 50 + (50 * (x - stored)) / reach;  // in % of the width
  const mark = (name, x, text = "", width = "") => Math.abs(place(x) - 50) > 50 ? "" :
    `<i class="fx-${name}" style="left:${place(x)}%;${width}">${text && `<span>${text}</span>`}</i>`;
  const [from, to] = [(left + stored) / 2, (stored + right) / 2];
  host.innerHTML = '<i class="fx-axis"></i>' + mark("band", from, "", `width:${place(to) - place(from)}%`) +
    [below, above].flatMap(([near, far]) => [near !== undefined ? mark("tick", near, brief(near)) : "", far !== undefined ? mark("tick", far) : ""]).join("") +
    mark("tick fx-here", stored, brief(stored)) + arrow(value, stored, place(value));
  host.setAttribute("aria-label", `Number line: ${brief(stored)} between ${below.length ? brief(left) : "nothing"} and ` +
    `${above.length ? brief(right) : "nothing"}; the value is ${shortest(value)}`);
}

/** The pointer to the value, held at the edge if the value lies outside; none if it is the stored number itself. */
function arrow(value, stored, place) {
  if (!Number.isFinite(value) || value === stored) return "";
  const at = Math.min(Math.max(place, 2), 98);
  const beyond = at === place ? "" : value > stored ? " →" : " ←";
  return `<i class="fx-arrow" style="left:${at}%"><span class="${at > 60 ? "fx-left" : ""}">value ${brief(value)}${beyond}</span></i>`;
}

// No <table> and no <p>: a slide theme or a notebook styles those with selectors that no sheet of ours could beat.
const PAGE = `
<div class="fx-controls">
  <label>Format <select data-part="fmt"></select></label>
  <label class="fx-grow">Value <input data-part="value" type="text" inputmode="text" spellcheck="false" autocomplete="off"></label>
  <label class="fx-check"><input data-part="saturate" type="checkbox"> saturate</label>
  <div class="fx-examples" data-part="examples" role="group" aria-label="Examples"></div>
</div>
<div class="fx-problem" data-part="problem" role="alert"></div>
<div class="fx-bits" data-part="bits" role="toolbar"></div>
<div class="fx-panes">
  <div class="fx-one">
    <div class="fx-formula" data-part="formula"></div>
    <output class="fx-stored" data-part="stored" aria-live="polite"></output>
    <div class="fx-line" data-part="line" role="img"></div>
    <div class="fx-steps">
      <button type="button" data-part="below"></button>
      <span class="fx-legend"><i></i>all of this rounds to the stored number</span>
      <button type="button" data-part="above"></button>
    </div>
    <dl class="fx-facts" data-part="facts"></dl>
  </div>
  <div class="fx-all">
    <div data-part="caption"></div>
    <div class="fx-table" data-part="table" role="table">
      <div role="row">${["Format", "Stored", "Error", "Code"].map((name) => `<span role="columnheader">${name}</span>`).join("")}</div>
      <div class="fx-rows" data-part="rows" role="rowgroup"></div>
    </div>
    <button type="button" data-part="cousins" aria-expanded="false"></button>
  </div>
</div>`;

function render({ model, el }) {
  const specs = model.get("formats");
  const root = document.createElement("div");
  root.className = "fx";
  root.setAttribute("role", "group");  // no landmark: a page may hold several
  root.setAttribute("aria-label", "Float explorer");
  root.dataset.lmSuppressShortcuts = "true";  // JupyterLab would take the arrow keys
  root.innerHTML = PAGE;
  const part = Object.fromEntries([...root.querySelectorAll("[data-part]")].map((e) => [e.dataset.part, e]));
  let typing = false;  // while the student types, the box is theirs: never rewrite it
  let busy = false;
  let cousins = false;

  const state = () => {
    const spec = specs.find((s) => s.name === model.get("fmt"));
    return { spec, code: model.get("code"), value: read(model.get("typed"), spec).value, saturate: model.get("saturate") };
  };
  const put = (changes) => {
    busy = true;  // one draw for all of them: between two sets the state is half old, half new
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    busy = false;
    model.save_changes();
    draw();
  };
  const setCode = (code) => {
    typing = false;
    if (code !== null) put({ code, typed: shortest(decode(code, state().spec)) });
  };
  const setValue = (value, changes = {}) => {
    const { spec, saturate } = { ...state(), ...changes };
    put({ fmt: spec.name, saturate, typed: shortest(value), code: encode(value, spec, saturate) });
  };

  // Built once per format; later draws only change the pressed state, so that the focus stays where it is.
  function buildBits(spec) {
    const groups = { sign: "", exponent: "", mantissa: "" };
    for (let i = 0; i < spec.bits; i++) {
      const place = spec.bits - 1 - i;  // a gap after every fourth bit of the mantissa, where a narrow page may break
      const nibble = place % 4 === 0 && place > 0 && place < spec.mantissa_bits ? "<wbr>" : "";
      groups[bitRole(i, spec).field] += `<button type="button" class="fx-bit" data-index="${i}" tabindex="-1"></button>${nibble}`;
    }
    part.bits.innerHTML = Object.entries(groups).filter(([, bits]) => bits).map(([name, bits]) =>
      `<div class="fx-field fx-${name}"><div class="fx-row">${bits}</div><div class="fx-strip"></div>` +
      `<div class="fx-name">${name} <b data-field="${name}"></b></div></div>`).join("");
    part.bits.dataset.fmt = spec.name;
    part.bits.setAttribute("aria-label", `The ${spec.bits} bits of ${spec.name}: arrow left and right move, ` +
      "space flips, arrow up and down step to the next number");
    part.bits.querySelector(".fx-bit").tabIndex = 0;
  }

  function drawBits({ spec, code }) {
    if (part.bits.dataset.fmt !== spec.name) buildBits(spec);
    const text = code.toString(2).padStart(spec.bits, "0");
    const value = fields(code, spec);
    part.bits.querySelectorAll(".fx-bit").forEach((button, i) => {
      button.textContent = text[i];
      button.setAttribute("aria-pressed", text[i] === "1");
      button.setAttribute("aria-label", `${bitRole(i, spec).name}, ${text[i]}`);
      button.title = bitRole(i, spec).name;
    });
    part.bits.querySelectorAll("[data-field]").forEach((e) => { e.textContent = value[e.dataset.field]; });
  }

  function drawFacts({ spec, code, value }) {
    const stored = decode(code, spec);
    const { binary, decimal } = exact(stored);
    const { maxCode, minExponent } = derive(spec);
    const unit = ulp(stored, spec);
    const error = stored - value;
    const rows = [
      ["code", `${hex(code, spec)} = ${code}`],
      ["exactly", binary === decimal ? binary : `${decimal.length <= 60 ? decimal : `${decimal.slice(0, 24)}… (${decimal.length} characters)`}<br>${binary}`],
      ["ulp", Number.isFinite(unit) ? `${brief(unit, 7)} = 2^${Math.log2(unit)}` : "none"],
      ["range", `${brief(decode(spec.subnormals ? 1 : 0, spec), 6)} to ${brief(decode(maxCode, spec), 6)}${spec.subnormals ? `, normal from ${brief(2 ** minExponent, 6)}` : ""}`],
      ["error", !Number.isFinite(error) ? verdict(value, code, spec) : error === 0 ? "0: the value fits" :
        `${brief(error, 4)} = ${verdict(value, code, spec)} = ${brief(Math.abs(error) / unit, 3)} ulp`],
    ];
    part.facts.innerHTML = rows.map(([name, text]) =>
      `<dt>${name}</dt><dd>${text.replace(/2\^(-?\d+)/g, "2<sup>$1</sup>")}</dd>`).join("");
  }

  function drawSteps({ spec, code }) {
    for (const [name, direction, word] of [["below", -1, "next below"], ["above", 1, "next above"]]) {
      const next = step(code, direction, spec);
      const value = next === null ? "none" : brief(decode(next, spec));
      part[name].disabled = next === null;
      part[name].innerHTML = `<span>${direction < 0 ? "◀ " : ""}${word}${direction > 0 ? " ▶" : ""}</span><b>${value}</b>`;
      part[name].onclick = () => setCode(step(state().code, direction, spec));
    }
  }

  function drawRows({ spec, value, saturate }) {
    part.caption.textContent = `${shortest(value)} in every format`;
    part.table.setAttribute("aria-label", part.caption.textContent);
    const shown = specs.filter((other, i) => i < MAIN || cousins || other === spec);
    part.cousins.textContent = cousins ? "hide the cousins of FP8" : `show ${specs.length - MAIN} cousins of FP8`;
    part.cousins.setAttribute("aria-expanded", cousins);
    part.rows.innerHTML = shown.map((other) => {
      const code = encode(value, other, saturate);
      const chosen = other === spec;
      return `<div role="row" class="${chosen ? "fx-chosen" : ""}"><span role="rowheader"><button type="button" aria-pressed="${chosen}" data-fmt="${other.name}">${other.name}</button></span>` +
        [brief(decode(code, other)), verdict(value, code, other), hex(code, other)].map((text) => `<span role="cell">${text}</span>`).join("") + "</div>";
    }).join("");
  }

  function drawBox({ value }) {
    if (typing) return;
    part.value.value = shortest(value);
    part.value.removeAttribute("aria-invalid");
    part.problem.textContent = "";
  }

  function draw() {
    const now = state();
    if (now.code >= 2 ** now.spec.bits) return;  // format and code arrive one after the other
    const stored = decode(now.code, now.spec);
    part.fmt.value = now.spec.name;
    part.saturate.checked = now.saturate;
    drawBox(now);
    drawBits(now);
    part.formula.innerHTML = formula(now.code, now.spec);
    part.stored.innerHTML = `<span class="fx-equals">=</span> <b>${shortest(stored)}</b> <span class="fx-kind">${kind(now.code, now.spec)}</span>`;
    drawLine(part.line, now);
    drawSteps(now);
    drawFacts(now);
    drawRows(now);
  }

  part.fmt.innerHTML = specs.map(({ name }) => `<option>${name}</option>`).join("");
  part.examples.innerHTML = "Try " + EXAMPLES.map((text) => `<button type="button" data-text="${text}">${text}</button>`).join(" ");

  function take(text) {
    const { spec } = state();
    const found = read(text, spec);
    part.value.setAttribute("aria-invalid", !found);
    part.problem.textContent = found ? "" : `Cannot read “${text}”. Write a number (0.1, 6e-8), a fraction (1/3), ` +
      `a power (2^-24), inf, nan, or a code of ${spec.bits} bits (0x1F, 0b101).`;
    if (found && found.code !== undefined) put({ code: found.code, typed: shortest(found.value) });
    else if (found) setValue(found.value);
  }

  function setFormat(name) {
    typing = false;
    setValue(state().value, { spec: specs.find((spec) => spec.name === name) });
  }

  function focusBit(button) {
    part.bits.querySelectorAll(".fx-bit").forEach((bit) => { bit.tabIndex = bit === button ? 0 : -1; });
    button.focus();
  }

  function flip(index) {
    const { spec, code } = state();
    const weight = 2 ** (spec.bits - 1 - index);
    setCode(code + (Math.floor(code / weight) % 2 ? -weight : weight));
    focusBit(part.bits.querySelectorAll(".fx-bit")[index]);
  }

  part.fmt.onchange = () => setFormat(part.fmt.value);
  part.saturate.onchange = () => setValue(state().value, { saturate: part.saturate.checked });
  part.cousins.onclick = () => { cousins = !cousins; draw(); };
  part.value.oninput = () => { typing = true; take(part.value.value); };
  part.value.onblur = () => {  // touch only the box: whatever is being clicked right now must neither move nor be redrawn
    typing = false;
    if (!part.problem.textContent) drawBox(state());
  };
  root.onclick = ({ target }) => {
    const { fmt, text, index } = target.closest("button")?.dataset ?? {};
    if (text) { typing = false; take(text); }
    if (index) flip(Number(index));
    if (!fmt) return;
    setFormat(fmt);
    part.rows.querySelector("[aria-pressed=true]").focus();  // the rows were drawn anew
  };
  part.bits.onkeydown = (event) => {
    const buttons = [...part.bits.querySelectorAll(".fx-bit")];
    const at = buttons.indexOf(event.target);
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (to === undefined || !buttons[to]) return;
    event.preventDefault();
    focusBit(buttons[to]);
  };
  root.onkeydown = (event) => {
    const direction = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    const steps = event.target === part.value || part.bits.contains(event.target);
    if (direction && steps) {
      event.preventDefault();
      setCode(step(state().code, direction, state().spec));
    }
    // Slides turn on arrows and space; keys pressed in here are ours, except those that only turn pages.
    if (!["PageUp", "PageDown", "Escape"].includes(event.key)) event.stopPropagation();
  };

  const changed = () => { if (!busy) draw(); };
  const names = ["fmt", "code", "typed", "saturate"].map((name) => `change:${name}`);
  names.forEach((name) => model.on(name, changed));
  draw();
  el.append(root);
  return () => names.forEach((name) => model.off(name, changed));
}

export default { render };

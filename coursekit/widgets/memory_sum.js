// The arithmetic of the memory explorer: coefficients in, bytes out. It multiplies, adds, divides by ranks (rounded up) and
// takes the largest; what a byte is for memory_coefficients.py knows. All numbers stay far below 2^53.

const share = (bytes, ranks) => Math.floor((bytes + ranks - 1) / ranks);

const at = ([c0, c1, c2, c3], { batch, sequence }) => c0 + sequence * (c1 + batch * (c2 + sequence * c3));

const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

/** Bytes of each rank before the step, and in the optimizer's step: two objects by category. */
function standing(row, { optimizer, batch, sequence, zero_stage, gpus }) {
  const sharded = (bytes, stage) => (zero_stage >= stage ? share(bytes, gpus) : bytes);
  const [states, step] = row.optimizers[optimizer];
  const before = {
    "weights": sharded(row.weights, 3),
    "master weights": sharded(row.master, 1),
    "optimizer states": sharded(states, 1),
    "gradients": sharded(row["gradient copy"], 2),
    "inputs": 16 * batch * sequence,  // tokens and labels, 8 bytes each
  };
  const gradients = sharded(row.gradients + row["gradient copy"], 2);
  return [before, { ...before, gradients, temporary: sharded(step, 1) }];
}

/** The highest of the points of a phase, by category; of equals the first, as in Python. From stage 2 on the ranks share
    the gradients that have come. */
function highest(points, state, coming) {
  const ranks = state.zero_stage >= 2 ? state.gpus : 1;
  const held = (bytes, i) => (coming[i] === "gradients" ? share(bytes, ranks) : bytes);
  const rows = points.map((point) => point.map((polynomial) => at(polynomial, state)).map(held));
  const sums = rows.map(sum);
  return rows[sums.indexOf(Math.max(...sums))];
}

/** What sharding needs: the gradients of a block before they are shared out; in stage 3 the whole weights of two blocks. */
function passing(row, { zero_stage, gpus }, phase) {
  const stage = gpus > 1 ? zero_stage : 0;
  const [gathered, gradients] = row.blocks;
  return { "gathered weights": stage === 3 ? gathered : 0, "temporary": stage >= 2 && phase > 0 ? gradients : 0 };
}

/** Bytes at the highest point of each phase: [phase][category], in the table's order of both. */
export function bytesByPhase(table, state) {
  const row = table.models[state.model].methods[state.method];
  const tape = table.tapes[row.tapes[state.attention][Number(state.checkpointing)]];
  const [before, step] = standing(row, state);
  const coming = tape.map((points, phase) => {
    const terms = { ...before, ...passing(row, state, phase) };
    highest(points, state, table.coming).forEach((bytes, i) => { terms[table.coming[i]] = (terms[table.coming[i]] ?? 0) + bytes; });
    return terms;
  });
  return [...coming, step].map((terms) => table.categories.map((name) => terms[name] ?? 0));
}

/** Peak, the place of its phase, what is spare on a card (negative: missing) and the place of the category that breaks it. */
export function verdict(phases, capacity) {
  const sums = phases.map(sum);
  const peak = Math.max(...sums);
  const phase = sums.indexOf(peak);
  let total = 0;
  const breaks = peak <= capacity ? null : phases[phase].findIndex((bytes) => (total += bytes) > capacity);
  return { sums, peak, phase, spare: capacity - peak, breaks };
}

/** Three digits and a unit: 16.1 GB, 734 MB; a thousand millions is a GB. */
export function size(bytes) {
  if (!bytes) return "–";
  const [unit, name] = [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]].find(([u]) => bytes >= 0.9995 * u) ?? [1, "B"];
  const value = bytes / unit;
  const places = unit === 1 ? 0 : value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return `${value.toFixed(places).replace(/\B(?=(\d{3})+$)/g, places ? "" : ",")} ${name}`;
}

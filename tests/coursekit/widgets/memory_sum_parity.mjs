// Runs the arithmetic of the memory explorer: node memory_sum_parity.mjs MEMORY_SUM.mjs FOLDER
// FOLDER holds facts.json ({table, states, capacities, sizes}); writes found.json.

import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [path, folder] = process.argv.slice(2);
const { bytesByPhase, verdict, size } = await import(pathToFileURL(path));
const { table, states, capacities, sizes } = JSON.parse(readFileSync(`${folder}/facts.json`));
const found = states.map((state, i) => {
  const phases = bytesByPhase(table, state);
  return { phases, ...verdict(phases, capacities[i]) };
});
writeFileSync(`${folder}/found.json`, JSON.stringify({ found, sizes: sizes.map(size) }));

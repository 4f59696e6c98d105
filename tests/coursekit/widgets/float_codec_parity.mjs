// Runs the codec of the page on a batch: node float_codec_parity.mjs CODEC.mjs FOLDER
// FOLDER holds jobs.json ([{spec, codes, values}], counts), input.f64 (per job its codes, then its values) and texts.json.
// Writes output.f64, row after row: per code CODE_COLUMNS, per value VALUE_COLUMNS; a null becomes NaN.

import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [codecPath, folder] = process.argv.slice(2);
const codec = await import(pathToFileURL(codecPath));
const { decode, encode, neighbours, ulp, fields, kind, step } = codec;
const KINDS = ["normal", "subnormal", "zero", "infinity", "NaN"];

const raw = readFileSync(`${folder}/input.f64`);
const input = new Float64Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.byteLength));
const out = [];
let at = 0;
for (const { spec, codes, values } of JSON.parse(readFileSync(`${folder}/jobs.json`))) {
  for (const code of input.subarray(at, at += codes)) {
    const value = decode(code, spec);
    const { sign, exponent, mantissa } = fields(code, spec);
    const next = step(code, 1, spec);
    out.push(value, encode(value, spec), sign, exponent, mantissa, KINDS.indexOf(kind(code, spec)), ulp(value, spec),
      next === null ? NaN : decode(next, spec));
  }
  for (const value of input.subarray(at, at += values)) {
    const { below, above } = neighbours(value, spec);
    out.push(encode(value, spec), encode(value, spec, true), ulp(value, spec), below ?? NaN, above ?? NaN);
  }
}
writeFileSync(`${folder}/output.f64`, Buffer.from(Float64Array.from(out).buffer));

const { spec, texts, values } = JSON.parse(readFileSync(`${folder}/texts.json`));
const reads = texts.map((text) => codec.read(text, spec)).map((found) => found && [codec.shortest(found.value), found.code ?? null]);
const exacts = values.map((text) => [codec.shortest(Number(text)), codec.exact(Number(text)).decimal]);
const verdicts = values.map((text) => codec.verdict(Number(text), encode(Number(text), spec), spec));
writeFileSync(`${folder}/texts_out.json`, JSON.stringify({ reads, exacts, verdicts }));

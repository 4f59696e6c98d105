// A codec for any small float, as pure functions: the JavaScript twin of coursekit.formats.scalar, in float64 and BigInt,
// so exact up to FP32. A test runs it in node on every code against Python. `spec` is a FloatSpec sent as JSON:
// { name, bits, exponent_bits, mantissa_bits, bias, specials, signed, subnormals }.
//
// Codes reach 2^32 - 1, beyond JavaScript's signed 32-bit operators, so fields are cut by division, never by shifting.

/** What follows from the five facts of a format: code of -0, largest finite code, smallest exponent. */
export function derive(spec) {
  const half = 2 ** (spec.exponent_bits + spec.mantissa_bits);  // number of codes of one sign
  const steps = 2 ** spec.mantissa_bits;                        // mantissas per exponent
  const reserved = { ieee: steps, fn: 1, fnuz: 0, finite: 0 }[spec.specials];
  return { half, steps, maxCode: half - 1 - reserved, minExponent: (spec.subnormals ? 1 : 0) - spec.bias };
}

export function fields(code, spec) {
  const { half, steps } = derive(spec);
  const size = code % half;
  return { sign: Math.floor(code / half), exponent: Math.floor(size / steps), mantissa: size % steps };
}

export function kind(code, spec) {
  const { half, maxCode } = derive(spec);
  const { exponent, mantissa } = fields(code, spec);
  if (spec.specials === "fnuz" && code === half) return "NaN";
  if (code % half > maxCode) return spec.specials === "ieee" && mantissa === 0 ? "infinity" : "NaN";
  if (exponent > 0 || !spec.subnormals) return "normal";
  return mantissa === 0 ? "zero" : "subnormal";
}

export function decode(code, spec) {
  const { sign, exponent, mantissa } = fields(code, spec);
  const { steps, minExponent } = derive(spec);
  const is = kind(code, spec);
  if (is === "NaN") return NaN;
  if (is === "infinity") return sign ? -Infinity : Infinity;
  const significand = mantissa + (is === "normal" ? steps : 0);
  const size = significand * 2 ** (Math.max(exponent - spec.bias, minExponent) - spec.mantissa_bits);
  return sign ? -size : size;
}

/** floor(log2(size)) read from the float64 itself: Math.log2 is wrong next to powers of two. */
function exponentOf(size) {
  const high = new DataView(new ArrayBuffer(8));
  high.setFloat64(0, size);
  return (high.getUint16(0) >> 4) - 1023;
}

/** Distance between the numbers in the binade of this value: one unit in the last place. */
export function ulp(value, spec) {
  if (!Number.isFinite(value)) return Math.abs(value);
  const { maxCode, steps, minExponent } = derive(spec);
  const top = Math.floor(maxCode / steps) - spec.bias;
  return 2 ** (Math.min(Math.max(exponentOf(Math.abs(value)), minExponent), top) - spec.mantissa_bits);
}

function nanSize({ specials }, { half, steps, maxCode }) {
  return { ieee: maxCode + 1 + Math.floor(steps / 2), fn: maxCode + 1, fnuz: half, finite: half }[specials];
}

/** Code of |value|, not yet signed: the largest number, infinity or NaN beyond the range, as `saturate` says. */
function encodeSize(size, spec, saturate) {
  const limits = derive(spec);
  const { steps, maxCode, minExponent } = limits;
  const overflow = saturate || spec.specials === "finite" ? maxCode : spec.specials === "ieee" ? maxCode + 1 : nanSize(spec, limits);
  if (size === Infinity) return overflow;
  if (!spec.subnormals) size = Math.max(size, 2 ** minExponent);  // E8M0 has no zero to fall to
  const exponent = Math.max(exponentOf(size), minExponent);
  const scaled = size / 2 ** (exponent - spec.mantissa_bits);  // exact: only the exponent changes
  const floor = Math.floor(scaled);
  const rest = scaled - floor;
  const n = floor + (rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? 1 : 0);
  // The codes count upward from zero without a gap, so a carry in n walks into the exponent field by itself.
  const code = n + (exponent - minExponent) * steps - (spec.subnormals ? 0 : steps);
  return code > maxCode ? overflow : code;
}

/** Code of the nearest number, ties to even. What each format does with NaN, -0 and too large: formats/scalar.py. */
export function encode(value, spec, saturate = false) {
  const limits = derive(spec);
  const negative = value < 0 || Object.is(value, -0);
  if (Number.isNaN(value) || (!spec.signed && (value < 0 || value === 0))) return nanSize(spec, limits);
  const size = encodeSize(Math.abs(value), spec, saturate);
  const unsigned = spec.specials === "fnuz" && (size === 0 || size === limits.half);  // its code of -0 is NaN
  return negative && !unsigned ? limits.half + size : size;
}

/** The next code up (+1) or down (-1) the number line, null past the end. -0 and 0 are one place. */
export function step(code, direction, spec) {
  const { half, maxCode } = derive(spec);
  const is = kind(code, spec);
  if (is === "NaN") return null;
  const rank = (code >= half ? -(code - half) : code) + direction;
  const last = maxCode + (spec.specials === "ieee" ? 1 : 0);
  if (Math.abs(rank) > last || (rank < 0 && !spec.signed)) return null;
  return rank < 0 ? half - rank : rank;
}

/** The numbers of the format strictly below and strictly above a value; null where there is none. */
export function neighbours(value, spec) {
  const at = (code) => (code === null ? null : decode(code, spec));
  if (Number.isNaN(value)) return { below: null, above: null };
  if (!spec.signed && value <= 0) return { below: null, above: decode(0, spec) };
  const code = encode(value, spec, true);  // saturated: always a finite number
  const stored = decode(code, spec);
  return {
    below: stored < value ? stored : value === -Infinity ? null : at(step(code, -1, spec)),
    above: stored > value ? stored : value === Infinity ? null : at(step(code, +1, spec)),
  };
}

// ---- Numbers as text --------------------------------------------------------------------------------------------

/** Shortest decimal that reads back as the same float64, in Python's words for the special ones. */
export function shortest(value) {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value < 0 ? "-inf" : "inf";
  return Object.is(value, -0) ? "-0" : String(value);
}

/** The value as odd integer x 2^power and as the full decimal, both exact. */
export function exact(value) {
  if (!Number.isFinite(value) || value === 0) return { binary: shortest(value), decimal: shortest(value) };
  const sign = value < 0 ? "-" : "";
  const raw = new DataView(new ArrayBuffer(8));
  raw.setFloat64(0, Math.abs(value));
  const bits = raw.getBigUint64(0);
  const field = Number(bits >> 52n);
  let integer = (bits & 0xfffffffffffffn) + (field ? 1n << 52n : 0n);
  let power = Math.max(field, 1) - 1075;
  while (integer % 2n === 0n) { integer /= 2n; power += 1; }
  const binary = `${sign}${integer} × 2^${power}`;
  if (power >= 0) return { binary, decimal: `${sign}${integer << BigInt(power)}` };
  const digits = (integer * 5n ** BigInt(-power)).toString().padStart(1 - power, "0");
  return { binary, decimal: `${sign}${digits.slice(0, power)}.${digits.slice(power)}` };
}

/** What a student may type: a decimal, a fraction, a power, inf, nan, or a code in hex or binary. Null if unreadable. */
export function read(text, spec) {
  const clean = text.trim().toLowerCase().replace("−", "-").replace("**", "^").replace(/[\s_]/g, "");
  if (/^0(x[0-9a-f]+|b[01]+)$/.test(clean)) {
    const code = Number(clean);
    return code < 2 ** spec.bits ? { code, value: decode(code, spec) } : null;
  }
  const special = clean.match(/^([+-]?)(inf|infinity|∞|nan)$/);
  if (special) return { value: special[2] === "nan" ? NaN : special[1] === "-" ? -Infinity : Infinity };
  const number = "[+-]?(?:\\d+\\.?\\d*|\\.\\d+)(?:e[+-]?\\d+)?";
  const parts = clean.match(new RegExp(`^(${number})(?:([/^])(${number}))?$`));
  if (!parts) return null;
  const [left, right] = [Number(parts[1]), Number(parts[3])];
  return { value: parts[2] === "/" ? left / right : parts[2] === "^" ? left ** right : left };
}

/** Nine significant digits, enough to tell any two FP32 numbers apart; small ones as 6.1e-5. */
export function brief(value, digits = 9) {
  if (!Number.isFinite(value) || value === 0) return shortest(value);
  const rounded = Number(value.toPrecision(digits));
  return Math.abs(rounded) < 1e-4 ? rounded.toExponential() : String(rounded);
}

function percent(error) {
  const size = Math.abs(error) * 100;
  return `${error < 0 ? "-" : "+"}${size >= 0.001 ? Number(size.toPrecision(3)) : size.toExponential(1)} %`;
}

/** What happened to the value on its way into the format, in one phrase. */
export function verdict(value, code, spec) {
  const stored = decode(code, spec);
  if (Object.is(stored, value)) return "exact";
  if (Number.isNaN(value)) return "has no NaN";
  if (value === 0) return stored === 0 ? "exact, no -0" : "has no zero";
  if (value < 0 && !spec.signed) return "has no sign";
  if (!Number.isFinite(value)) return Number.isNaN(stored) ? "has no inf" : "saturated";
  if (!Number.isFinite(stored)) return "overflow";
  if (stored === 0) return "underflow";
  if (!spec.subnormals && stored > 2 * value) return "no smaller";
  const largest = decode(derive(spec).maxCode, spec);
  if (Math.abs(stored) === largest && Math.abs(value) >= largest + ulp(largest, spec) / 2) return "saturated";
  return percent((stored - value) / Math.abs(value));
}

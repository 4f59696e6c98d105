"""The exercises of lecture 1, easy to hard: `check.decode_fp16(decode_fp16)` answers with a verdict.

The truth comes from `struct` (FP16), from numpy and ml_dtypes (limits, values of all codes, casts), and from exhaustive
search in exact fractions (the nearest value of a table, ties to the even code). A mistake does one thing wrong and
everything else right, so the right way can be read here too: look here after you have tried.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from itertools import pairwise

import ml_dtypes
import numpy as np
import torch

from classroom.checking.answers import Exact, Fields, is_number, show_value
from classroom.checking.exercise import Case, Exercise

# ---------------------------------------------------------------- round_to_grid

round_to_grid = Exercise(
    "round_to_grid",
    "Round to a grid, ties to even",
    minutes=5,
    hints=(
        "Divide by `step`: then the question is how to round to an integer.",
        "What does Python's own `round` give for 0.5, 1.5, 2.5? Try it in a cell.",
        "`round(x / step) * step`: Python rounds ties to even, as IEEE 754 does.",
    ),
    praise="Ties go both ways, so a long sum of roundings does not drift.",
)


@round_to_grid.truth
def _():
    """Quarter steps from -4.5 to 4.5 steps, on four grids; ties among them."""
    for step in (1.0, 0.5, 2.0**-10, 1024.0):
        for k in range(-18, 19):
            yield Case((k / 4 * step, step), round(Fraction(k, 4)) * step)


@round_to_grid.mistake("ties always up")
def _(x, step):
    """`floor(x / step + 0.5)` sends every tie upwards: 2.5 becomes 3. A tie belongs to the even multiple."""
    return math.floor(x / step + 0.5) * step


@round_to_grid.mistake("ties away from zero")
def _(x, step):
    """At school ties are rounded away from zero. IEEE 754 sends a tie to the even multiple."""
    return math.copysign(math.floor(abs(x) / step + 0.5) * step, x)


@round_to_grid.mistake("always down")
def _(x, step):
    """`//` and `floor` go to the multiple below, even when the one above is nearer."""
    return math.floor(x / step) * step


@round_to_grid.mistake("counted in steps")
def _(x, step):
    """You return the number of steps; multiply by `step` to come back to the scale of x."""
    return round(x / step)


# ---------------------------------------------------------------- decode_fp16

decode_fp16 = Exercise(
    "decode_fp16",
    "Decode FP16 by hand",
    minutes=15,
    answer=Exact(bitwise=True),
    hints=(
        "Cut the code in three: `code >> 15` is the sign, `(code >> 10) & 31` the exponent field, `code & 1023` the "
        "mantissa.",
        "Three families, by the exponent field: 0 (zero and subnormals), 31 (infinity and NaN), all others (normal "
        "numbers).",
        "Field 0 has no hidden 1 and the exponent of field 1: `mantissa / 1024 * 2.0**-14`. Apply the sign last, by "
        "`-value`.",
    ),
    praise="That is the whole of FP16.",
)


@decode_fp16.truth
def _():
    """All 65,536 codes by `struct`; first some that show one rule each, so that the first failure teaches something."""
    telling = [0x3C00, 0xC000, 0x3555, 0x7BFF, 0x0400, 0x0001, 0x03FF, 0x0000, 0x8000, 0x7C00, 0xFC00, 0x7E00]
    for code in telling + sorted(set(range(2**16)) - set(telling)):
        bits = f"{code:016b}"
        words = f"decode_fp16(0b{bits[0]}_{bits[1:6]}_{bits[6:]})"
        yield Case((code,), struct.unpack("<e", struct.pack("<H", code))[0], words)


def _decode(code, subnormal_exponent=-14, specials=True, negative_zero=True) -> float:
    """decode_fp16 with one wrong part. subnormal_exponent None: field 0 is read like the others."""
    negative, field, mantissa = code >> 15, (code >> 10) & 31, code & 1023
    value = (1 + mantissa / 1024) * 2.0 ** (field - 15)
    if field == 0 and subnormal_exponent is not None:
        value = mantissa / 1024 * 2.0**subnormal_exponent
    if field == 31 and specials:
        value = math.nan if mantissa else math.inf
    if value == 0 and not negative_zero:
        return value
    return -value if negative else value


@decode_fp16.mistake("no subnormals")
def _(code):
    """Exponent field 0 was read like the others, with the hidden 1. There the hidden bit is 0: the subnormals."""
    return _decode(code, subnormal_exponent=None)


@decode_fp16.mistake("subnormals one exponent too low")
def _(code):
    """The exponent of the subnormals is 1 - bias = -14, the same as in field 1, not 0 - bias = -15."""
    return _decode(code, subnormal_exponent=-15)


@decode_fp16.mistake("infinity and NaN read as numbers")
def _(code):
    """Exponent field 31 is reserved in FP16: mantissa 0 is infinity, any other mantissa is NaN."""
    return _decode(code, specials=False)


@decode_fp16.mistake("negative zero lost")
def _(code):
    """Code 0x8000 is -0.0: the sign bit counts for zero too. `-value` keeps it, `0 * -1` in integers does not."""
    return _decode(code, negative_zero=False)


# ---------------------------------------------------------------- float_limits

float_limits = Exercise(
    "float_limits",
    "The limits of any format",
    minutes=10,
    hints=(
        "Write down the code of each of the numbers first: which exponent field, which mantissa?",
        "The largest finite number has field 2^E - 2 (one below all ones) and a mantissa of all ones. The smallest "
        "normal number has field 1.",
        "`(2 - 2.0**-M) * 2.0**(2**E - 2 - bias)`, `2.0**(1 - bias)`, that times `2.0**-M`, and `2.0**-M`.",
    ),
    praise="The five facts of a format give every other figure.",
)


@float_limits.truth
def _():
    """Six formats with IEEE rules, as numpy and ml_dtypes state them in `finfo`."""
    formats = {
        (5, 10, 15): np.float16,
        (8, 7, 127): ml_dtypes.bfloat16,
        (8, 23, 127): np.float32,
        (5, 2, 15): ml_dtypes.float8_e5m2,
        (4, 3, 7): ml_dtypes.float8_e4m3,
        (3, 4, 3): ml_dtypes.float8_e3m4,
    }
    for parameters, dtype in formats.items():
        info = ml_dtypes.finfo(dtype)
        limits = (info.max, info.smallest_normal, info.smallest_subnormal, info.eps)
        yield Case(parameters, tuple(float(limit) for limit in limits))


def _limits(e, m, bias, field=-2, mantissa=True, subnormals=True, eps=1.0) -> tuple[float, ...]:
    """float_limits with one wrong part. field: the highest exponent field, from 2^e on."""
    exponent = 2**e + field - bias
    power = 2.0**exponent if exponent < 1024 else math.inf
    largest = (2 - 2.0**-m) * power if mantissa else power
    normal = 2.0 ** (1 - bias)
    smallest = normal * 2.0**-m if subnormals else normal
    return largest, normal, smallest, eps * 2.0**-m


@float_limits.mistake("highest exponent field used")
def _(e, m, bias):
    """IEEE keeps the field of all ones for infinity and NaN: the largest number is one field lower."""
    return _limits(e, m, bias, field=-1)


@float_limits.mistake("mantissa of the largest number forgotten")
def _(e, m, bias):
    """The largest number has every mantissa bit set: (2 - 2^-M) times the power of two, not 1 times."""
    return _limits(e, m, bias, mantissa=False)


@float_limits.mistake("no subnormals")
def _(e, m, bias):
    """The smallest positive number of all is subnormal: 2^-M times the smallest normal one."""
    return _limits(e, m, bias, subnormals=False)


@float_limits.mistake("half of eps")
def _(e, m, bias):
    """2^-(M+1) is the largest rounding error near 1; eps is the distance from 1 to the next number, 2^-M."""
    return _limits(e, m, bias, eps=0.5)


# ---------------------------------------------------------------- first_missing_integer

first_missing_integer = Exercise(
    "first_missing_integer",
    "The first integer that is lost",
    minutes=10,
    seconds=2.0,
    too_slow=(
        "The formats with few bits are done. FP64 holds every integer up to 2^53: counting there takes years. Where "
        "can the first gap be? And count in Python's integers: its floats are FP64 and stop moving at 2^53."
    ),
    hints=(
        "An integer n is held if `round_to(n) == n`. Count up for FP16 first, and look at the number you find.",
        "The gap opens right after a power of two: between 2^k and 2^(k+1) there are as many numbers as between 1 and "
        "2.",
        "Double n while `round_to(n + 1) == n + 1`; the answer is `n + 1`.",
    ),
    praise="From there on x + 1 == x for every second x.",
)


@first_missing_integer.truth
def _():
    """Six formats from FP8 to FP64, as rounding functions; a test counts up to these integers."""
    formats = {
        "E5M2": (ml_dtypes.float8_e5m2, 9),
        "E4M3": (ml_dtypes.float8_e4m3fn, 17),
        "BF16": (ml_dtypes.bfloat16, 257),
        "FP16": (np.float16, 2049),
        "FP32": (np.float32, 16_777_217),
        "FP64": (np.float64, 9_007_199_254_740_993),
    }
    for name, (dtype, answer) in formats.items():
        yield Case((_rounding_to(dtype),), answer, f"first_missing_integer(round_to_{name})")


def _rounding_to(dtype):
    def round_to(n) -> float:
        if abs(n) >= 2**1024:  # beyond every one of these formats
            return math.inf if n > 0 else -math.inf
        with np.errstate(all="ignore"):
            return float(np.float64(n).astype(dtype))

    return round_to


def _first_missing(round_to) -> int:
    n = 1
    while round_to(n + 1) == n + 1:
        n *= 2
    return n + 1


@first_missing_integer.mistake("one too small")
def _(round_to):
    """This is the last integer before the gap: it is still held. The one after it is the first that is not."""
    return _first_missing(round_to) - 1


@first_missing_integer.mistake("hidden bit forgotten")
def _(round_to):
    """Integers are held twice as far: the hidden 1 adds one bit to the stored ones, M + 1 in all."""
    return (_first_missing(round_to) - 1) // 2 + 1


@first_missing_integer.mistake("powers of two only")
def _(round_to):
    """Powers of two are held up to the end of the range. Look at the integers right after them."""
    n = 1
    while round_to(n) == n:
        n *= 2
    return n


# ---------------------------------------------------------------- stochastic_round


def _multiples(results) -> str:
    return " or ".join(f"{r:g}" for r in results)


stochastic_round = Exercise(
    "stochastic_round",
    "Stochastic rounding without bias",
    minutes=10,
    takes=3,
    answer=Fields(rounds_to=Exact(show=_multiples), mean=Exact(show=lambda mean: f"{mean:g}")),
    hints=(
        "Find the multiple below, `math.floor(x / step)`, and the fraction of a step that x lies above it.",
        "For the mean to be x, the chance of going up must be that fraction. u is uniform on [0, 1).",
        "Go up if `u < fraction`. A multiple has fraction 0 and stays, whatever u is.",
    ),
    praise="Each rounding is coarse, their mean is exact: that is why small updates survive.",
)


@stochastic_round.truth
def _():
    """Values at eighths between two multiples, both signs. The truth: (the possible results, their mean)."""
    for step in (1.0, 0.25, 2.0**-7):
        for k in (-20, -13, -8, -3, 0, 1, 3, 4, 6, 8, 13, 39):
            x = k / 8 * step
            below, above = math.floor(k / 8) * step, math.ceil(k / 8) * step
            results = (below,) if below == above else (below, above)
            yield Case((x, step), (results, x), f"stochastic_round({x}, {step}, u) for u from 0 to 1")


@stochastic_round.probe
def results_and_mean(function, x: float, step: float):
    """(results that occur, their mean) over 800 even draws u; the first result that is not a number, if any."""
    results = [function(x, step, (i + 0.5) / 800) for i in range(800)]
    odd = [r for r in results if not is_number(r)]
    if odd:
        return odd[0]
    return tuple(sorted({float(r) for r in results})), math.fsum(results) / 800


def _stochastic(x, step, goes_up) -> float:
    """stochastic_round with its own rule for going up, from the fraction of a step above the multiple."""
    below = math.floor(x / step)
    fraction = x / step - below
    return (below + bool(fraction and goes_up(fraction))) * step


@stochastic_round.mistake("no chance in it")
def _(x, step, u):
    """The answer does not depend on u: this is rounding to nearest. Compare u with how far up x lies."""
    return round(x / step) * step


@stochastic_round.mistake("a fair coin")
def _(x, step, u):
    """Up and down come out equally often, whatever x is. The chance of going up must be the fraction of a
    step by which x is above the lower multiple."""
    return _stochastic(x, step, lambda fraction: u < 0.5)


@stochastic_round.mistake("chances swapped")
def _(x, step, u):
    """The nearer x lies to the upper multiple, the more rarely you go there: go up with the chance `fraction`."""
    return _stochastic(x, step, lambda fraction: u < 1 - fraction)


@stochastic_round.mistake("int() for negative numbers")
def _(x, step, u):
    """`int` cuts towards zero, so below zero the lower neighbour is missed: `math.floor` goes down on both sides."""
    whole = int(x / step)
    return (whole + (u < abs(x / step - whole))) * step


# ---------------------------------------------------------------- kahan_sum


class Fp16Sum(Exact):
    """An FP16 number within two units in the last place of the exact sum; not finite where the sum overflows."""

    def right(self, expected, got) -> bool:
        if not isinstance(got, np.float16):
            return False
        if np.isnan(expected):
            return not np.isfinite(got)
        error = abs(float(got) - float(expected))
        return bool(np.isfinite(got)) and error <= 2 * float(np.spacing(expected))

    def alike(self, mistaken, got) -> bool:
        """Equal in FP16, nearly equal in a wider type; infinity and NaN are alike, both come of an overflow."""
        if not is_number(got) or isinstance(mistaken, np.float16) != isinstance(got, np.float16):
            return False
        if not math.isfinite(mistaken) or not math.isfinite(got):
            return not math.isfinite(mistaken) and not math.isfinite(got)
        return math.isclose(mistaken, got, rel_tol=0.0 if isinstance(got, np.float16) else 1e-6)


def _with_type(value) -> str:
    return f"{float(value):.9g} ({type(value).__name__})" if is_number(value) else show_value(value)


kahan_sum = Exercise(
    "kahan_sum",
    "Kahan's sum in FP16",
    minutes=15,
    answer=Fp16Sum(show=_with_type),
    hints=(
        "Keep two FP16 numbers: the running sum, and what the last addition added too much or too little.",
        "After `new = total + y`, the part of y that arrived is `new - total`; `(new - total) - y` is the error of "
        "this addition.",
        "For each value: `y = value - error`, `new = total + y`, `error = (new - total) - y`, `total = new`, in this "
        "order.",
    ),
    praise="Two 16-bit numbers did the work of a wider one.",
)


@kahan_sum.truth
def _():
    """The exact sum in fractions; NaN where the running sum leaves the range."""
    generator = np.random.default_rng(1)
    sums = {
        "[0.1]": [0.1],
        "[1.0] + 1000 * [0.001]": [1.0] + 1000 * [0.001],
        "[1.0] + 4096 * [2**-11]": [1.0] + 4096 * [2.0**-11],
        "1000 uniform numbers": generator.uniform(0, 1, 1000),
        "2000 small numbers after 100": [100.0, *generator.uniform(0, 0.05, 2000)],
        "[60000, 10000, -60000]": [60000.0, 10000.0, -60000.0],
    }
    for words, numbers in sums.items():
        values = [np.float16(v) for v in numbers]
        exact = float(sum(Fraction(float(v)) for v in values))
        expected = math.nan if words.startswith("[60000") else exact
        yield Case((values,), np.float16(expected), f"kahan_sum({words})")


@kahan_sum.probe
def without_warnings(function, values):
    """The answer, without numpy's warnings about overflow (one of the cases is about it)."""
    with np.errstate(all="ignore"):
        return function(values)


@kahan_sum.mistake("a plain running sum")
def _(values):
    """Either there is no correction, or it is always 0. It must be `(new - total) - y`, with these brackets, and it
    must be subtracted from the next value."""
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


@kahan_sum.mistake("correction with the wrong sign")
def _(values):
    """`(new - total) - y` is what was added too much: subtract it from the next value, do not add it."""
    total, error = values[0], 0 * values[0]
    for value in values[1:]:
        y = value + error
        new = total + y
        error = (new - total) - y
        total = new
    return total


@kahan_sum.mistake("summed in a wider type")
def _(values):
    """The answer is not an FP16 number: `math.fsum`, `sum(map(float, ...))` or a cast left FP16. Stay in it."""
    return math.fsum(map(float, values))


@kahan_sum.mistake("summed in a wider type, then cast")
def _(values):
    """70,000 does not fit in FP16, yet your sum passed it. Either something wider than FP16 did the adding, or the
    values were added in another order than the list's."""
    return np.float16(math.fsum(map(float, values)))


# ---------------------------------------------------------------- encode_e4m3


class E4M3Code(Exact):
    """The same code. NaN has two, one for each sign."""

    def same(self, expected, got) -> bool:
        return super().same(expected, got) or (expected == 0x7F and got == 0xFF)


def _bits(code) -> str:
    if not (isinstance(code, int) and not isinstance(code, bool) and 0 <= code < 256):
        return show_value(code)
    bits = f"{code:08b}"
    return f"0b{bits[0]}_{bits[1:5]}_{bits[5:]}"


encode_e4m3 = Exercise(
    "encode_e4m3",
    "Encode to FP8 E4M3",
    minutes=25,
    answer=E4M3Code(show=_bits),
    hints=(
        "NaN, the sign (`math.copysign(1, x)`: -0.0 has one too) and infinity first; then x is positive and finite.",
        "`math.frexp(x)[1] - 1` is the exponent; never let it fall below -6. The spacing there is "
        "`2.0**(exponent - 3)`.",
        "`steps = round(x / spacing)` counts 0 to 16; the code is `(exponent + 6) * 8 + steps`: the carry comes by "
        "itself. Cap it at 0x7E.",
    ),
    praise="Every value, every midpoint and both neighbours of each.",
)


def e4m3_values() -> tuple[Fraction, ...]:
    """The values of the codes 0 to 126, exactly, as ml_dtypes decodes them; ascending."""
    codes = np.arange(127, dtype=np.uint8)
    return tuple(Fraction(float(v)) for v in codes.view(ml_dtypes.float8_e4m3fn))


def nearest_code(x: Fraction, table: tuple[Fraction, ...]) -> int:
    """The code (place in the table) nearest to x >= 0, ties to the even code, the last one beyond the end."""
    return min(range(len(table)), key=lambda code: (abs(table[code] - x), code % 2))


@encode_e4m3.truth
def _():
    """Every value, every midpoint and its neighbours, numbers beyond the end, both signs, zeros, specials."""
    exact = e4m3_values()
    table = [float(v) for v in exact]
    middles = [(a + b) / 2 for a, b in pairwise(table)]
    near = [math.nextafter(m, to) for m in middles for to in (0.0, math.inf)]
    points = [1.0, 1.0625, 1.1875, 0.3, 17.0, 240.0, 448.0, 0.013671875, 2.0**-9, 2.0**-10, 2.0**-11]
    points += [*table, *middles, *near, 464.0, 500.0, 1e6, 1e300, 1e-30, 5e-324]
    codes = [nearest_code(Fraction(x), exact) for x in points]
    cases = [Case((x,), code) for x, code in zip(points, codes, strict=True)]
    cases += [Case((-x,), 0x80 | code) for x, code in zip(points, codes, strict=True)]
    specials = (("math.inf", math.inf, 0x7E), ("-math.inf", -math.inf, 0xFE), ("math.nan", math.nan, 0x7F))
    return cases + [Case((x,), code, f"encode_e4m3({words})") for words, x, code in specials]


def _encode(x, rounding=round, smallest=0.0, top=0x7E, carry=True) -> int:
    """encode_e4m3 with one wrong part. smallest: numbers below it become 0."""
    if math.isnan(x):
        return 0x7F
    sign = 0x80 if math.copysign(1, x) < 0 else 0
    if math.isinf(x):
        return sign | top
    size = abs(x) if abs(x) >= smallest else 0.0
    exponent = max(math.frexp(size)[1] - 1, -6) if size else -6
    steps = rounding(size / 2.0 ** (exponent - 3))
    if steps == 16 and not carry:
        steps = 8
    # from one exponent to the next the codes go on without a gap: 8 steps are one exponent
    return sign | min((exponent + 6) * 8 + steps, top)


@encode_e4m3.mistake("truncated")
def _(x):
    """Every number went to the code towards zero; it must go to the nearest."""
    return _encode(x, rounding=math.floor)


@encode_e4m3.mistake("subnormals flushed to zero")
def _(x):
    """Numbers below 2^-6 became 0: there the exponent stays at -6 and the steps are 2^-9 wide."""
    return _encode(x, smallest=2.0**-6)


@encode_e4m3.mistake("carry lost")
def _(x):
    """A mantissa that rounds up to 8/8 must carry into the exponent: 1.96 becomes 2, not 1."""
    return _encode(x, carry=False)


@encode_e4m3.mistake("exponent field 15 kept for infinity")
def _(x):
    """That is the rule of IEEE 754. E4M3 uses field 15 for numbers: only 0b1111_111 is NaN, the largest is 448."""
    return _encode(x, top=0x77)


@encode_e4m3.mistake("rounded twice")
def _(x):
    """x went through FP32 first, as in `torch.tensor(x)`: what was nearly a tie became one. Round only once."""
    with np.errstate(all="ignore"):
        return _encode(float(np.float32(x)))


# ---------------------------------------------------------------- best_format

best_format = Exercise(
    "best_format",
    "Which format holds this tensor?",
    minutes=15,
    hints=(
        "`q = x.to(dtype).float()` is what the format makes of x. A value is lost if it became 0 or infinite.",
        "Relative error |q - x| / |x| counts small and large values alike. Leave out x == 0; every format holds it.",
        "Cap each error at 1 (`.nan_to_num(1.0).clamp(max=1)`), take the mean, return the dtype with the least: "
        "`min(dtypes, key=...)`.",
    ),
    praise="Values that are close together want mantissa bits; values far apart want exponent bits.",
)


@best_format.truth
def _():
    """Tensors like those of a training run, with the candidates; the truth is cast by ml_dtypes."""
    f16, bf16, e4m3, e5m2 = torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2
    generator = np.random.default_rng(7)
    normal, lognormal = generator.standard_normal, generator.lognormal
    weights, active = normal(4096) * 0.02, np.maximum(normal(4096), 0)
    gradients = normal(4096) * 1e-8
    large = 1000 * normal(64)
    outliers = np.concatenate([normal(4000), 2e5 * np.ones(96)])
    tensors = (
        ("weights", weights, (f16, bf16)),
        ("gradients", gradients, (f16, bf16)),
        ("a few large gradients, many small", np.concatenate([large, gradients]), (f16, bf16)),
        ("a few large gradients, many tiny", np.concatenate([large, gradients / 10]), (f16, bf16)),
        ("activations with outliers", outliers, (f16, bf16)),
        ("activations after ReLU", active, (bf16, f16)),
        ("weights", normal(4096), (e5m2, e4m3)),
        ("gradients", lognormal(-9, 2, 4096), (e4m3, e5m2)),
        ("activations after ReLU", active, (e5m2, e4m3, bf16, f16)),
    )
    for words, values, dtypes in tensors:
        x = torch.from_numpy(values).float()
        errors = {dtype: mean_relative_error(x.numpy(), dtype) for dtype in dtypes}
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        yield Case((x, list(dtypes)), min(dtypes, key=errors.get), f"best_format({words}, [{names}])")


def mean_relative_error(x: np.ndarray, dtype: torch.dtype) -> float:
    """Mean of |q - x| / |x| over x that are not 0, at most 1 each; a value that overflowed counts 1."""
    name = str(dtype).removeprefix("torch.")
    kept = x[x != 0].astype(np.float64)
    with np.errstate(all="ignore"):
        q = x[x != 0].astype(getattr(ml_dtypes, name, None) or np.dtype(name)).astype(np.float64)
        error = np.abs(q - kept) / np.abs(kept)
    return float(np.minimum(np.where(np.isfinite(error), error, 1.0), 1.0).mean())


def _least(x, dtypes, error) -> torch.dtype:
    """The dtype whose mean of error(x, q) is the least. What is beyond a format's range is infinite in it."""

    def mean(dtype) -> float:
        q = torch.where(x.abs() > torch.finfo(dtype).max, torch.inf, x.to(dtype).double())
        value = error(x.double(), q).mean().item()
        return math.inf if math.isnan(value) else value

    return min(dtypes, key=mean)


@best_format.mistake("absolute error")
def _(x, dtypes):
    """The mean of |q - x| is decided by the few large values; the small ones, flushed to 0, cost nothing. Divide by
    |x|."""
    return _least(x, dtypes, lambda x, q: (q - x).abs())


@best_format.mistake("overflowed values left out")
def _(x, dtypes):
    """Values that became infinite were dropped from the mean: they are lost, so they count 1 each."""
    return _least(x[x != 0], dtypes, lambda x, q: ((q - x).abs() / x.abs())[torch.isfinite(q)])


@best_format.mistake("divided by zero")
def _(x, dtypes):
    """Where x is 0 the relative error is 0/0 = NaN, and so is the mean. Every format holds 0: leave it out."""
    if (x == 0).any():
        return dtypes[0]
    return _least(x, dtypes, lambda x, q: ((q - x).abs() / x.abs()).clamp(max=1))


@best_format.mistake("always the widest range")
def _(x, dtypes):
    """You chose the format with the largest maximum every time: it has the fewest mantissa bits."""
    return max(dtypes, key=lambda dtype: torch.finfo(dtype).max)


# ---------------------------------------------------------------- mxfp4_block

mxfp4_block = Exercise(
    "mxfp4_block",
    "A block of MXFP4",
    minutes=25,
    hints=(
        "One scale for all 32: the power of two whose exponent is floor(log2(max |v|)) - 2. `math.frexp` finds it "
        "exactly.",
        "v / scale goes to the nearest of 0, 0.5, 1, 1.5, 2, 3, 4, 6; above 6 it becomes 6. A block of zeros stays "
        "zeros.",
        "Ties go to the even code (0, 1, 2, 4): `min(range(8), key=lambda i: (abs(grid[i] - x), i % 2))`. Multiply by "
        "the scale and give the sign back.",
    ),
    praise="Four bits per element, and a quarter bit for the scale.",
)


@mxfp4_block.truth
def _():
    """OCP MX 1.0 section 6.3, in fractions: scale 2^(floor(log2 max) - 2), elements to the nearest code."""
    generator = np.random.default_rng(3)
    normal = generator.standard_normal(32)
    blocks = {
        "normal": normal,
        "[7.9, ...]": [7.9, *normal[1:]],
        "[100.0, ...]": [100.0, *normal[1:]],
        "ties": [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0] * 4,
        "[-4.0, ...]": [-4.0, *normal[1:]],
        "[0.0] * 32": np.zeros(32),
        "tiny": normal * 1e-20,
        "uniform": generator.uniform(-1, 1, 32),
    }
    blocks |= {f"normal, seed {seed}": np.random.default_rng(seed).standard_normal(32) for seed in range(20)}
    for words, block in blocks.items():
        values = [float(v) for v in block]
        yield Case((values,), _mxfp4(values), f"mxfp4_block({words})")


def _mxfp4(values: list[float]) -> list[float]:
    codes = np.arange(8, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn)
    table = tuple(Fraction(float(v)) for v in codes)
    largest = max(map(abs, values))
    if largest == 0:
        return [0.0] * len(values)
    scale = Fraction(2) ** (math.frexp(largest)[1] - 1 - 2)
    sizes = [table[nearest_code(abs(Fraction(v)) / scale, table)] * scale for v in values]
    return [math.copysign(float(size), v) for size, v in zip(sizes, values, strict=True)]


E2M1_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def _block(
    values, scale=lambda largest: 2.0 ** (math.frexp(largest)[1] - 3), ties_to_even=True
) -> list[float]:
    """mxfp4_block with another scale or another rule for ties."""
    largest = max(map(abs, values))
    if largest == 0:
        return list(values)
    unit = scale(largest)

    def nearest(size: float) -> float:
        distances = [abs(value - size) for value in E2M1_VALUES]
        tied = [code for code in range(8) if distances[code] == min(distances)]
        even = [code for code in tied if code % 2 == 0]
        return E2M1_VALUES[even[0] if ties_to_even and even else tied[-1]]

    return [math.copysign(nearest(abs(v) / unit) * unit, v) for v in values]


@mxfp4_block.mistake("scale that is not a power of two")
def _(values):
    """You divided by max / 6. An MX scale is E8M0: a power of two and nothing else."""
    return _block(values, scale=lambda largest: largest / 6)


@mxfp4_block.mistake("scale rounded up")
def _(values):
    """You chose the power of two under which nothing is clipped. MX rounds down: floor(log2(max)) - 2."""
    return _block(values, scale=lambda largest: 2.0 ** math.ceil(math.log2(largest / 6)))


@mxfp4_block.mistake("exponent of the element forgotten")
def _(values):
    """The largest element, 6 = 1.5 * 2^2, has exponent 2: subtract it from the scale's, or only values below 2 are
    used."""
    return _block(values, scale=lambda largest: 2.0 ** (math.frexp(largest)[1] - 1))


@mxfp4_block.mistake("ties always up")
def _(values):
    """A tie goes to the code with an even mantissa (0, 1, 2, 4), not always to the larger value."""
    return _block(values, ties_to_even=False)


EXERCISES = (
    round_to_grid,
    decode_fp16,
    float_limits,
    first_missing_integer,
    stochastic_round,
    kahan_sum,
    encode_e4m3,
    best_format,
    mxfp4_block,
)

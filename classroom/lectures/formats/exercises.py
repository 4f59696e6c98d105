"""The exercises of lecture 1, easy to hard: `check.decode_fp16(decode_fp16)` answers with a Verdict.

What is true is in `formats_cases`, what typically goes wrong in `formats_mistakes`.
"""

from __future__ import annotations

from classroom.checking.answers import same_bits
from classroom.checking.check import Exercise
from classroom.lectures.formats import cases, mistakes

round_to_grid = Exercise(
    name="round_to_grid",
    title="Round to a grid, ties to even",
    minutes=5,
    cases=cases.round_to_grid,
    mistakes=mistakes.GRID,
    hints=(
        "Divide by `step`: then the question is how to round to an integer.",
        "What does Python's own `round` give for 0.5, 1.5, 2.5? Try it in a cell.",
        "`round(x / step) * step`: Python rounds ties to even, as IEEE 754 does.",
    ),
    praise="Ties go both ways, so a long sum of roundings does not drift.",
)

decode_fp16 = Exercise(
    name="decode_fp16",
    title="Decode FP16 by hand",
    minutes=15,
    cases=cases.decode_fp16,
    mistakes=mistakes.DECODE,
    same=same_bits,
    alike=same_bits,
    hints=(
        "Cut the code in three: `code >> 15` is the sign, `(code >> 10) & 31` the exponent field, `code & "
        "1023` the mantissa.",
        "Three families, by the exponent field: 0 (zero and subnormals), 31 (infinity and NaN), all others "
        "(normal numbers).",
        "Field 0 has no hidden 1 and the exponent of field 1: `mantissa / 1024 * 2.0**-14`. Apply the sign "
        "last, by `-value`.",
    ),
    praise="That is the whole of FP16.",
)

float_limits = Exercise(
    name="float_limits",
    title="The limits of any format",
    minutes=10,
    cases=cases.float_limits,
    mistakes=mistakes.LIMITS,
    hints=(
        "Write down the code of each of the numbers first: which exponent field, which mantissa?",
        "The largest finite number: field 2^E - 2 (one below all ones), mantissa all ones. The smallest "
        "normal one: field 1.",
        "`(2 - 2.0**-M) * 2.0**(2**E - 2 - bias)`, `2.0**(1 - bias)`, that times `2.0**-M`, and `2.0**-M`.",
    ),
    praise="The five facts of a format give every other figure.",
)

first_missing_integer = Exercise(
    name="first_missing_integer",
    title="The first integer that is lost",
    minutes=10,
    cases=cases.first_missing_integer,
    mistakes=mistakes.MISSING,
    seconds=2.0,
    too_slow=(
        "FP64 holds every integer up to 2^53: counting there takes years. Where can the first gap be? "
        "And count in Python's integers: its floats are FP64 and stop moving at 2^53."
    ),
    hints=(
        "An integer n is held if `round_to(n) == n`. Count up for FP16 first, and look at the number you "
        "find.",
        "The gap opens right after a power of two: between 2^k and 2^(k+1) there are as many numbers as "
        "between 1 and 2.",
        "Double n while `round_to(n + 1) == n + 1`; the answer is `n + 1`.",
    ),
    praise="From there on x + 1 == x for every second x.",
)

stochastic_round = Exercise(
    name="stochastic_round",
    title="Stochastic rounding without bias",
    minutes=10,
    cases=cases.stochastic_round,
    mistakes=mistakes.STOCHASTIC,
    probe=cases.stochastic_summary,
    added=1,
    show=lambda value: show_draws(value),
    hints=(
        "Find the multiple below, `math.floor(x / step)`, and the fraction of a step that x lies above it.",
        "For the mean to be x, the chance of going up must be that fraction. u is uniform on [0, 1).",
        "Go up if `u < fraction`. A multiple has fraction 0 and stays, whatever u is.",
    ),
    praise="Each rounding is coarse, their mean is exact: that is why small updates survive.",
)

kahan_sum = Exercise(
    name="kahan_sum",
    title="Kahan's sum in FP16",
    minutes=15,
    cases=cases.kahan_sum,
    mistakes=mistakes.KAHAN,
    probe=cases.in_fp16,
    same=cases.is_fp16_sum,
    alike=cases.like_fp16_sum,
    show=cases.show_fp16_sum,
    hints=(
        "Keep two FP16 numbers: the running sum, and what the last addition added too much or too little.",
        "After `new = total + y`, the part of y that arrived is `new - total`; `(new - total) - y` is the "
        "error of this addition.",
        "For each value: `y = value - lost`, `new = total + y`, `lost = (new - total) - y`, `total = new`, "
        "in this order.",
    ),
    praise="Two 16-bit numbers did the work of a wider one.",
)

encode_e4m3 = Exercise(
    name="encode_e4m3",
    title="Encode to FP8 E4M3",
    minutes=25,
    cases=cases.encode_e4m3,
    mistakes=mistakes.E4M3,
    same=cases.is_e4m3_code,
    alike=cases.is_e4m3_code,
    show=cases.show_e4m3,
    hints=(
        "NaN, the sign (`math.copysign(1, x)`: -0.0 has one too) and infinity first; then x is positive and "
        "finite.",
        "`math.frexp(x)[1] - 1` is the exponent; never let it fall below -6. The spacing there is "
        "`2.0**(exponent - 3)`.",
        "`steps = round(x / spacing)` counts 0 to 16; the code is `(exponent + 6) * 8 + steps`: the carry "
        "comes by itself. "
        "Cap it at 0x7E.",
    ),
    praise="Every value, every midpoint and both neighbours of each.",
)

best_format = Exercise(
    name="best_format",
    title="Which format holds this tensor?",
    minutes=15,
    cases=cases.best_format,
    mistakes=mistakes.CHOOSE,
    show=lambda value: str(value)[:120],
    hints=(
        "`q = x.to(dtype).float()` is what the format makes of x. A value is lost if it became 0 or "
        "infinite.",
        "Relative error |q - x| / |x| counts small and large values alike. Leave out x == 0; every format "
        "holds it.",
        "Cap each error at 1 (`.nan_to_num(1.0).clamp(max=1)`), take the mean, return the dtype with the "
        "least: `min(dtypes, key=...)`.",
    ),
    praise="Weights want mantissa bits, gradients want exponent bits.",
)

mxfp4_block = Exercise(
    name="mxfp4_block",
    title="A block of MXFP4",
    minutes=25,
    cases=cases.mxfp4_block,
    mistakes=mistakes.MXFP4,
    hints=(
        "One scale for all 32: the power of two whose exponent is floor(log2(max |v|)) - 2. `math.frexp` "
        "finds it exactly.",
        "v / scale goes to the nearest of 0, 0.5, 1, 1.5, 2, 3, 4, 6; above 6 it becomes 6. A block of "
        "zeros stays zeros.",
        "Ties go to the even code (0, 1, 2, 4): `min(range(8), key=lambda i: (abs(grid[i] - x), i % 2))`. "
        "Multiply by the scale and give the sign back.",
    ),
    praise="Four bits an element, a quarter bit for the scale.",
)

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


def show_draws(value) -> str:
    """(results, mean) of many draws in words; anything else as it is."""
    if not (isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], tuple)):
        return repr(value)[:120]
    results, mean = value
    return f"{' or '.join(f'{r:g}' for r in results)}, {mean:g} on average"

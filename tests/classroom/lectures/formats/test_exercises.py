"""The truths of lecture 1's exercises, right answers that are written differently, and wrong ones as students write."""

import inspect
import itertools
import math
import re
import sys
from fractions import Fraction

import gfloat
import ml_dtypes
import numpy as np
import pytest
import torch
from gfloat.formats import format_info_mxfp4_e2m1

from classroom.lectures.formats import exercises as check

# ---------------------------------------------------------------- the oracle


COUNTED = (ml_dtypes.float8_e5m2, ml_dtypes.float8_e4m3fn, ml_dtypes.bfloat16, np.float16, np.float32)


@pytest.mark.parametrize(
    ("place", "dtype"), list(enumerate(COUNTED)), ids=lambda value: getattr(value, "__name__", value)
)
def test_first_missing_integers_are_what_counting_finds(place, dtype):
    expected = check.first_missing_integer.cases[place].expected
    n = np.arange(1, expected + 1, dtype=np.int32)
    held = n.astype(np.float32).astype(dtype).astype(np.int32) == n
    assert not held[-1]
    assert held[:-1].all()


def test_the_last_missing_integer_is_what_python_says_of_its_floats():
    assert check.first_missing_integer.cases[-1].expected == 2**sys.float_info.mant_dig + 1


def test_e4m3_cases_equal_torch():
    """Within the range; beyond it torch and ml_dtypes go different ways, so the exercise states its own."""
    inside = [case for case in check.encode_e4m3.cases if abs(case.arguments[0]) <= 448]
    x = torch.tensor([case.arguments[0] for case in inside], dtype=torch.float64)
    # only values that FP32 holds: torch goes there first, and rounds twice otherwise
    exact = x.float().double() == x
    codes = x.float().to(torch.float8_e4m3fn).view(torch.uint8)
    expected = torch.tensor([case.expected for case in inside], dtype=torch.uint8)
    assert exact.sum() > 400
    assert torch.equal(codes[exact], expected[exact])


def test_mxfp4_cases_equal_gfloat():
    for case in check.mxfp4_block.cases:
        x = np.array(case.arguments[0])
        theirs = gfloat.quantize_block(format_info_mxfp4_e2m1, x, gfloat.compute_scale_amax)
        assert theirs.tolist() == case.expected, case.words


def test_best_format_is_never_a_close_call():
    """The winner is ahead by a third at least: rounding in a student's mean cannot turn the answer."""
    for case in check.best_format.cases:
        x, dtypes = case.arguments
        best, second, *_ = sorted(check.mean_relative_error(x.numpy(), dtype) for dtype in dtypes)
        assert best < 0.75 * second, case.words


# ---------------------------------------------------------------- right, but written differently


def round_by_fractions(x, step):
    whole, rest = divmod(Fraction(x) / Fraction(step), 1)
    up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 1)
    return float((whole + up) * Fraction(step))


def decode_by_text(code):
    bits = format(code, "016b")
    sign, exponent, mantissa = (-1.0) ** int(bits[0]), int(bits[1:6], 2), int(bits[6:], 2)
    if exponent == 31:
        return sign * float("inf") if mantissa == 0 else float("nan")
    hidden = 1 if exponent else 0
    return sign * math.ldexp((hidden << 10) + mantissa, max(exponent, 1) - 25)


def limits_as_numpy(exponent_bits, mantissa_bits, bias):
    one, two = np.float64(1), np.float64(2)
    top = two ** (2**exponent_bits - 2 - bias)
    return np.array(
        [
            top * 2 - top * two**-mantissa_bits,
            two ** (one - bias),
            two ** (one - bias - mantissa_bits),
            two**-mantissa_bits,
        ]
    )


def missing_by_exponent(round_to):
    return next(2**k + 1 for k in itertools.count() if round_to(2**k + 1) != 2**k + 1)


def stochastic_with_ceil(x, step, u):
    above = math.ceil(x / step) * step
    return above - step if (above - x) / step > u else above


def stochastic_from_above(x, step, u):
    low = (x // step) * step
    return low + step if u >= 1 - (x - low) / step else low


def kahan_with_what_is_missing(values):
    """Keeps what did not arrive, adds it to the next value: the same sum with the other sign."""
    total, missing = values[0], values[0] - values[0]
    for value in values[1:]:
        wanted = value + missing
        total, before = total + wanted, total
        missing = wanted - (total - before)
    return total


def encode_by_search(x):
    values = [Fraction(float(v)) for v in np.arange(127, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn)]
    if x != x:
        return 0xFF
    sign = 128 if math.copysign(1.0, x) < 0 else 0
    target = Fraction(min(abs(x), 1e6))
    return sign + min(range(127), key=lambda c: (abs(values[c] - target), c % 2))


def best_by_loop(x, dtypes):
    scores = {}
    for dtype in dtypes:
        q = x.to(dtype).to(torch.float32)
        errors = []
        for a, b in zip(x.flatten().tolist(), q.flatten().tolist(), strict=True):
            if a != 0:
                errors.append(min(1.0, abs(b - a) / abs(a)) if math.isfinite(b) else 1.0)
        scores[dtype] = sum(errors) / len(errors)
    return sorted(dtypes, key=scores.get)[0]


def block_with_ml_dtypes(values):
    x = np.array(values)
    if not x.any():
        return x
    scale = 2.0 ** (math.floor(math.log2(np.abs(x).max())) - 2)
    return (x / scale).clip(-6, 6).astype(ml_dtypes.float4_e2m1fn).astype(np.float64) * scale


RIGHT = [
    ("round_to_grid", round_by_fractions),
    ("decode_fp16", decode_by_text),
    ("float_limits", limits_as_numpy),
    ("first_missing_integer", missing_by_exponent),
    ("stochastic_round", stochastic_with_ceil),
    ("stochastic_round", stochastic_from_above),
    ("kahan_sum", kahan_with_what_is_missing),
    ("encode_e4m3", encode_by_search),
    ("best_format", best_by_loop),
    ("mxfp4_block", block_with_ml_dtypes),
]


@pytest.mark.parametrize(("name", "function"), RIGHT, ids=lambda value: getattr(value, "__name__", value))
def test_another_right_way_passes_too(name, function):
    verdict = getattr(check, name).judge(function)
    assert verdict.passed, verdict


# ---------------------------------------------------------------- wrong, as students write it


def half_up(x, step):
    return int(x / step + 0.5) * step if x >= 0 else -(int(-x / step + 0.5)) * step


def floor_division(x, step):
    return x // step * step


def forgot_step(x, step):
    return round(x / step)


def no_subnormals(code):
    s, e, m = code // 32768, code % 32768 // 1024, code % 1024
    if e == 31:
        return float("nan") if m else (-1) ** s * float("inf")
    if e == 0 and m == 0:
        return -0.0 if s else 0.0
    return (-1) ** s * 2.0 ** (e - 15) * (1 + m / 1024)


def everything_is_a_number(code):
    s, e, m = code >> 15, code >> 10 & 0x1F, code & 0x3FF
    v = 2.0 ** (e - 15) * (1 + m / 1024) if e > 0 else 2.0**-14 * (m / 1024)
    return -v if s else v


def loses_negative_zero(code):
    s, e, m = code >> 15, code >> 10 & 0x1F, code & 0x3FF
    if e == 0 and m == 0:
        return 0.0
    if e == 31:
        return math.nan if m else math.inf * (1 - 2 * s)
    return (1 - 2 * s) * (2.0 ** (e - 15) * (1 + m / 1024) if e > 0 else 2.0**-24 * m)


def uses_reserved_field(e, m, b):
    return (
        (2 - 2**-m) * 2.0 ** (2**e - 1 - b) if 2**e - 1 - b < 1024 else math.inf,
        2.0 ** (1 - b),
        2.0 ** (1 - b - m),
        2.0**-m,
    )


def unit_roundoff_for_eps(e, m, b):
    return (2 - 2.0**-m) * 2.0 ** (2**e - 2 - b), 2.0 ** (1 - b), 2.0 ** (1 - b - m), 2.0 ** (-m - 1)


def last_held(round_to):
    n = 1
    while round_to(n + 1) == n + 1:
        n = n * 2
    return n


def only_powers(round_to):
    n = 1
    while round_to(n) == n:
        n *= 2
    return n


def nearest_always(x, step, u):
    return round(x / step) * step


def swapped(x, step, u):
    low = math.floor(x / step)
    return low * step if u < x / step - low else math.ceil(x / step) * step


def fair_coin(x, step, u):
    return (math.floor if u < 0.5 else math.ceil)(x / step) * step


def naive_sum(values):
    s = 0
    for v in values:
        s += v
    return s


def brackets_moved(values):
    total = c = np.float16(0)
    for v in values:
        y = v - c
        new = total + y
        c = new - (total + y)
        total = new
    return total


def wrong_sign(values):
    total, c = np.float16(0), np.float16(0)
    for v in values:
        y = v + c
        new = total + y
        c = (new - total) - y
        total = new
    return total


def python_floats(values):
    return sum(float(v) for v in values)


def wide_then_cast(values):
    return np.float16(np.sum(np.array(values, dtype=np.float32)))


def like_ieee(x):
    if math.isnan(x):
        return 0x7F
    s, x = (128 if math.copysign(1, x) < 0 else 0), min(abs(x), 240.0)
    e = max(math.frexp(x)[1] - 1, -6) if x > 0 else -6
    return s + (e + 6) * 8 + round(x * 2.0 ** (3 - e))


def cut_off(x):
    if math.isnan(x):
        return 0x7F
    s, x = (128 if math.copysign(1, x) < 0 else 0), min(abs(x), 448.0)
    e = max(math.frexp(x)[1] - 1, -6) if x > 0 else -6
    return s + (e + 6) * 8 + int(x * 2.0 ** (3 - e))


def loses_the_carry(x):
    if math.isnan(x):
        return 0x7F
    s, x = (128 if math.copysign(1, x) < 0 else 0), min(abs(x), 448.0)
    if x < 2**-6:
        return s + round(x * 2**9)
    m, e = math.frexp(x)
    return s | (e + 6) << 3 | round((2 * m - 1) * 8) & 7


def mean_absolute(x, dtypes):
    return min(dtypes, key=lambda d: (x.to(d).float() - x).abs().mean().item())


def nan_from_zeros(x, dtypes):
    best, least = dtypes[0], float("inf")
    for d in dtypes:
        error = ((x.to(d).float() - x).abs() / x.abs()).clamp(max=1).mean().item()
        if error < least:
            best, least = d, error
    return best


def widest(x, dtypes):
    return sorted(dtypes, key=lambda d: -torch.finfo(d).max)[0]


GRID = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])


def on_grid(values, scale):
    x = np.abs(values) / scale
    code = np.abs(x[:, None] - GRID).argmin(1)
    return (np.sign(values) * GRID[code] * scale).tolist()


def absmax_scale(values):
    return on_grid(np.array(values), (max(map(abs, values)) or 6) / 6)


def forgets_element_exponent(values):
    return on_grid(np.array(values), 2.0 ** math.floor(math.log2(max(map(abs, values)) or 1)))


def rounds_scale_up(values):
    return on_grid(np.array(values), 2.0 ** math.ceil(math.log2((max(map(abs, values)) or 6) / 6)))


WRONG = [
    ("round_to_grid", half_up, "ties away from zero"),
    ("round_to_grid", floor_division, "always down"),
    ("round_to_grid", forgot_step, "counted in steps"),
    ("decode_fp16", no_subnormals, "no subnormals"),
    ("decode_fp16", everything_is_a_number, "infinity and NaN read as numbers"),
    ("decode_fp16", loses_negative_zero, "negative zero lost"),
    ("float_limits", uses_reserved_field, "highest exponent field used"),
    ("float_limits", unit_roundoff_for_eps, "half of eps"),
    ("first_missing_integer", last_held, "one too small"),
    ("first_missing_integer", only_powers, "powers of two only"),
    ("stochastic_round", nearest_always, "no chance in it"),
    ("stochastic_round", swapped, "chances swapped"),
    ("stochastic_round", fair_coin, "a fair coin"),
    ("kahan_sum", naive_sum, "a plain running sum"),
    ("kahan_sum", brackets_moved, "a plain running sum"),
    ("kahan_sum", wrong_sign, "correction with the wrong sign"),
    ("kahan_sum", python_floats, "summed in a wider type"),
    ("kahan_sum", wide_then_cast, "summed in a wider type, then cast"),
    ("encode_e4m3", like_ieee, "exponent field 15 kept for infinity"),
    ("encode_e4m3", cut_off, "truncated"),
    ("encode_e4m3", loses_the_carry, "carry lost"),
    ("best_format", mean_absolute, "absolute error"),
    ("best_format", nan_from_zeros, "divided by zero"),
    ("best_format", widest, "always the widest range"),
    ("mxfp4_block", absmax_scale, "scale that is not a power of two"),
    ("mxfp4_block", forgets_element_exponent, "exponent of the element forgotten"),
    ("mxfp4_block", rounds_scale_up, "scale rounded up"),
]


@pytest.mark.parametrize(
    ("name", "function", "mistake"), WRONG, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_typical_mistake_is_named(name, function, mistake):
    exercise = getattr(check, name)
    verdict = exercise.judge(function)
    assert verdict.status == "wrong"
    assert verdict.misconception == mistake, verdict
    assert next(m.words for m in exercise.mistakes if m.name == mistake) in str(verdict)
    assert verdict.expected
    assert verdict.got != verdict.expected


def test_an_answer_that_is_no_typical_mistake_gets_no_name():
    verdict = check.round_to_grid.judge(lambda x, step: 42.0)
    assert verdict.status == "wrong"
    assert verdict.misconception is None


# ---------------------------------------------------------------- what else can go wrong


def test_an_endless_loop_is_stopped_and_told_where():
    def counts_up(round_to):
        n = 1
        while round_to(n) == n:
            n += 1
        return n

    verdict = check.first_missing_integer.judge(counts_up)
    assert verdict.status == "time"
    assert "Where can the first gap be?" in verdict.words
    first = inspect.getsourcelines(counts_up)[1]
    assert re.match(rf"line ({first + 2}|{first + 3}): ", verdict.line)
    assert verdict.case == "first_missing_integer(round_to_FP64)" or "FP32" in verdict.case


def test_an_error_names_the_line_of_the_student():
    def decode(code):
        field = code >> 10 & 31
        return 2.0 ** (field - 15) * (1 + (code & 1023) / (field - field))

    verdict = check.decode_fp16.judge(decode)
    assert verdict.status == "error"
    assert "ZeroDivisionError" in verdict.words
    assert verdict.line.endswith("`return 2.0 ** (field - 15) * (1 + (code & 1023) / (field - field))`")
    assert verdict.case == "decode_fp16(0b0_01111_0000000000)"
    assert "Traceback" not in str(verdict)
    assert "coursekit" not in str(verdict)


def test_a_detour_by_fp32_is_called_rounding_twice():
    """Half of the wrong answers are those of truncation: that is not enough to say so."""

    def students(x):
        x = torch.tensor(x, dtype=torch.float32)
        if x.isnan():
            return 0x7F
        return int(x.clamp(-448, 448).to(torch.float8_e4m3fn).view(torch.uint8))

    assert check.encode_e4m3.judge(students).misconception == "rounded twice"


def test_the_name_of_a_dtype_is_not_the_dtype():
    """Both print as torch.float16: the card tells them apart and says what is wrong."""
    verdict = check.best_format.judge(lambda x, dtypes: str(best_by_loop(x, dtypes)))
    assert verdict.misconception == "text returned" and verdict.got != verdict.expected
    assert "return a value of type dtype" in verdict.words


def test_too_few_limits_are_named():
    verdict = check.float_limits.judge(lambda e, m, b: limits_as_numpy(e, m, b)[:3])
    assert verdict.misconception == "wrong length" and "3 values where 4 are expected" in verdict.words


def test_a_first_call_that_never_ends_is_not_told_about_fp64():
    def never(round_to):
        while True:
            round_to(1)

    verdict = check.first_missing_integer.judge(never)
    assert verdict.status == "time" and "FP64" not in verdict.words and "E5M2" in verdict.case


def test_adding_in_another_order_is_mentioned_where_the_sum_overflows():
    """The contract says: in the order of the list, and 60,000 + 10,000 overflows."""

    def students(values):
        if len(values) == 3:
            values = [values[0], values[2], values[1]]
        total = error = np.float16(0)
        for value in values:
            y = value - error
            new = total + y
            error = (new - total) - y
            total = new
        return total

    assert "another order" in check.kahan_sum.judge(students).words

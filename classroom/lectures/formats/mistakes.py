"""The typical mistakes of lecture 1's exercises: small wrong programs, beside the words that name what went
wrong.

A check runs them on the cases that a student got wrong; equal answers tell which mistake it is. Each program
does one thing wrong and everything else right, so the right way can be read here too: look here after you
have tried.
"""

from __future__ import annotations

import math

from classroom.checking.check import Mistake

# ---------------------------------------------------------------- round_to_grid

GRID = (
    Mistake(
        "ties always up",
        "`floor(x / step + 0.5)` sends every tie upwards: 2.5 becomes 3. A tie belongs to the even multiple.",
        lambda x, step: math.floor(x / step + 0.5) * step,
    ),
    Mistake(
        "ties away from zero",
        "The rule of school rounds ties away from zero. IEEE 754 sends a tie to the even multiple.",
        lambda x, step: math.copysign(math.floor(abs(x) / step + 0.5) * step, x),
    ),
    Mistake(
        "truncated",
        "`int(...)` cuts the fraction off: 1.75 becomes 1. Round to the nearest multiple.",
        lambda x, step: int(x / step) * step,
    ),
    Mistake(
        "always down",
        "`//` and `floor` go to the multiple below, even when the one above is nearer.",
        lambda x, step: math.floor(x / step) * step,
    ),
    Mistake(
        "counted in steps",
        "You return how many steps it is; multiply by `step` to come back to the scale of x.",
        lambda x, step: round(x / step),
    ),
)

# ---------------------------------------------------------------- decode_fp16


def _decode(code, bias=15, subnormal_exponent=-14, hidden_bit=True, specials="right", sign="right"):
    """decode_fp16 with one wrong part."""
    negative, field, mantissa = code >> 15, (code >> 10) & 31, code & 1023
    value = (1 + mantissa / 1024 if hidden_bit else mantissa / 1024) * 2.0 ** (field - bias)
    if field == 0 and subnormal_exponent is not None:
        value = mantissa / 1024 * 2.0**subnormal_exponent
    if field == 31 and specials != "none":
        value = math.nan if mantissa and specials == "right" else math.inf
    if sign == "none" or (sign == "no -0" and value == 0):
        return value
    return -value if negative else value


DECODE = (
    Mistake(
        "no subnormals",
        "Exponent field 0 was read like the others, with the hidden 1. There the hidden bit is 0: the "
        "subnormals.",
        lambda code: _decode(code, subnormal_exponent=None),
    ),
    Mistake(
        "subnormals one exponent too low",
        "The exponent of the subnormals is 1 - bias = -14, the same as in field 1, not 0 - bias = -15.",
        lambda code: _decode(code, subnormal_exponent=-15),
    ),
    Mistake(
        "infinity and NaN read as numbers",
        "Exponent field 31 is reserved in FP16: mantissa 0 is infinity, any other mantissa is NaN.",
        lambda code: _decode(code, specials="none"),
    ),
    Mistake(
        "NaN read as infinity",
        "In exponent field 31 only mantissa 0 is infinity; every other mantissa is NaN.",
        lambda code: _decode(code, specials="inf"),
    ),
    Mistake(
        "negative zero lost",
        "Code 0x8000 is -0.0: the sign bit counts for zero too. `-value` keeps it, `0 * -1` in integers "
        "does not.",
        lambda code: _decode(code, sign="no -0"),
    ),
    Mistake(
        "sign bit ignored",
        "Every answer is positive: the highest bit, `code >> 15`, is the sign.",
        lambda code: _decode(code, sign="none"),
    ),
    Mistake(
        "no hidden bit",
        "A normal number is 1 + mantissa/1024, not mantissa/1024: the leading 1 is not stored.",
        lambda code: _decode(code, hidden_bit=False),
    ),
    Mistake(
        "bias of 16",
        "The bias of FP16 is 2^(5-1) - 1 = 15, so that field 15 means 2^0.",
        lambda code: _decode(code, bias=16, subnormal_exponent=-15),
    ),
)

# ---------------------------------------------------------------- float_limits


def _limits(e, m, bias, top=0, fraction=None, min_normal=None, min_subnormal=None, eps=None):
    """float_limits with one wrong part; top: how much too high the largest exponent is."""
    exponent = 2**e - 2 - bias + top
    largest = (2 - 2.0**-m if fraction is None else fraction) * _power(exponent)
    tiny = 2.0 ** (1 - bias)
    return largest, min_normal or tiny, min_subnormal or tiny * 2.0**-m, eps or 2.0**-m


def _power(exponent: int) -> float:
    return 2.0**exponent if exponent < 1024 else math.inf


LIMITS = (
    Mistake(
        "highest exponent field used",
        "The largest number uses the field of all ones, but IEEE keeps it for infinity and NaN: one field "
        "lower.",
        lambda e, m, bias: _limits(e, m, bias, top=1),
    ),
    Mistake(
        "mantissa of the largest number forgotten",
        "The largest number has every mantissa bit set: (2 - 2^-M) times the power of two, not 1 times.",
        lambda e, m, bias: _limits(e, m, bias, fraction=1.0),
    ),
    Mistake(
        "largest number rounded up to a power of two",
        "All mantissa bits set is a little less than 2: 2 - 2^-M.",
        lambda e, m, bias: _limits(e, m, bias, fraction=2.0),
    ),
    Mistake(
        "smallest normal number from field 0",
        "Field 0 holds zero and the subnormals; the smallest normal number is in field 1: 2^(1 - bias).",
        lambda e, m, bias: _limits(e, m, bias, min_normal=2.0**-bias, min_subnormal=2.0 ** (1 - bias - m)),
    ),
    Mistake(
        "subnormals one exponent too low",
        "Subnormals share the exponent of field 1, 1 - bias; the last mantissa bit is worth 2^-M of it.",
        lambda e, m, bias: _limits(e, m, bias, min_subnormal=2.0 ** (-bias - m)),
    ),
    Mistake(
        "no subnormals",
        "The smallest positive number of all is subnormal: 2^-M times the smallest normal one.",
        lambda e, m, bias: _limits(e, m, bias, min_subnormal=2.0 ** (1 - bias)),
    ),
    Mistake(
        "half of eps",
        "2^-(M+1) is the largest rounding error near 1; eps is the distance from 1 to the next number, 2^-M.",
        lambda e, m, bias: _limits(e, m, bias, eps=2.0 ** -(m + 1)),
    ),
)

# ---------------------------------------------------------------- first_missing_integer


def _first_missing(round_to) -> int:
    n = 1
    while round_to(n + 1) == n + 1:
        n *= 2
    return n + 1


def _first_missing_power(round_to) -> int:
    n = 1
    while round_to(n) == n:
        n *= 2
    return n


MISSING = (
    Mistake(
        "one too small",
        "This is the last integer before the gap: it is still held. The one after it is the first that is "
        "not.",
        lambda round_to: _first_missing(round_to) - 1,
    ),
    Mistake(
        "hidden bit forgotten",
        "Half as far as it really goes: the hidden 1 adds one bit to those that are stored, M + 1 in all.",
        lambda round_to: (_first_missing(round_to) - 1) // 2 + 1,
    ),
    Mistake(
        "powers of two only",
        "Powers of two are held up to the end of the range. Look at the integers right after them.",
        _first_missing_power,
    ),
)

# ---------------------------------------------------------------- stochastic_round


def _stochastic(x, step, goes_up) -> float:
    """stochastic_round with its own rule for going up, from the fraction of a step above the multiple."""
    below = math.floor(x / step)
    fraction = x / step - below
    return (below + bool(fraction and goes_up(fraction))) * step


def _towards_zero(x, step, u) -> float:
    whole = int(x / step)
    fraction = abs(x / step - whole)
    return (whole + (u < fraction)) * step


STOCHASTIC = (
    Mistake(
        "no chance in it",
        "The answer does not depend on u: this is rounding to nearest. Compare u with how far up x lies.",
        lambda x, step, u: round(x / step) * step,
    ),
    Mistake(
        "a fair coin",
        "Up and down came out equally often whatever x is. The chance of going up must be the fraction "
        "above.",
        lambda x, step, u: _stochastic(x, step, lambda fraction: u < 0.5),
    ),
    Mistake(
        "chances swapped",
        "The nearer x lies to the upper multiple, the more rarely you go there: up with the chance "
        "`fraction`.",
        lambda x, step, u: _stochastic(x, step, lambda fraction: u < 1 - fraction),
    ),
    Mistake(
        "int() for negative numbers",
        "`int` cuts towards zero, so below zero the lower neighbour is missed: `math.floor` goes down on "
        "both sides.",
        _towards_zero,
    ),
    Mistake(
        "always down",
        "Every answer is the multiple below: u is never small enough to go up.",
        lambda x, step, u: math.floor(x / step) * step,
    ),
)

# ---------------------------------------------------------------- kahan_sum


def _plain_sum(values):
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def _kahan(values, sign=1, late=False):
    """kahan_sum with the correction applied with the other sign, or taken after the total has moved on."""
    total, lost = values[0], 0 * values[0]
    for value in values[1:]:
        y = value - sign * lost
        new = total + y
        lost = (new - (new if late else total)) - y
        total = new
    return total


def _wide_sum(values):
    return math.fsum(map(float, values))


KAHAN = (
    Mistake(
        "a plain running sum",
        "Either there is no correction, or it is always 0: it must be `(new - total) - y`, with these "
        "brackets, "
        "and it must be taken off the next value.",
        _plain_sum,
    ),
    Mistake(
        "correction with the wrong sign",
        "`(new - total) - y` is what was added too much, so it must be subtracted from the next value, not "
        "added.",
        lambda values: _kahan(values, sign=-1),
    ),
    Mistake(
        "total replaced too early",
        "`total` already has its new value when the correction is computed: keep the old one until then.",
        lambda values: _kahan(values, late=True),
    ),
    Mistake(
        "summed in a wider type",
        "The answer is not an FP16 number: `math.fsum`, `sum(map(float, ...))` or a cast left FP16. Stay in "
        "it.",
        _wide_sum,
    ),
    Mistake(
        "summed in a wider type, then cast",
        "70000 does not fit FP16, yet your running sum passed it: something wider than FP16 did the adding.",
        lambda values: type(values[0])(_wide_sum(values)),
    ),
)

# ---------------------------------------------------------------- encode_e4m3


def _encode(x, rounding=round, smallest=-9, top=0x7E, carry=True, beyond=None, zero=-6):
    """encode_e4m3 with one wrong part; smallest: the exponent of the spacing below the normal numbers."""
    sign = 0x80 if math.copysign(1, x) < 0 else 0
    if math.isnan(x):
        return 0x7F
    if math.isinf(x):
        return sign | (top if beyond is None else beyond)
    exponent = max(math.frexp(x)[1] - 1, -6) if x else zero
    steps = rounding(abs(x) / 2.0 ** (exponent - 3)) if abs(x) >= 2.0**smallest or smallest == -9 else 0
    if steps == 16 and not carry:
        steps = 8
    # from one exponent to the next the codes go on without a gap: 8 steps are one exponent
    code = (exponent + 6) * 8 + steps
    return sign | (code if code <= top else top if beyond is None else beyond)


E4M3 = (
    Mistake(
        "truncated",
        "Every number went to the code towards zero; it must go to the nearest.",
        lambda x: _encode(x, rounding=math.floor),
    ),
    Mistake(
        "ties away from zero",
        "Only the ties are wrong: they go to the even code, not always to the larger.",
        lambda x: _encode(x, rounding=lambda steps: math.floor(steps + 0.5)),
    ),
    Mistake(
        "subnormals flushed to zero",
        "Numbers below 2^-6 became 0: there the exponent stays at -6 and the steps are 2^-9 wide.",
        lambda x: _encode(x, smallest=-6),
    ),
    Mistake(
        "carry lost",
        "A mantissa that rounds up to 8/8 must carry into the exponent: 1.96 becomes 2, not 1.",
        lambda x: _encode(x, carry=False),
    ),
    Mistake(
        "zero given an exponent",
        "`math.frexp(0.0)` answers with exponent 0, so 0.0 came out in the wrong field. Zero belongs to the "
        "subnormals.",
        lambda x: _encode(x, zero=-1),
    ),
    Mistake(
        "exponent field 15 kept for infinity",
        "That is the rule of IEEE 754. E4M3 uses field 15 for numbers: only 0b1111_111 is NaN, the largest "
        "is 448.",
        lambda x: _encode(x, top=0x77),
    ),
    Mistake(
        "overflow to NaN",
        "Beyond 448 this exercise saturates: the largest number, not NaN. (Both exist: libraries differ "
        "here.)",
        lambda x: _encode(x, beyond=0x7F),
    ),
)

# ---------------------------------------------------------------- best_format


def _range(dtype) -> float:
    import torch

    return torch.finfo(dtype).max


def _eps(dtype) -> float:
    import torch

    return torch.finfo(dtype).eps


def _least(x, dtypes, error):
    import torch

    def mean(dtype):
        q = x.to(dtype).double()
        value = error(x.double(), torch.where(x.abs() > _range(dtype), torch.inf, q)).item()
        return math.inf if math.isnan(value) else value

    return min(dtypes, key=mean)


def _mean_where_finite(x, q):
    import torch

    kept = torch.isfinite(q) & (x != 0)
    return ((q - x).abs() / x.abs())[kept].mean()


def _mean_over_held(x, q):
    """What became 0 is left out."""
    import torch

    error = ((q - x).abs() / x.abs())[q != 0].clamp(max=1.0)
    return error.mean() if error.numel() else torch.tensor(math.inf)


CHOOSE = (
    Mistake(
        "absolute error",
        "The mean of |q - x| is decided by the few large values; the small ones, flushed to 0, cost nothing. "
        "Divide by |x|.",
        lambda x, dtypes: _least(x, dtypes, lambda x, q: (q - x).abs().mean()),
    ),
    Mistake(
        "overflowed values left out",
        "Values that became infinite were dropped from the mean: they are lost, so they count 1 each.",
        lambda x, dtypes: _least(x, dtypes, _mean_where_finite),
    ),
    Mistake(
        "flushed values left out",
        "Values that became 0 were dropped from the mean: they are lost, so they count 1 each.",
        lambda x, dtypes: _least(x, dtypes, _mean_over_held),
    ),
    Mistake(
        "divided by zero",
        "Where x is 0 the relative error is 0/0 = NaN, and the mean with it. Every format holds 0: leave it "
        "out.",
        lambda x, dtypes: dtypes[0] if bool((x == 0).any()) else _least(x, dtypes, _mean_where_finite),
    ),
    Mistake(
        "always the widest range",
        "You chose the format with the largest maximum every time: it has the fewest mantissa bits.",
        lambda x, dtypes: max(dtypes, key=_range),
    ),
    Mistake(
        "always the finest",
        "You chose the format with the smallest eps every time: it may not reach as far as the data.",
        lambda x, dtypes: min(dtypes, key=_eps),
    ),
)

# ---------------------------------------------------------------- mxfp4_block

E2M1_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def _block(values, scale=lambda largest: 2.0 ** (math.frexp(largest)[1] - 3), grid=E2M1_VALUES, tie="even"):
    """mxfp4_block with another scale, another grid or another rule for ties."""
    largest = max(map(abs, values))
    if largest == 0:
        return list(values)
    unit = scale(largest)
    return [math.copysign(_nearest(abs(v) / unit, grid, tie) * unit, v) for v in values]


def _nearest(x: float, grid, tie: str) -> float:
    if tie == "down":
        return max(g for g in grid if g <= x)
    last = {"even": lambda i: i % 2, "up": lambda i: -i}[tie]
    return grid[min(range(len(grid)), key=lambda i: (abs(grid[i] - x), last(i)))]


MXFP4 = (
    Mistake(
        "scale that is no power of two",
        "You divided by max / 6. An MX scale is E8M0: a power of two and nothing else.",
        lambda values: _block(values, scale=lambda largest: largest / 6),
    ),
    Mistake(
        "scale rounded up",
        "You chose the power of two under which nothing is clipped. The rule of MX rounds down: "
        "floor(log2(max)) - 2.",
        lambda values: _block(values, scale=lambda largest: 2.0 ** math.ceil(math.log2(largest / 6))),
    ),
    Mistake(
        "exponent of the element forgotten",
        "The largest element, 6 = 1.5 * 2^2, has exponent 2: take it off the scale's, or only values below "
        "2 are used.",
        lambda values: _block(values, scale=lambda largest: 2.0 ** (math.frexp(largest)[1] - 1)),
    ),
    Mistake(
        "not clipped",
        "Values above 6 scales went on to 8. E2M1 ends at 6: what is larger becomes 6.",
        lambda values: _block(values, grid=(*E2M1_VALUES, 8.0)),
    ),
    Mistake(
        "ties always up",
        "A tie goes to the code with an even mantissa (0, 1, 2, 4), not always to the larger value.",
        lambda values: _block(values, tie="up"),
    ),
    Mistake(
        "rounded down",
        "The elements went to the value below; they must go to the nearest.",
        lambda values: _block(values, tie="down"),
    ),
)

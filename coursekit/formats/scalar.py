"""Decode, encode and round one number, every rule spelled out. Slow and obvious: this is the definition.

    >>> from coursekit.formats.spec import E4M3
    >>> encode(0.1, E4M3), decode(29, E4M3), round_to(500, E4M3), round_to(500, E4M3, saturate=True)
    (29, 0.1015625, nan, 448.0)

A number that a format holds is an integer `n` times a power of two, the ulp ("unit in the last place"):

    ulp = 2^(exponent - mantissa_bits)      exponent = floor(log2 |value|), never below the min_exponent

so that rounding is: divide by the ulp, make that an integer, multiply back. And the code follows from the
same integer, because the codes of the positive numbers count 0, 1, 2, ... from zero upwards without a gap:

    code = n + (exponent - min_exponent) * 2^mantissa_bits

A carry in `n` (1.111 rounds to 10.000) moves into the exponent field by itself. Numbers are `Fraction`s
inside: nothing is rounded twice, whatever the input (a Python int of any size, a `Fraction`, a float down
to 2^-1074).

Unlike `tensor`, this module ignores speed and does not import torch. The tests hold `tensor` equal to it on every code.

What happens where a format has no code for the result, the same in both modules:

    overflow          inf if the format has it, else NaN if it has it, else the largest number;
                      with `saturate=True` always the largest number
    infinity          as overflow
    rounding inwards  a finite value beyond the largest number becomes the largest number, as IEEE 754 asks
                      ("toward_zero"; "down" where positive; "up" where negative)
    NaN               NaN with the sign kept, payload dropped; `saturate` does not touch it
    NaN, none there   zero, of the opposite sign (as ml_dtypes does for FP6 and FP4); plain 0 in the integers
    -0.0              -0; plain 0 in fnuz, unsigned and integer formats
    E8M0              0, -0.0 and negative numbers are NaN; what lies below 2^-127 becomes 2^-127; above it rounding
                      is to nearest, while ml_dtypes and torch turn all of (2^-127, 2^-126) into 2^-126
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from numbers import Rational, Real
from random import Random

from coursekit.formats.spec import FloatSpec, IntSpec

ROUNDINGS = ("nearest_even", "nearest_away", "toward_zero", "up", "down", "stochastic")


@dataclass(frozen=True)
class FormatInfo:
    """The landmarks of a format, as `torch.finfo` gives them for torch's own dtypes."""

    name: str
    bits: int
    max: float  # largest finite number
    lowest: float  # most negative finite number; the smallest positive one where there is no sign (E8M0)
    min_normal: float  # smallest positive number with a full significand
    min_subnormal: float  # smallest positive number of all
    eps: float  # distance from 1 to the next larger number
    numbers: int  # different finite numbers (-0 and 0 count once)


def fields(code: int, fmt: FloatSpec) -> tuple[int, int, int]:
    """(sign, exponent field, mantissa field) of a code. Raises TypeError for an integer format, which has no fields.

    >>> from coursekit.formats.spec import FP16
    >>> fields(0b1_01111_1000000000, FP16)
    (1, 15, 512)
    """
    if not isinstance(fmt, FloatSpec):
        raise TypeError(
            f"fields() needs a floating-point format; {_name(fmt)} has no exponent. Use bit_string()."
        )
    _check_code(code, fmt)
    exponent = (code >> fmt.mantissa_bits) & ((1 << fmt.exponent_bits) - 1)
    mantissa = code & ((1 << fmt.mantissa_bits) - 1)
    return int(bool(code & fmt.sign_mask)), exponent, mantissa


def decode(code: int, fmt: FloatSpec | IntSpec) -> float:
    """The number that a code stands for, exactly.

    >>> from coursekit.formats.spec import E4M3
    >>> decode(0x7E, E4M3)
    448.0

    Raises ValueError if the code has more bits than the format, TypeError if it is not an int.
    """
    _check_code(code, fmt)
    if isinstance(fmt, IntSpec):
        negative = fmt.signed and code >= 1 << (fmt.bits - 1)
        if negative:  # two's complement
            code -= 1 << fmt.bits
        return code * fmt.ulp
    if fmt.specials == "fnuz" and code == fmt.nan_code:  # the code that would be -0
        return math.nan
    sign, exponent, mantissa = fields(code, fmt)
    magnitude = code & ~fmt.sign_mask
    if magnitude > fmt.max_code:
        return math.copysign(math.inf, -sign or 1) if magnitude == fmt.inf_code else math.nan
    if exponent == 0 and fmt.subnormals:  # no hidden one, and the exponent of the first normal binade
        value = math.ldexp(mantissa, fmt.min_exponent - fmt.mantissa_bits)
    else:
        value = math.ldexp((1 << fmt.mantissa_bits) + mantissa, exponent - fmt.bias - fmt.mantissa_bits)
    return -value if sign else value


def encode(
    value: float | int | Fraction,
    fmt: FloatSpec | IntSpec,
    *,
    rounding: str = "nearest_even",
    saturate: bool = False,
    random: Random | None = None,
) -> int:
    """The code of the number in `fmt` that `value` rounds to.

    `rounding` is one of ROUNDINGS; "stochastic" takes the upper of the two neighbours with probability
    (distance to the lower) / (distance between them) and needs `random`. Ties of "nearest_even" go to the
    even significand `n`. Special values: see the table at the top of the module.

    >>> from coursekit.formats.spec import FP16
    >>> bit_string(encode(-1.5, FP16), FP16)
    '1 01111 1000000000'

    Raises TypeError if `value` is not a real number (bool, str, complex), ValueError for an unknown rounding.
    """
    _check_rounding(rounding, random)
    value = _real(value)
    if isinstance(fmt, IntSpec):
        return _encode_integer(value, fmt, rounding, random)
    negative = math.copysign(1.0, value) < 0 if isinstance(value, float) else value < 0  # -0.0 has a sign
    if _isnan(value) or (not fmt.signed and (value < 0 or (value == 0 and not fmt.has_zero))):
        return _nan(fmt, negative)
    if _isinf(value):
        magnitude = _overflow(fmt, saturate)
    else:
        magnitude = _encode_magnitude(abs(Fraction(value)), fmt, rounding, negative, random)
        if magnitude > fmt.max_code:
            inwards = rounding == "toward_zero" or rounding == ("up" if negative else "down")
            magnitude = _overflow(fmt, saturate or inwards)
    if fmt.specials == "fnuz" and magnitude in (0, fmt.nan_code):
        return magnitude  # the code of -0 is taken by NaN, so neither has a sign
    return magnitude | (fmt.sign_mask if negative else 0)


def round_to(
    value: float | int | Fraction,
    fmt: FloatSpec | IntSpec,
    *,
    rounding: str = "nearest_even",
    saturate: bool = False,
    random: Random | None = None,
) -> float:
    """The number in `fmt` that `value` rounds to; arguments as in encode()."""
    return decode(encode(value, fmt, rounding=rounding, saturate=saturate, random=random), fmt)


def _encode_magnitude(
    a: Fraction, fmt: FloatSpec, rounding: str, negative: bool, random: Random | None
) -> int:
    """Code of a >= 0 as if the exponent field had no upper end; a code above fmt.max_code means overflow."""
    if not fmt.subnormals:  # there is no zero either, so nothing to round down to
        a = max(a, Fraction(2) ** fmt.min_exponent)
    exponent = max(_floor_log2(a), fmt.min_exponent) if a else fmt.min_exponent
    n = _to_integer(a / Fraction(2) ** (exponent - fmt.mantissa_bits), rounding, negative, random)
    code = n + ((exponent - fmt.min_exponent) << fmt.mantissa_bits)
    if not fmt.subnormals:  # field 0 is a normal binade, so `n` brings a hidden one that no field counts
        code -= 1 << fmt.mantissa_bits
    return code


def _encode_integer(value: float | Fraction, fmt: IntSpec, rounding: str, random: Random | None) -> int:
    """Two's complement code of value, clamped to the range; NaN is 0 (as in a cast of ml_dtypes or torch)."""
    if _isnan(value):
        return 0
    if _isinf(value):
        n = fmt.max / fmt.ulp if value > 0 else fmt.min / fmt.ulp
    else:
        magnitude = _to_integer(abs(Fraction(value)) / Fraction(fmt.ulp), rounding, value < 0, random)
        n = -magnitude if value < 0 else magnitude
    n = min(max(n, fmt.min / fmt.ulp), fmt.max / fmt.ulp)
    return int(n) & ((1 << fmt.bits) - 1)


def _to_integer(q: Fraction, rounding: str, negative: bool, random: Random | None) -> int:
    """q >= 0 to an integer; `negative` says on which side of zero the number really is."""
    lower = math.floor(q)
    rest = q - lower
    match rounding:
        case "nearest_even":
            away = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and lower % 2 == 1)
        case "nearest_away":
            away = rest >= Fraction(1, 2)
        case "toward_zero":
            away = False
        case "up":
            away = rest > 0 and not negative
        case "down":
            away = rest > 0 and negative
        case "stochastic":
            away = random.random() < rest
    return lower + away


def all_codes(fmt: FloatSpec | IntSpec) -> range:
    """All codes of the format, 0 to 2^bits - 1."""
    return range(1 << fmt.bits)


def all_values(fmt: FloatSpec | IntSpec) -> list[float]:
    """The number of every code, in the order of the codes (NaN and infinities included). Up to 19 bits.

    Raises ValueError for FP32, which has 4,294,967,296 codes.
    """
    if fmt.bits > 19:
        raise ValueError(f"{fmt.name} has 2^{fmt.bits} codes, too many to list. Decode the ones you need.")
    return [decode(code, fmt) for code in all_codes(fmt)]


def ulp(value: float | int | Fraction, fmt: FloatSpec | IntSpec) -> float:
    """Distance between the numbers of the format in the binade that holds |value|, like `math.ulp` for floats.

    At and around zero: the smallest subnormal. Beyond the largest number: the distance just below it. NaN for
    NaN, infinity for infinity.
    """
    value = _real(value)
    if _isnan(value) or _isinf(value):
        return abs(float(value))
    if isinstance(fmt, IntSpec):
        return fmt.ulp
    exponent = _floor_log2(abs(Fraction(value))) if value else fmt.min_exponent
    exponent = min(max(exponent, fmt.min_exponent), fmt.max_exponent)
    return math.ldexp(1.0, exponent - fmt.mantissa_bits)


def neighbours(value: float | int | Fraction, fmt: FloatSpec | IntSpec) -> tuple[float | None, float | None]:
    """Return the nearest numbers of the format strictly below and strictly above the value.

    Beyond the last finite number comes infinity if the format has it, else None. Raises ValueError for NaN.

    >>> from coursekit.formats.spec import FP16
    >>> neighbours(2048, FP16)
    (2047.0, 2050.0)
    >>> neighbours(65504, FP16)
    (65472.0, inf)
    """
    value = _real(value)
    if _isnan(value):
        raise ValueError("NaN has no neighbours: it is neither above nor below any number. Pass a number.")
    below, above = _next(value, fmt, "down"), _next(value, fmt, "up")
    return below, above


def _next(value: float | Fraction, fmt: FloatSpec | IntSpec, direction: str) -> float | None:
    """The nearest number of the format strictly in that direction ("up" or "down")."""
    outwards = 1 if direction == "up" else -1
    first, last = finfo(fmt).lowest, fmt.max
    if outwards < 0:
        first, last = last, first
    if (value - first) * outwards < 0:
        return first
    if (value - last) * outwards >= 0:
        has_inf = isinstance(fmt, FloatSpec) and fmt.inf_code is not None
        return outwards * math.inf if has_inf and not _isinf(value) else None
    rounded = round_to(value, fmt, rounding=direction)
    if rounded != value:
        return rounded
    # `value` is a number of the format. A quarter of an ulp leads off it; just below a power of two the next number
    # is half an ulp away.
    step = Fraction(ulp(value, fmt)) / 4 * outwards
    return round_to(Fraction(value) + step, fmt, rounding=direction)


def finfo(fmt: FloatSpec | IntSpec) -> FormatInfo:
    """The landmarks of the format.

    >>> from coursekit.formats.spec import FP16
    >>> finfo(FP16).max, finfo(FP16).eps
    (65504.0, 0.0009765625)
    """
    if isinstance(fmt, IntSpec):
        return FormatInfo(fmt.name, fmt.bits, fmt.max, fmt.min, fmt.ulp, fmt.ulp, fmt.ulp, 1 << fmt.bits)
    unsigned_lowest = 0.0 if fmt.has_zero else fmt.min_normal
    lowest = -fmt.max if fmt.signed else unsigned_lowest
    numbers = (1 + fmt.signed) * (fmt.max_code + 1)
    if fmt.signed and fmt.has_zero:  # -0 and 0 count once
        numbers -= 1
    return FormatInfo(
        fmt.name, fmt.bits, fmt.max, lowest, fmt.min_normal, fmt.min_subnormal, fmt.eps, numbers
    )


def bit_string(code: int, fmt: FloatSpec | IntSpec) -> str:
    """The bits of a code as text, with spaces between sign, exponent and mantissa (a field of no bits is left out).

    >>> from coursekit.formats.spec import FP16
    >>> bit_string(0x4000, FP16)
    '0 10000 0000000000'
    """
    _check_code(code, fmt)
    bits = format(code, f"0{fmt.bits}b")
    if isinstance(fmt, IntSpec):
        return bits
    end_of_exponent = fmt.signed + fmt.exponent_bits
    parts = (bits[: fmt.signed], bits[fmt.signed : end_of_exponent], bits[end_of_exponent:])
    return " ".join(part for part in parts if part)


def _nan(fmt: FloatSpec, negative: bool) -> int:
    if fmt.nan_code is None:  # zero, of the opposite sign
        return 0 if negative else fmt.sign_mask
    return fmt.nan_code | (fmt.sign_mask if negative else 0)


def _overflow(fmt: FloatSpec, saturate: bool) -> int:
    """Magnitude code of what lies beyond the largest number."""
    if saturate or (fmt.inf_code is None and fmt.nan_code is None):
        return fmt.max_code
    return fmt.inf_code if fmt.inf_code is not None else fmt.nan_code


def _floor_log2(a: Fraction) -> int:
    """Largest e with 2^e <= a, for a > 0. From the bit lengths: math.log2 is off next to a power of two."""
    e = a.numerator.bit_length() - a.denominator.bit_length()  # right, or one too large
    return e if Fraction(2) ** e <= a else e - 1


def _real(value: float | int | Fraction) -> float | Fraction:
    """The value as a float (maybe NaN, infinite or -0.0) or, if its type is rational, as a Fraction."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(
            f"expected one real number (int, float or Fraction), got {type(value).__name__}. "
            "For tensors use coursekit.formats.tensor."
        )
    if isinstance(value, Rational):
        return Fraction(int(value.numerator), int(value.denominator))  # numpy's integers are Rational too
    return float(value)


def _isnan(value: float | Fraction) -> bool:
    return value != value  # math.isnan would turn a Fraction into a float, which may overflow


def _isinf(value: float | Fraction) -> bool:
    return abs(value) == math.inf


def _check_code(code: int, fmt: FloatSpec | IntSpec) -> None:
    if not isinstance(fmt, (FloatSpec, IntSpec)):
        raise TypeError(
            f"expected a FloatSpec or IntSpec, got {_name(fmt)}. Of a block format, pass .element or .scale."
        )
    if isinstance(code, bool) or not isinstance(code, int):
        raise TypeError(
            f"expected the code as an int, got {type(code).__name__}. Use encode() to get it from a value."
        )
    if not 0 <= code < 1 << fmt.bits:
        raise ValueError(
            f"a code of {fmt.name} lies in 0 to {(1 << fmt.bits) - 1}, got {code}. "
            f"Check the format, or keep the lowest {fmt.bits} bits."
        )


def _check_rounding(rounding: str, random: Random | None) -> None:
    if rounding not in ROUNDINGS:
        raise ValueError(f"rounding must be one of {', '.join(ROUNDINGS)}; got {rounding!r}.")
    if rounding == "stochastic" and random is None:
        raise ValueError(
            "stochastic rounding needs a source of randomness, got None. Pass random=random.Random(seed)."
        )


def _name(fmt: object) -> str:
    return getattr(fmt, "name", None) or type(fmt).__name__

"""The definition, held against ml_dtypes, struct and a search among enumerated numbers."""

import math
import struct
from fractions import Fraction
from itertools import pairwise
from random import Random

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.formats import scalar
from coursekit.formats.spec import (
    BF16,
    BLOCKS,
    E2M1,
    E4M3,
    E4M3FNUZ,
    E5M2,
    E8M0,
    FLOATS,
    FP16,
    FP32,
    INT4,
    INT8,
    INTS,
    UINT4,
)

# stochastic rounding has no single answer; its law has a test of its own
DETERMINISTIC = [rounding for rounding in scalar.ROUNDINGS if rounding != "stochastic"]
SMALL = [fmt for fmt in (*FLOATS, *INTS) if fmt.bits <= 8]


def bits(value):
    return struct.pack("<d", value) if not math.isnan(value) else b"NaN"


def test_values_equal_ml_dtypes(peer):
    """Every code means the same number, -0 included."""
    ours = scalar.all_values(peer.fmt)
    assert [bits(v) for v in ours] == [bits(float(v)) for v in peer.values]


@pytest.mark.parametrize("fmt", INTS, ids=lambda fmt: fmt.name)
def test_integers_equal_numpy(fmt):
    codes = np.arange(1 << fmt.bits, dtype=np.uint8)
    signed = (
        ((codes << (8 - fmt.bits)).astype(np.uint8).view(np.int8) >> (8 - fmt.bits)) if fmt.signed else codes
    )
    assert scalar.all_values(fmt) == (signed * 2.0**-fmt.fraction_bits).tolist()


def test_codes_equal_struct():
    """FP16 of Python's own struct module, which rounds half to even, on all values and between them."""
    for code in scalar.all_codes(FP16):
        (value,) = struct.unpack("<e", code.to_bytes(2, "little"))
        if math.isnan(value):
            continue
        assert scalar.encode(value, FP16) == code
        nudged = value * (1 + 2**-11) if abs(value) < 65504 else value
        assert scalar.encode(nudged, FP16) == int.from_bytes(struct.pack("<e", nudged), "little")


def test_critical_codes_equal_ml_dtypes(peer):
    """Numbers, midpoints, their float32 neighbours, specials: the same code, the sign of NaN included."""
    x = peer.critical()
    if peer.fmt.bits == 16:
        x = np.concatenate([x[::37], x[-200:]])
    x = x[peer.agrees(x)]
    expected = peer.encode(x).tolist()
    assert [scalar.encode(v, peer.fmt) for v in x.tolist()] == expected


@pytest.mark.parametrize("rounding", DETERMINISTIC)
def test_rounding_equals_search(peer, rounding):
    """Each mode picks the number that a search among all numbers of the format picks; then overflow has its rule."""
    x = peer.critical().astype(np.float64)
    x = x[np.isfinite(x) & ((x > 0) | peer.fmt.signed)]
    if peer.fmt.bits == 16:
        x = np.random.default_rng(1).choice(x, 150, replace=False)
    overflow = {
        False: math.inf if peer.fmt.inf_code else math.nan if peer.fmt.nan_code else peer.fmt.max,
        True: peer.fmt.max,
    }
    for value in x.tolist() if peer.fmt.bits == 16 else x.tolist()[::3]:
        found = peer.rounded(Fraction(value), rounding)
        for saturate in (False, True):
            expected = math.copysign(overflow[saturate], found) if math.isinf(found) else found
            got = scalar.round_to(value, peer.fmt, rounding=rounding, saturate=saturate)
            assert got == expected or (math.isnan(got) and math.isnan(expected)), (value, saturate)


@pytest.mark.parametrize("fmt", [*FLOATS, *INTS], ids=lambda fmt: fmt.name)
def test_numbers_of_the_format_round_to_themselves(fmt):
    random = Random(0)
    codes = scalar.all_codes(fmt) if fmt.bits <= 8 else [random.randrange(1 << fmt.bits) for _ in range(500)]
    for code in codes:
        value = scalar.decode(code, fmt)
        for rounding in scalar.ROUNDINGS:
            again = scalar.round_to(value, fmt, rounding=rounding, random=random)
            assert math.isnan(value) or bits(again) == bits(value)


@given(
    x=st.floats(allow_nan=False, allow_infinity=False),
    name=st.sampled_from(sorted(fmt.name for fmt in FLOATS)),
)
@settings(max_examples=300, deadline=None)
def test_laws_of_rounding(x, name):
    """down <= x <= up within the range; toward_zero shrinks; nearest is the nearer of both, and odd."""
    fmt = next(f for f in FLOATS if f.name == name)
    if not fmt.signed or abs(x) > fmt.max:
        return
    low, high = (scalar.round_to(x, fmt, rounding=rounding) for rounding in ("down", "up"))
    assert low <= x <= high
    assert abs(scalar.round_to(x, fmt, rounding="toward_zero")) == min(abs(low), abs(high))
    nearest = scalar.round_to(x, fmt)
    assert nearest in (low, high)
    assert abs(Fraction(nearest) - Fraction(x)) == min(
        Fraction(x) - Fraction(low), Fraction(high) - Fraction(x)
    )
    assert scalar.round_to(-x, fmt) == -nearest


def test_a_number_is_rounded_once():
    """Just above the middle of 1 and its successor: a detour over float32 lands on the middle and rounds down."""
    trap = 1 + 2.0**-4 + 2.0**-40
    assert scalar.round_to(trap, E4M3) == 1.125
    assert scalar.round_to(float(np.float32(trap)), E4M3) == 1.0
    assert scalar.round_to(Fraction(2**53 + 1, 2**53), E4M3, rounding="up") == 1.125


def test_inputs_of_any_size():
    assert scalar.round_to(10**400, FP16) == math.inf
    assert scalar.round_to(-(10**400), FP16, saturate=True) == -65504
    assert scalar.encode(5e-324, FP16) == 0
    assert scalar.encode(5e-324, FP16, rounding="up") == 1
    assert scalar.encode(-5e-324, FP16) == 0x8000
    assert scalar.encode(Fraction(1, 3), FP16) == 0x3555
    assert scalar.encode(np.float32(1.5), FP16) == scalar.encode(np.int64(3), FP16) - 0x400


@pytest.mark.parametrize(
    ("value", "fmt", "saturate", "code"),
    [
        (65519.99, FP16, False, 0x7BFF),  # the middle to 65536 is 65520
        (65520, FP16, False, 0x7C00),
        (65520, FP16, True, 0x7BFF),
        (math.inf, FP16, True, 0x7BFF),
        (464, E4M3, False, 0x7E),
        (464.01, E4M3, False, 0x7F),
        (-math.inf, E4M3, False, 0xFF),
        (-math.inf, E4M3, True, 0xFE),
        (math.nan, E4M3, True, 0x7F),
        (math.nan, E4M3FNUZ, True, 0x80),
        (-0.0, E4M3FNUZ, False, 0),
        (-1e-9, E4M3FNUZ, False, 0),
        (math.inf, E2M1, False, 7),
        (0.0, E8M0, False, 255),
        (-1.0, E8M0, True, 255),
        (1e-40, E8M0, False, 0),
        (math.inf, E8M0, True, 254),
        (1000, INT8, False, 127),
        (-math.inf, INT8, False, 128),
        (math.nan, INT8, False, 0),
        (2.5, INT8, False, 2),
        (-3, UINT4, False, 0),
    ],
)
def test_special_values(value, fmt, saturate, code):
    assert scalar.encode(value, fmt, saturate=saturate) == code


@pytest.mark.parametrize("fmt", SMALL, ids=lambda fmt: fmt.name)
def test_neighbours_are_the_next_numbers(fmt):
    """Against the sorted list of all numbers; from every number, and from between."""
    numbers = sorted({v for v in scalar.all_values(fmt) if math.isfinite(v)})
    outside = math.inf if getattr(fmt, "inf_code", None) is not None else None
    ends = [-outside if outside and fmt.signed else None, outside]
    padded = [ends[0] if fmt.signed else None, *numbers, ends[1]]
    for below, number, above in zip(padded, numbers, padded[2:], strict=False):
        assert scalar.neighbours(number, fmt) == (below, above)
        if above not in (None, math.inf):
            between = (Fraction(number) + Fraction(above)) / 2
            assert scalar.neighbours(between, fmt) == (number, above)


def test_neighbours_at_the_ends():
    assert scalar.neighbours(math.inf, FP16) == (65504, None)
    assert scalar.neighbours(1e9, E4M3) == (448, None)
    assert scalar.neighbours(-0.0, E2M1) == (-0.5, 0.5)
    assert scalar.neighbours(0, E8M0) == (None, 2.0**-127)
    with pytest.raises(ValueError, match="NaN has no neighbours"):
        scalar.neighbours(math.nan, FP16)


@pytest.mark.parametrize("fmt", [FP16, BF16, E4M3, E5M2], ids=lambda fmt: fmt.name)
def test_ulp_is_the_gap(fmt):
    numbers = sorted({abs(v) for v in scalar.all_values(fmt) if math.isfinite(v)})
    for number, above in list(pairwise(numbers))[:: max(len(numbers) // 500, 1)]:
        assert scalar.ulp(number, fmt) == scalar.ulp(-number, fmt) == above - number


def test_ulp_outside_the_numbers():
    assert scalar.ulp(1e9, FP16) == 32 and scalar.ulp(1e-30, FP16) == 2.0**-24
    assert scalar.ulp(math.inf, FP16) == math.inf and math.isnan(scalar.ulp(math.nan, FP16))
    assert scalar.ulp(3, INT8) == 1


def test_lowest_binade_of_e8m0_rounds_to_nearest():
    """On purpose unlike ml_dtypes and torch, which turn all of (2^-127, 2^-126) into 2^-126."""
    assert [scalar.encode(f * 2.0**-127, E8M0) for f in (1, 1.25, 1.49, 1.5, 1.75, 2)] == [0, 0, 0, 1, 1, 1]


def test_finfo_equals_ml_dtypes(peer):
    ours, theirs = scalar.finfo(peer.fmt), ml_dtypes.finfo(peer.dtype)
    assert (ours.max, ours.min_normal) == (float(theirs.max), float(theirs.smallest_normal))
    if peer.fmt.mantissa_bits:  # ml_dtypes says eps = 2^0 only for numbers above 1
        assert (ours.eps, ours.min_subnormal) == (float(theirs.eps), float(theirs.smallest_subnormal))
    assert ours.numbers == len(peer.numbers)
    assert ours.lowest == peer.numbers[0]


def test_finfo_of_fp32_and_integers():
    info, truth = scalar.finfo(FP32), np.finfo(np.float32)
    assert (info.max, info.eps, info.min_subnormal) == tuple(
        map(float, (truth.max, truth.eps, truth.smallest_subnormal))
    )
    assert (scalar.finfo(INT4).lowest, scalar.finfo(INT4).max, scalar.finfo(INT4).numbers) == (-8, 7, 16)


@pytest.mark.parametrize(
    ("code", "fmt", "text"),
    [
        (0xC000, FP16, "1 10000 0000000000"),
        (0x7F, E8M0, "01111111"),
        (0x5, E2M1, "0 10 1"),
        (0x9, INT4, "1001"),
    ],
)
def test_bit_string(code, fmt, text):
    assert scalar.bit_string(code, fmt) == text


def test_fields_join_to_the_code():
    for code in scalar.all_codes(E5M2):
        sign, exponent, mantissa = scalar.fields(code, E5M2)
        assert (sign << 7) + (exponent << 2) + mantissa == code


def test_stochastic_rounding_keeps_the_mean():
    """Up with probability (distance below) / gap: 20,000 draws lie within 5 standard deviations."""
    value, low, high, n = 1.03, 1.0, 1.125, 20_000
    random = Random(7)
    draws = [scalar.round_to(value, E4M3, rounding="stochastic", random=random) for _ in range(n)]
    assert set(draws) == {low, high}
    p = (value - low) / (high - low)
    assert abs(draws.count(high) / n - p) < 5 * math.sqrt(p * (1 - p) / n)


@pytest.mark.parametrize("value", [True, "1", 1j, None, b"1"])
def test_only_real_numbers(value):
    with pytest.raises(TypeError, match="expected one real number"):
        scalar.encode(value, FP16)


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="0 to 255, got 256"):
        scalar.decode(256, E4M3)
    with pytest.raises(ValueError, match="got -1"):
        scalar.decode(-1, E4M3)
    with pytest.raises(TypeError, match="expected the code as an int, got float"):
        scalar.decode(1.0, E4M3)
    with pytest.raises(TypeError, match=r"pass \.element or \.scale"):
        scalar.decode(0, BLOCKS[0])
    with pytest.raises(ValueError, match="rounding must be one of"):
        scalar.encode(1.0, FP16, rounding="nearest")
    with pytest.raises(ValueError, match=r"random=random\.Random"):
        scalar.encode(1.0, FP16, rounding="stochastic")
    with pytest.raises(ValueError, match="too many to list"):
        scalar.all_values(FP32)
    with pytest.raises(TypeError, match="no exponent"):
        scalar.fields(1, INT8)

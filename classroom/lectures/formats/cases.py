"""The cases of lecture 1's exercises and their right answers, none of them from the code that the exercises
train.

The truth comes from `struct` (FP16), from numpy and ml_dtypes (limits, values of all codes, casts), and from
exhaustive search in exact fractions (the nearest value of a table, ties to the even code).
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from functools import cache
from itertools import pairwise

from classroom.checking.check import Case

INF, NAN = math.inf, math.nan


@cache
def round_to_grid() -> list[Case]:
    """Quarter steps from -4.5 to 4.5 steps, on four grids; ties among them."""
    steps = (1.0, 0.5, 2.0**-10, 1024.0)
    return [
        Case((k / 4 * step, step), round(Fraction(k, 4)) * step) for step in steps for k in range(-18, 19)
    ]


@cache
def decode_fp16() -> list[Case]:
    """All 65,536 codes; first some that show one rule each, so that the first failure is one that teaches."""
    telling = [0x3C00, 0xC000, 0x3555, 0x7BFF, 0x0400, 0x0001, 0x03FF, 0x0000, 0x8000, 0x7C00, 0xFC00, 0x7E00]
    codes = telling + sorted(set(range(2**16)) - set(telling))
    return [
        Case((code,), struct.unpack("<e", struct.pack("<H", code))[0], _fp16_call(code)) for code in codes
    ]


def _fp16_call(code: int) -> str:
    bits = f"{code:016b}"
    return f"decode_fp16(0b{bits[0]}_{bits[1:6]}_{bits[6:]})"


@cache
def float_limits() -> list[Case]:
    """Six formats with IEEE rules, as numpy and ml_dtypes state them in `finfo`."""
    import ml_dtypes
    import numpy as np

    formats = {
        (5, 10, 15): np.float16,
        (8, 7, 127): ml_dtypes.bfloat16,
        (8, 23, 127): np.float32,
        (5, 2, 15): ml_dtypes.float8_e5m2,
        (4, 3, 7): ml_dtypes.float8_e4m3,
        (3, 4, 3): ml_dtypes.float8_e3m4,
    }
    return [Case(parameters, _limits(ml_dtypes.finfo(dtype))) for parameters, dtype in formats.items()]


def _limits(info) -> tuple[float, ...]:
    return tuple(float(x) for x in (info.max, info.smallest_normal, info.smallest_subnormal, info.eps))


@cache
def first_missing_integer() -> list[Case]:
    """Six formats from FP8 to FP64, as rounding functions; a test counts up to these integers."""
    import ml_dtypes
    import numpy as np

    formats = {
        "E5M2": (ml_dtypes.float8_e5m2, 9),
        "E4M3": (ml_dtypes.float8_e4m3fn, 17),
        "BF16": (ml_dtypes.bfloat16, 257),
        "FP16": (np.float16, 2049),
        "FP32": (np.float32, 16_777_217),
        "FP64": (np.float64, 9_007_199_254_740_993),
    }
    return [
        Case((_rounding(dtype),), answer, f"first_missing_integer(round_to_{name})")
        for name, (dtype, answer) in formats.items()
    ]


def _rounding(dtype):
    def round_to(n) -> float:
        import numpy as np

        if abs(n) >= 2**1024:  # beyond every one of these formats
            return INF if n > 0 else -INF
        with np.errstate(all="ignore"):
            return float(np.float64(n).astype(dtype))

    return round_to


@cache
def stochastic_round() -> list[Case]:
    """Values at eighths between two multiples, both signs. The truth: (the results possible, their mean)."""
    cases = []
    for step in (1.0, 0.25, 2.0**-7):
        for k in (-20, -13, -8, -3, 0, 1, 3, 4, 6, 8, 13, 39):
            x = k / 8 * step
            below, above = math.floor(k / 8) * step, math.ceil(k / 8) * step
            results = (below,) if below == above else (below, above)
            cases.append(Case((x, step), (results, x), f"stochastic_round({x}, {step}, u) for u from 0 to 1"))
    return cases


def stochastic_summary(function, x: float, step: float):
    """(results that occur, their mean) over 800 even draws u; the first odd answer if it is no number."""
    results = [function(x, step, (i + 0.5) / 800) for i in range(800)]
    odd = [r for r in results if isinstance(r, bool) or not isinstance(r, (int, float))]
    if odd:
        return odd[0]
    return tuple(sorted({float(r) for r in results})), math.fsum(results) / 800


@cache
def kahan_sum() -> list[Case]:
    """Sums in FP16; the truth is the exact sum in fractions, NaN where the running sum leaves the range."""
    import numpy as np

    random = np.random.default_rng(1)
    sums = {
        "[0.1]": [0.1],
        "[1.0] + 1000 * [0.001]": [1.0] + 1000 * [0.001],
        "[1.0] + 4096 * [2**-11]": [1.0] + 4096 * [2.0**-11],
        "1000 uniform numbers": random.uniform(0, 1, 1000),
        "2000 small numbers after 100": [100.0, *random.uniform(0, 0.05, 2000)],
        "[60000, 10000, -60000]": [60000.0, 10000.0, -60000.0],
    }
    cases = []
    for words, values in sums.items():
        values = [np.float16(v) for v in values]
        exact = float(sum(Fraction(float(v)) for v in values))
        expected = NAN if words.startswith("[60000") else exact
        cases.append(Case((values,), np.float16(expected), f"kahan_sum({words})"))
    return cases


def in_fp16(function, values):
    """The answer, without numpy's warnings about overflow (one of the cases is about it)."""
    import numpy as np

    with np.errstate(all="ignore"):
        return function(values)


def is_fp16_sum(expected, got) -> bool:
    """An FP16 number within two units in the last place of the exact sum; not finite where it overflows."""
    import numpy as np

    if not isinstance(got, np.float16):
        return False
    if np.isnan(expected):
        return not np.isfinite(got)
    return bool(np.isfinite(got)) and abs(float(got) - float(expected)) <= 2 * float(np.spacing(expected))


def like_fp16_sum(a, b) -> bool:
    """Two sums that come from the same mistake: equal in FP16, nearly so in a wider type."""
    import numpy as np

    if not isinstance(b, (float, int, np.floating)) or isinstance(a, np.float16) != isinstance(b, np.float16):
        return False
    tolerance = 0.0 if isinstance(a, np.float16) else 1e-6
    return math.isclose(a, b, rel_tol=tolerance) or (math.isnan(a) and math.isnan(b))


def show_fp16_sum(value) -> str:
    if not hasattr(value, "dtype") and not isinstance(value, (float, int)):
        return repr(value)[:120]
    return f"{float(value):.9g} ({type(value).__name__})"


@cache
def e4m3_table() -> tuple[Fraction, ...]:
    """The values of the codes 0 to 126, exactly, as ml_dtypes decodes them; ascending."""
    import ml_dtypes
    import numpy as np

    return tuple(Fraction(float(v)) for v in np.arange(127, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn))


def nearest_code(x: Fraction, table: tuple[Fraction, ...]) -> int:
    """The code (place in the table) nearest to x >= 0, ties to the even code, the last one beyond the end."""
    return min(range(len(table)), key=lambda code: (abs(table[code] - x), code % 2))


@cache
def encode_e4m3() -> list[Case]:
    """Every value, every midpoint and its neighbours, numbers beyond the end, both signs, zeros, specials."""
    table = [float(v) for v in e4m3_table()]
    middles = [(a + b) / 2 for a, b in pairwise(table)]
    near = [math.nextafter(m, to) for m in middles for to in (0.0, INF)]
    points = [1.0, 1.0625, 1.1875, 0.3, 17.0, 240.0, 448.0, 0.013671875, 2.0**-9, 2.0**-10, 2.0**-11]
    points += [*table, *middles, *near, 464.0, 500.0, 1e6, 1e300, 1e-30, 5e-324]
    cases = [Case((x,), nearest_code(Fraction(x), e4m3_table())) for x in points]
    cases += [Case((-x,), 0x80 | nearest_code(Fraction(x), e4m3_table())) for x in points]
    specials = (("math.inf", INF, 0x7E), ("-math.inf", -INF, 0xFE), ("math.nan", NAN, 0x7F))
    return cases + [Case((x,), code, f"encode_e4m3({words})") for words, x, code in specials]


def is_e4m3_code(expected: int, got) -> bool:
    """The same code; NaN has two."""
    return not isinstance(got, bool) and (got == expected or (expected == 0x7F and got == 0xFF))


def show_e4m3(code) -> str:
    if isinstance(code, int) and not isinstance(code, bool) and 0 <= code < 256:
        bits = f"{code:08b}"
        return f"0b{bits[0]}_{bits[1:5]}_{bits[5:]}"
    return repr(code)[:120]


@cache
def best_format() -> list[Case]:
    """Tensors like those of a training run, with the candidates; the truth is cast by ml_dtypes."""
    import numpy as np
    import torch

    f16, bf16, e4m3, e5m2 = torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2
    random = np.random.default_rng(7)
    normal, lognormal = random.standard_normal, random.lognormal
    weights, active = normal(4096) * 0.02, np.maximum(normal(4096), 0)
    gradients = normal(4096) * 1e-8
    large = 1000 * normal(64)
    outliers = np.concatenate([normal(4000), 2e5 * np.ones(96)])
    data = (
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
    return [_format_case(*row) for row in data]


def _format_case(words, values, dtypes) -> Case:
    import torch

    x = torch.from_numpy(values).float()
    names = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
    expected = min(dtypes, key=lambda dtype: mean_relative_error(x.numpy(), dtype))
    return Case((x, list(dtypes)), expected, f"best_format({words}, [{names}])")


def mean_relative_error(x, dtype) -> float:
    """Mean of |q - x| / |x| over x that are not 0, at most 1 each; a value that overflowed counts 1."""
    import ml_dtypes
    import numpy as np

    name = str(dtype).removeprefix("torch.")
    kept = x[x != 0].astype(np.float64)
    with np.errstate(all="ignore"):
        q = x[x != 0].astype(getattr(ml_dtypes, name, None) or np.dtype(name)).astype(np.float64)
        error = np.abs(q - kept) / np.abs(kept)
    return float(np.minimum(np.where(np.isfinite(error), error, 1.0), 1.0).mean())


@cache
def mxfp4_block() -> list[Case]:
    """Blocks of 32 numbers: ordinary ones, one that clips, one with an outlier, ties, zeros, tiny numbers."""
    import numpy as np

    random = np.random.default_rng(3)
    normal = random.standard_normal(32)
    ties = [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 6.0] * 4
    blocks = {
        "normal": normal,
        "[7.9, ...]": [7.9, *normal[1:]],
        "[100.0, ...]": [100.0, *normal[1:]],
        "ties": ties,
        "[-4.0, ...]": [-4.0, *normal[1:]],
        "[0.0] * 32": np.zeros(32),
        "tiny": normal * 1e-20,
        "uniform": random.uniform(-1, 1, 32),
    }
    blocks |= {f"normal, seed {seed}": np.random.default_rng(seed).standard_normal(32) for seed in range(20)}
    return [Case((_floats(v),), _mxfp4(_floats(v)), f"mxfp4_block({words})") for words, v in blocks.items()]


def _floats(values) -> list[float]:
    return [float(v) for v in values]


def _mxfp4(values: list[float]) -> list[float]:
    """OCP MX 1.0 section 6.3, in fractions: scale 2^(floor(log2 max) - 2), elements to the nearest code."""
    import ml_dtypes
    import numpy as np

    table = tuple(Fraction(float(v)) for v in np.arange(8, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn))
    largest = max(map(abs, values))
    if largest == 0:
        return [0.0] * len(values)
    scale = Fraction(2) ** (math.frexp(largest)[1] - 1 - 2)
    return [
        math.copysign(float(table[nearest_code(abs(Fraction(v)) / scale, table)] * scale), v) for v in values
    ]

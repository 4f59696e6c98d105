"""Oracles that share no code with coursekit: ml_dtypes' types, and rounding by search among enumerated numbers."""

import bisect
import functools
import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from coursekit.formats import spec

PEERS = {
    "FP16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "E5M2": ml_dtypes.float8_e5m2,
    "E4M3": ml_dtypes.float8_e4m3fn,
    "E3M2": ml_dtypes.float6_e3m2fn,
    "E2M3": ml_dtypes.float6_e2m3fn,
    "E2M1": ml_dtypes.float4_e2m1fn,
    "E8M0": ml_dtypes.float8_e8m0fnu,
    "E4M3_IEEE": ml_dtypes.float8_e4m3,
    "E3M4": ml_dtypes.float8_e3m4,
    "E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "E4M3B11FNUZ": ml_dtypes.float8_e4m3b11fnuz,
}


class Peer:
    """One format as numpy and ml_dtypes know it."""

    def __init__(self, name):
        self.fmt = spec.FORMATS[name]
        self.dtype = np.dtype(PEERS[name])
        self.code_dtype = np.dtype(f"u{self.dtype.itemsize}")
        codes = np.arange(1 << self.fmt.bits, dtype=self.code_dtype)
        self.values = self.decode(codes)  # float64 by code
        finite = sorted(
            {float(v): int(c) for c, v in zip(codes, self.values, strict=True) if np.isfinite(v)}.items()
        )
        self.numbers = np.array([value for value, _ in finite])  # ascending, no duplicates
        self.number_codes = [code for _, code in finite]

    def decode(self, codes):
        with np.errstate(invalid="ignore"):  # signalling NaN
            return np.asarray(codes, self.code_dtype).view(self.dtype).astype(np.float32).astype(np.float64)

    def encode(self, x):
        with np.errstate(all="ignore"):
            return np.asarray(x).astype(self.dtype).view(self.code_dtype)

    def agrees(self, x):
        """Where ml_dtypes rounds to nearest: everywhere but in the lowest binade of E8M0.

        There, and only there, ml_dtypes 0.6 (and torch 2.13 with it) rounds up whatever lies above 2^-127.
        """
        return (x <= 2.0**-127) | (x >= 1.5 * 2.0**-127) | (self.fmt.name != "E8M0") | np.isnan(x)

    def critical(self):
        """float32: every number, every midpoint, both with their float32 neighbours, and the special values."""
        half_step = (self.numbers[-1] - self.numbers[-2]) / 2
        beyond = self.numbers[-1] + half_step * np.array([1, 2, 3, 4])
        midpoints = (self.numbers[1:] + self.numbers[:-1]) / 2
        points = np.concatenate([self.numbers, midpoints, beyond, -beyond])
        with np.errstate(over="ignore"):
            points = points.astype(np.float32)
        up, down = np.nextafter(points, np.float32(np.inf)), np.nextafter(points, np.float32(-np.inf))
        return np.concatenate([points, up, down, SPECIAL])

    @functools.cached_property
    def grid(self):
        """All numbers, and one more at either end as if the exponent went on; whether each has an odd code."""
        grid = [Fraction(float(number)) for number in self.numbers]
        odd = [code % 2 for code in self.number_codes]
        step = grid[-1] - grid[-2]
        if self.fmt.signed:
            grid, odd = [grid[0] - step, *grid], [1 - odd[-1], *odd]
        return [*grid, grid[-1] + step], [*odd, 1 - odd[-1]]

    def rounded(self, x, rounding):
        """What a finite Fraction rounds to, by search among the numbers; +-inf where it overflows."""
        grid, odd = self.grid
        x = min(max(x, grid[0]), grid[-1])
        high = bisect.bisect_left(grid, x)
        low = high if grid[high] == x else high - 1
        pick = self._pick(x, grid, odd, low, high, rounding)
        if -self.fmt.max <= grid[pick] <= self.fmt.max:
            return float(grid[pick])
        inwards = rounding == "toward_zero" or rounding == ("down" if x > 0 else "up")
        return math.copysign(self.fmt.max if inwards else math.inf, x)

    def _pick(self, x, grid, odd, low, high, rounding):
        if rounding in ("up", "down"):
            return high if rounding == "up" else low
        if rounding == "toward_zero":
            return low if x > 0 else high
        if x - grid[low] != grid[high] - x:
            return low if x - grid[low] < grid[high] - x else high
        if rounding == "nearest_away" or self.fmt.mantissa_bits == 0:  # E8M0: the significand 1.5 becomes 2
            return high if x > 0 else low
        return high if odd[low] else low


SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 1e-45, -1e-45, 3.4028235e38, -3.4028235e38, 1e-38],
    np.float32,
)


@pytest.fixture(scope="session", params=sorted(PEERS))
def peer(request):
    return Peer(request.param)


@pytest.fixture(scope="session")
def patterns():
    """A million random float32 bit patterns: every exponent equally likely, NaN and infinity among them."""
    bits = np.random.default_rng(0).integers(0, 1 << 32, 1_000_000, dtype=np.uint32)
    return np.concatenate([bits.view(np.float32), SPECIAL])

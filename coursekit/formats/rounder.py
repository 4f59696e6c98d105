"""Round a piece of a tensor to a format, with no branch per element: the arithmetic under `tensor`.

`scalar` divides by the ulp, rounds to an integer and multiplies back. Adding a large number does all three
at once. Let a = |x| lie in the binade of E (a power of two, E <= a < 2E) and, on a float32 carrier, take

    c = E * 2^(23 - M)          so that float32's own ulp at c is the ulp of the format at a

Then the hardware's addition a + c rounds a to a multiple of that ulp, ties to even, and (a + c) - c is the
answer:

    >>> a, E, M = torch.tensor(1.3), 1.0, 2      # two mantissa bits: 1, 1.25, 1.5, 1.75
    >>> c = E * 2 ** (23 - M)
    >>> (a + c) - c
    tensor(1.2500)

Below the smallest normal number E stays the same: subnormals need nothing more. Inside a + c the lowest bits *are* the
integer n = a / ulp, so the code follows by subtracting bit patterns.

A bool tensor costs more than all of this together, so comparisons are made on bit patterns (they are ordered
like the magnitudes, NaN above infinity): (limit - pattern) >> 31 is a mask of ones where pattern > limit, else
of zeros. Left out: checks, and cutting tensors into pieces (`tensor`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from coursekit.formats.spec import FloatSpec, IntSpec


@dataclass(frozen=True)
class Carrier:
    """The float type that the arithmetic runs in, and the integer type that sees its bits."""

    float: torch.dtype
    int: torch.dtype
    bits: int
    mantissa_bits: int
    max_exponent: int

    @property
    def infinity(self) -> int:
        """The bits of infinity as a signed integer; NaN lies above."""
        return (2 * self.max_exponent + 1) << self.mantissa_bits

    @property
    def nan(self) -> int:  # the quiet one
        return self.infinity + (1 << (self.mantissa_bits - 1))

    def pattern(self, value: float) -> int:
        """The bits of a positive normal value as a signed integer."""
        fraction, exponent = math.frexp(value)  # 1/2 <= fraction < 1
        significand = int(math.ldexp(fraction, self.mantissa_bits + 1))
        # The significand's hidden one adds 1 to the exponent field, hence - 2 and not - 1.
        return significand + ((exponent + self.max_exponent - 2) << self.mantissa_bits)

    def holds(self, fmt: FloatSpec) -> bool:
        """Whether no c overflows, no ulp is subnormal, and every input divided by its ulp is exact."""
        highest_c = fmt.max_exponent + 2 + self.mantissa_bits - fmt.mantissa_bits
        lowest_ulp = fmt.min_exponent - fmt.mantissa_bits
        return highest_c <= self.max_exponent and 1 - self.max_exponent <= lowest_ulp <= 0


class Scratch:
    """Buffers for pieces of n elements: floats a and e, the bits of both as integers, and an integer mask."""

    def __init__(self, n: int, carrier: Carrier, device: torch.device):
        self.a, self.e = (torch.empty(n, dtype=carrier.float, device=device) for _ in range(2))
        self.a_bits, self.e_bits = self.a.view(carrier.int), self.e.view(carrier.int)
        self.mask = torch.empty_like(self.a_bits)


FLOAT32 = Carrier(torch.float32, torch.int32, 32, 23, 127)
FLOAT64 = Carrier(torch.float64, torch.int64, 64, 52, 1023)


def to_integer(q: Tensor, negative: Tensor, rounding: str, generator: torch.Generator | None) -> Tensor:
    """q [n] >= 0 to whole numbers [n]; `negative` bool [n] says where the number is below zero. NaN stays NaN."""
    if rounding == "nearest_even":
        return q.round()
    lower = q.floor()
    rest = q - lower
    match rounding:
        case "nearest_away":
            away = rest >= 0.5  # not floor(q + 0.5): 0.49999997 + 0.5 is 1 in float32
        case "toward_zero":
            return lower
        case "up":
            away = (rest > 0) & ~negative
        case "down":
            away = (rest > 0) & negative
        case "stochastic":
            away = torch.rand(q.shape, dtype=q.dtype, device=q.device, generator=generator) < rest
    return lower + away


class FloatRounder:
    """Rounds pieces [n] of a tensor to one format; `values` and `codes` finish what `_add_c` begins."""

    def __init__(self, fmt: FloatSpec, carrier: Carrier, rounding: str, saturate: bool, generator):
        self.fmt, self.carrier, self.rounding, self.generator = fmt, carrier, rounding, generator
        self.c_over_e = 2.0 ** (carrier.mantissa_bits - fmt.mantissa_bits)
        no_specials = fmt.inf_code is None and fmt.nan_code is None
        # Larger magnitudes are clipped to `top`: the largest number, or the one that would come after it. The
        # code after the largest is infinity in ieee formats, NaN in fn, and NaN in fnuz too (0x7f + 1 = 0x80).
        after_max = fmt.max + 2.0 ** (fmt.max_exponent - fmt.mantissa_bits)
        clipped = saturate or no_specials
        self.top, self.top_code = (fmt.max, fmt.max_code) if clipped else (after_max, fmt.max_code + 1)
        # In `codes`: the exponent fields of c / E and of the lowest binade.
        c_field = (carrier.mantissa_bits - fmt.mantissa_bits) << carrier.mantissa_bits
        lowest_binade = fmt.min_exponent + carrier.max_exponent + (0 if fmt.subnormals else 1)
        self.offset = c_field + (lowest_binade << fmt.mantissa_bits)

    def values(self, x: Tensor, out: Tensor, scratch: Scratch) -> None:
        """out [n] <- x [n] rounded; x has the carrier's float type, out any."""
        fmt, a, bits = self.fmt, scratch.a, scratch.a_bits
        s = self._magnitude(x, a)
        a.clamp_(max=self.top)  # keeps NaN
        self._add_c(s, scratch)
        a.sub_(scratch.e, alpha=self.c_over_e)
        if self.top > fmt.max:
            special = self.carrier.infinity if fmt.inf_code is not None else self.carrier.nan
            mask = self._ones_above(self.carrier.pattern(fmt.max), bits, scratch.mask).bitwise_and_(special)
            bits.bitwise_or_(mask)  # top = 2^k has no mantissa bits, so that OR makes it infinity
        if fmt.nan_code is None:
            s = self._nan_to_zero(s, a)
        if fmt.specials == "fnuz":
            out.copy_(a.copysign_(s).add_(0.0))  # -0 + 0 = +0
        else:
            torch.copysign(a, s, out=out)

    def codes(self, x: Tensor, out: Tensor, scratch: Scratch) -> None:
        """out [n] <- the codes of x [n] rounded, in any integer type."""
        fmt, carrier, bits, index = self.fmt, self.carrier, scratch.a_bits, scratch.e_bits
        s = self._magnitude(x, scratch.a)
        correction = (fmt.sign_mask if fmt.nan_code is None else fmt.nan_code) - self.top_code
        if correction:
            is_nan = self._ones_above(carrier.infinity, bits, scratch.mask)
        bits.clamp_(max=carrier.pattern(self.top))  # as an integer: clips NaN to top as well
        self._add_c(s, scratch)
        # bits = n + (exponent field of c << 23), and the code is n + (index of the binade << M)
        index.bitwise_right_shift_(carrier.mantissa_bits)
        bits.sub_(index, alpha=(1 << carrier.mantissa_bits) - (1 << fmt.mantissa_bits)).sub_(self.offset)
        if correction:
            bits.add_(is_nan.bitwise_and_(correction))
        if fmt.signed:
            self._add_sign(s, bits, index)
        out.copy_(bits)

    def _magnitude(self, x: Tensor, a: Tensor) -> Tensor:
        """a <- |x|, NaN where the format has no code for x. Returns what the result takes its sign from."""
        if self.fmt.signed:
            torch.abs(x, out=a)
            return x
        s = x.abs().masked_fill_(x < 0 if self.fmt.has_zero else x <= 0, torch.nan)
        torch.clamp(s, min=0.0 if self.fmt.has_zero else self.fmt.min_normal, out=a)
        return s

    def _add_c(self, s: Tensor, scratch: Scratch) -> None:
        """a <- a + c, rounded on the way; e <- E."""
        a, e = scratch.a, scratch.e
        if self.rounding in ("toward_zero", "up", "down"):
            self._stop_at_max(s, a)
        torch.bitwise_and(scratch.a_bits, self.carrier.infinity, out=scratch.e_bits)
        e.clamp_(min=self.fmt.min_normal)
        if self.rounding != "nearest_even":  # the addition below is then exact
            ulp = e * 2.0**-self.fmt.mantissa_bits
            a.copy_(to_integer(a / ulp, s < 0, self.rounding, self.generator) * ulp)
        a.add_(e, alpha=self.c_over_e)

    def _stop_at_max(self, s: Tensor, a: Tensor) -> None:
        """a <- the largest number, where a finite |s| lies beyond it and is rounded inwards."""
        negative = s < 0
        inwards = {"toward_zero": torch.ones_like(negative), "up": negative, "down": ~negative}[self.rounding]
        a.copy_(torch.where(inwards & (s.abs() < torch.inf), a.clamp(max=self.fmt.max), a))

    def _ones_above(self, limit: int, bits: Tensor, mask: Tensor) -> Tensor:
        """mask <- all ones where the pattern is above the limit, else all zeros."""
        torch.sub(limit, bits, out=mask)
        return mask.bitwise_right_shift_(self.carrier.bits - 1)

    def _add_sign(self, s: Tensor, bits: Tensor, scratch: Tensor) -> None:
        """bits <- magnitude codes with the sign bit of s."""
        fmt = self.fmt
        torch.bitwise_right_shift(s.view(self.carrier.int), self.carrier.bits - 1, out=scratch)  # -1 or 0
        if fmt.specials == "fnuz":  # neither zero nor NaN has a sign
            scratch &= (-bits & (bits - fmt.nan_code)) >> (self.carrier.bits - 1)
        bits.sub_(scratch, alpha=fmt.sign_mask)
        if fmt.nan_code is None:
            bits &= 2 * fmt.sign_mask - 1  # -0 minus the sign of -NaN: carries out of the code and leaves +0

    def _nan_to_zero(self, s: Tensor, a: Tensor) -> Tensor:
        """a <- 0 where NaN. Returns the numbers whose sign the result gets: s, negated where it is NaN."""
        is_nan = a.isnan()
        a.masked_fill_(is_nan, 0.0)
        return torch.where(is_nan, -s, s) if self.fmt.signed else s


class IntRounder:
    """Rounds pieces of a tensor to one integer format: clamp(round(x / ulp)), NaN is 0."""

    def __init__(self, fmt: IntSpec, carrier: Carrier, rounding: str, generator: torch.Generator | None):
        self.fmt, self.carrier, self.rounding, self.generator = fmt, carrier, rounding, generator

    def values(self, x: Tensor, out: Tensor, scratch: Scratch) -> None:  # [n], [n]
        out.copy_(self._integers(x, scratch.a) * self.fmt.ulp)

    def codes(self, x: Tensor, out: Tensor, scratch: Scratch) -> None:  # [n], [n]
        out.copy_(self._integers(x, scratch.a).to(torch.int64) & ((1 << self.fmt.bits) - 1))

    def _integers(self, x: Tensor, a: Tensor) -> Tensor:
        torch.abs(x, out=a).div_(self.fmt.ulp)
        n = to_integer(a, x < 0, self.rounding, self.generator).copysign_(x)
        n.clamp_(self.fmt.min / self.fmt.ulp, self.fmt.max / self.fmt.ulp)
        return torch.nan_to_num_(n).add_(0.0)  # integers have no -0

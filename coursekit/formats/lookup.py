"""Encode a long float32 tensor by one lookup per element, for formats of at most 5 mantissa bits.

To round a number it takes its sign, its exponent, the bits that stay, the next one, and whether *anything*
follows. So squeeze the lower 16 bits of a float32 into one "sticky" bit: what is left, a 16-bit key, rounds
the same way, in every mode but the stochastic one. There are 65,536 keys; `rounder` computes their codes
once, NaN, infinity and all.

Unlike `rounder`, this does no arithmetic, knows no special case, and its cost is the same for every format.
"""

from __future__ import annotations

import torch
from torch import Tensor

from coursekit.formats.spec import FloatSpec, IntSpec

KEYS = 1 << 16


def applies(x: Tensor, fmt: FloatSpec | IntSpec, rounding: str) -> bool:
    """Whether 7 mantissa bits hold the format's, the next one and the sticky one, and whether it pays."""
    if not isinstance(fmt, FloatSpec) or rounding == "stochastic" or torch.compiler.is_compiling():
        return False
    fits = fmt.mantissa_bits <= 5 and fmt.min_exponent >= -127
    return fits and x.dtype == torch.float32 and x.numel() >= 4 * KEYS


def key_values(device: torch.device) -> Tensor:
    """float32 [2^16] a number for every key: the key's bits, then 16 zeros."""
    return (torch.arange(KEYS, dtype=torch.int32, device=device) << 16).view(torch.float32)


def look_up(table: Tensor, x: Tensor, out: Tensor, key: Tensor) -> None:
    """out <- table[key of x]; x float32 [n], key int32 [n] scratch."""
    bits = x.view(torch.int32)
    torch.bitwise_and(bits, KEYS - 1, out=key)
    key.add_(KEYS - 1).bitwise_or_(
        bits
    )  # the addition carries into bit 16 unless the lower 16 bits were all 0
    key.bitwise_right_shift_(16).bitwise_and_(KEYS - 1)
    torch.index_select(table, 0, key, out=out)

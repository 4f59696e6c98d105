"""Encode a long float32 tensor by one lookup per element, for formats with few mantissa bits.

To round a number one needs its sign, its exponent, the M mantissa bits that stay, the next one, and whether *anything*
follows. So combine all that follows into one "sticky" bit: the 1 + 8 + M + 1 + 1 bits that are left, the key, round
the same way, in every mode but the stochastic one. `rounder` computes the code of every key once, NaN and infinity
included: 4,096 keys for E2M1, 16,384 for E4M3.

Unlike `rounder`, this does no arithmetic and has no special cases; its cost hardly depends on the format.
"""

from __future__ import annotations

import torch
from torch import Tensor

from coursekit.formats.spec import FloatSpec, IntSpec


def key_bits(fmt: FloatSpec) -> int:
    """Bits of a key: sign, float32's exponent, the mantissa bits that stay, the next one, the sticky one.

    For a format that reaches below float32's normal numbers (E8M0) these bits lie further right there.
    """
    further_right = max(-126 - fmt.min_exponent, 0)
    return 1 + 8 + fmt.mantissa_bits + 2 + further_right


def applies(x: Tensor, fmt: FloatSpec | IntSpec, rounding: str) -> bool:
    """Whether float32 keys decide the rounding, and x is long enough for the table to pay."""
    if not isinstance(fmt, FloatSpec) or rounding == "stochastic" or torch.compiler.is_compiling():
        return False
    return key_bits(fmt) <= 16 and x.dtype == torch.float32 and x.numel() >= 4 << key_bits(fmt)


def key_values(fmt: FloatSpec, device: torch.device) -> Tensor:  # -> float32 [2^key_bits]
    """One number for every key: the key's bits, then zeros."""
    n = key_bits(fmt)
    return (torch.arange(1 << n, dtype=torch.int32, device=device) << (32 - n)).view(torch.float32)


def look_up(table: Tensor, x: Tensor, out: Tensor, key: Tensor) -> None:
    """out [n] <- table [2^key_bits] at the key of x; x float32 [n], key int32 [n] scratch."""
    n = table.numel().bit_length() - 1
    below = (1 << (32 - n)) - 1  # the bits below the key
    bits = x.view(torch.int32)
    torch.bitwise_and(bits, below, out=key)
    key.add_(below).bitwise_or_(bits)  # the addition carries into the sticky bit unless they were all 0
    key.bitwise_right_shift_(32 - n).bitwise_and_((1 << n) - 1)
    torch.index_select(table, 0, key, out=out)

"""Find the nearest of up to 256 values, exactly: by search, and by one lookup; and the 256 values of 8-bit optimizers.

`nearest_by_search` is the definition; `nearest_by_table` is the fast one, equal to it on every number.

    >>> code = torch.tensor([-1.0, -0.3, 0.2, 1.0])
    >>> y = torch.tensor([-0.7, 0.0, 0.5])
    >>> nearest_by_search(y, code), nearest_by_table(y, carry_table(midpoints(code)))
    (tensor([0, 2, 2]), tensor([0, 2, 2], dtype=torch.int32))

A search among 256 values takes 8 comparisons, the table one lookup. Read the bits of a float32 as a signed integer and
take its absolute value: it grows with the number, among negative numbers too. Its upper 15 bits (the sign, the exponent
and 7 bits of the mantissa) are the key of a cell, so narrow that at most one boundary between two values cuts it:

    [ value 41      | value 42          ]    a cell is 2^16 neighbouring float32; the boundary lies anywhere in it

Its entry in the table is an integer. The upper half is the number of the cell's first value. The lower half is chosen
so that adding the 16 bits below the key carries into the upper half exactly from the boundary on.

Left out of the table: NaN (it gets the number of 0), numbers beyond -1 and 1.

Source of the dynamic map: Dettmers et al., 8-bit Optimizers via Block-wise Quantization, ICLR 2022, sections 1.3 and
2.2 (arXiv:2110.02861); first in Dettmers, 8-Bit Approximations for Parallelism in Deep Learning (arXiv:1511.04561).
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

NEGATIVES = 1 << 30  # ordered bits from here on belong to negative numbers, from -2 up


def dynamic_map(signed: bool = True) -> Tensor:
    """float32 [256] the values of the dynamic code, ascending.

    Decade k of 7 (0.1 to 1 is the last) is cut into 2^k equal intervals, unsigned 2^(k+1); their middles are values.
    0 and 1 are values too; -1 is not.
    """
    values = [torch.tensor([0.0, 1.0])]
    for decade in range(7):
        edges = torch.linspace(0.1, 1.0, (1 if signed else 2) * 2**decade + 1)
        middles = (edges[:-1] + edges[1:]) / 2 * 10.0 ** (decade - 6)
        values += [middles, -middles] if signed else [middles]
    return torch.cat(values).sort().values


def midpoints(code: Tensor) -> Tensor:  # float32 [n] -> float64 [n - 1]
    """The boundaries between the values of a code: exact in float64, so that the nearest is exact too."""
    return (code[:-1].double() + code[1:].double()) / 2


def nearest_by_search(y: Tensor, code: Tensor) -> Tensor:  # [...], [n] ascending -> int64 [...]
    """The number of the nearest value, by binary search; a tie goes to the lower value. Any y but NaN."""
    return torch.bucketize(y.double(), midpoints(code))


def nearest_by_table(y: Tensor, table: Tensor) -> Tensor:  # float32 [...], int32 [2^15] -> int32 [...]
    """As nearest_by_search for |y| <= 1, by one lookup; `blockwise` runs the same lines on buffers of its own."""
    bits = ordered(y)
    return (bits + table[bits >> 16]) >> 16


def carry_table(boundaries: Tensor) -> Tensor:  # float64 [1 to 255] ascending -> int32 [2^15]
    """The table of nearest_by_table. Raises ValueError if two boundaries cut one cell."""
    key = torch.arange(1 << 15)
    first, last = (_number((key << 16) + low) for low in (0, 0xFFFF))
    below, below_last = (torch.searchsorted(boundaries, number) for number in (first, last))
    crowded = below_last - below > 1
    if crowded.any():
        raise ValueError(
            f"expected values at least 1/64 of their size apart, got closer ones near {first[crowded][0]:.3g}. "
            "This code is too fine for the lookup; nearest_by_search can search it."
        )
    carry = 65536 - (_first_beyond(boundaries)[below.clamp(max=len(boundaries) - 1)] - (key << 16))
    # The key is subtracted here, so that the lookup need not mask it out of the bits.
    return ((below << 16) + torch.where(below_last > below, carry, 0) - (key << 16)).int()


def ordered(y: Tensor) -> Tensor:  # float32 [...] -> int32 [...]
    """The bits of a number as an integer, made positive. They grow with y, among negatives and among others.

    The bits of a negative number are -2^31 + those of its magnitude. That makes -0 the one integer without an absolute
    value; adding 0 removes it.
    """
    return (y + 0.0).view(torch.int32).abs()


def _number(b: Tensor) -> Tensor:  # integers [...] -> float64 [...]
    """The number with these ordered bits; 0 instead of one that is not in [-1, 1]."""
    number = torch.where(b < NEGATIVES, b, -b).int().view(torch.float32).double()
    return torch.where(number.abs() < 1.01, number, 0.0)


def _first_beyond(boundaries: Tensor) -> Tensor:  # float64 [n] -> int64 [n]
    """The ordered bits of the first float32 above each boundary."""
    rounded = boundaries.float()
    up = torch.nextafter(rounded, torch.tensor(torch.inf))
    return ordered(torch.where(rounded.double() > boundaries, rounded, up)).long()


@cache
def dynamic_code(signed: bool, device: torch.device, keep_positive: bool = False) -> tuple[Tensor, Tensor]:
    """(dynamic map float32 [256], its table int32 [2^15]) on a device, computed once.

    keep_positive  only 0 itself becomes 0: smaller numbers than the smallest positive value become that value
    """
    code = dynamic_map(signed)
    boundaries = midpoints(code)
    if keep_positive:
        boundaries[int((code == 0).nonzero())] = 0.0
    return code.to(device), carry_table(boundaries).to(device)

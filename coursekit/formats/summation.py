"""Show what rounding does to a long sum: every addition rounds, and a small addend may be lost altogether.

    >>> from coursekit.formats.spec import BF16
    >>> x = torch.full((1000,), 0.001)           # the BF16 numbers next to 1 are 0.996 and 1.0078
    >>> partial_sums(x, BF16, start=1.0)[-1].item(), round(pairwise_sum(x, BF16).item(), 3)
    (1.0, 1.0)

`partial_sums` adds one number after the other and rounds after every addition, as an accumulator of that
format does. The remedies stand beside it: carry the lost part along (Kahan), add in pairs so that both
addends have similar sizes, round up or down at random so that the error averages out, or accumulate in a wider
format.

All sums run along the last dimension; the others are independent trials, computed together. Addends are
rounded to the format first. An addition is done in float64 and then rounded to the format: for numbers of
at most 25 significant bits and rounding to nearest that is the correctly rounded sum (Figueroa, When is
Double Rounding Innocuous?, SIGNUM Newsletter 30(3), 1995). The directed modes see the float64 sum, in which
an addend 2^53 times smaller than the total has already vanished. Left out: the order in which a GPU adds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from coursekit.formats.spec import FP32, FloatSpec
from coursekit.formats.tensor import check_input, round_to


def partial_sums(
    x: Tensor,
    fmt: FloatSpec,
    *,
    start: float = 0.0,
    rounding: str = "nearest_even",
    kahan: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """All running sums of x [..., n], one addition after the other: float64 [..., n].

    start     what the accumulator holds before the first addition
    rounding  after every addition, as in tensor.round_to
    kahan     what an addition lost is kept in a second accumulator and put back into the next addend

    >>> from coursekit.formats.spec import BF16, FP16
    >>> x = torch.full((1000,), 0.001)
    >>> [round(partial_sums(x, fmt, start=1.0)[-1].item(), 4) for fmt in (BF16, FP16)]
    [1.0, 1.9766]

    Raises ValueError for a tensor without dimensions, and as tensor.round_to.
    """
    steps = _steps(x, fmt)  # [n, ...]
    out = torch.empty_like(steps)

    def rounded(value: Tensor) -> Tensor:
        return round_to(value, fmt, rounding=rounding, generator=generator)

    total = rounded(torch.full_like(steps[:1].sum(0), start))
    lost = torch.zeros_like(total)
    for i, addend in enumerate(steps):
        if kahan:
            total, lost = _kahan_step(total, addend, lost, rounded)
        else:
            total = rounded(total + addend)
        out[i] = total
    return out.movedim(0, -1)


def sequential_sum(x: Tensor, fmt: FloatSpec, *, rounding: str = "nearest_even", generator=None) -> Tensor:
    """Sum of x [..., n] along the last dimension, rounded after every addition: float64 [...]."""
    return _last(partial_sums(x, fmt, rounding=rounding, generator=generator))


def kahan_sum(x: Tensor, fmt: FloatSpec) -> Tensor:
    """As sequential_sum, with Kahan's compensation: the error no longer grows with n. float64 [...].

    Source: Kahan, Further Remarks on Reducing Truncation Errors, CACM 8(1), 1965.
    """
    return _last(partial_sums(x, fmt, kahan=True))


def pairwise_sum(x: Tensor, fmt: FloatSpec, *, rounding: str = "nearest_even", generator=None) -> Tensor:
    """Sum of x [..., n] by adding neighbours, then neighbours of the results, and so on: float64 [...].

    Every number takes part in log2(n) additions instead of n. If a round has an odd number of addends, the last
    one goes to the next round unchanged.
    """
    level = _steps(x, fmt)  # [n, ...]
    if level.shape[0] == 0:
        return level.sum(0)
    while level.shape[0] > 1:
        even, odd = level[: level.shape[0] // 2 * 2 : 2], level[1::2]
        sums = round_to(even + odd, fmt, rounding=rounding, generator=generator)
        level = torch.cat([sums, level[2 * sums.shape[0] :]])  # the last one of an odd number
    return level[0]


def dot(x: Tensor, y: Tensor, fmt: FloatSpec, *, accumulate: FloatSpec = FP32) -> Tensor:
    """Dot product of x and y [..., n] along n: x and y in `fmt`, running sum in `accumulate`. float64 [...].

    The products are exact before they are added, as in a tensor core; the running sum is rounded after
    every addition. So accumulate=FP16 shows what an FP16 accumulator loses, accumulate=FP32 what the
    hardware does instead.
    """
    products = round_to(check_input(x).double(), fmt) * round_to(check_input(y).double(), fmt)
    total = torch.zeros_like(products[..., 0]) if products.shape[-1] else products.sum(-1)  # n = 0: zeros
    for product in products.movedim(-1, 0):
        total = round_to(total + product, accumulate)
    return total


def _kahan_step(total: Tensor, addend: Tensor, lost: Tensor, rounded) -> tuple[Tensor, Tensor]:
    """(new total, its error so far); every operation is rounded to the format."""
    corrected = rounded(addend - lost)
    new_total = rounded(total + corrected)
    gained = rounded(new_total - total)
    return new_total, rounded(gained - corrected)


def _steps(x: Tensor, fmt: FloatSpec) -> Tensor:
    """float64 [n, ...]: the addends rounded to the format, the summed dimension in front."""
    if check_input(x).ndim == 0:
        raise ValueError(
            "expected at least one dimension to sum along, got a tensor of shape (). Use x.reshape(1)."
        )
    return round_to(x.double(), fmt).movedim(-1, 0).contiguous()


def _last(sums: Tensor) -> Tensor:
    return sums[..., -1] if sums.shape[-1] else sums.sum(-1)

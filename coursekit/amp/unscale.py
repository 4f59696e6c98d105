"""Divide all gradients by the loss scale, and tell whether one of them was inf or NaN.

Two passes over the gradients, each one call for all tensors: their L2 norms, which an inf or a NaN in any element makes
inf or NaN, and the product with 1/S. torch does both in one pass, in a kernel of its own
(_amp_foreach_non_finite_check_and_unscale_); asking every element of every tensor in Python takes ten times as long.

The sum of squares of finite gradients may overflow as well (elements near 1e19 in FP32): then, and only then, the
elements are looked at one by one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor


def unscale_and_check(grads: Iterable[Tensor], scale: float) -> bool:
    """Multiply all gradients by 1/scale in place; True if one of their elements was inf or NaN before.

    grads  any shapes, dtypes and devices; of sparse ones, the values

    Bit-equal to torch's kernel: 1/scale is rounded to FP32 first, then multiplied; a scale of 0 gives inf, as there.
    The check comes first, since with a scale below 1 the product itself may overflow.
    """
    inverse = torch.tensor(scale, dtype=torch.float64).reciprocal().float().item()
    found = False
    for group in by_kind(grads):
        found |= not all_finite(group)
        torch._foreach_mul_(group, inverse)
    return found


def by_kind(grads: Iterable[Tensor]) -> list[list[Tensor]]:
    """Lists of tensors of one dtype on one device, as torch's `_foreach` functions are fast for."""
    kinds = defaultdict(list)
    for grad in grads:
        kinds[grad.dtype, grad.device].append(_values(grad))
    return list(kinds.values())


def all_finite(tensors: list[Tensor]) -> bool:
    """Is every element of these tensors, of one dtype on one device, a finite number?"""
    norms = torch.stack(torch._foreach_norm(tensors, 2))
    if norms.isfinite().all():
        return True
    suspects = [t for t, norm in zip(tensors, norms.tolist(), strict=True) if not abs(norm) < float("inf")]
    return all(t.isfinite().all() for t in suspects)


def _values(grad: Tensor) -> Tensor:
    """The numbers of a sparse gradient; equal indices are added up first, for their sum may overflow."""
    if not grad.is_sparse:
        return grad
    if not grad.is_coalesced():
        grad.data = grad.coalesce()
    return grad._values()

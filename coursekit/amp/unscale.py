"""Divide all gradients by the loss scale, and tell whether one of them was inf or NaN.

There are two passes: the L2 norms, which become inf or NaN if any element is, and the product with 1/S. On a CPU the
tensors go in groups that are still in the cache for the second pass; a GPU, where every call is a launch, gets all at
once. Unlike this, torch does both in one pass, in its own kernel (_amp_foreach_non_finite_check_and_unscale_).

The sum of squares of finite gradients may overflow as well (elements near 1e19 in FP32): then, and only then, the
elements are checked one by one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

BATCH = 1 << 18  # elements: 1 MiB in FP32, about half of a core's own cache


def unscale_and_check(grads: Iterable[Tensor], scale: float) -> bool:
    """Multiply all gradients by 1/scale in place; True if one of their elements was inf or NaN before.

    grads  any shapes, dtypes and devices; of sparse ones, the values. No gradient at all: False

    Bit-equal to torch's kernel: 1/scale is rounded to FP32 first, then multiplied; a scale of 0 gives inf, as there.

    >>> grads = [torch.tensor([2.0, 4.0]), torch.tensor([1.0, math.nan])]
    >>> unscale_and_check(grads, scale=2.0), grads[0]
    (True, tensor([1., 2.]))
    """
    # A tensor, because a Python number would be rounded to 16 bits before it multiplies 16-bit gradients.
    inverse = torch.tensor(scale, dtype=torch.float64).reciprocal().float()
    found = False
    for batch in foreach_groups(grads):
        found |= not all_finite(batch)  # before the product, which with a scale below 1 may overflow itself
        torch._foreach_mul_(batch, inverse.to(batch[0].device))
    return found


def foreach_groups(grads: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Lists of tensors (any shapes) of one dtype on one device: for these torch's `_foreach` functions are fast."""
    kinds = defaultdict(list)
    for grad in grads:
        kinds[grad.dtype, grad.device].append(grad._values() if grad.is_sparse else grad)
    for (_, device), tensors in kinds.items():
        yield from _of_about(BATCH, tensors) if device.type == "cpu" else [tensors]


def _of_about(elements: int, tensors: list[Tensor]) -> Iterator[list[Tensor]]:
    """Whole tensors in lists of at most so many elements; a larger one has a list of its own."""
    batch, filled = [], 0
    for tensor in tensors:
        if batch and filled + tensor.numel() > elements:
            yield batch
            batch, filled = [], 0
        batch.append(tensor)
        filled += tensor.numel()
    yield batch


def all_finite(tensors: list[Tensor]) -> bool:
    """Whether every element of these tensors (any shapes, one dtype, one device) is a finite number."""
    norms = torch.stack(torch._foreach_norm(tensors, 2)).tolist()
    suspects = [tensor for tensor, norm in zip(tensors, norms, strict=True) if not math.isfinite(norm)]
    return all(tensor.isfinite().all() for tensor in suspects)

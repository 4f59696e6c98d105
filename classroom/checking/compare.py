"""Ours against the library's: how many values differ, and which.

Two NaNs are equal here (both sides say "not a number"), 0.0 and -0.0 are equal too; `bitwise=True` tells the
zeros apart. Torch is never imported: a tensor brings its own methods.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """`count` of `total` values differ; `examples` holds (index, ours, theirs) of the first three."""

    count: int
    total: int
    examples: tuple[tuple[object, float, float], ...]


def difference(ours, theirs, tolerance: float = 0.0, bitwise: bool = False) -> Difference:
    """Compare two numbers, or two lists, arrays or tensors of the same shape.

    tolerance: the largest |ours - theirs| that counts as equal. bitwise: also tell -0.0 from 0.0.
    Raises ValueError if the shapes differ.
    """
    import numpy as np

    ours, theirs = _array(ours), _array(theirs)
    if ours.shape != theirs.shape:
        raise ValueError(f"ours has shape {ours.shape}, the other {theirs.shape}: reshape one of them first.")
    if ours.dtype.kind not in "biuf" or theirs.dtype.kind not in "biuf":
        return _difference_of_objects(ours, theirs)
    with np.errstate(invalid="ignore"):
        same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
        if tolerance > 0:  # never for 0: two large integers may have equal float64 values
            same |= np.abs(ours.astype(np.float64) - theirs.astype(np.float64)) <= tolerance
    if bitwise:
        same &= (np.signbit(ours) == np.signbit(theirs)) | np.isnan(ours)
    wrong = np.argwhere(~same)
    return Difference(
        count=len(wrong),
        total=ours.size,
        examples=tuple((_index(at), ours[tuple(at)].item(), theirs[tuple(at)].item()) for at in wrong[:3]),
    )


def _difference_of_objects(ours, theirs) -> Difference:
    pairs = [
        (i, a, b) for i, (a, b) in enumerate(zip(ours.flat, theirs.flat, strict=True)) if not equal(a, b)
    ]
    return Difference(len(pairs), ours.size, tuple(pairs[:3]))


def _array(value):
    """A numpy array of anything that holds numbers; floats numpy lacks (bfloat16, FP8) become float64."""
    import numpy as np

    if hasattr(value, "detach"):  # a torch tensor
        value = value.detach().cpu()
        value = (value.double() if value.is_floating_point() else value).numpy()
    array = np.asarray(value)
    return array.astype(np.float64) if array.dtype.kind == "V" else array


def _index(at) -> object:
    return at[0].item() if len(at) == 1 else tuple(int(i) for i in at)


def equal(a, b, bitwise: bool = False) -> bool:
    """Are two single values the same? NaN equals NaN; -0.0 equals 0.0 unless `bitwise`."""
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    if bitwise and a == 0 and b == 0:
        return math.copysign(1, a) == math.copysign(1, b)
    return a == b

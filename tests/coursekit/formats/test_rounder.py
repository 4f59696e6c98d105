"""The arithmetic under the tensors: bit patterns, the choice of the carrier, whole numbers."""

import numpy as np
import pytest
import torch

from coursekit.formats.rounder import FLOAT32, FLOAT64, to_integer
from coursekit.formats.spec import BF16, E2M1, E4M3, E8M0, FP16, FP32, TF32


@pytest.mark.parametrize(
    ("carrier", "floats", "ints"), [(FLOAT32, np.float32, np.int32), (FLOAT64, np.float64, np.int64)]
)
def test_patterns_equal_numpy(carrier, floats, ints):
    info = np.finfo(floats)
    for value in (1.0, 1.5, 448.0, float(info.max), float(info.smallest_normal), 3.0**-20):
        assert carrier.pattern(float(floats(value))) == floats(value).view(ints)
    assert carrier.infinity == floats(np.inf).view(ints)
    assert carrier.nan == floats(np.nan).view(ints)


def test_wide_formats_need_float64():
    """c = E * 2^(23 - M) must not overflow: formats with float32's own exponent need the wider carrier."""
    assert [FLOAT32.holds(fmt) for fmt in (FP16, E4M3, E2M1)] == [True] * 3
    assert [FLOAT32.holds(fmt) for fmt in (FP32, TF32, BF16, E8M0)] == [False] * 4
    assert all(FLOAT64.holds(fmt) for fmt in (FP32, TF32, BF16, E8M0))


@pytest.mark.parametrize(
    ("rounding", "positive", "negative"),
    [
        ("nearest_even", [0, 0, 2, 2, 3, 4], [0, 0, 2, 2, 3, 4]),
        ("nearest_away", [0, 1, 2, 2, 3, 4], [0, 1, 2, 2, 3, 4]),
        ("toward_zero", [0, 0, 1, 2, 2, 3], [0, 0, 1, 2, 2, 3]),
        ("up", [1, 1, 2, 2, 3, 4], [0, 0, 1, 2, 2, 3]),
        ("down", [0, 0, 1, 2, 2, 3], [1, 1, 2, 2, 3, 4]),
    ],
)
def test_magnitudes_to_whole_numbers(rounding, positive, negative):
    """0.49999997 is the float32 below one half: adding 0.5 and cutting would make it 1."""
    q = torch.tensor([0.49999997, 0.5, 1.5, 2.0, 2.75, 3.5])
    assert to_integer(q, torch.zeros(6, dtype=torch.bool), rounding, None).tolist() == positive
    assert to_integer(q, torch.ones(6, dtype=torch.bool), rounding, None).tolist() == negative

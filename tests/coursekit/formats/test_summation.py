"""Sums that round after every addition: against numpy's own low precision, exact fractions, and bounds from theory."""

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch

from coursekit.formats import scalar
from coursekit.formats.spec import BF16, E4M3, FP16, FP32
from coursekit.formats.summation import dot, kahan_sum, pairwise_sum, partial_sums, sequential_sum

NUMPY = {FP16: np.float16, BF16: ml_dtypes.bfloat16, FP32: np.float32, E4M3: ml_dtypes.float8_e4m3fn}


def name(value):
    return getattr(value, "name", None)


def test_swallowed_updates():
    """1 + 1000 x 0.001: BF16 stays at 1, FP16 arrives at 1.9766, FP32 at 2."""
    x = torch.full((1000,), 0.001)
    assert partial_sums(x, BF16, start=1.0)[-1] == 1.0
    assert round(partial_sums(x, FP16, start=1.0)[-1].item(), 4) == 1.9766
    assert abs(partial_sums(x, FP32, start=1.0)[-1] - 2) < 1e-4


@pytest.mark.parametrize("fmt", NUMPY, ids=name)
def test_every_partial_sum_equals_numpy(fmt):
    """numpy adds in the type itself, one after the other."""
    x = torch.randn(300, generator=torch.Generator().manual_seed(0))
    total = NUMPY[fmt](0)
    expected = []
    for value in x.numpy():
        total = NUMPY[fmt](total + NUMPY[fmt](value))
        expected.append(float(total))
    assert partial_sums(x, fmt).tolist() == expected
    assert sequential_sum(x, fmt) == expected[-1]


@pytest.mark.parametrize("rounding", ["nearest_even", "toward_zero", "up", "down"])
def test_every_partial_sum_equals_fractions(rounding):
    """The exact sum of two numbers, rounded by the definition."""
    x = torch.rand(200, generator=torch.Generator().manual_seed(0)) - 0.4
    total = 0.0
    for value, ours in zip(x.tolist(), partial_sums(x, FP16, rounding=rounding).tolist(), strict=True):
        addend = scalar.round_to(value, FP16)
        total = scalar.round_to(Fraction(total) + Fraction(addend), FP16, rounding=rounding)
        assert ours == total


@pytest.mark.parametrize("fmt", [FP16, BF16, FP32], ids=name)
def test_kahan_keeps_the_error_within_two_units(fmt):
    """|error| <= (2 eps + n eps^2) sum |x| (Higham, Accuracy and Stability, sec. 4.3); the plain sum is far outside."""
    n = 2000
    x = 0.1 + 0.01 * torch.rand(n, generator=torch.Generator().manual_seed(0))
    addends = [Fraction(scalar.round_to(v, fmt)) for v in x.tolist()]
    exact = sum(addends)
    unit = fmt.eps / 2
    bound = (2 * unit + n * unit**2) * float(exact) + unit * float(exact)
    assert abs(float(kahan_sum(x, fmt)) - float(exact)) <= bound
    if fmt is not FP32:
        assert abs(float(sequential_sum(x, fmt)) - float(exact)) > 3 * bound


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 64, 1000])
def test_pairwise_stays_within_its_bound(n):
    """|error| <= log2(n) u sum |x|, rounded up to whole levels (Higham, sec. 4.2)."""
    x = torch.rand(n, generator=torch.Generator().manual_seed(n))
    exact = sum(Fraction(scalar.round_to(v, FP16)) for v in x.tolist())
    levels = math.ceil(math.log2(n)) if n > 1 else 0
    assert abs(float(pairwise_sum(x, FP16)) - float(exact)) <= 1.01 * levels * 2.0**-11 * float(exact)


def test_pairwise_is_a_tree():
    """(1 + 2048) + (1 + 1): the first pair swallows its 1, the second does not; one by one gives another sum."""
    x = torch.tensor([1.0, 2048.0, 1.0, 1.0])
    assert pairwise_sum(x, FP16) == 2050
    assert sequential_sum(x, FP16) == 2048


def test_stochastic_rounding_arrives_on_average():
    """1 + 1000 x 0.001 in BF16 over 400 trials: the mean is 2 within 5 standard errors, while nearest stays at 1."""
    x = torch.full((1000,), 0.001).expand(400, -1)
    sums = partial_sums(
        x, BF16, start=1.0, rounding="stochastic", generator=torch.Generator().manual_seed(0)
    )[:, -1]
    expected = 1 + 1000 * scalar.round_to(0.001, BF16)
    assert abs(sums.mean() - expected) < 5 * sums.std() / 400**0.5
    assert sums.std() > 0


@pytest.mark.parametrize("accumulate", [FP16, FP32], ids=name)
def test_dot_equals_numpy(accumulate):
    """Products of FP16 exact, the running sum in the accumulator's format."""
    a, b = torch.randn(2, 400, generator=torch.Generator().manual_seed(0))
    total = NUMPY[accumulate](0)
    for x, y in zip(a.half().double().numpy(), b.half().double().numpy(), strict=True):
        total = NUMPY[accumulate](float(total) + x * y)
    assert dot(a, b, FP16, accumulate=accumulate) == float(total)


def test_fp32_accumulation_is_closer():
    """The mean error over 50 dot products of 1,000 terms: FP16 accumulation loses over 100 times more."""
    a, b = torch.rand(2, 50, 1000, generator=torch.Generator().manual_seed(0))
    exact = (a.half().double() * b.half().double()).sum(-1)
    narrow = (dot(a, b, FP16, accumulate=FP16) - exact).abs().mean()
    wide = (dot(a, b, FP16) - exact).abs().mean()
    assert narrow > 100 * wide


def test_other_dimensions_are_trials():
    x = torch.randn(3, 2, 50)
    for function in (sequential_sum, kahan_sum, pairwise_sum):
        together = function(x, FP16)
        assert together.shape == (3, 2)
        assert together[2, 1] == function(x[2, 1], FP16)
    assert partial_sums(x, FP16).shape == x.shape


def test_nothing_to_sum():
    for function in (sequential_sum, kahan_sum, pairwise_sum):
        assert function(torch.zeros(2, 0), FP16).tolist() == [0, 0]
    assert dot(torch.zeros(2, 0), torch.zeros(2, 0), FP16).tolist() == [0, 0]
    assert partial_sums(torch.zeros(0), FP16).shape == (0,)


def test_overflow_stays_infinite():
    assert sequential_sum(torch.tensor([65504.0, 65504.0, -65504.0]), FP16) == math.inf


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match=r"Use x\.reshape\(1\)"):
        sequential_sum(torch.tensor(1.0), FP16)
    with pytest.raises(TypeError, match=r"expected a torch\.Tensor"):
        kahan_sum([1.0], FP16)
    with pytest.raises(TypeError, match="expected a FloatSpec"):
        pairwise_sum(torch.ones(3), "FP16")

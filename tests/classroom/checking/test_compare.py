"""Comparisons count every mismatch, and only those."""

import math

import ml_dtypes
import numpy as np
import pytest
import torch

from classroom.checking.compare import difference, equal


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_nan_equals_nan_and_zeros_are_one_unless_bitwise(kind):
    ours, theirs = kind([1.0, math.nan, 0.0, math.inf]), kind([1.0, math.nan, -0.0, math.inf])
    assert difference(ours, theirs).count == 0
    assert difference(ours, theirs, bitwise=True).examples == ((2, 0.0, -0.0),)


def test_first_three_mismatches_are_kept_and_all_are_counted():
    found = difference(torch.zeros(2, 5), torch.ones(2, 5))
    assert (found.count, found.total) == (10, 10)
    assert found.examples == (((0, 0), 0.0, 1.0), ((0, 1), 0.0, 1.0), ((0, 2), 0.0, 1.0))


def test_nan_is_not_a_number():
    assert difference([math.nan], [1.0]).count == 1
    assert difference([math.nan], [1.0], tolerance=1e9).count == 1


def test_infinities_of_both_signs_differ():
    assert difference([math.inf], [-math.inf], tolerance=1e9).count == 1


def test_tolerance_is_a_largest_absolute_difference():
    assert difference([1.0, 2.0], [1.5, 2.6], tolerance=0.5).examples == ((1, 2.0, 2.6),)


def test_large_integers_are_compared_exactly():
    """2^53 and 2^53 + 1 have the same FP64 value; a comparison through floats would call them equal."""
    assert difference(torch.tensor([2**53]), torch.tensor([2**53 + 1])).count == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_formats_that_numpy_lacks(dtype):
    x = torch.tensor([0.5, 1.5, -2.0])
    name = str(dtype).removeprefix("torch.")
    theirs = x.numpy().astype(getattr(ml_dtypes, name, None) or name)
    assert difference(x.to(dtype), theirs).count == 0
    assert difference(x.to(dtype), -theirs.astype(np.float64)).count == 3


def test_tensors_that_need_gradients_may_be_compared():
    assert difference(torch.ones(2, requires_grad=True), torch.ones(2)).count == 0


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"ours has shape \(2,\), the other \(3,\)"):
        difference([1, 2], [1, 2, 3])


def test_empty_equals_empty():
    assert difference([], []) == difference(torch.empty(0), np.empty(0))
    assert difference([], []).total == 0


def test_words_are_compared_too():
    assert difference(["a", "b"], ["a", "c"]).examples == ((1, "b", "c"),)


@pytest.mark.parametrize(
    ("a", "b", "same", "same_bits"),
    [
        (math.nan, math.nan, True, True),
        (0.0, -0.0, True, False),
        (0, -0.0, True, False),
        (1, 1.0, True, True),
        (None, 0, False, False),
    ],
)
def test_single_values(a, b, same, same_bits):
    assert equal(a, b) == same
    assert equal(a, b, bitwise=True) == same_bits

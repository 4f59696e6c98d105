"""An answer is right whatever type holds it, and wrong when only its looks are right."""

import math

import numpy as np
import pytest
import torch

from coursekit.classroom.answers import first_difference, same_bits, same_value, show_value


@pytest.mark.parametrize(
    ("expected", "got"),
    [(1.0, 1), (1.0, np.float16(1)), (1.0, torch.tensor(1.0)), (math.nan, np.float32("nan")), (0.0, -0.0),
     ((1.0, 2.0), [1, np.float64(2)]), ([1.0, 2.0], torch.tensor([1.0, 2.0])), ([1.0], np.array([1.0])),
     (torch.float16, torch.float16)],
)  # fmt: skip
def test_same(expected, got):
    assert same_value(expected, got)


@pytest.mark.parametrize(
    ("expected", "got"),
    [(1.0, None), (1.0, "1.0"), (1.0, ...), (1.0, [1.0]), ([1.0], 1.0), ([1.0], [1.0, 2.0]), (1, True),
     (1.0, 1 + 0j), (math.nan, 1.0), (torch.float16, torch.bfloat16), (1.0, torch.ones(2))],
)  # fmt: skip
def test_not_same(expected, got):
    assert not same_value(expected, got)


def test_bits_tell_zeros_apart():
    assert not same_bits(0.0, -0.0)
    assert same_bits([-0.0, math.nan], [-0.0, math.nan])


def test_long_lists_are_cut():
    assert show_value(list(range(100))) == "[0, 1, 2, 3, 4, 5, 6, 7, ... 100 in all]"
    assert show_value((1.0, np.float32(2))) == "(1.0, 2.0)"


def test_first_difference_of_what_is_no_list():
    assert first_difference(1.0, 2.0, same_value) == ("", 1.0, 2.0)

"""An answer is right whatever type holds it, and wrong when only its looks are right."""

import math

import numpy as np
import pytest
import torch

from classroom.checking.answers import first_difference, same_bits, same_value, show_value


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


class Unprintable:
    def __repr__(self):
        raise ValueError("no words")


class Untold:
    def tolist(self):
        raise RuntimeError("no numbers")

    def __repr__(self):
        return "Untold()"


def endless_list():
    values = [1]
    values.append(values)
    return values


@pytest.mark.parametrize(
    ("value", "words"),
    [(10**5000, "an integer of about 5,001 digits"),
     (Unprintable(), "a value of type Unprintable that cannot be printed"),
     ([Unprintable()], "[a value of type Unprintable that cannot be printed]"), (Untold(), "Untold()"),
     (endless_list(), "[1, [1, [1, [1, [...]]]]]"),
     (torch.empty(2, device="meta"), "tensor(..., device='meta', size=(2,))")],
    ids=["5001 digits", "no repr", "in a list", "no tolist", "holds itself", "meta"],
)  # fmt: skip
def test_everything_can_be_shown(value, words):
    assert show_value(value) == words

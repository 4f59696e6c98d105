"""An answer is right whatever type holds it, and wrong when only its looks are right."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from classroom.checking.answers import AnyOrder, AtMost, Close, Exact, Fields, Report, show_short, show_value


@pytest.mark.parametrize(
    ("expected", "got"),
    [(1.0, 1), (1.0, np.float16(1)), (1.0, torch.tensor(1.0)), (math.nan, np.float32("nan")), (0.0, -0.0),
     ((1.0, 2.0), [1, np.float64(2)]), ([1.0, 2.0], torch.tensor([1.0, 2.0])), ([1.0], np.array([1.0])),
     (torch.float16, torch.float16)],
)  # fmt: skip
def test_same(expected, got):
    assert Exact().right(expected, got)


@pytest.mark.parametrize(
    ("expected", "got"),
    [(1.0, None), (1.0, "1.0"), (1.0, ...), (1.0, [1.0]), ([1.0], 1.0), ([1.0], [1.0, 2.0]), (1, True),
     (1.0, 1 + 0j), (math.nan, 1.0), (torch.float16, torch.bfloat16), (1.0, torch.ones(2))],
)  # fmt: skip
def test_not_same(expected, got):
    assert not Exact().right(expected, got)


def test_bits_tell_zeros_apart():
    bits = Exact(bitwise=True)
    assert not bits.right(0.0, -0.0)
    assert bits.right([-0.0, math.nan], [-0.0, math.nan])


@pytest.mark.parametrize(
    ("expected", "got", "right"),
    [(1.0, 1 + 1e-7, True), (1.0, 1 + 1e-5, False), (0.0, 1e-9, True), (0.5, Fraction(1, 2), True),
     (math.nan, math.nan, True), (math.nan, 1.0, False), (1.0, math.nan, False), (1.0, True, False),
     (1.0, None, False), (None, None, True), (None, 0.0, False), ("memory", " Memory ", True),
     ((2.0, "memory"), [2, "Memory"], True), ((2.0, "memory"), (2.0, "compute"), False),
     ([1.0, [2.0, 3.0]], np.array([1.0, 2.0]), False), ([[1.0, 2.0]], torch.tensor([[1.0, 2.0]]), True),
     ({"a": 0.5}, {"a": 0.5, "b": 0.0}, True), ({"a": 0.5, "b": 0.0}, {"a": 0.5}, True),
     ({"a": 0.5}, {"a": 0.5, "b": 0.1}, False), ({"a": 0.5}, 0.5, False)],
)  # fmt: skip
def test_close(expected, got, right):
    assert Close(1e-6, 1e-8).right(expected, got) == right


def test_a_number_at_most_is_right_but_a_mistakes_number_is_met():
    kind = AtMost()
    assert kind.right(5, 4) and kind.right(5, np.int64(5)) and not kind.right(5, 6)
    assert kind.alike(8, 8) and not kind.alike(8, 7)
    assert not kind.right(5, None) and not kind.right(5, True)


@pytest.mark.parametrize(
    ("expected", "got", "right"),
    [(("a", "b"), {"b", "a"}, True), (("a", "b"), ["b", "a"], True), (("a",), ("a", "a"), False),
     ((), [], True), (None, None, True), (None, [], False), ((), None, False), (("a", "a"), ("a", "b"), False)],
)  # fmt: skip
def test_any_order(expected, got, right):
    assert AnyOrder().right(expected, got) == right


def test_any_order_of_numbers():
    assert AnyOrder(Close(1e-3)).right([1.0, 2.0], torch.tensor([2.0001, 1.0]))


def test_fields_have_kinds_and_names():
    kind = Fields(peak=Close(1e-3), phase=Exact(), shares=Close(1e-3, show=show_short))
    right = (10, "backward", {"weights": 1 / 3})
    assert kind.right(right, [10.001, "Backward", {"weights": 0.3333, "gradients": 0}])
    assert not kind.right(right, (10, "forward", {"weights": 1 / 3}))
    assert not kind.right(right, (10, "backward")) and not kind.right(right, 10)
    assert kind.show(right) == "peak 10; phase 'backward'; shares {weights: 0.3333}"
    assert kind.show(7) == "7"


def test_a_part_of_a_mistake_may_be_anything():
    kind = Fields(peak=Close(), phase=Exact())
    assert kind.alike((10, ...), (10, "whatever")) and not kind.alike((10, ...), (11, "whatever"))
    assert not kind.right((10, "forward"), (10, ...))


def test_reports_of_one_fault_are_alike():
    kind = Report()
    assert kind.alike("too much padding: 7", "too much padding: 9")
    assert not kind.right("too much padding: 7", "too much padding: 9")
    assert not kind.alike("too much padding: 7", "too many rows: 7") and not kind.alike("a", None)


def test_long_lists_are_cut():
    assert show_value(list(range(100))) == "[0, 1, 2, 3, 4, 5, 6, 7, ... 100 in all]"
    assert show_value((1.0, np.float32(2))) == "(1.0, 2.0)"


def test_first_difference_of_what_is_no_list():
    assert Exact().first_difference(1.0, 2.0) == ("", 1.0, 2.0)


def test_first_difference_of_lists():
    assert Close(1e-3).first_difference([1.0, 2.0], [1.0001, 3.0]) == ("[1]", 2.0, 3.0)
    assert AnyOrder().first_difference([1.0, 2.0], [3.0, 1.0])[0] == "", "places mean nothing"


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

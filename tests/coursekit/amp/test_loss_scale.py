"""The rule of the loss scale, held against torch's kernel for it."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.amp.loss_scale import LossScale, float32


def by_torch(start, growth, backoff, interval, found):
    """Scales after each iteration, by the kernel of torch.amp.GradScaler."""
    scale, tracker = torch.tensor(start), torch.zeros((), dtype=torch.int32)
    scales = []
    for found_inf in found:
        flag = torch.tensor(float(found_inf))
        torch._amp_update_scale_(scale, tracker, flag, growth, backoff, interval)
        scales.append(scale.item())
    return scales


@pytest.mark.parametrize(
    ("share", "start", "growth", "backoff", "interval"),
    [
        (0.01, 65536.0, 2.0, 0.5, 100),
        (0.2, 3.0, 1.7, 0.3, 4),
        (0.0, 1.0, 2.0, 0.5, 3),  # grows until FP32 ends, and stays there
        (1.0, 65536.0, 2.0, 0.5, 3),  # shrinks through the subnormal numbers to 0
    ],
)
def test_10000_iterations_equal_torch(share, start, growth, backoff, interval):
    dice = random.Random(0)
    found = [dice.random() < share for _ in range(10_000)]
    rule = LossScale(start, growth, backoff, interval)
    assert [rule.update(f) for f in found] == by_torch(start, growth, backoff, interval, found)


@settings(max_examples=100, deadline=None)
@given(
    found=st.lists(st.booleans(), max_size=60),
    start=st.floats(2.0**-140, 2.0**127),
    growth=st.floats(1.001, 1e10),
    backoff=st.floats(1e-10, 0.999),
    interval=st.integers(1, 6),
)
def test_any_settings_equal_torch(found, start, growth, backoff, interval):
    rule = LossScale(start, growth, backoff, interval)
    assert [rule.update(f) for f in found] == by_torch(start, growth, backoff, interval, found)


def test_the_ends_are_the_largest_power_of_two_and_zero():
    up, down = LossScale(growth_interval=1), LossScale()
    assert [up.update(False) for _ in range(300)][-1] == 2.0**127
    assert [down.update(True) for _ in range(300)][-1] == 0.0


def test_a_static_scale_stays():
    rule = LossScale(128.0, growth_interval=None)
    assert {rule.update(found_inf) for found_inf in (True, False) * 3000} == {128.0}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("scale", 0.0),
        ("scale", -1.0),
        ("scale", math.inf),
        ("scale", math.nan),
        ("growth_factor", 1.0),
        ("growth_factor", math.nan),
        ("backoff_factor", 1.0),
        ("backoff_factor", 0.0),
        ("growth_interval", 0),
    ],
)
def test_settings_that_cannot_work_are_refused(setting, value):
    with pytest.raises(ValueError, match=f"{setting} must .* got {value}"):
        LossScale(**{setting: value})


def test_the_scale_is_an_fp32_number():
    assert LossScale(0.1).scale == float32(0.1) == torch.tensor(0.1).item() != 0.1

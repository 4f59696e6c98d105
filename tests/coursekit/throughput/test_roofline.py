"""The roof by hand, the counts by their definition, and real operations that stay below the roof."""

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from coursekit.throughput import roofline
from coursekit.throughput.meter import in_turns
from coursekit.throughput.roofline import Operation, Roof, measured_points

POSITIVE = st.floats(1e-3, 1e15)


@given(POSITIVE, POSITIVE, st.floats(1e-6, 1e6))
def test_the_roof_is_the_lower_of_two_lines(peak, bandwidth, intensity):
    roof = Roof(peak, bandwidth)
    assert roof.attainable(intensity) == min(peak, bandwidth * intensity)
    assert roof.attainable(roof.ridge) == pytest.approx(peak)
    assert roof.bound(intensity) == ("memory" if intensity < peak / bandwidth else "compute")


@pytest.mark.parametrize("wrong", [(0, 1), (1, -1), (float("nan"), 1)])
def test_a_roof_needs_two_numbers_above_zero(wrong):
    with pytest.raises(ValueError, match="peak and bandwidth must be above 0"):
        Roof(*wrong)


def test_a_product_counts_what_torch_counts():
    operation = roofline.matmul(48)
    with FlopCounterMode(display=False) as counts:
        operation.run()
    assert operation.flops == counts.get_total_flops() == 2 * 48**3
    assert operation.nbytes == 3 * 48 * 48 * 4
    assert roofline.matmul(48, torch.bfloat16).intensity == 2 * operation.intensity


@pytest.mark.parametrize(
    ("operation", "flops", "nbytes"),
    [
        (roofline.rms_norm(4, 8), 4 * 32, 2 * 32 * 4 + 32),
        (roofline.softmax(4, 8), 5 * 32, 2 * 32 * 4),
        (
            roofline.adam_step(10),
            140,
            7 * 40,
        ),  # reads weight, gradient, two moments; writes all but the gradient
        (roofline.decode(16), 2 * 256, (256 + 32) * 4),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_counts_by_hand(operation, flops, nbytes):
    operation.run()
    assert (operation.flops, operation.nbytes) == (flops, nbytes)
    assert operation.intensity == flops / nbytes


def test_a_point_is_flops_over_time():
    """An operation that sleeps for 2 ms."""
    (point,) = measured_points(
        [Operation("nap", 1000, 500, lambda: time.sleep(0.002))], Roof(1e6, 1e6), rounds=3
    )
    assert point.intensity == 2 and point.bound == "compute"
    assert 50_000 < point.flops_per_second <= 500_000
    assert point.share == pytest.approx(point.flops_per_second / 1e6)


def test_this_machine_stands_below_its_roof():
    """Large products reach a good part of the peak; what streams through memory does not come near it."""
    roof = roofline.measure_roof(rounds=3)
    product, adam = measured_points([roofline.matmul(768), roofline.adam_step(2**22)], roof, rounds=5)
    assert product.bound == "compute" and adam.bound == "memory"
    assert 0.2 < product.share < 1.5  # the machine does other work too, so neither figure is firm
    assert adam.flops_per_second < 0.25 * roof.peak_flops
    assert 0.05 < adam.share < 3  # above 1 where a cache holds the weights


def test_bandwidth_is_no_less_than_that_of_a_copy():
    """numpy copies the same amount at the same time; the machine does other work too, hence a third."""
    import numpy as np

    a, b = np.zeros((2, 2**23), dtype=np.float32)
    seconds = min(in_turns({"copy": lambda: np.copyto(a, b)}, 5)["copy"].seconds)
    assert roofline.memory_bandwidth(rounds=5) > 2 * a.nbytes / seconds / 3


def test_a_dtype_that_cannot_be_multiplied_gets_a_sentence():
    with pytest.raises(ValueError, match=r"cpu cannot multiply matrices of torch\.bool"):
        roofline.peak_flops(torch.bool, sizes=(8,))


def test_all_operations_run():
    for operation in roofline.sample_operations():
        operation.run()

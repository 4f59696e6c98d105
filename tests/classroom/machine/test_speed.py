"""Formats are timed on the spot, quickly, and judged beside FP32."""

import time

import pytest
import torch

from classroom.machine import speed


def test_measuring_is_quick_and_leaves_torch_as_it_was():
    threads = torch.get_num_threads()
    start = time.process_time()
    speed.measure_speeds("cpu", budget_seconds=0.02)
    assert time.process_time() - start < 5
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.5, "fast: 2.0x FP32"),
        (1.1, "as FP32 (0.91x)"),
        (50.0, "slow: 50x slower than FP32"),
        (None, "not available"),
    ],
)
def test_a_format_is_judged_beside_fp32(seconds, words):
    fp32 = speed.Speed("FP32", 192, 1.0)
    assert speed.verdict(speed.Speed("FP16", 192, seconds), fp32) == words
    assert speed.verdict(fp32, fp32) == "the yardstick"
    refused = speed.Speed("FP32", 192, None)
    assert speed.verdict(speed.Speed("FP16", 192, seconds), refused) == "not available"


def test_a_product_of_n_by_n_is_two_n_cubed_operations():
    assert speed.Speed("FP32", 1000, 1.0).gflops == 2.0

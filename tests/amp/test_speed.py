"""Ours against torch's kernel, in turns, in one run: half of the benchmark's goal must be there on any machine."""

import time

import pytest
import torch

from coursekit.amp.unscale import unscale_and_check


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_unscaling_against_torch_s_kernel(one_thread):
    """Goal: at most 2.5 times as long."""
    ours, theirs = ([torch.randn(1 << 17) for _ in range(24)] for _ in range(2))
    found, one = torch.zeros(()), torch.ones(())

    def native():
        torch._amp_foreach_non_finite_check_and_unscale_(theirs, found, one)

    contestants = {"ours": lambda: unscale_and_check(ours, 1.0), "native": native}
    seconds = dict.fromkeys(contestants, float("inf"))
    for _ in range(15):
        for name, contestant in contestants.items():
            begin = time.perf_counter()
            contestant()
            seconds[name] = min(seconds[name], time.perf_counter() - begin)
    assert seconds["ours"] < 5 * seconds["native"]

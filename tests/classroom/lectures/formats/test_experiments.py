"""Sums are numpy's; the network learns, gives the same numbers twice, and what a format flushes is counted right."""

import numpy as np
import pytest
import torch

from classroom.lectures.formats.experiments import accumulated, flushed, train_briefly
from coursekit.formats.spec import BF16, E4M3, FP16


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_partial_sums_equal_numpys_cumsum(dtype):
    draws, sums = accumulated(seed=3, numbers=500)
    name = f"FP{8 * dtype().itemsize} accumulator"
    theirs = np.cumsum(draws.numpy().astype(np.float16), dtype=dtype)
    assert np.array_equal(sums[name].numpy(), theirs.astype(float))


@pytest.fixture(scope="module")
def samples():
    return train_briefly(seed=0)


def test_each_kind_of_number_is_there(samples):
    assert list(samples) == ["weights", "activations", "gradients"]
    assert all(values.ndim == 1 for values in samples.values())
    assert all(values.numel() > 50_000 and values.isfinite().all() for values in samples.values())


def test_gradients_are_smaller_than_weights(samples):
    """Half of them are fifty times smaller: this is what the slide shows."""
    assert samples["gradients"].abs().median() < samples["weights"].abs().median() / 50


def test_flushed_counts_what_a_cast_turns_to_zero(samples):
    """torch's own cast, on every gradient that is not zero."""
    gradients = samples["gradients"][samples["gradients"] != 0]
    for fmt, dtype in ((FP16, torch.float16), (BF16, torch.bfloat16), (E4M3, torch.float8_e4m3fn)):
        by_torch = (gradients.to(dtype).float() == 0).double().mean().item()
        assert flushed(samples["gradients"], fmt) == pytest.approx(by_torch)


def test_zeros_are_left_out():
    assert flushed(torch.tensor([0.0, 0.0, 1.0, 1e-9]), FP16) == 0.5


def test_the_number_of_threads_is_left_as_it_was(samples):
    """Training sets it to one, and gives it back."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    assert train_briefly(seed=0)["gradients"].equal(samples["gradients"]) and torch.get_num_threads() == 2
    torch.set_num_threads(before)

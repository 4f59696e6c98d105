"""The network behind the histograms learns, gives the same numbers twice, and what it flushes is counted right."""

import pytest
import torch

from classroom.lectures.formats.experiments import flushed, train_briefly
from coursekit.formats.spec import BF16, E4M3, FP16


@pytest.fixture(scope="module")
def samples():
    return train_briefly(seed=0)


def test_each_kind_of_number_is_there(samples):
    assert {name: values.ndim for name, values in samples.items()} == {
        "weights": 1,
        "activations": 1,
        "gradients": 1,
    }
    assert all(values.numel() > 50_000 and values.isfinite().all() for values in samples.values())


def test_gradients_are_smaller_than_weights(samples):
    """The finding that the slide shows."""
    assert samples["gradients"].abs().median() < samples["weights"].abs().median() / 50


def test_flushed_counts_what_a_cast_turns_to_zero(samples):
    """torch's own cast, on every gradient that is not zero."""
    gradients = samples["gradients"][samples["gradients"] != 0]
    for fmt, dtype in ((FP16, torch.float16), (BF16, torch.bfloat16), (E4M3, torch.float8_e4m3fn)):
        assert flushed(samples["gradients"], fmt) == pytest.approx(
            (gradients.to(dtype).float() == 0).double().mean().item()
        )


def test_zeros_are_left_out():
    assert flushed(torch.tensor([0.0, 0.0, 1.0, 1e-9]), FP16) == 0.5


def test_the_number_of_threads_is_left_as_it_was(samples):
    """Training sets it to one, and gives it back."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    assert train_briefly(seed=0)["gradients"].equal(samples["gradients"]) and torch.get_num_threads() == 2
    torch.set_num_threads(before)

"""The recipes on the embedded model: what fails must fail, and the cures must follow FP32."""

import math

import pytest
import torch

from classroom.lectures.amp import experiments
from classroom.lectures.amp.experiments import PRECISION_RECIPES, train_with_precision
from coursekit.amp import grad_stats
from coursekit.formats.spec import E4M3

STEPS, SIZE, RATE = 14, 4, 4e-5


@pytest.fixture(scope="module")
def runs():
    """name -> PrecisionRun, each run once; one thread, since two test processes share the cores."""
    threads, done = torch.get_num_threads(), {}
    torch.set_num_threads(1)

    def run(name):
        if name not in done:
            done[name] = train_with_precision(PRECISION_RECIPES[name], steps=STEPS, size=SIZE, rate=RATE)
        return done[name]

    yield run
    torch.set_num_threads(threads)


def learned(run):
    """By how much the loss fell below that of FP32's first step."""
    return run.losses[0] - run.losses[-1]


def test_fp16_alone_diverges_after_one_step(runs):
    """Adam's epsilon and its squared gradients are zero in FP16: 0/0."""
    losses = runs("FP16 only").losses
    assert len(losses) == 2 and math.isfinite(losses[0]) and math.isnan(losses[1])


@pytest.mark.parametrize("name", ["FP16 + master + scaling", "FP16 autocast + scaling", "BF16 autocast"])
def test_the_cures_follow_fp32(runs, name):
    fp32, cured = runs("FP32"), runs(name)
    assert learned(fp32) > 0.5
    assert cured.losses == pytest.approx(fp32.losses, rel=0.05)


@pytest.mark.parametrize("name", ["FP16 + master", "FP16 autocast", "BF16 only"])
def test_half_of_a_cure_learns_less_than_half(runs, name):
    """Without scaling the gradients die, whatever the weights; without masters BF16 swallows the updates."""
    assert learned(runs(name)) < learned(runs("FP32")) / 2


def test_bytes_held_are_those_of_the_recipe(runs):
    """Per parameter: weights, gradients, masters, Adam's two states."""
    numbers = 3_213_568
    ledgers = {
        "FP32": (4, 4, 0, 8),
        "FP16 + master + scaling": (2, 4, 4, 8),
        "FP16 autocast + scaling": (4, 4, 0, 8),  # autocast changes no tensor that stays
        "BF16 only": (2, 2, 0, 4),
    }
    held = {name: tuple(b / numbers for b in runs(name).nbytes.values()) for name in ledgers}
    assert held == ledgers


def test_a_scale_that_is_too_large_skips_steps_until_it_fits():
    torch.set_num_threads(1)
    run = train_with_precision(
        PRECISION_RECIPES["FP16 autocast + scaling"], steps=5, size=2, init_scale=2.0**40, growth_interval=100
    )
    assert run.skipped >= 3
    assert list(run.scales[:3]) == [2.0**40, 2.0**39, 2.0**38]
    assert all(math.isfinite(loss) for loss in run.losses)


def test_a_ledger_is_bytes_held_over_parameters(runs):
    held = runs("BF16 only").nbytes
    assert experiments.bytes_per_parameter(PRECISION_RECIPES["BF16 only"]) == {
        kind: size / 3_213_568 for kind, size in held.items()
    }


def test_clipping_too_early_leaves_almost_nothing():
    """In the right order 0.5 is below the limit 1; too early, 32768 is cut to 1 and then divided by 65536."""
    assert experiments.norm_after_clipping(too_early=False) == 0.5
    assert experiments.norm_after_clipping(too_early=True) == pytest.approx(1 / 65536, rel=1e-4)


def test_most_bf16_weights_do_not_move():
    assert 0.8 < experiments.unmoved_share(steps=1) < 1


@pytest.fixture(scope="module")
def sample():
    """(model, batch, gradients) at two divisors."""
    model, batch = experiments.model_and_batch()
    return [experiments.gradients(model, batch, batch_tokens=2.0**k) for k in (22, 12)]


def test_the_divisor_is_a_factor_of_activation_gradients(sample):
    """Backward is linear, and powers of two are exact in FP32."""
    large, small = (gradients.kinds()["gradients of activations"] for gradients in sample)
    assert torch.equal(large * 2.0**10, small)


def test_the_safe_scale_is_the_largest_without_overflow(sample):
    gradients, _ = sample
    largest = max(values.abs().max() for values in gradients.kinds().values())
    safe = gradients.safe_scale()
    assert largest * safe <= 65504 < largest * 2 * safe


def test_flushed_shares_are_those_of_the_scaled_gradients(sample):
    tensors = list(sample[0].by_activation.values())
    ways = experiments.flushed_with_scales(tensors, E4M3)
    assert ways["unscaled"] == grad_stats.overall(tensors, E4M3)
    assert ways["a scale per tensor"].zero < ways["one scale"].zero < ways["unscaled"].zero
    assert ways["a scale per tensor"].overflow == 0


@pytest.mark.gpu
def test_the_cures_follow_fp32_on_a_gpu():
    fp32, *cured = (
        train_with_precision(PRECISION_RECIPES[name], steps=STEPS, size=SIZE, rate=RATE, device="cuda")
        for name in ("FP32", "FP16 + master + scaling", "FP16 autocast + scaling", "BF16 autocast")
    )
    for run in cured:
        assert run.losses == pytest.approx(fp32.losses, rel=0.05)

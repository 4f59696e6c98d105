"""The recipes on the embedded model: what fails must fail, and the cures must follow FP32."""

import math

import pytest
import torch

from classroom.lectures.amp.experiments import PRECISION_RECIPES, train_with_precision

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


@pytest.mark.gpu
def test_the_cures_follow_fp32_on_a_gpu():
    fp32, *cured = (
        train_with_precision(PRECISION_RECIPES[name], steps=STEPS, size=SIZE, rate=RATE, device="cuda")
        for name in ("FP32", "FP16 + master + scaling", "FP16 autocast + scaling", "BF16 autocast")
    )
    for run in cured:
        assert run.losses == pytest.approx(fp32.losses, rel=0.05)

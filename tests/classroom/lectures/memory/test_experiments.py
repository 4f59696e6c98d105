"""Experiments of lecture 3: gradients and blocks equal what they stand for; each optimizer learns with states of the
planned size."""

import math

import pytest
import torch

from classroom.lectures.memory import experiments
from classroom.lectures.memory.experiments import OPTIMIZER_RECIPES, OptimizerRecipe, train_with_optimizer
from classroom.models.load import load
from coursekit.memory.architecture import architecture_of
from coursekit.memory.checkpoint import checkpoint
from coursekit.memory.ledger import OPTIMIZERS
from coursekit.memory.planner import Plan, estimate
from coursekit.training import targets

SIZE = 4


@pytest.fixture(scope="module")
def runs():
    """name -> OptimizerRun of 12 steps, each run once; one thread, since two test processes share the cores."""
    threads, done = torch.get_num_threads(), {}
    torch.set_num_threads(1)

    def run(name):
        if name not in done:
            done[name] = train_with_optimizer(name, steps=12, size=SIZE)
        return done[name]

    yield run
    torch.set_num_threads(threads)


def planned(name, **changes):
    return estimate(
        Plan("tiny", ledger="fp32", optimizer=OPTIMIZER_RECIPES[name].planned, device="cpu", **changes)
    )


@pytest.mark.parametrize("name", OPTIMIZER_RECIPES)
def test_the_loss_falls(runs, name):
    losses = runs(name).losses
    assert len(losses) == 12 and all(map(math.isfinite, losses))
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


def test_all_start_from_the_same_weights_and_batches(runs):
    assert len({runs(name).losses[0] for name in OPTIMIZER_RECIPES}) == 1


def test_eight_bits_follow_thirty_two(runs):
    assert runs("8-bit AdamW").losses == pytest.approx(runs("AdamW").losses, rel=0.1)


@pytest.mark.parametrize("name", OPTIMIZER_RECIPES)
def test_states_have_the_bytes_of_the_plan(runs, name):
    """Except the counts of the steps: 4 bytes per tensor in torch and in the plan, a plain number in the course's."""
    expected = planned(name).phases["optimizer step"]["optimizer states"]
    counters = 4 * 38 if name in ("AdamW", "Adafactor") else 0
    assert runs(name).state_bytes == expected - counters


def test_bytes_of_the_states_by_hand(runs):
    """3,213,568 parameters: 8 bytes each with AdamW, 2 and 8/256 of the large ones with 8 bits, none with SGD."""
    assert runs("SGD").state_bytes == 0
    assert runs("AdamW").state_bytes == 8 * 3_213_568
    norms = 9 * 256
    large = 3_213_568 - norms
    assert runs("8-bit AdamW").state_bytes == 2 * large + 8 * large // 256 + 8 * norms
    assert runs("Adafactor").state_bytes < runs("AdamW").state_bytes / 100


def test_fewer_states_make_a_lower_peak(runs):
    peaks = {name: runs(name).peak_bytes for name in OPTIMIZER_RECIPES}
    assert peaks["AdamW"] == max(peaks.values())
    assert peaks["AdamW"] - peaks["8-bit AdamW"] > 0.5 * (
        runs("AdamW").state_bytes - runs("8-bit AdamW").state_bytes
    )
    assert all(peaks[name] > 4 * 3_213_568 + runs(name).state_bytes for name in OPTIMIZER_RECIPES)


def test_the_same_twice_and_steps_are_told():
    told = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        first, second = (
            train_with_optimizer("AdamW", steps=3, size=2, on_step=told.append) for _ in range(2)
        )
    finally:
        torch.set_num_threads(threads)
    assert first.losses == second.losses and [step.loss for step in told] == [*first.losses, *second.losses]
    assert first.seconds > 0


def test_every_recipe_is_planned_under_a_name_of_the_ledger():
    assert all(recipe.planned in OPTIMIZERS for recipe in OPTIMIZER_RECIPES.values())


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="one of SGD, AdamW, 8-bit AdamW, Adafactor; got 'Lion'"):
        train_with_optimizer("Lion")


def test_a_recipe_that_does_not_step_would_be_caught(runs, monkeypatch):
    class Still(torch.optim.SGD):
        """Wrong: moves nothing."""

        def step(self, closure=None):
            return None

    monkeypatch.setitem(OPTIMIZER_RECIPES, "still", OptimizerRecipe("still", "sgd", 1e-3, Still))
    losses = runs("still").losses
    assert not sum(losses[-3:]) < 0.9 * sum(losses[:3])


@pytest.mark.gpu
def test_on_a_gpu():
    for name in OPTIMIZER_RECIPES:
        run = train_with_optimizer(name, steps=12, size=SIZE, device="cuda")
        assert sum(run.losses[-3:]) < 0.9 * sum(run.losses[:3])


@pytest.fixture(scope="module")
def model():
    return load("tiny", device="cpu")


def test_the_gradient_weighted_by_tokens_is_that_of_the_whole_batch(model):
    """And the mean of means, with 1/2 for each micro-batch, is far from it."""
    network, tokenizer = model
    micro, both = experiments.unequal_micro_batches(tokenizer)
    counts = [targets(part) for part in micro]
    _, whole = experiments.weighted_gradient(network, [both], [1])
    _, right = experiments.weighted_gradient(network, micro, [n / sum(counts) for n in counts])
    _, naive = experiments.weighted_gradient(network, micro, [1 / 2, 1 / 2])
    assert counts[0] < counts[1]
    assert (right - whole).norm() < 1e-5 * whole.norm() < 1e-2 * (naive - whole).norm()


def test_a_block_alone_is_the_block_in_the_model(model):
    """Its graph holds less with checkpointing, for the same gradients."""
    network, _ = model
    block = experiments.OneBlock(network)
    plain_bytes, plain = experiments.kept_and_gradient(block, block)
    kept_bytes, again = experiments.kept_and_gradient(block, lambda x: checkpoint(block, x))
    assert kept_bytes == 4 * 4 * 64 * network.config.hidden_size < plain_bytes
    assert torch.equal(plain, again)


def test_with_sdpa_a_token_keeps_the_same_bytes():
    """Llama-3-8B: 49 bytes per s·b·h at any length; eager attention adds 5 bytes for 128 / 4,096 of the scores."""
    curves = experiments.block_curves(architecture_of("llama-3-8b"), [128, 256])
    assert curves["Llama block, sdpa"] == pytest.approx([49.0, 49.0], abs=0.1)
    assert curves["Llama block, eager"] == pytest.approx([58.0, 64.0], abs=0.1)
    assert curves["GPT formula"] == [34 + 5 * 32 * s / 4096 for s in (128, 256)]


def test_a_square_rounds_to_zero_before_its_root_does():
    rounded = experiments.plainly_rounded_states()
    assert rounded.v8 == 0.0 < rounded.v and rounded.m8 == pytest.approx(rounded.m, rel=0.2)
    assert rounded.update > 10_000
    assert experiments.plainly_rounded_states(small=1.0).update == pytest.approx(1.0, rel=0.05)


def test_no_update_of_the_8_bit_adamw_is_longer_than_one_of_adamw():
    assert 1 <= experiments.longest_update(20) < 10


def test_zero_divides_sixteen_bytes():
    """The paper's figure 1: 120, 31.4, 16.6 and 1.9 GB."""
    sizes = [size / 1e9 for _, size in experiments.zero_bytes(7.5e9, 64).values()]
    assert sizes == pytest.approx([120, 31.4, 16.6, 1.9], abs=0.05)


def test_an_adapter_is_not_counted_with_the_frozen_weights():
    """NF4 with and without an adapter has the same base."""
    base = Plan("tiny", quantization="nf4", lora_rank=16)
    more = Plan("tiny", quantization="nf4", lora_rank=64)
    assert experiments.frozen_weight_bytes(base) == experiments.frozen_weight_bytes(more) > 0

"""The optimizers' recipes on the embedded model: each learns, and its states have the bytes that the planner says."""

import math

import pytest
import torch

from classroom.lectures.memory.experiments import OPTIMIZER_RECIPES, OptimizerRecipe, train_with_optimizer
from coursekit.memory.ledger import OPTIMIZERS
from coursekit.memory.planner import Plan, estimate

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
    """But for the counts of the steps: 4 bytes a tensor in torch and in the plan, a plain number in the course's."""
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

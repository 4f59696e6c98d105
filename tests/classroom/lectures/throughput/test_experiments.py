"""Every way of doing a step does the same step; only the time may differ."""

import pytest
import torch

from classroom.lectures.throughput import experiments
from classroom.lectures.throughput.experiments import TrainStep, conversations, padded_bucketed_packed
from coursekit.throughput.syncs import SyncCounter
from coursekit.training import targets


@pytest.fixture(scope="module")
def batches():
    from classroom.models.load import load

    return experiments.default_batches(load("tiny", device="cpu")[1], size=2, count=2)


def weights_after(steps, batches, **kwargs):
    step = TrainStep(batches, **kwargs)
    losses = [float(step()) for _ in range(steps)]
    return losses, torch.cat([p.detach().flatten() for p in step.model.parameters()])


@pytest.fixture(scope="module")
def reference(batches):
    return weights_after(3, batches)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"attention": "eager"}, {"optimizer": "for-loop"}, {"optimizer": "fused"}, {"set_to_none": False},
        {"item_every": 1},
    ],
    ids=str,
)  # fmt: skip
def test_all_variants_train_alike(reference, batches, kwargs):
    """Same losses and weights after three steps, to the order of float32's sums.

    Adam divides by the root of tiny squares, so that a weight whose gradient is noise may go the other way.
    """
    losses, weights = weights_after(3, batches, **kwargs)
    assert losses == pytest.approx(reference[0], rel=1e-4)
    assert (weights - reference[1]).abs().max() <= 6.1e-5  # 3 steps of at most 1e-5, twice
    assert (weights - reference[1]).norm() < 1e-5 * weights.norm()


@pytest.mark.parametrize(("every", "waits"), [(1, 4), (2, 2), (0, 0)])
def test_asking_waits_as_often_as_it_says(batches, every, waits):
    step = TrainStep(batches, item_every=every)
    step()
    step.number = 0
    with SyncCounter("cpu") as watch:
        for _ in range(4):
            step()
    own = [sync for sync in watch.per_step() if sync.call == "item"]
    assert sum(sync.count for sync in own) == waits


def test_the_three_batchings_hold_the_same_tokens():
    """Targets and steps are the same in all; buckets and rows need fewer slots than padding as it comes."""
    tokenizer, rows = conversations(48, most=5)
    found = padded_bucketed_packed(tokenizer, rows, size=8)
    assert len({sum(map(targets, batches)) for batches in found.values()}) == 1
    slots = {name: sum(b["input_ids"].numel() for b in batches) for name, batches in found.items()}
    assert len({len(batches) for batches in found.values()}) == 1
    assert max(slots["bucketed"], slots["packed"]) < slots["padded"]
    assert sum(len(ids) for ids, _ in rows) <= min(slots.values())


def test_loading_loses_no_text():
    """With and without helper processes."""
    epochs = experiments.loading_epochs(workers=(0, 1), count=20, size=8)
    assert {name: epoch() for name, epoch in epochs.items()} == {"0 workers": 20, "1 workers": 20}


def test_contestants_run_and_are_timed(batches):
    races = (experiments.attention_steps(), experiments.zero_grad(), experiments.item_steps(2), experiments.optimizer_steps())
    assert [list(contestants) for contestants in races] == [
        ["eager", "sdpa"],
        ["set_to_none", "zeros"],
        ["item() every step", "item() every 2", "never"],
        ["for-loop", "foreach", "fused"],
    ]
    timings = experiments.race(experiments.made_on("cpu", (4, 4)), rounds=2, warmup=0)
    assert all(timing.median > 0 for timing in timings.values())
    for step in experiments.optimizer_steps().values():
        step()


def test_compiled_trains_alike(reference, batches):
    """Where there is a compiler; elsewhere the reason is given."""
    if experiments.no_compiler():
        with pytest.raises(RuntimeError, match="no compiler"):
            experiments.compiled_steps()
        return
    losses, weights = weights_after(3, batches, compiled=True)
    assert losses == pytest.approx(reference[0], rel=1e-4)
    assert (weights - reference[1]).norm() < 1e-5 * weights.norm()


def test_without_a_compiler_there_is_a_reason(monkeypatch):
    monkeypatch.setattr(experiments.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="there is no compiler"):
        experiments.compiled_steps()
    assert experiments.no_compiler("cuda") == ""
    monkeypatch.setattr(experiments.shutil, "which", lambda name: name)
    assert experiments.no_compiler() == ""

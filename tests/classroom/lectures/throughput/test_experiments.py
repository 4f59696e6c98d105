"""Every way to do a step does the same step; only the time may differ."""

import pytest
import torch

from classroom.lectures.throughput import experiments
from classroom.lectures.throughput.experiments import TrainStep, conversations, padded_bucketed_packed
from classroom.models.load import load
from coursekit.throughput.meter import in_turns
from coursekit.throughput.packing import packed_batch
from coursekit.throughput.syncs import SyncCounter
from coursekit.training import targets


@pytest.fixture(scope="module")
def batches():
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
def test_all_ways_train_alike(reference, batches, kwargs):
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
    """Targets and steps are the same in all; buckets and rows need fewer slots than padding in random order."""
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
    races = (experiments.attention_steps(batches), experiments.item_steps(2), experiments.optimizer_steps())
    assert [list(contestants) for contestants in races] == [
        ["eager", "sdpa"],
        ["item() every step", "item() every 2", "never"],
        ["for-loop", "foreach", "fused"],
    ]
    epochs = experiments.batch_epochs({"two": batches, "one": batches[:1]})
    timings = in_turns(epochs, rounds=1, warmup=0)
    assert all(timing.median > 0 for timing in timings.values())
    assert {name: len(epoch()) for name, epoch in epochs.items()} == {"two": 2, "one": 1}
    for step in experiments.optimizer_steps().values():
        step()


@pytest.fixture
def one_block(monkeypatch):
    """The embedded model with one of its four blocks: the same code is compiled, and less of it."""

    def loaded(*args, **kwargs):
        model, tokenizer = load(*args, **kwargs)
        model.model.layers = model.model.layers[:1]
        model.config.num_hidden_layers = 1
        return model, tokenizer

    monkeypatch.setattr(experiments, "load", loaded)


def test_compiled_trains_alike(one_block, batches):
    """Where there is a compiler; elsewhere the reason is given."""
    if experiments.no_compiler():
        with pytest.raises(RuntimeError, match="no compiler"):
            experiments.compiled_steps()
        return
    losses, weights = weights_after(3, batches)
    compiled_losses, compiled_weights = weights_after(3, batches, compiled=True)
    assert compiled_losses == pytest.approx(losses, rel=1e-4)
    assert (compiled_weights - weights).norm() < 1e-5 * weights.norm()


def test_without_a_compiler_there_is_a_reason(monkeypatch):
    monkeypatch.setattr(experiments.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="there is no compiler"):
        experiments.compiled_steps()
    assert experiments.no_compiler("cuda") == ""
    monkeypatch.setattr(experiments.shutil, "which", lambda name: name)
    assert experiments.no_compiler() == ""


def test_a_loss_per_target_is_that_of_the_packed_batch():
    """A batch of few targets counts less: texts one at a time have the loss of the row that holds them."""
    model, _ = load("tiny", device="cpu")
    _, rows = conversations(3, most=3)
    together = experiments.loss_per_target(model, [packed_batch(rows, 256)])
    alone = experiments.loss_per_target(model, [packed_batch([text], 256) for text in rows])
    assert alone == pytest.approx(together, rel=1e-4)


def test_long_rows_have_no_padding():
    batch = experiments.four_long_rows(length=40)
    assert batch["input_ids"].shape == (4, 40) and batch["attention_mask"].all()
    assert targets(batch) == 4 * 39


def test_reading_the_loss_makes_the_toy_gpu_wait():
    """The same work in the same order; the GPU is idle longer."""
    queues = {read_loss: experiments.launch_queue(read_loss)[1] for read_loss in (False, True)}
    work = {read_loss: [box[1:] for box in boxes] for read_loss, boxes in queues.items()}
    assert work[False] == work[True]
    assert 0 < experiments.idle_share(queues[False]) < experiments.idle_share(queues[True]) < 1

"""The training loop: accumulation equals the whole batch, an interrupt loses nothing, NaN stops it in time."""

import itertools
import os
import signal
import threading
from types import SimpleNamespace

import pytest
import torch

from coursekit.training import IGNORED, Diverged, Training, interrupt_waits, targets, warmup_then_line


class Toy(torch.nn.Module):
    """Next-token prediction on 11 tokens, with the interface of a transformers model."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table, self.head = torch.nn.Embedding(11, 8), torch.nn.Linear(8, 11)

    def forward(self, input_ids, labels, **_):
        logits = self.head(self.table(input_ids))[:, :-1]
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED
        )
        return SimpleNamespace(loss=loss)


def batch(seed, rows=4, masked=0):
    ids = torch.randint(11, (rows, 9), generator=torch.Generator().manual_seed(seed))
    labels = ids.clone()
    labels[:, :masked] = IGNORED
    return {"input_ids": ids, "labels": labels}


def run(batches, steps, model=None):
    model = model or Toy()
    return Training(model, torch.optim.AdamW(model.parameters(), lr=0.01), iter(batches), steps)


def weights(training):
    return torch.cat([p.detach().flatten() for p in training.model.parameters()])


def test_accumulation_equals_the_whole_batch():
    """Micro-batches with 8 and 2 targets a row; weighting their means equally would not give this."""
    short, long = batch(1, masked=7), batch(2)
    whole = {key: torch.cat([short[key], long[key]]) for key in short}
    together, apart = run([whole], 1), run([[short, long]], 1)
    together.go(), apart.go()
    assert targets(short) != targets(long)
    assert apart.history[0].loss == pytest.approx(together.history[0].loss, rel=1e-6)
    assert torch.allclose(weights(apart), weights(together), atol=1e-6)


def test_it_equals_a_loop_of_torch():
    training = run((batch(k) for k in itertools.count()), 5)
    training.go()
    model = Toy()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for k in range(5):
        optimizer.zero_grad()
        model(**batch(k)).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert weights(training).equal(torch.cat([p.detach().flatten() for p in model.parameters()]))


def test_interrupted_and_continued_equals_uninterrupted():
    def stop_at_three(step):
        if step.number == 3:
            interrupt()

    training = run((batch(k) for k in itertools.count()), 8)
    assert training.go(stop_at_three) is False and len(training.history) == 3
    assert training.go() is True and [step.number for step in training.history] == list(range(1, 9))
    reference = run((batch(k) for k in itertools.count()), 8)
    reference.go()
    assert weights(training).equal(weights(reference))


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def test_a_later_interrupt_breaks_in(monkeypatch):
    clock = SimpleNamespace(monotonic=iter([10.0, 11.5]).__next__)
    monkeypatch.setattr("coursekit.training.time", clock)
    with pytest.raises(KeyboardInterrupt), interrupt_waits():
        interrupt()
        interrupt()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_double_click_on_stop_is_one_interrupt():
    with interrupt_waits() as stopped:
        interrupt()
        interrupt()
    assert stopped.is_set() and signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_runs_outside_the_main_thread():
    training = run((batch(k) for k in itertools.count()), 2)
    thread = threading.Thread(target=training.go)
    thread.start()
    thread.join()
    assert training.done


def state(training):
    """Every number that a step may change: weights and what the optimizer remembers."""
    moments = [t for states in training.optimizer.state.values() for t in states.values()]
    return [t.clone() for t in (*training.model.state_dict().values(), *moments)]


class Spoiled(Toy):
    """At the fourth step the loss is NaN, or it is fine and its gradient infinite."""

    def __init__(self, what):
        super().__init__()
        self.what, self.calls = what, 0

    def forward(self, **batch):
        self.calls += 1
        loss = super().forward(**batch).loss
        if self.calls == 4 and self.what == "loss":
            loss = loss * float("nan")
        if self.calls == 4 and self.what == "gradient":
            loss = loss + torch.sqrt(self.head.bias[0] - self.head.bias[0].detach())
        return SimpleNamespace(loss=loss)


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        (
            "loss",
            "the loss is nan at step 4; the weights are still those before it. Start again with a lower",
        ),
        (
            "gradient",
            "the norm of the gradient is (inf|nan) at step 4; the weights are still those before it",
        ),
    ],
)
def test_what_is_no_number_stops_before_the_update(what, complaint):
    """The step is named, three steps are kept, and no weight or moment has changed since."""
    training = run((batch(k) for k in itertools.count()), 6, Spoiled(what))
    kept = []

    def keep(step):
        kept[:] = state(training)

    with pytest.raises(Diverged, match=complaint):
        training.go(keep)
    assert len(training.history) == 3
    assert all(now.equal(then) for now, then in zip(state(training), kept, strict=True))


def test_with_a_scaler_an_infinite_gradient_is_a_step_left_out():
    training = run((batch(k) for k in itertools.count()), 6, Spoiled("gradient"))
    training.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    assert training.go() and training.scaler.get_scale() == 2.0


def test_a_batch_without_targets_is_refused():
    """Torch would give NaN, and the blame to the learning rate."""
    with pytest.raises(ValueError, match=r"no token of the batch of step 1 is a target: all labels are -100"):
        run([batch(0, masked=9)], 1).go()


def test_the_schedule_scales_the_learning_rate():
    training = run((batch(k) for k in itertools.count()), 4)
    training.schedule = warmup_then_line(4, warmup=2)
    training.go()
    assert [step.learning_rate for step in training.history] == pytest.approx([0.005, 0.0075, 0.005, 0.0025])


def test_the_scaler_is_asked_before_clipping():
    calls = []

    class Scaler:
        scale = staticmethod(lambda loss: calls.append("scale") or loss)
        unscale_ = staticmethod(lambda optimizer: calls.append("unscale"))
        step = staticmethod(lambda optimizer: calls.append("step"))
        update = staticmethod(lambda: calls.append("update"))

    training = run([batch(0)], 1)
    training.scaler = Scaler()
    training.go()
    assert calls == ["scale", "unscale", "step", "update"]

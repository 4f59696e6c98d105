"""The training loop of the course: the scaler, the optimizer, the schedule and the log are passed in.

    run = Training(model, optimizer, batches, steps=600)
    run.go(on_step=lambda step: print(step.loss))       # Ctrl-C, or the stop button, ends it after a whole step
    run.go(on_step=...)                                 # goes on where it stopped

`Training.one_step` is the loop's body; read that first. A step may consist of several micro-batches (gradient
accumulation). Their losses are weighted by their number of target tokens, so that the gradient is that of the whole
batch whatever the lengths; the mean of their means would not be.

What it leaves out: several processes (`distributed`), and saving (a `state_dict` is all there is to save).
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

DOUBLE_CLICK_SECONDS = 1.0
IGNORED = -100  # the label of a token that is not a target, as in torch's cross entropy


class Diverged(Exception):
    """The loss or its gradient is not a finite number; the weights are those of before the step."""


def constant(step: int) -> float:
    """Schedule: the learning rate never changes."""
    return 1.0


def do_nothing(*_) -> None:
    """What a hook does if none is given."""


@dataclass(frozen=True)
class Step:
    """What one optimizer step did."""

    number: int  # from 1
    loss: float  # mean over the target tokens of the step
    tokens: int  # target tokens of the step
    seconds: float
    learning_rate: float


@dataclass
class Training:
    """A run that can be stopped and continued.

    batches   endless iterator; an item is one micro-batch or a list of them, each a dict of int64 [batch, length]
              tensors with input_ids, attention_mask and labels (IGNORED where no target is)
    schedule  number of the step, from 0 -> factor on the optimizer's learning rates
    autocast  a context for the forward pass, for example torch.autocast("cpu", torch.bfloat16)
    scaler    torch.amp.GradScaler or coursekit's; None for none
    clip      largest norm of the gradient, None for no clipping; applied after the scaler has unscaled
    loss_tokens     the loss is divided by this number of target tokens; None: by those of the step. A larger number
                    makes the step one share of a larger batch. `Step.loss` is the mean of the step either way
    after_backward  called when all gradients of a step are there, for example to copy them to master weights
    after_step      called after the optimizer, also if the scaler left its step out
    """

    model: object
    optimizer: object
    batches: Iterator
    steps: int
    schedule: Callable[[int], float] = constant
    autocast: object = None
    scaler: object = None
    clip: float | None = 1.0
    loss_tokens: float | None = None
    after_backward: Callable[[], None] = do_nothing
    after_step: Callable[[], None] = do_nothing
    history: list[Step] = field(default_factory=list)

    def __post_init__(self):
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]

    def one_step(self) -> Step:
        """Forward and backward of every micro-batch, then one step of the optimizer. Raises as `go`."""
        started = time.perf_counter()
        number = len(self.history)
        micro_batches = next(self.batches)
        if not isinstance(micro_batches, list):
            micro_batches = [micro_batches]
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * self.schedule(number)
        total = sum(targets(batch) for batch in micro_batches)
        if not total:
            raise ValueError(no_targets(number + 1))
        divisor = self.loss_tokens or total

        self.model.zero_grad(set_to_none=True)
        losses = [self._backward(batch, targets(batch) / divisor) for batch in micro_batches]
        loss = sum(losses) * divisor / total  # the mean over the targets of this step, whatever the divisor
        if not math.isfinite(loss):
            raise Diverged(not_finite("loss", loss, number + 1))
        self.after_backward()
        self._update(number + 1)
        self.after_step()

        rate = self.optimizer.param_groups[0]["lr"]
        return Step(number + 1, loss, total, time.perf_counter() - started, rate)

    def _backward(self, batch: dict, weight: float) -> float:
        """Add `weight` times the gradient of this micro-batch to what is there; returns the weighted loss."""
        device = next(self.model.parameters()).device
        with self.autocast or nullcontext():
            loss = self.model(**{name: tensor.to(device) for name, tensor in batch.items()}).loss * weight
        (self.scaler.scale(loss) if self.scaler else loss).backward()
        return loss.item()

    def _update(self, number: int) -> None:
        """Unscale, clip, step: in this order, or the norm would be that of the scaled gradients."""
        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        if self.clip is not None:
            self._clip_gradients(number)
        if self.scaler:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()

    def _clip_gradients(self, number: int) -> None:
        import torch

        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.clip).item()
        # Clipping by an infinite norm makes every gradient NaN, and the update every weight. A scaler skips that step.
        if not (self.scaler or math.isfinite(norm)):
            raise Diverged(not_finite("norm of the gradient", norm, number))

    @property
    def done(self) -> bool:
        """Whether all steps have been made."""
        return len(self.history) >= self.steps

    def go(self, on_step: Callable[[Step], None] = do_nothing) -> bool:
        """Train until all steps are done, or until an interrupt, which waits for the end of the step it falls into.

        Returns whether all steps are done. Raises ValueError if no token of a step is a target, Diverged if a loss is
        not finite, or the norm of the gradient where it is clipped. Weights, optimizer and history are then those of
        the step before.
        """
        with interrupt_waits() as stopped:
            while not self.done and not stopped.is_set():
                self.model.train()  # each time: on_step may have asked the model something
                self.history.append(self.one_step())
                on_step(self.history[-1])
        return self.done


def no_targets(step: int) -> str:
    return (
        f"no token of the batch of step {step} is a target: all labels are {IGNORED}, so there is no loss. "
        "Look at how the labels are made."
    )


def not_finite(what: str, value: float, step: int) -> str:
    return (
        f"the {what} is {value} at step {step}; the weights are still those before it. Start again with a lower "
        "learning rate, or look at the batch."
    )


def targets(batch: dict) -> int:
    """Tokens that the loss counts. The model shifts labels by one, so the first of each row is never a target."""
    return int((batch["labels"][:, 1:] != IGNORED).sum())


def warmup_then_line(steps: int, warmup: int) -> Callable[[int], float]:
    """Schedule: up in a straight line for `warmup` steps, then down to 0 at the end.

    >>> [warmup_then_line(steps=10, warmup=2)(step) for step in (0, 1, 5)]
    [0.5, 0.9, 0.5]
    """

    def factor(step: int) -> float:
        return min((step + 1) / max(warmup, 1), max(1 - step / steps, 0.0))

    return factor


@contextmanager
def interrupt_waits():
    """Yields an Event that an interrupt sets, instead of breaking into the block.

    So the optimizer is never left with half of its parameters updated. Another interrupt breaks in at once, unless it
    comes within a second, as those of a double click do. Outside the main thread, where no signal arrives, the event is
    simply never set.
    """
    event = threading.Event()
    first = math.inf  # when the first interrupt came
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def note(number, frame):
        nonlocal first
        if event.is_set() and time.monotonic() - first > DOUBLE_CLICK_SECONDS:
            raise KeyboardInterrupt
        first = min(first, time.monotonic())
        event.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)

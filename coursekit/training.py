"""THE training loop of the course: the scaler, the optimizer, the schedule and the log are passed in.

    run = Training(model, optimizer, batches, steps=600)
    run.go(on_step=lambda step: print(step.loss))       # Ctrl-C, or the stop button, ends it after a whole step
    run.go(on_step=...)                                 # goes on where it stopped

A step may consist of several micro-batches (gradient accumulation). Their losses are weighted by their number of target
tokens, so that the gradient is that of the whole batch whatever the lengths; the mean of their means would not be.
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
    schedule: Callable[[int], float] = lambda step: 1.0
    autocast: object = None
    scaler: object = None
    clip: float | None = 1.0
    loss_tokens: float | None = None
    after_backward: Callable[[], None] = lambda: None
    after_step: Callable[[], None] = lambda: None
    history: list[Step] = field(default_factory=list)

    def __post_init__(self):
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]

    @property
    def done(self) -> bool:
        return len(self.history) >= self.steps

    def go(self, on_step: Callable[[Step], None] = lambda step: None) -> bool:
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

    def one_step(self) -> Step:
        started, number = time.perf_counter(), len(self.history)
        micro_batches = next(self.batches)
        micro_batches = micro_batches if isinstance(micro_batches, list) else [micro_batches]
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * self.schedule(number)
        total = sum(targets(batch) for batch in micro_batches)
        if not total:
            raise ValueError(
                f"no token of the batch of step {number + 1} is a target: all labels are {IGNORED}, so there is no "
                "loss. Look at how the labels are made."
            )
        self.model.zero_grad(set_to_none=True)
        divisor = self.loss_tokens or total
        loss = (
            sum(self._backward(batch, targets(batch) / divisor) for batch in micro_batches) * divisor / total
        )
        if not math.isfinite(loss):
            raise Diverged(not_finite("loss", loss, number + 1))
        self.after_backward()
        self._update(number + 1)
        self.after_step()
        rate = self.optimizer.param_groups[0]["lr"]
        return Step(number + 1, loss, total, time.perf_counter() - started, rate)

    def _backward(self, batch: dict, weight: float) -> float:
        device = next(self.model.parameters()).device
        with self.autocast or nullcontext():
            loss = self.model(**{name: tensor.to(device) for name, tensor in batch.items()}).loss * weight
        (self.scaler.scale(loss) if self.scaler else loss).backward()
        return loss.item()

    def _update(self, number: int) -> None:
        import torch

        if self.scaler:
            self.scaler.unscale_(self.optimizer)
        if self.clip is not None:
            parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.clip).item()
            # Clipping by an infinite norm makes every gradient NaN, and the update every weight. A scaler sees to that.
            if not (self.scaler or math.isfinite(norm)):
                raise Diverged(not_finite("norm of the gradient", norm, number))
        if self.scaler:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()


def not_finite(what: str, value: float, step: int) -> str:
    return (
        f"the {what} is {value} at step {step}; the weights are still those before it. Start again with a lower "
        "learning rate, or look at the batch."
    )


def targets(batch: dict) -> int:
    """Tokens that the loss counts. The model shifts labels by one, so the first of each row is never a target."""
    return int((batch["labels"][:, 1:] != IGNORED).sum())


def warmup_then_line(steps: int, warmup: int) -> Callable[[int], float]:
    """Schedule: up in a straight line for `warmup` steps, then down to nothing at the end."""
    return lambda step: min((step + 1) / max(warmup, 1), max(1 - step / steps, 0.0))


@contextmanager
def interrupt_waits():
    """An Event that an interrupt sets, instead of breaking into the block.

    So the optimizer is never left with half of its parameters updated. Another interrupt breaks in at once, unless it
    comes within a second, as those of a double click do. Outside the main thread, where no signal arrives, the event is
    simply never set.
    """
    event, first = threading.Event(), math.inf
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

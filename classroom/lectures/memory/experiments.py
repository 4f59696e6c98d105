"""The same fine-tune with every optimizer of the lecture: loss, seconds, bytes of the states, peak.

    run = train_with_optimizer("8-bit AdamW", steps=60)
    run.losses, run.seconds, run.state_bytes, run.peak_bytes

Each has a learning rate that suits it. SGD's is a hundred times AdamW's, since its steps are as large as the gradients;
Adafactor's is relative to the size of a weight.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from classroom.models import task
from classroom.models.finetune import batches
from classroom.models.load import load
from coursekit.memory.measure import held_bytes, measure, optimizer_tensors
from coursekit.training import Step, Training, warmup_then_line


@dataclass(frozen=True)
class OptimizerRecipe:
    """make: parameters, learning rate -> optimizer; planned: its name in memory.ledger.OPTIMIZERS."""

    name: str
    planned: str
    learning_rate: float
    make: Callable


def _sgd(parameters, lr):
    import torch

    return torch.optim.SGD(parameters, lr)


def _adamw(parameters, lr):
    from coursekit.optim.adamw import AdamW

    return AdamW(parameters, lr, weight_decay=0.0)


def _adamw8bit(parameters, lr):
    from coursekit.optim.adamw8bit import AdamW8bit

    return AdamW8bit(parameters, lr, weight_decay=0.0)


def _adafactor(parameters, lr):
    from coursekit.optim.adafactor import Adafactor

    return Adafactor(parameters, lr)


OPTIMIZER_RECIPES = {
    recipe.name: recipe
    for recipe in (
        OptimizerRecipe("SGD", "sgd", 5e-2, _sgd),
        OptimizerRecipe("AdamW", "adamw", 5e-4, _adamw),
        OptimizerRecipe("8-bit AdamW", "adamw-8bit", 5e-4, _adamw8bit),
        OptimizerRecipe("Adafactor", "adafactor", 5e-3, _adafactor),
    )
}


@dataclass(frozen=True)
class OptimizerRun:
    name: str
    losses: tuple[float, ...]
    seconds: float
    state_bytes: int
    peak_bytes: int


def train_with_optimizer(
    name: str,
    *,
    model: str = "tiny",
    steps: int = 60,
    size: int = 8,
    seed: int = 0,
    device: str = "cpu",
    on_step: Callable[[Step], None] = lambda step: None,
) -> OptimizerRun:
    """Fine-tune all weights on the rewriting task.

    size  pairs of sentences a batch

    Weights are float32 on every device. Raises ValueError for an unknown name.
    """
    if name not in OPTIMIZER_RECIPES:
        raise ValueError(f"name must be one of {', '.join(OPTIMIZER_RECIPES)}; got {name!r}.")
    recipe, (network, tokenizer) = OPTIMIZER_RECIPES[name], load(model, device=device, dtype="float32")
    optimizer = recipe.make(network.parameters(), recipe.learning_rate)
    data = batches(tokenizer, task.pairs("train", 8 * steps, seed), size, seed)
    run = Training(network, optimizer, data, steps, schedule=warmup_then_line(steps, warmup=steps // 5))
    started = time.perf_counter()
    run.go(on_step)
    seconds = time.perf_counter() - started
    losses, states = tuple(step.loss for step in run.history), held_bytes(optimizer_tensors(optimizer))
    network.train()
    batch = {key: value.to(device) for key, value in next(data).items()}
    return OptimizerRun(name, losses, seconds, states, measure(network, optimizer, [batch]).peak)

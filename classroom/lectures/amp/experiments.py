"""Recipes of precision, one row each, and the same fine-tune run by any of them.

    run = train_with_precision(PRECISION_RECIPES["FP16 autocast + scaling"], seed=0)
    run.losses, run.scales, run.nbytes

On a CPU, FP16 products are rounded rather than run, and BF16 products where it has no units for them (tensor_core.py);
on a GPU the same lines run for real.

The loss is divided by the target tokens of a *large* batch, of which every step here is one small share, as when one
GPU accumulates such a batch piece by piece. Adam does not mind: its update is the same for gradients a thousand times
as small. FP16 does mind, and that is what loss scaling is for.

Source: Micikevicius et al., Mixed Precision Training, ICLR 2018 (arXiv:1710.03740), sections 3.1 and 3.2; batches of
4M tokens: Touvron et al., LLaMA, 2023 (arXiv:2302.13971), table 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from classroom.models import task
from classroom.models.finetune import batches
from classroom.models.load import load
from coursekit.amp.autocast import autocast
from coursekit.amp.grad_scaler import GradScaler
from coursekit.amp.master_weights import MasterWeights
from coursekit.amp.tensor_core import tensor_core
from coursekit.training import Diverged, Step, Training, do_nothing, warmup_then_line

BATCH_TOKENS = 2**22  # about four million


@dataclass(frozen=True)
class PrecisionRecipe:
    """Which numbers a training run is made of.

    weights  dtype of the model's parameters, and with them of gradients and Adam's states (with `master`: not these)
    compute  dtype that autocast chooses for products; None: no autocast
    master   FP32 copies of the weights, which the optimizer steps on
    scaling  dynamic loss scaling
    """

    name: str
    weights: torch.dtype = torch.float32
    compute: torch.dtype | None = None
    master: bool = False
    scaling: bool = False


PRECISION_RECIPES = {
    recipe.name: recipe
    for recipe in (
        PrecisionRecipe("FP32"),
        PrecisionRecipe("FP16 only", weights=torch.float16),
        PrecisionRecipe("BF16 only", weights=torch.bfloat16),
        PrecisionRecipe("FP16 + master", weights=torch.float16, master=True),
        PrecisionRecipe("FP16 + master + scaling", weights=torch.float16, master=True, scaling=True),
        PrecisionRecipe("FP16 autocast", compute=torch.float16),
        PrecisionRecipe("FP16 autocast + scaling", compute=torch.float16, scaling=True),
        PrecisionRecipe("BF16 autocast", compute=torch.bfloat16),
    )
}


@dataclass(frozen=True)
class PrecisionRun:
    """What came out of one run.

    losses  mean loss of every step; the last is NaN if the run diverged
    scales  the loss scale that every step used; empty without scaling
    nbytes  bytes held after the last step: weights, gradients, master weights, Adam's states
    """

    recipe: PrecisionRecipe
    seed: int
    losses: tuple[float, ...]
    scales: tuple[float, ...]
    seconds: float
    nbytes: dict[str, int]

    @property
    def skipped(self) -> int:
        """Steps left out: after each of them the scale is smaller than before."""
        return sum(after < before for before, after in zip(self.scales, self.scales[1:], strict=False))


def train_with_precision(
    recipe: PrecisionRecipe,
    seed: int = 0,
    *,
    name: str = "tiny",
    device: str = "cpu",
    steps: int = 40,
    size: int = 8,
    rate: float = 3e-5,
    batch_tokens: float = BATCH_TOKENS,
    init_scale: float = 2.0**16,
    growth_interval: int | None = 2000,
    on_step: Callable[[Step], None] = lambda step: None,
) -> PrecisionRun:
    """Fine-tune all weights on the course's task for `steps` micro-batches of `size` pairs. A NaN loss ends the run.

    batch_tokens  target tokens of the large batch by which every loss is divided
    init_scale, growth_interval  of the scaler, if the recipe has one
    """
    model, tokenizer = load(name, device=device, dtype="float32")
    data = batches(tokenizer, task.pairs("train", size * steps, seed), size=size, seed=seed)
    model.to(recipe.weights)
    masters = MasterWeights(model.parameters()) if recipe.master else None
    scaler = GradScaler(init_scale, growth_interval=growth_interval) if recipe.scaling else None
    training = Training(
        model,
        torch.optim.AdamW(masters.masters if masters else model.parameters(), lr=rate, weight_decay=0.0),
        data,
        steps,
        schedule=warmup_then_line(steps, warmup=max(1, steps // 8)),
        autocast=autocast(device, recipe.compute) if recipe.compute else None,
        scaler=scaler,
        clip=None,
        loss_tokens=batch_tokens,
        after_backward=masters.collect_grads if masters else do_nothing,
        after_step=masters.copy_back if masters else do_nothing,
    )
    return _follow(training, recipe, seed, masters, on_step)


def _follow(training: Training, recipe: PrecisionRecipe, seed: int, masters, on_step) -> PrecisionRun:
    """Run it and write down what happens."""
    scaler, losses = training.scaler, []
    scales = [scaler.get_scale()] if scaler else []

    def note(step: Step) -> None:
        losses.append(step.loss)
        if scaler:
            scales.append(scaler.get_scale())
        on_step(step)

    with tensor_core():
        try:
            training.go(note)
        except Diverged:
            losses.append(math.nan)
    seconds = sum(step.seconds for step in training.history)
    held = held_bytes(training.model, training.optimizer, masters)
    return PrecisionRun(recipe, seed, tuple(losses), tuple(scales[:-1]), seconds, held)


def held_bytes(model, optimizer, masters: MasterWeights | None) -> dict[str, int]:
    """Bytes of the tensors that stay from step to step, by what they are for."""
    parameters = list(model.parameters())
    copies = list(masters.masters) if masters else []
    states = [t for state in optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    gradients = [p.grad for p in parameters + copies if p.grad is not None]
    groups = {"weights": parameters, "gradients": gradients, "master weights": copies, "Adam": states}
    return {
        what: sum(t.numel() * t.element_size() for t in tensors if t.dim())
        for what, tensors in groups.items()
    }

"""Fine-tune the embedded model with any recipe of precision, and measure what notebook and deck of lecture 2 show.

    run = train_with_precision(PRECISION_RECIPES["FP16 autocast + scaling"], seed=0)
    run.losses, run.scales, run.nbytes

On a CPU, FP16 products are computed in FP32 and rounded, and so are BF16 products where the CPU has no units for them
(coursekit/amp/tensor_core.py); on a GPU the same lines run for real.

The loss is divided by the target tokens of a *large* batch, of which every step here is a small share, as when one GPU
accumulates such a batch piece by piece. The gradients become so small that FP16 needs loss scaling. They also come near
Adam's epsilon, so that FP32 itself learns more slowly than with a small batch.

Source: Micikevicius et al., Mixed Precision Training, ICLR 2018 (arXiv:1710.03740), sections 3.1 and 3.2; batches of
4M tokens: Touvron et al., LLaMA, 2023 (arXiv:2302.13971), table 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from classroom.models import task
from classroom.models.finetune import batches
from classroom.models.load import load
from classroom.models.sizes import tensor_bytes
from coursekit.amp import grad_stats
from coursekit.amp.autocast import autocast
from coursekit.amp.grad_scaler import GradScaler
from coursekit.amp.master_weights import MasterWeights
from coursekit.amp.tensor_core import tensor_core
from coursekit.formats.spec import FP16, FloatSpec
from coursekit.memory.measure import optimizer_tensors
from coursekit.training import Diverged, Step, Training, do_nothing, targets, warmup_then_line

BATCH_TOKENS = 2**22  # about four million
RATE = 3e-5  # a learning rate of many full fine-tunes


@dataclass(frozen=True)
class PrecisionRecipe:
    """Say which dtypes a training run uses, and which of the cures.

    weights  dtype of the model's parameters and so of their gradients and of Adam's states (not with `master`)
    compute  dtype in which autocast runs products of matrices; None: no autocast
    master   keep FP32 copies of the weights, and let the optimizer step on those
    scaling  scale the loss dynamically
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
    """Hold the results of one run.

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
        """Count the steps left out: after each of them the scale is smaller than before."""
        return sum(after < before for before, after in zip(self.scales, self.scales[1:], strict=False))


def train_with_precision(
    recipe: PrecisionRecipe,
    seed: int = 0,
    *,
    name: str = "tiny",
    device: str = "cpu",
    steps: int = 40,
    size: int = 8,
    rate: float = RATE,
    batch_tokens: float = BATCH_TOKENS,
    init_scale: float = 2.0**16,
    growth_interval: int | None = 2000,
    on_step: Callable[[Step], None] = do_nothing,
) -> PrecisionRun:
    """Fine-tune all weights on the course's task for `steps` micro-batches of `size` pairs; a NaN loss ends the run.

    batch_tokens                 target tokens of the large batch: every loss is divided by them
    init_scale, growth_interval  of the scaler, if the recipe has one
    """
    model, tokenizer = load(name, device=device, dtype="float32")
    data = batches(tokenizer, task.pairs("train", size * steps, seed), size=size, seed=seed)
    model.to(recipe.weights)
    masters = MasterWeights(model.parameters()) if recipe.master else None
    stepped_on = masters.masters if masters else model.parameters()
    scaler = GradScaler(init_scale, growth_interval=growth_interval) if recipe.scaling else None
    training = Training(
        model,
        torch.optim.AdamW(stepped_on, lr=rate, weight_decay=0.0),
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
    """Run it, and note the loss and the scale of every step."""
    scaler = training.scaler
    losses: list[float] = []
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
    used = scales[:-1]  # the last one is for a step that did not come
    return PrecisionRun(recipe, seed, tuple(losses), tuple(used), seconds, held)


def held_bytes(model, optimizer, masters: MasterWeights | None) -> dict[str, int]:
    """Count the bytes of the tensors that stay from step to step, by purpose; Adam's step counter is left out."""
    parameters = list(model.parameters())
    copies = list(masters.masters) if masters else []
    return {
        "weights": tensor_bytes(parameters),
        "gradients": tensor_bytes(p.grad for p in parameters + copies if p.grad is not None),
        "master weights": tensor_bytes(copies),
        "Adam": tensor_bytes(state for state in optimizer_tensors(optimizer) if getattr(state, "ndim", 0)),
    }


def bytes_per_parameter(recipe: PrecisionRecipe, seed: int = 0, **where) -> dict[str, float]:
    """Count what stays after one step, per parameter: {"weights", "gradients", "master weights", "Adam"}.

    where  `name` and `device` of train_with_precision
    """
    held = train_with_precision(recipe, seed, steps=1, size=1, **where).nbytes
    parameters = held["weights"] // recipe.weights.itemsize
    return {kind: size / parameters for kind, size in held.items()}


LEDGER = ("FP32", "FP16 autocast + scaling", "FP16 + master + scaling", "BF16 only")


def precision_ledgers(seed: int = 0, **where) -> dict[str, dict[str, float]]:
    """Count `bytes_per_parameter` for the recipes of LEDGER: {recipe: {what: bytes per parameter}}."""
    return {name: bytes_per_parameter(PRECISION_RECIPES[name], seed, **where) for name in LEDGER}


RACERS = ("FP32", "BF16 only", "FP16 + master", "FP16 + master + scaling", "BF16 autocast")


def race(seeds: Iterable[int], steps: int, **where) -> dict[str, list[PrecisionRun]]:
    """Run every recipe of RACERS with every seed, then "FP16 only", which is NaN at once, for three steps."""
    seeds = list(seeds)
    lengths = dict.fromkeys(RACERS, steps) | {"FP16 only": 3}
    return {
        name: [train_with_precision(PRECISION_RECIPES[name], seed, steps=n, **where) for seed in seeds]
        for name, n in lengths.items()
    }


def scale_searches(steps: int, seed: int = 0, **where) -> dict[str, PrecisionRun]:
    """Start dynamic scaling far too high (2^40) and far too low (2^24), growing after three good steps."""
    recipe = PRECISION_RECIPES["FP16 autocast + scaling"]
    settings = {"seed": seed, "steps": steps, "size": 4, "growth_interval": 3, **where}
    return {f"start at 2^{k}": train_with_precision(recipe, init_scale=2.0**k, **settings) for k in (40, 24)}


def norm_after_clipping(too_early: bool, norm: float = 0.5, limit: float = 1.0) -> float:
    """Return the norm of a gradient after clipping and unscaling, in the right order or clipped `too_early`."""
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler = GradScaler(init_scale=65536.0)
    scaler.scale(norm * weight.sum()).backward()
    if too_early:
        torch.nn.utils.clip_grad_norm_([weight], limit)  # the gradient is still 65,536 times too large
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_([weight], limit)
    return weight.grad.norm().item()


def lessons(tokenizer, seed: int, device: str):
    """Return endless batches of eight pairs; there are 64 pairs, so the ninth batch begins the second round."""
    return batches(tokenizer, task.pairs("train", 64, seed), size=8, seed=seed, device=device)


def unmoved_share(seed: int = 0, name: str = "tiny", device: str = "cpu", steps: int = 8) -> float:
    """Train in BF16 alone and return the share of weights that are exactly what they were."""
    model, tokenizer = load(name, device=device, dtype="float32")
    model = model.bfloat16()
    start = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0)
    data = lessons(tokenizer, seed, device)
    for _ in range(steps):
        with tensor_core():  # rounds BF16 products on a processor that cannot run them
            model(**next(data)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    same = sum((a == b).sum().item() for a, b in zip(start, model.parameters(), strict=True))
    return same / sum(p.numel() for p in start)


def model_and_batch(seed: int = 0, name: str = "tiny", device: str = "cpu"):
    """Load the model in FP32 with the ninth batch of its lessons: (model, batch)."""
    model, tokenizer = load(name, device=device, dtype="float32")
    data = lessons(tokenizer, seed, device)
    for _ in range(8):
        next(data)
    return model, next(data)


@dataclass(frozen=True)
class Gradients:
    """Hold the gradients of one batch by weights and by activations: {name of parameter or module: gradient}."""

    by_weight: Mapping[str, Tensor]
    by_activation: Mapping[str, Tensor]

    def kinds(self) -> dict[str, Tensor]:
        """Join the numbers of each kind into one dimension; zeros are included."""
        return {
            "gradients of weights": _flat(self.by_weight),
            "gradients of activations": _flat(self.by_activation),
        }

    def safe_scale(self) -> float:
        """Find the largest power of two by which no gradient overflows in FP16."""
        return grad_stats.largest_safe_scale([*self.by_weight.values(), *self.by_activation.values()], FP16)


def _flat(tensors: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([t.flatten() for t in tensors.values()])


def gradients(model, batch: Mapping[str, Tensor], batch_tokens: float = BATCH_TOKENS) -> Gradients:
    """Run backward in FP32 for one batch that is a small share of a batch of `batch_tokens` target tokens."""
    model.zero_grad()  # or the gradients of an earlier call would be added
    with grad_stats.activation_gradients(model) as by_activation:
        (model(**batch).loss * targets(batch) / batch_tokens).backward()
    return Gradients(grad_stats.gradients_of(model), by_activation)


def flushed_with_scales(tensors: Iterable[Tensor], fmt: FloatSpec) -> dict[str, grad_stats.Shares]:
    """Say what `fmt` does to gradients: unscaled, with one scale for all, with one scale per tensor."""
    tensors = list(tensors)
    common = grad_stats.largest_safe_scale(tensors, fmt)
    own = [t * grad_stats.largest_safe_scale([t], fmt) for t in tensors]
    return {
        "unscaled": grad_stats.overall(tensors, fmt),
        "one scale": grad_stats.overall(tensors, fmt, scale=common),
        "a scale per tensor": grad_stats.overall(own, fmt),
    }

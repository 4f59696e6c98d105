"""The experiments of lecture 3, each written once: its notebook and its deck call them with sizes of their own.

    errors, measured = planner_errors()                    # the planner and the formulas against the allocator
    loss, gradient = weighted_gradient(model, batches, weights)
    run = train_with_optimizer("8-bit AdamW", steps=60)    # run.losses, run.state_bytes, run.peak_bytes

Weights are float32 everywhere. Sizes are in bytes, errors in percent, times in milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from classroom.models import task
from classroom.models.finetune import batches
from classroom.models.load import checkpointing, load
from coursekit.memory import activations, fit, formulas
from coursekit.memory.architecture import Architecture, presets
from coursekit.memory.fragmentation import CachingAllocator, replay
from coursekit.memory.measure import (
    Measured,
    PhasedStep,
    allocations,
    held_bytes,
    measure,
    optimizer_tensors,
    saved_tensors,
)
from coursekit.memory.planner import Plan, estimate
from coursekit.optim.adafactor import Adafactor
from coursekit.optim.adamw import AdamW
from coursekit.optim.adamw8bit import AdamW8bit
from coursekit.quantization.blockwise import dequantize, quantize
from coursekit.quantization.nearest import dynamic_map
from coursekit.throughput.meter import in_turns
from coursekit.training import Step, Training, warmup_then_line
from coursekit.units import MB

# name: (sequences in a batch, tokens in a sequence, checkpointing)
TRIALS = {"2 x 64": (2, 64, False), "16 x 128": (16, 128, False), "checkpointed": (16, 128, True)}
# the lengths of the batches that follow each other
ALLOCATOR_TRIALS = {"1024 each": [1024] * 6, "256 to 1024": [256, 400, 544, 688, 832, 1024]}
QLORA_70B = Plan(
    "llama-3-70b",
    batch=1,
    sequence=512,
    quantization="nf4",
    lora_rank=16,
    checkpointing=True,
    optimizer="paged-adamw-8bit",
)


# Where the bytes go


def random_batch(batch: int, sequence: int, vocabulary: int = 1000, device: str = "cpu") -> dict:
    """Tokens drawn at random, every one of them a target: int64 [batch, sequence]."""
    ids = torch.randint(0, vocabulary, (batch, sequence), device=device)
    return {"input_ids": ids, "labels": ids.clone()}


def allocator_curve(model, optimizer, batch: dict, at_least: int = 10_000) -> list[tuple[str, int]]:
    """(phase, bytes in use) after every event of a step of at least so many bytes."""
    step = PhasedStep(model, optimizer, [batch], lambda model, batch: model(**batch).loss, torch.enable_grad)
    with allocations() as events:
        step.run()
    resident = step.resident([batch])
    return [(phase, resident + change) for phase, change in events.curve(at_least=at_least)]


def parameters_in_transformers(name: str) -> int:
    """What transformers counts: its class built from a preset's config, on the meta device, without weights."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    config = dict(presets()[name])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[config.pop("model_type")](**config))
    return sum(p.numel() for p in model.parameters())


def planned_block_bytes(
    architecture: Architecture, batch: int, sequence: int, attention: str = "sdpa"
) -> int:
    """What one block keeps for backward in 16 bits, planned."""
    numerics = activations.Numerics(2)
    block = activations.Model(architecture, batch, sequence, numerics, attention=attention)
    return sum(size for _, size in activations.saved(block))


def block_curves(architecture: Architecture, lengths: Sequence[int]) -> dict[str, list[float]]:
    """Bytes per s·b·h that a block keeps in 16 bits, for each length: with SDPA, eager, and by the GPT formula."""
    hidden = architecture.hidden
    curves = {}
    for attention in ("sdpa", "eager"):
        sizes = [planned_block_bytes(architecture, 1, s, attention) for s in lengths]
        curves[f"Llama block, {attention}"] = [
            size / (s * hidden) for size, s in zip(sizes, lengths, strict=True)
        ]
    gpt = [formulas.korthikanti_layer(1, s, hidden, architecture.heads) for s in lengths]
    return curves | {"GPT formula": [size / (s * hidden) for size, s in zip(gpt, lengths, strict=True)]}


def planner_errors(
    model: str = "tiny", device: str = "cpu"
) -> tuple[dict[str, dict[str, float]], dict[str, Measured]]:
    """(errors of the peak in percent: estimate -> trial -> error; what was measured in each trial)."""
    errors = {name: {} for name in ("this planner", *formulas.FORMULAS)}
    measured = {}
    for trial, (batch, sequence, recompute) in TRIALS.items():
        measured[trial] = measured_step(model, batch, sequence, recompute, device)
        truth = measured[trial].peak
        plan = Plan(model, batch, sequence, ledger="fp32", checkpointing=recompute, device=device)
        errors["this planner"][trial] = 100 * (estimate(plan).peak_bytes / truth - 1)
        for name, formula in formulas.FORMULAS.items():
            errors[name][trial] = 100 * (formula(plan) / truth - 1)
    return errors, measured


def measured_step(model: str, batch: int, sequence: int, recompute: bool, device: str = "cpu") -> Measured:
    """One step of AdamW on random tokens, measured."""
    network = training_model(model, recompute, device)
    optimizer = torch.optim.AdamW(network.parameters())
    return measure(network, optimizer, [random_batch(batch, sequence, device=device)])


def training_model(model: str, recompute: bool, device: str = "cpu"):
    network, _ = load(model, device=device, dtype="float32")
    if recompute:
        checkpointing(network)
    return network.train()


def allocator_trials() -> dict[str, dict[bool, CachingAllocator]]:
    """Trial -> with expandable segments or without -> the allocator after steps of SmolLM2-135M, batch 4."""
    return {
        name: {expandable: _replayed(lengths, expandable) for expandable in (False, True)}
        for name, lengths in ALLOCATOR_TRIALS.items()
    }


def _replayed(lengths: Iterable[int], expandable: bool) -> CachingAllocator:
    plans = [Plan("smollm2-135m", 4, length) for length in lengths]
    return replay(plans, CachingAllocator(expandable=expandable))


# Accumulation and checkpointing


def unequal_micro_batches(tokenizer, seed: int = 0, device: str = "cpu") -> tuple[list[dict], dict]:
    """(a micro-batch of the four shortest and one of the four longest of 64 sentences; both as one batch)."""
    pairs = sorted(task.pairs("train", 64, seed), key=lambda pair: len(pair.prompt))
    groups = [pairs[:4], pairs[-4:]]
    micro = [next(batches(tokenizer, group, size=4, device=device)) for group in groups]
    return micro, next(batches(tokenizer, groups[0] + groups[1], size=8, device=device))


def weighted_gradient(model, parts: Sequence[dict], weights: Sequence[float]) -> tuple[float, Tensor]:
    """(the weighted sum of the batches' losses, its gradient: [parameters])"""
    model.zero_grad()
    total = sum(model(**part).loss * weight for part, weight in zip(parts, weights, strict=True))
    total.backward()
    return total.item(), torch.cat([p.grad.flatten() for p in model.parameters()])


class OneBlock(torch.nn.Module):
    """One block of the embedded model as a module from a tensor to a tensor: [b, s, h] -> [b, s, h]."""

    def __init__(self, model, index: int = 1):
        super().__init__()
        self.layer = model.model.layers[index]
        self.rotary = model.model.rotary_emb

    def forward(self, x):
        positions = torch.arange(x.shape[1], device=x.device)[None]
        return self.layer(x, position_embeddings=self.rotary(x, positions))


def kept_and_gradient(block: OneBlock, call: Callable[[Tensor], Tensor]) -> tuple[int, Tensor]:
    """(bytes that the graph of `call` holds, gradients of the input and of the block's weights, in one row)"""
    block.zero_grad()
    device = next(block.parameters()).device
    x = torch.full((4, 64, block.layer.hidden_size), 0.1, device=device, requires_grad=True)
    with saved_tensors(block) as kept:
        y = call(x)
    y.square().sum().backward()
    return kept.bytes, torch.cat([x.grad.flatten(), *(p.grad.flatten() for p in block.parameters())])


def checkpointing_cost(
    model: str = "tiny", device: str = "cpu", rounds: int = 7
) -> dict[str, tuple[float, float]]:
    """(milliseconds of forward and backward, peak of a step in MB) of 16 x 128 tokens, checkpointed and not."""
    costs = {}
    for name, recompute in (("all kept", False), ("checkpointed", True)):
        network = training_model(model, recompute, device)
        batch = random_batch(16, 128, device=device)
        peak = measure(network, torch.optim.AdamW(network.parameters()), [batch]).peak

        def forward_and_backward(network=network, batch=batch):
            network(**batch).loss.backward()
            network.zero_grad()

        timing = in_turns({name: forward_and_backward}, rounds=rounds, warmup=0)[name]
        costs[name] = (1000 * timing.median, peak / MB)
    return costs


# Adam's states in 8 bits


class RoundedStates(NamedTuple):
    """A small gradient beside a large one: Adam's m and v, both after a round trip through 8 bits, and the update.

    update  the longest update of the block with plainly rounded states, in learning rates; AdamW's own is 1
    """

    m: float
    v: float
    m8: float
    v8: float
    update: float


def plainly_rounded_states(small: float = 3e-4) -> RoundedStates:
    """The first step of Adam on a block of 256 gradients: one is 1, the others are `small`."""
    gradient = torch.full((256,), small)
    gradient[0] = 1.0
    m, v = 0.1 * gradient, 0.001 * gradient**2
    squares = dynamic_map(signed=False)
    m8 = dequantize(*quantize(m))
    v8 = dequantize(*quantize(v, code=squares), code=squares)
    update = (m8 / 0.1) / ((v8 / 0.001).sqrt() + 1e-8)
    return RoundedStates(m[1].item(), v[1].item(), m8[1].item(), v8[1].item(), update.abs().max().item())


def longest_update(steps: int, seed: int = 0, lr: float = 1e-3) -> float:
    """The longest update of AdamW8bit in learning rates, on noise over six decades."""
    weight = torch.nn.Parameter(torch.zeros(4096))
    optimizer = AdamW8bit([weight], lr=lr, weight_decay=0.0)
    noise = torch.Generator().manual_seed(seed)
    longest = 0.0
    for _ in range(steps):
        weight.grad = torch.randn(4096, generator=noise)
        weight.grad *= 10 ** (6 * torch.rand(4096, generator=noise) - 6)
        before = weight.detach().clone()
        optimizer.step()
        longest = max(longest, ((weight - before).abs().max() / lr).item())
    return longest


@dataclass(frozen=True)
class OptimizerRecipe:
    """make: parameters, learning rate -> optimizer; planned: its name in memory.ledger.OPTIMIZERS."""

    name: str
    planned: str
    learning_rate: float
    make: Callable


def _adamw(parameters, lr):
    return AdamW(parameters, lr, weight_decay=0.0)


def _adamw8bit(parameters, lr):
    return AdamW8bit(parameters, lr, weight_decay=0.0)


# Each has a learning rate that suits it. SGD's is a hundred times AdamW's, since its steps are as large as the
# gradients; Adafactor's is relative to the size of a weight.
OPTIMIZER_RECIPES = {
    recipe.name: recipe
    for recipe in (
        OptimizerRecipe("SGD", "sgd", 5e-2, torch.optim.SGD),
        OptimizerRecipe("AdamW", "adamw", 5e-4, _adamw),
        OptimizerRecipe("8-bit AdamW", "adamw-8bit", 5e-4, _adamw8bit),
        OptimizerRecipe("Adafactor", "adafactor", 5e-3, Adafactor),
    )
}


@dataclass(frozen=True)
class OptimizerRun:
    """state_bytes: what the optimizer holds; peak_bytes: of one more step, measured."""

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

    size  pairs of sentences per batch

    Raises ValueError for an unknown name.
    """
    if name not in OPTIMIZER_RECIPES:
        raise ValueError(f"name must be one of {', '.join(OPTIMIZER_RECIPES)}; got {name!r}.")
    recipe = OPTIMIZER_RECIPES[name]
    network, tokenizer = load(model, device=device, dtype="float32")
    optimizer = recipe.make(network.parameters(), recipe.learning_rate)
    data = batches(tokenizer, task.pairs("train", 8 * steps, seed), size, seed)
    run = Training(network, optimizer, data, steps, schedule=warmup_then_line(steps, warmup=steps // 5))
    started = time.perf_counter()
    run.go(on_step)
    seconds = time.perf_counter() - started
    losses = tuple(step.loss for step in run.history)
    states = held_bytes(optimizer_tensors(optimizer))
    network.train()
    batch = {key: value.to(device) for key, value in next(data).items()}
    return OptimizerRun(name, losses, seconds, states, measure(network, optimizer, [batch]).peak)


# Make it fit


def frozen_weight_bytes(plan: Plan) -> int:
    """Bytes of the weights in the forward pass, without those of an adapter (FP32)."""
    found = estimate(plan)
    adapter = 4 * found.trainable if plan.lora_rank else 0
    return found.phases["forward"]["weights"] - adapter


def zero_bytes(parameters: float, ranks: int) -> dict[str, tuple[str, float]]:
    """What is divided -> (formula, bytes on each rank), with weights and gradients in 16 bits (ZeRO, figure 1)."""
    P, N = parameters, ranks
    return {
        "every rank holds everything": ("16 P", 16 * P),
        "1: Adam's states and masters": ("4 P + 12 P / N", 4 * P + 12 * P / N),
        "2: gradients too": ("2 P + 14 P / N", 2 * P + 14 * P / N),
        "3: weights too": ("16 P / N", 16 * P / N),
    }


def decision_cells(models: Sequence[str], cards: Sequence[int]) -> Mapping[tuple[str, str], tuple[str, int]]:
    """(model, card) -> (the cheapest method that fits 4 x 2,048 tokens, its place in fit.RUNGS)."""
    return {
        (name, f"{card} GB"): fit.cheapest(Plan(name, batch=4, ledger="master-16"), card)
        for name in models
        for card in cards
    }

# %% [markdown]
# # Exercises 3: memory
#
# Eight exercises, from five minutes to twenty, easy ones first. Do them in any order, and as many as you
# like. After them you will
#
# - count the bytes of a training run from a config, to the unit where bytes are exact;
# - find the peak, and know which part of it to attack;
# - write the three tools that save memory: accumulation, 8-bit states, checkpointing.
#
# *About 100 minutes for all, less than 1 GB of memory, no network.*
#
# **How it works.** Write your code in place of the three dots, run the cell, then run the check below it. The
# check says what it expected and what it got, and gives one more hint each time it fails;
# `check.name(function).hint(2)` shows the first two at once. Typical mistakes are recognised and named.

# %% tags=["parameters"]
PROFILE = "ci"

# %%
import itertools
import math

import torch
import torch.nn.functional as F
from classroom.lectures.memory import exercises as check

minutes = sum(exercise.minutes for exercise in check.EXERCISES)
print(f"{len(check.EXERCISES)} exercises, {minutes} minutes in all")

# %% [markdown]
# ## 1. Bytes a parameter (5 minutes)
#
# Training keeps several tensors that are as long as the model has parameters: weights, gradients, master
# weights, the states of Adam. `dtypes` has one entry for each of them. With an FP32 master, for example, the
# list is `["bf16", "bf16", "fp32", "fp32", "fp32"]`.
#
# | dtype | bytes |
# |---|---|
# | `"fp32"` | 4 an element |
# | `"bf16"`, `"fp16"` | 2 an element |
# | `"8-bit"` | 1 an element, and one FP32 number for each block of 256; the last block may be shorter |
#
# Write `state_size(parameters, dtypes, unit)`: the size of all of them together, in GB (10^9 bytes) if `unit`
# is `"GB"`, in GiB (2^30 bytes) if it is `"GiB"`. *Where to look: "Where the bytes go" in lecture 3.*


# %%
def state_size(parameters: int, dtypes: list[str], unit: str) -> float:
    """The size of the tensors that training keeps, in GB or GiB."""
    ### BEGIN SOLUTION
    element = {"fp32": 4, "bf16": 2, "fp16": 2, "8-bit": 1}
    held = sum(element[dtype] * parameters for dtype in dtypes)
    blocks = math.ceil(parameters / 256)
    held += dtypes.count("8-bit") * blocks * 4
    return held / (10**9 if unit == "GB" else 2**30)
    ### END SOLUTION


# %%
verdict = check.state_size(state_size)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## 2. Count a Llama's parameters (10 minutes)
#
# `config` is a dictionary with the names of a Llama's `config.json`: `vocab_size`, `hidden_size`,
# `intermediate_size`, `num_hidden_layers`, `num_attention_heads`, `num_key_value_heads`, `head_dim` and
# `tie_word_embeddings`. Write `count_parameters(config)`: how many parameters the model has, **to the unit**.
# No matrix has a bias.
#
# Reminders: heads are grouped (GQA), so Q has more of them than K and V; the MLP is a SwiGLU (gate, up,
# down); norms are RMSNorms, with a weight and no bias, two in a layer and one after the last layer; a tied
# head is the embedding itself. The check builds each model with `transformers` and counts. *Where to look:
# "Parameters to the unit" in lecture 3.*


# %%
def count_parameters(config: dict) -> int:
    """Parameters of a Llama-like model, tied ones counted once."""
    ### BEGIN SOLUTION
    hidden = config["hidden_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    attention = 2 * hidden * queries + 2 * hidden * keys
    layer = attention + 3 * hidden * config["intermediate_size"] + 2 * hidden
    tables = 1 if config["tie_word_embeddings"] else 2
    return (
        tables * config["vocab_size"] * hidden
        + config["num_hidden_layers"] * layer
        + hidden
    )
    ### END SOLUTION


# %%
verdict = check.count_parameters(count_parameters)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## 3. What a layer keeps for backward (10 minutes)
#
# A layer of a GPT with 16-bit activations keeps `s b h (34 + 5 a s / h)` bytes for its backward: s tokens in
# a sequence, b sequences in a micro-batch, h hidden units, a heads; attention that keeps its scores, and
# dropout. With **full checkpointing** each layer keeps its input only, 2 bytes a number, and while backward
# runs, one layer at a time is there in full. (The rule counts the input of that one layer twice. Leave it
# so.)
#
# Write `activation_bytes(layers, s, b, h, a, checkpointed)`: the bytes of all layers at the highest moment.
# *Where to look: "Activations" in lecture 3.*


# %%
def activation_bytes(
    layers: int, s: int, b: int, h: int, a: int, checkpointed: bool
) -> int:
    """Bytes of the activations of all layers, where backward begins."""
    ### BEGIN SOLUTION
    in_full = 34 * s * b * h + 5 * b * a * s**2
    inputs = layers * s * b * h * 2
    return inputs + in_full if checkpointed else layers * in_full
    ### END SOLUTION


# %%
verdict = check.activation_bytes(activation_bytes)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## 4. Where is the peak? (10 minutes)
#
# A run has been recorded: `events` is a list of `(phase, category, bytes)` in the order of time, for example
# `("forward", "activations", 900)`. Bytes are negative where memory is given back; before the first event
# nothing is held.
#
# Write `peak_memory(events)`, which returns three things: the highest sum of bytes that is held after any
# event; the phase of that event (of the first one, if the height is reached again); and a dictionary that
# gives each category's share of the bytes held **at that moment**, from 0 to 1. *Where to look: "The peak" in
# lecture 3.*


# %%
def peak_memory(
    events: list[tuple[str, str, int]],
) -> tuple[int, str, dict[str, float]]:
    """The peak in bytes, its phase, and each category's share of it."""
    ### BEGIN SOLUTION
    held, peak, phase_of_peak, held_then = {}, 0, "", {}
    for phase, category, size in events:
        held[category] = held.get(category, 0) + size
        now = sum(held.values())
        if now > peak:
            peak, phase_of_peak, held_then = now, phase, dict(held)
    return (
        peak,
        phase_of_peak,
        {name: size / peak for name, size in held_then.items()},
    )
    ### END SOLUTION


# %%
verdict = check.peak_memory(peak_memory)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## 5. Accumulate gradients, rightly (15 minutes)
#
# A batch does not fit, so it comes as a list of micro-batches, each a pair `(inputs, targets)`.
# `model(inputs)` gives the logits, one row for each target. A target of -100 is to be ignored: cross entropy
# leaves it out.
#
# Write `accumulate(model, micro_batches)`: afterwards every parameter's `.grad` (None before) must be that of
# the **whole batch's** loss, the mean of the cross entropy over all targets that count. Micro-batches have
# different numbers of them. Only one micro-batch's graph may be alive at a time. The optimizer's step comes
# later and is not yours.
#
# `F.cross_entropy(logits, targets)` gives the mean; with `reduction="sum"` it gives the sum. *Where to look:
# "Gradient accumulation" in lecture 3.*


# %%
def accumulate(
    model: torch.nn.Module, micro_batches: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    """Leave the gradients of the whole batch's mean loss in the parameters."""
    ### BEGIN SOLUTION
    counting = sum((targets != -100).sum() for _, targets in micro_batches)
    for inputs, targets in micro_batches:
        loss = F.cross_entropy(model(inputs), targets, reduction="sum") / counting
        loss.backward()
    ### END SOLUTION


# %%
verdict = check.accumulate(accumulate)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## 6. 8-bit states, block by block (15 minutes)
#
# 8-bit Adam stores its states as codes. `code` is a map: a sorted tensor of at most 256 numbers from -1 to 1,
# one of them 0; the code of a number is its **place** in the map. `x` is cut into blocks of `blocksize`
# numbers (the last may be shorter). In each block:
#
# 1. `absmax` is the largest size of a number;
# 2. every number, divided by absmax, gets the code of the **nearest** entry of the map;
# 3. it is restored as that entry times absmax.
#
# If a block holds nothing but zeros, every number gets the code of 0. Write `quantize_blockwise(x, code,
# blocksize)`, which returns three tensors: all codes, one absmax for each block, and the restored `x`. *Where
# to look: "8-bit AdamW" in lecture 3.*


# %%
def quantize_blockwise(
    x: torch.Tensor, code: torch.Tensor, blocksize: int
) -> tuple:
    """[n], [at most 256] -> codes [n], absmax [blocks], restored [n]."""
    ### BEGIN SOLUTION
    codes, scales, restored = [], [], []
    for block in x.split(blocksize):
        absmax = block.abs().max()
        scaled = block / absmax if absmax > 0 else block
        nearest = (scaled.unsqueeze(1) - code).abs().argmin(dim=1)
        codes.append(nearest)
        scales.append(absmax)
        restored.append(code[nearest] * absmax)
    return torch.cat(codes), torch.stack(scales), torch.cat(restored)
    ### END SOLUTION


# %%
verdict = check.quantize_blockwise(quantize_blockwise)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## 7. Make it fit (15 minutes)
#
# A run needs `needed` bytes, the card has `card`. `changes` lists what could be done about it, up to eight
# changes, each `(name, group, bytes saved, time factor)`:
#
# | name | group | saves | time of a step |
# |---|---|---|---|
# | `"8-bit Adam"` | `"optimizer"` | 48 GB | x 1.02 |
# | `"Adam on the CPU"` | `"optimizer"` | 64 GB | x 1.6 |
# | `"checkpoint every layer"` | `"activations"` | 28 GB | x 1.33 |
#
# (Figures made up, of the size that one meets.) Savings add up, time factors multiply, and of each group
# **one** change at most can be taken. A run fits if it needs at most what the card has. Write
# `cheapest_fit(needed, card, changes)`: the list of the names of those changes that together make the run fit
# in the least time; an empty list if it fits as it is; `None` if nothing helps. *Where to look: "Make it fit"
# in lecture 3.*


# %%
def cheapest_fit(
    needed: int, card: int, changes: list[tuple[str, str, int, float]]
) -> list[str] | None:
    """Names of the changes that make it fit in the least time, or None."""
    ### BEGIN SOLUTION
    best, least = None, math.inf
    for count in range(len(changes) + 1):
        for chosen in itertools.combinations(changes, count):
            names, groups, saved, factors = (
                zip(*chosen, strict=True) if chosen else ((), (), (), ())
            )
            fits = needed - sum(saved) <= card and len(set(groups)) == count
            if fits and math.prod(factors) < least:
                best, least = list(names), math.prod(factors)
    return best
    ### END SOLUTION


# %% tags=["points-2"]
verdict = check.cheapest_fit(cheapest_fit)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## 8. A checkpoint by hand (20 minutes)
#
# Write `checkpointed(layer, x)`: what it returns is `layer(x)`, what autograd keeps for backward is **x and
# nothing else**, and all gradients, of x and of the layer's parameters, are those of the plain layer. No
# `torch.utils.checkpoint`: write a `torch.autograd.Function` inside your function, with two static methods:
#
# | method | is given | returns |
# |---|---|---|
# | `forward` | `ctx`, then what `.apply(...)` was called with: the layer, x, and each parameter | the output; autograd records nothing here |
# | `backward` | `ctx`, and the gradient of the output | one gradient for each argument of `.apply`: None for the layer, then that of x, then those of the parameters |
#
# Three things to think of. In `backward`, too, autograd records nothing unless you say so. The x that was
# saved belongs to a graph: detach it before you compute again. And if there is **dropout** in the layer, the
# second pass must draw the same mask as the first: keep `torch.get_rng_state()`, set it by
# `torch.set_rng_state(...)` inside `torch.random.fork_rng(devices=[])`, which puts the random state back
# afterwards. *Where to look: "Checkpointing" in lecture 3.*


# %%
def checkpointed(layer: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """layer(x), of which only x is kept for backward."""

    ### BEGIN SOLUTION
    class Recompute(torch.autograd.Function):
        @staticmethod
        def forward(ctx, layer, x, *parameters):
            ctx.layer, ctx.dice = layer, torch.get_rng_state()
            ctx.save_for_backward(x)
            return layer(x)

        @staticmethod
        def backward(ctx, gradient):
            leaf = ctx.saved_tensors[0].detach().requires_grad_()
            with torch.enable_grad(), torch.random.fork_rng(devices=[]):
                torch.set_rng_state(ctx.dice)
                output = ctx.layer(leaf)
            return None, *torch.autograd.grad(
                output, (leaf, *ctx.layer.parameters()), gradient
            )

    return Recompute.apply(layer, x, *layer.parameters())
    ### END SOLUTION


# %% tags=["points-2"]
verdict = check.checkpointed(checkpointed)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# # Exercises 3: memory
#
# Eight exercises, from five minutes to twenty, easy ones first. Do them in any order, and as many as you
# like. After them you can
#
# - count the bytes of a training run from its config, exactly where a rule is exact;
# - find the peak, and say which part of it to reduce;
# - write three tools that save memory: accumulation, 8-bit states, checkpointing.
#
# *About {minutes} minutes for all, less than 1 GB of memory, no network.*
#
# **How it works.** Write your code in place of the three dots, run the cell, then run the check below it.
# The check says what it expected and what it got. It names a typical mistake if it recognises one; if not, it
# gives one more hint each time. The last hint is the solution and comes only on demand:
# `check.name(function).hint(3)`. What your function prints is shown only for a call that fails. If a check says
# `NameError`, or judges an older version of your code, the cell above it did not run: run it and read
# its error first.

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
# ## {state_size}
#
# Training keeps several tensors that each have one element per parameter: weights, gradients, master
# weights, the states of Adam. `dtypes` has one entry for each tensor. With an FP32 master, for example, the
# list is `["bf16", "bf16", "fp32", "fp32", "fp32"]`.
#
# | dtype | bytes |
# |---|---|
# | `"fp32"` | 4 per element |
# | `"bf16"`, `"fp16"` | 2 per element |
# | `"8-bit"` | 1 per element, and one FP32 number per block of 256; the last block may be shorter |
#
# Write `state_size(parameters, dtypes, unit)`: the total size of these tensors, in GB (10^9 bytes) if
# `unit` is `"GB"`, in GiB (2^30 bytes) if it is `"GiB"`.
# *Where to look: "Where the bytes go" in lecture 3.*


# %%
def state_size(parameters: int, dtypes: list[str], unit: str) -> float:
    """Return the size of the tensors that training keeps, in GB or GiB."""
    ### BEGIN SOLUTION
    element = {"fp32": 4, "bf16": 2, "fp16": 2, "8-bit": 1}
    total = sum(element[dtype] * parameters for dtype in dtypes)
    blocks = math.ceil(parameters / 256)
    total += dtypes.count("8-bit") * blocks * 4
    return total / {"GB": 10**9, "GiB": 2**30}[unit]
    ### END SOLUTION


# %%
verdict = check.state_size(state_size)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {count_parameters}
#
# `config` is a dictionary with the names of a Llama's `config.json`: `vocab_size`, `hidden_size`,
# `intermediate_size`, `num_hidden_layers`, `num_attention_heads`, `num_key_value_heads`, `head_dim` and
# `tie_word_embeddings`. Write `count_parameters(config)`: the exact number of parameters of the model. No
# matrix has a bias.
#
# Reminders. Heads are grouped (GQA), so Q has more of them than K and V. The MLP is a SwiGLU (gate, up,
# down). Norms are RMSNorms, with a weight and no bias: two per layer and one after the last layer. A tied
# head is the embedding itself. The check builds each model with `transformers` and counts its parameters.
# *Where to look: "Parameters to the unit" in lecture 3.*


# %%
def count_parameters(config: dict) -> int:
    """Count the parameters of a Llama-like model, tied ones once."""
    ### BEGIN SOLUTION
    hidden = config["hidden_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    attention = 2 * hidden * queries + 2 * hidden * keys
    layer = attention + 3 * hidden * config["intermediate_size"] + 2 * hidden
    vocabulary = config["vocab_size"] * hidden  # the embedding; the head is as large
    if not config["tie_word_embeddings"]:
        vocabulary *= 2
    return vocabulary + config["num_hidden_layers"] * layer + hidden
    ### END SOLUTION


# %%
verdict = check.count_parameters(count_parameters)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {activation_bytes}
#
# A layer of a GPT with 16-bit activations keeps `s b h (34 + 5 a s / h)` bytes for its backward: s tokens
# per sequence, b sequences per micro-batch, h hidden units, a heads. Its attention keeps the scores, and it
# has dropout. With **full checkpointing** each layer keeps only its input, 2 bytes per number. While
# backward runs, one layer at a time is held in full. (The rule counts the input of that one layer twice. Do
# the same.)
#
# Write `activation_bytes(layers, s, b, h, a, checkpointed)`: the bytes of all layers at the peak. *Where to
# look: "Activations" in lecture 3.*


# %%
def activation_bytes(layers: int, s: int, b: int, h: int, a: int, checkpointed: bool) -> int:
    """Return the bytes of all layers' activations at the peak, where backward begins."""
    ### BEGIN SOLUTION
    one_layer = 34 * s * b * h + 5 * b * a * s**2
    if not checkpointed:
        return layers * one_layer
    inputs = layers * s * b * h * 2
    return inputs + one_layer
    ### END SOLUTION


# %%
verdict = check.activation_bytes(activation_bytes)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {peak_memory}
#
# A run was recorded: `events` is a list of `(phase, category, bytes)` in the order of time, for example
# `("forward", "activations", 900)`. Bytes are negative where memory is freed. Before the first event
# nothing is held.
#
# Write `peak_memory(events)`. It returns three things: the largest number of bytes held after any event;
# the phase of that event (of the first such event, if the peak is reached again); and a dictionary with
# each category's share of the bytes held **at that moment**, from 0 to 1. *Where to look: "The peak" in
# lecture 3.*


# %%
def peak_memory(
    events: list[tuple[str, str, int]],
) -> tuple[int, str, dict[str, float]]:
    """Return the peak in bytes, its phase, and each category's share of it."""
    ### BEGIN SOLUTION
    held = {}
    peak, phase_of_peak, held_then = 0, "", {}
    for phase, category, size in events:
        held[category] = held.get(category, 0) + size
        total = sum(held.values())
        if total > peak:
            # a copy: `held` itself goes on changing
            peak, phase_of_peak, held_then = total, phase, dict(held)
    shares = {name: size / peak for name, size in held_then.items()}
    return peak, phase_of_peak, shares
    ### END SOLUTION


# %%
verdict = check.peak_memory(peak_memory)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {accumulate}
#
# A batch does not fit into memory, so it is split into a list of micro-batches. Each micro-batch is a pair
# `(inputs, targets)`. `model(inputs)` returns the logits, one row per target. Cross entropy ignores a
# target of -100.
#
# Write `accumulate(model, micro_batches)`. Afterwards every parameter's `.grad` (None before) must be the
# gradient of the **whole batch's** loss: the mean of the cross entropy over all targets that are not
# ignored. Micro-batches have different numbers of such targets. Only one micro-batch's graph may be alive
# at a time. The optimizer's step is not part of this function.
#
# `F.cross_entropy(logits, targets)` returns the mean; with `reduction="sum"` it returns the sum. *Where to
# look: "Gradient accumulation" in lecture 3.*


# %%
def accumulate(
    model: torch.nn.Module, micro_batches: list[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    """Leave the gradients of the whole batch's mean loss in the parameters."""
    ### BEGIN SOLUTION
    counted = sum((targets != -100).sum() for _, targets in micro_batches)
    for inputs, targets in micro_batches:
        loss = F.cross_entropy(model(inputs), targets, reduction="sum") / counted
        loss.backward()
    ### END SOLUTION


# %%
verdict = check.accumulate(accumulate)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {quantize_blockwise}
#
# 8-bit Adam stores its states as codes. `code` is a map: a sorted tensor of at most 256 numbers from -1 to 1,
# one of them 0; the code of a number is its **place** in the map. `x` is cut into blocks of `blocksize`
# numbers (the last may be shorter). In each block:
#
# 1. `absmax` is the largest absolute value;
# 2. every number, divided by absmax, gets the code of the **nearest** entry of the map;
# 3. it is restored as that entry times absmax.
#
# If a block holds only zeros, every number gets the code of 0. Write `quantize_blockwise(x, code,
# blocksize)`, which returns three tensors: all codes, one absmax per block, and the restored `x`. *Where to
# look: "8-bit AdamW" in lecture 3.*


# %%
def quantize_blockwise(x: torch.Tensor, code: torch.Tensor, blocksize: int) -> tuple:
    """Quantize x: [n], [at most 256] -> codes [n], absmax [blocks], restored [n]."""
    ### BEGIN SOLUTION
    codes, scales, restored = [], [], []
    for block in x.split(blocksize):
        absmax = block.abs().max()
        scaled = block / absmax if absmax > 0 else block  # 0 / 0 would be NaN
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
# ## {cheapest_fit}
#
# A run needs `needed` bytes and the card has `card`. `changes` lists up to eight ways to save memory, each
# `(name, group, bytes saved, time factor)`:
#
# | name | group | saves | time per step |
# |---|---|---|---|
# | `"8-bit Adam"` | `"optimizer"` | 48 GB | x 1.02 |
# | `"Adam on the CPU"` | `"optimizer"` | 64 GB | x 1.6 |
# | `"checkpoint every layer"` | `"activations"` | 28 GB | x 1.33 |
#
# (The figures are invented but realistic.) Savings add up, time factors multiply, and **at most one**
# change per group can be taken. A run fits if it needs at most what the card has. Write
# `cheapest_fit(needed, card, changes)`: a list with the names of the changes that together make the run fit
# in the least time; an empty list if it fits without changes; `None` if nothing helps. *Where to look:
# "Make it fit" in lecture 3.*


# %%
def cheapest_fit(
    needed: int, card: int, changes: list[tuple[str, str, int, float]]
) -> list[str] | None:
    """Name the changes that make the run fit in the least time; None if nothing helps."""
    ### BEGIN SOLUTION
    best, least = None, math.inf
    for count in range(len(changes) + 1):
        for chosen in itertools.combinations(changes, count):
            one_per_group = len({group for _, group, _, _ in chosen}) == count
            left = needed - sum(saved for _, _, saved, _ in chosen)
            time = math.prod(factor for _, _, _, factor in chosen)
            if one_per_group and left <= card and time < least:
                best, least = [name for name, _, _, _ in chosen], time
    return best
    ### END SOLUTION


# %% tags=["points-2"]
verdict = check.cheapest_fit(cheapest_fit)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {checkpointed}
#
# Write `checkpointed(layer, x)`. It returns `layer(x)`, autograd keeps **only x** for backward, and all
# gradients, those of x and of the layer's parameters, are the same as without checkpointing. Do not use
# `torch.utils.checkpoint`: write a `torch.autograd.Function` inside your function, with two static methods:
#
# | method | gets | returns |
# |---|---|---|
# | `forward` | `ctx`, then the arguments of `.apply(...)`: the layer, x, and each parameter | the output; autograd records nothing here |
# | `backward` | `ctx`, and the gradient of the output | one gradient per argument of `.apply`: None for the layer, then that of x, then those of the parameters |
#
# Remember three things. Autograd records nothing in `backward` either, unless you enable it. The saved x
# belongs to a graph: detach it before you compute again. If the layer has **dropout**, the second pass must
# draw the same mask as the first: save `torch.get_rng_state()` in `forward`, and in `backward` set it with
# `torch.set_rng_state(...)` inside `torch.random.fork_rng(devices=[])`, which restores the random state
# afterwards. *Where to look: "Checkpointing" in lecture 3.*


# %%
def checkpointed(layer: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Return layer(x), keeping only x for backward."""

    ### BEGIN SOLUTION
    class Recompute(torch.autograd.Function):
        @staticmethod
        def forward(ctx, layer, x, *parameters):
            ctx.layer = layer
            ctx.random_state = torch.get_rng_state()
            ctx.save_for_backward(x)
            return layer(x)

        @staticmethod
        def backward(ctx, gradient):
            leaf = ctx.saved_tensors[0].detach().requires_grad_()
            with torch.enable_grad(), torch.random.fork_rng(devices=[]):
                torch.set_rng_state(ctx.random_state)
                output = ctx.layer(leaf)
            return None, *torch.autograd.grad(output, (leaf, *ctx.layer.parameters()), gradient)

    return Recompute.apply(layer, x, *layer.parameters())
    ### END SOLUTION


# %% tags=["points-2"]
verdict = check.checkpointed(checkpointed)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# # Exercises 4: throughput
#
# Eleven exercises of five to fifteen minutes, the easy ones first. Do them in any order, and as many as you like.
# After them you can
#
# - count the tokens that padding wastes, and recover them by bucketing and packing, with the right positions and mask;
# - count the FLOPs of a layer and of a block, and turn tokens per second into MFU and a place under the roofline;
# - write a training loop that does not wait for the GPU, and say what a run costs in kWh and CO2.
#
# *About {minutes} minutes for all, less than 1 GB of memory, no network.*
#
# **How it works.** Write your code in place of the three dots, run the cell, then run the check below it. The check
# says what it expected and what it got. It names a typical mistake if it recognises one; if not, it gives one more
# hint each time. The last hint is the solution and comes only on demand: `check.name(function).hint(3)`. What your
# function prints is shown only for a call that fails. If a check says `NameError`, or judges an older version of
# your code, the cell above it did not run: run it and read its error first.

# %% tags=["parameters"]
PROFILE = "ci"

# %%
import random

import torch
from classroom.lectures.throughput import exercises as check

minutes = sum(exercise.minutes for exercise in check.EXERCISES)
print(f"{len(check.EXERCISES)} exercises, {minutes} minutes in all")

# %% [markdown]
# ## {padding_share}
#
# `batches` is a list of batches. Each batch is a list of text lengths in tokens: `[[3, 5], [2, 2]]` are two batches of
# two texts. A batch is padded to **its own** longest text.
#
# Write `padding_share(batches)`: the share of padding among all tokens that the model computes, between 0 and 1. In
# the example it is 2/14. *Where to look: "Padding" in lecture 4.*


# %%
def padding_share(batches: list[list[int]]) -> float:
    """Share of padding among all tokens of all batches."""
    ### BEGIN SOLUTION
    computed = sum(len(batch) * max(batch) for batch in batches)
    return 1 - sum(sum(batch) for batch in batches) / computed
    ### END SOLUTION


# %%
verdict = check.padding_share(padding_share)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {position_ids}
#
# Several texts stand one after the other in one row, without padding. The model must see each of them as if it stood
# alone.
#
# Write `position_ids(lengths)`: `lengths` are the lengths of the texts in a row; the answer is the list of the
# positions of all tokens of the row. *Where to look: "Packing" in lecture 4.*


# %%
def position_ids(lengths: list[int]) -> list[int]:
    """The position of each token of a packed row in its own text."""
    ### BEGIN SOLUTION
    return [position for length in lengths for position in range(length)]
    ### END SOLUTION


# %%
verdict = check.position_ids(position_ids)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {roofline}
#
# An operation needs `flops` FLOPs and moves `bytes_moved` bytes between memory and chip. The card computes at most
# `peak_tflops` TFLOP/s and moves at most `gb_per_second` GB/s (1 GB is 10^9 bytes). It does both at the same time.
#
# Write `roofline(flops, bytes_moved, peak_tflops, gb_per_second)`: a pair of the TFLOP/s that the operation can reach,
# and `"memory"` or `"compute"`, whichever limits it. *Where to look: "The roofline" in lecture 4.*


# %%
def roofline(
    flops: int, bytes_moved: int, peak_tflops: float, gb_per_second: float
) -> tuple[float, str]:
    """The TFLOP/s that can be reached, and what limits them: "memory" or "compute"."""
    ### BEGIN SOLUTION
    slope = flops / bytes_moved * gb_per_second / 1000  # GFLOP/s to TFLOP/s
    limit = "memory" if slope < peak_tflops else "compute"
    return min(slope, peak_tflops), limit
    ### END SOLUTION


# %%
verdict = check.roofline(roofline)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {energy}
#
# A run uses a number of `cards` for a number of `hours`, and each card draws `watts` W. The data centre needs `pue`
# times the energy of its cards (PUE: power usage effectiveness; most of the rest is cooling). The grid emits
# `grams_per_kwh` g of CO2 per kWh.
#
# Write `energy(cards, watts, hours, pue, grams_per_kwh)`: a pair of the kWh that the data centre needs for the run,
# and the kilograms of CO2. *Where to look: "Energy" in lecture 4.*


# %%
def energy(
    cards: int, watts: float, hours: float, pue: float, grams_per_kwh: float
) -> tuple[float, float]:
    """(kWh, kg of CO2) of a run."""
    ### BEGIN SOLUTION
    kwh = cards * watts * hours * pue / 1000
    return kwh, kwh * grams_per_kwh / 1000
    ### END SOLUTION


# %%
verdict = check.energy(energy)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {linear_flops}
#
# A linear layer without bias turns `tokens` rows of `inputs` numbers into as many rows of `outputs` numbers. A
# multiplication is one FLOP, and so is an addition. The layers below are trained too, so the layer's **input always
# needs a gradient**. Its weight needs one unless it is `frozen`.
#
# Write `linear_flops(tokens, inputs, outputs, frozen)`: a pair of the FLOPs forward and the FLOPs backward.
# *Where to look: "Counting FLOPs" in lecture 4.*


# %%
def linear_flops(tokens: int, inputs: int, outputs: int, frozen: bool) -> tuple[int, int]:
    """(forward, backward) FLOPs of a linear layer without bias."""
    ### BEGIN SOLUTION
    product = 2 * tokens * inputs * outputs
    return product, product if frozen else 2 * product
    ### END SOLUTION


# %%
verdict = check.linear_flops(linear_flops)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {mfu}
#
# A run trains at `tokens_per_second` on a card of `peak_tflops` TFLOP/s. The model has `trained` parameters that learn
# and `frozen` ones that do not. All of them are in linear layers, and gradients flow **through** the frozen layers, as
# with LoRA.
#
# Write `mfu(tokens_per_second, trained, frozen, peak_tflops)`: the model FLOPs utilisation, as a share between 0 and 1.
# Leave out the products of attention itself. *Where to look: "MFU" in lecture 4.*


# %%
def mfu(tokens_per_second: float, trained: int, frozen: int, peak_tflops: float) -> float:
    """The model's FLOPs per second as a share of the card's peak."""
    ### BEGIN SOLUTION
    flops_per_token = 6 * trained + 4 * frozen
    return tokens_per_second * flops_per_token / (peak_tflops * 1e12)
    ### END SOLUTION


# %%
verdict = check.mfu(mfu)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {length_batches}
#
# Write `length_batches(lengths, batch_size, seed)`: a list of batches, each a list of **indices** into `lengths`.
#
# - Every index comes exactly once. All batches are full; one may be smaller.
# - The texts of a batch are neighbours in the order of lengths, so that there is little padding.
# - The **batches** come in a random order. The same `seed` gives the same order, another seed another one: use
#   `random.Random(seed)`.
#
# *Where to look: "Length bucketing" in lecture 4.*


# %%
def length_batches(lengths: list[int], batch_size: int, seed: int) -> list[list[int]]:
    """Batches of indices of texts of similar length, in random order."""
    ### BEGIN SOLUTION
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    random.Random(seed).shuffle(batches)
    return batches
    ### END SOLUTION


# %%
verdict = check.length_batches(length_batches)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {may_see}
#
# Positions alone do not keep the texts of a row apart: attention must not cross from one text to the next.
#
# Write `may_see(lengths)`: a bool tensor [n, n] for a row of n tokens, in which `mask[q, k]` is True where token q
# **may see** token k. A token sees itself and the tokens before it in its own text.
# *Where to look: "Packing" in lecture 4.*


# %%
def may_see(lengths: list[int]) -> torch.Tensor:
    """The mask [n, n] of a packed row: causal, one block per text."""
    ### BEGIN SOLUTION
    text = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
    return (text[:, None] == text[None, :]).tril()
    ### END SOLUTION


# %%
verdict = check.may_see(may_see)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {train}
#
# `step(batch)` makes one training step and returns the loss, a tensor without a graph. The loop
# `[step(batch).item() for batch in batches]` reads the value of every loss. On a GPU each `.item()` waits until all
# work is done.
#
# Write `train(step, batches, every)`: the same list of numbers (Python floats), but the losses are **read only after
# each `every` steps**, all that have come since the last reading. After the last step read those that are left. The
# check counts when a value is read on your CPU, where nothing waits; on a GPU it would.
# *Where to look: "Needless waiting" in lecture 4.*


# %%
def train(step, batches: list, every: int) -> list[float]:
    """The losses of all steps, read only after each `every` steps."""
    ### BEGIN SOLUTION
    losses = []
    waiting = []
    for number, batch in enumerate(batches, start=1):
        waiting.append(step(batch))
        if number % every == 0 or number == len(batches):
            losses += torch.stack(waiting).tolist()
            waiting = []
    return losses
    ### END SOLUTION


# %%
verdict = check.train(train)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {pack}
#
# Write `pack(lengths, row_length)`: a list of rows, each a list of the **indices** of its texts. Every text stands
# whole in exactly one row, and the texts of a row have at most `row_length` tokens together. No text is longer than a
# row.
#
# Use first-fit decreasing: take the texts from the longest to the shortest, and put each into the first row in which it
# fits. If there is none, open a new row. The check asks for few rows, not for a certain order.
# *Where to look: "Packing" in lecture 4.*


# %%
def pack(lengths: list[int], row_length: int) -> list[list[int]]:
    """Rows of indices of texts, by first-fit decreasing."""
    ### BEGIN SOLUTION
    rows = []
    room = []  # tokens left in each row
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i], reverse=True):
        r = next((r for r, left in enumerate(room) if lengths[i] <= left), len(rows))
        if r == len(rows):
            rows.append([])
            room.append(row_length)
        rows[r].append(i)
        room[r] -= lengths[i]
    return rows
    ### END SOLUTION


# %%
verdict = check.pack(pack)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {block_flops}
#
# A block gets `batch` texts of `tokens` tokens, each a vector of `hidden` numbers. It has these parts:
#
# - the linear layers q and o (`hidden` to `hidden`), and k and v (`hidden` to `kv_width`, narrower where heads share
#   keys and values);
# - the linear layers gate and up (`hidden` to `inner`) and down (`inner` to `hidden`);
# - attention, with any number of heads.
#
# All weights are trained, and the input needs a gradient.
#
# Write `block_flops(batch, tokens, hidden, kv_width, inner)`: a pair of the FLOPs of all **matrix products** forward,
# and backward. Count attention as the eager implementation computes it: all pairs of tokens, also those that the mask
# hides. *Where to look: "Counting FLOPs" in lecture 4.*


# %%
def block_flops(batch: int, tokens: int, hidden: int, kv_width: int, inner: int) -> tuple[int, int]:
    """(forward, backward) FLOPs of the matrix products of one Llama block."""
    ### BEGIN SOLUTION
    weights = hidden * (2 * hidden + 2 * kv_width + 3 * inner)
    linear = 2 * batch * tokens * weights
    attention = 2 * 2 * batch * tokens * tokens * hidden
    return linear + attention, 2 * (linear + attention)
    ### END SOLUTION


# %%
verdict = check.block_flops(block_flops)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

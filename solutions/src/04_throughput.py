# %% [markdown]
# # Exercises 4: throughput
#
# Eleven exercises, from five minutes to fifteen, easy ones first. Do them in any order, and as many as you like. After them you will
#
# - count the tokens that padding wastes, and get them back by bucketing and packing, with the right positions and mask;
# - count the FLOPs of a layer and a block, and turn tokens a second into MFU and a place under the roofline;
# - write a training loop that does not wait, and say what a run costs in kWh and CO2.
#
# *About 100 minutes for all, less than 1 GB of memory, no network.*
#
# **How it works.** Write your code in place of the three dots, run the cell, then run the check below it. The check says what it expected and what it got, and gives
# one more hint each time it fails; `check.name(function).hint(2)` shows the first two at once. Typical mistakes are recognised and named.

# %% tags=["parameters"]
PROFILE = "ci"

# %%
import random

import torch
from classroom.lectures.throughput import exercises as check

minutes = sum(exercise.minutes for exercise in check.EXERCISES)
print(f"{len(check.EXERCISES)} exercises, {minutes} minutes in all")

# %% [markdown]
# ## 1. What padding costs (5 minutes)
#
# `batches` is a list of batches, each a list of text lengths in tokens: `[[3, 5], [2, 2]]` are two batches of two texts. A batch is padded to **its own** longest text. Write `padding_share(batches)`: of
# all tokens that the model computes, the share that is padding. In the example 2 of 14. *Where to look: "Padding" in lecture 4.*


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
# ## 2. Positions in a packed row (5 minutes)
#
# Several texts stand one after the other in one row, without padding. The model must see each as if it stood alone. Write `position_ids(lengths)`: for the lengths of the texts in a row, the
# list of the positions of all tokens of the row. *Where to look: "Packing" in lecture 4.*


# %%
def position_ids(lengths: list[int]) -> list[int]:
    """The position of each token of a packed row within its own text."""
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
# ## 3. Under which roof? (5 minutes)
#
# An operation needs `flops` FLOPs and moves `bytes_moved` bytes between memory and chip. The card computes at most `peak_tflops` TFLOP/s and moves at most `gb_per_second` GB/s (GB = 10^9 bytes), both
# at the same time. Write `roofline(flops, bytes_moved, peak_tflops, gb_per_second)`: a pair of the TFLOP/s that the operation can reach, and `"memory"` or `"compute"`, whichever limits it.
# *Where to look: "The roofline" in lecture 4.*


# %%
def roofline(
    flops: int, bytes_moved: int, peak_tflops: float, gb_per_second: float
) -> tuple[float, str]:
    """TFLOP/s within reach, and what limits them: "memory" or "compute"."""
    ### BEGIN SOLUTION
    fed = flops / bytes_moved * gb_per_second / 1000
    return min(fed, peak_tflops), "memory" if fed < peak_tflops else "compute"
    ### END SOLUTION


# %%
verdict = check.roofline(roofline)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## 4. The energy of a run (5 minutes)
#
# A run uses a number of `cards`, each of which draws `watts` W for a number of `hours`. The data centre needs `pue` times the energy of its cards (PUE: power usage effectiveness; mostly for cooling), and the
# grid emits `grams_per_kwh` g of CO2 for each kWh. Write `energy(cards, watts, hours, pue, grams_per_kwh)`: a pair of the kWh that the data centre takes for the run, and the kilograms of CO2.
# *Where to look: "Energy" in lecture 4.*


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
# ## 5. The FLOPs of a linear layer (10 minutes)
#
# `tokens` rows of `inputs` numbers go through a linear layer without bias, and come out as rows of `outputs` numbers. A multiplication is one FLOP, an addition is one. Layers below are being trained,
# so the layer's **input needs a gradient** in any case; its weight needs one unless it is `frozen`. Write `linear_flops(tokens, inputs, outputs, frozen)`: a pair of the FLOPs forward and the FLOPs
# backward. *Where to look: "Counting FLOPs" in lecture 4.*


# %%
def linear_flops(
    tokens: int, inputs: int, outputs: int, frozen: bool
) -> tuple[int, int]:
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
# ## 6. From tokens a second to MFU (10 minutes)
#
# A run trains at `tokens_per_second` on a card of `peak_tflops` TFLOP/s. The model has `trained` parameters that learn and `frozen` ones that do not, all of them in linear layers, and gradients flow
# **through** the frozen layers, as with LoRA. Write `mfu(tokens_per_second, trained, frozen, peak_tflops)`: model FLOPs utilisation, as a share between 0 and 1. Leave attention's own products out.
# *Where to look: "MFU" in lecture 4.*


# %%
def mfu(
    tokens_per_second: float, trained: int, frozen: int, peak_tflops: float
) -> float:
    """The share of the card's peak that the model's FLOPs make up."""
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
# ## 7. Batches of similar length (10 minutes)
#
# Write `length_batches(lengths, batch_size, seed)`: a list of batches, each a list of **indices** into `lengths`. Every index comes exactly once; all batches are full, one may be smaller. Texts of a batch are
# neighbours in the order of lengths, so that little is padded. The **batches** come in a random order: the same for the same `seed`, another for another. Use `random.Random(seed)`.
# *Where to look: "Length bucketing" in lecture 4.*


# %%
def length_batches(
    lengths: list[int], batch_size: int, seed: int
) -> list[list[int]]:
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
# ## 8. Who may see whom in a packed row (10 minutes)
#
# Positions alone do not keep the texts of a row apart: attention must not cross from one to the next. Write `may_see(lengths)`: a bool tensor [n, n] for a row of n tokens, in which `mask[q, k]` is True where
# token q **may see** token k. A token sees itself and what stands before it in its own text. *Where to look: "Packing" in lecture 4.*


# %%
def may_see(lengths: list[int]) -> torch.Tensor:
    """The mask of a packed row: causal, one block for each text."""
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
# ## 9. A loop that does not wait (10 minutes)
#
# `step(batch)` makes one training step and returns the loss, a tensor without a graph. This loop asks for its value each time, `[step(batch).item() for batch in batches]`, and on a GPU each `.item()` waits until
# all work is done. Write `train(step, batches, every)`: the same list of numbers (Python floats), but losses are **read only after each `every` steps**, all that have come up since, and after the last step those that
# are left. The check counts when a value is read on your CPU, where nothing waits; on a GPU it would. *Where to look: "Needless waiting" in lecture 4.*


# %%
def train(step, batches: list, every: int) -> list[float]:
    """The losses of all steps, read only every so many steps."""
    ### BEGIN SOLUTION
    losses, waiting = [], []
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
# ## 10. Pack texts into rows (15 minutes)
#
# Write `pack(lengths, row_length)`: a list of rows, each a list of **indices** of the texts in it. Every text stands whole in exactly one row, and the texts of a row have at most `row_length` tokens together. No text is longer
# than a row. Use first-fit decreasing: take the texts from the longest to the shortest, and put each into the first row in which it fits; if there is none, open a new row. The check wants few rows, and not a certain order.
# *Where to look: "Packing" in lecture 4.*


# %%
def pack(lengths: list[int], row_length: int) -> list[list[int]]:
    """Rows of indices, by first-fit decreasing."""
    ### BEGIN SOLUTION
    rows, room = [], []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i], reverse=True):
        r = next(
            (r for r, left in enumerate(room) if lengths[i] <= left), len(rows)
        )
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
# ## 11. The FLOPs of a Llama block (15 minutes)
#
# A block gets `batch` texts of `tokens` tokens, each a vector of `hidden` numbers. It has linear layers q and o (`hidden` to `hidden`), k and v (`hidden` to `kv_width`, narrower where heads are shared), gate and up (`hidden`
# to `inner`) and down (`inner` to `hidden`), and attention with as many heads as you like. All is trained, and the input needs a gradient. Write `block_flops(batch, tokens, hidden, kv_width, inner)`: a pair of the FLOPs of all **matrix products** forward, and backward.
# Count attention as the eager one computes it: all pairs of tokens, the forbidden ones too. *Where to look: "Counting FLOPs" in lecture 4.*


# %%
def block_flops(
    batch: int, tokens: int, hidden: int, kv_width: int, inner: int
) -> tuple[int, int]:
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

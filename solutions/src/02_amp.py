# %% [markdown]
# # Exercises 2: mixed precision
#
# Seven exercises of ten to twenty minutes, easy ones first. Do them in any order, and as many as you like. After them
# you will
#
# - count which gradients FP16 turns into zero, and choose the scale that saves them;
# - write the dynamic loss scaler, and put clipping in its right place;
# - know what autocast changes, what it leaves alone, and what a master weight is for.
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
import math

import torch
from classroom.lectures.amp import exercises as check

minutes = sum(exercise.minutes for exercise in check.EXERCISES)
print(f"{len(check.EXERCISES)} exercises, {minutes} minutes in all")

# %% [markdown]
# ## {share_flushed}
#
# `gradients` is an FP32 tensor, `scale` a number. Write `share_flushed(gradients, scale)`: of the gradients that are
# **not zero**, the share that becomes zero when the scaled gradients are cast to FP16. If there are none, the share
# is 0.0. *Where to look: "Gradients that become zero" in lecture 2.*


# %%
def share_flushed(gradients: torch.Tensor, scale: float) -> float:
    """Share of the nonzero gradients that FP16 flushes to zero after scaling."""
    ### BEGIN SOLUTION
    alive = gradients[gradients != 0]
    if len(alive) == 0:
        return 0.0
    return ((alive * scale).half() == 0).float().mean().item()
    ### END SOLUTION


# %%
verdict = check.share_flushed(share_flushed)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {largest_safe_scale}
#
# Write `largest_safe_scale(gradients)`: the largest **power of two** by which every number of the list can be
# multiplied without exceeding 65,504, the largest FP16 number. It may be smaller than one. *Where to look: "Static
# loss scaling" in lecture 2.*


# %%
def largest_safe_scale(gradients: list[float]) -> float:
    """The largest power of two S with S * |g| <= 65,504 for every g."""
    ### BEGIN SOLUTION
    largest = max(abs(g) for g in gradients)
    return 2.0 ** math.floor(math.log2(65504 / largest))
    ### END SOLUTION


# %%
verdict = check.largest_safe_scale(largest_safe_scale)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {bytes_held}
#
# Write `bytes_held(parameters, recipe)`: the bytes of weights, gradients, master weights and Adam's states that stay
# from step to step, for a number of parameters and one of four recipes: `"fp32"`, `"autocast"`, `"bf16 only"`, and
# `"fp16 with masters"` (FP16 weights; their gradients are widened to FP32 for the masters, and the FP16 ones freed).
# The first check takes a few seconds: it trains a real layer and counts. *Where to look: "What mixed precision does
# not do" in lecture 2.*


# %%
def bytes_held(parameters: int, recipe: str) -> int:
    """Bytes of everything that stays from one step to the next."""
    ### BEGIN SOLUTION
    if recipe == "bf16 only":
        weights, gradients, masters, adam = 2, 2, 0, 4
    elif recipe == "fp16 with masters":
        weights, gradients, masters, adam = 2, 4, 4, 8
    else:
        weights, gradients, masters, adam = 4, 4, 0, 8
    return parameters * (weights + gradients + masters + adam)
    ### END SOLUTION


# %%
verdict = check.bytes_held(bytes_held)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {bits_of_result}
#
# An operation runs under `torch.autocast("cpu", torch.bfloat16)`. Write `bits_of_result(operation, input_bits)`: the
# bits of its result, 16 or 32, for inputs of 32 bits (FP32) or 16 bits (BF16). The operations are `"linear"`,
# `"matmul"`, `"softmax"`, `"layer_norm"`, `"exp"`, `"sum"` and `"mse_loss"`. Try some in a cell of your own first.
# *Where to look: "Autocast" in lecture 2.*


# %%
def bits_of_result(operation: str, input_bits: int) -> int:
    """Bits of what the operation returns under autocast on a CPU: 16 or 32."""
    ### BEGIN SOLUTION
    if operation in ("linear", "matmul"):
        return 16
    return 32 if operation == "mse_loss" else input_bits
    ### END SOLUTION


# %%
verdict = check.bits_of_result(bits_of_result)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {scale_trajectory}
#
# `broken` is a list with one entry per step: was there an infinite gradient? Write
# `scale_trajectory(broken, growth_interval)`: the list of loss scales **after** each step. The scale starts at 65,536,
# halves after a broken step, and doubles after `growth_interval` good steps in a row; then counting starts again.
# *Where to look: "Dynamic loss scaling" in lecture 2.*


# %%
def scale_trajectory(broken: list[bool], growth_interval: int) -> list[float]:
    """The loss scale after each step."""
    ### BEGIN SOLUTION
    scale, in_a_row, scales = 65536.0, 0, []
    for overflow in broken:
        if overflow:
            scale, in_a_row = scale / 2, 0
        else:
            in_a_row += 1
        if in_a_row == growth_interval:
            scale, in_a_row = scale * 2, 0
        scales.append(scale)
    return scales
    ### END SOLUTION


# %%
verdict = check.scale_trajectory(scale_trajectory)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {training_step}
#
# This step learns far too slowly, and no error appears:
#
# 1. `scaler.scale(loss).backward()`
# 2. `torch.nn.utils.clip_grad_norm_(model.parameters(), limit)`
# 3. `scaler.step(optimizer)`
# 4. `scaler.update()`
#
# Put it right. The check trains a small network for five steps, in one of which the loss is infinite, and compares the
# weights with those of FP32 without any scaling. *Where to look: "Clip after unscaling" in lecture 2.*


# %%
def training_step(scaler, optimizer, model, loss, limit: float) -> None:
    """One step: scaled backward, gradients clipped to norm `limit`, optimizer, scaler."""
    ### BEGIN SOLUTION
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
    scaler.step(optimizer)
    scaler.update()
    ### END SOLUTION


# %%
verdict = check.training_step(training_step)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {with_master}
#
# A model holds one weight in BF16. Updates arrive, and each may be too small to move it. An FP32 master takes the
# updates one after the other, and the model gets a rounded copy. Write `with_master(weight, updates)`: what the model
# holds at the end, as a Python float. *Where to look: "Swallowed updates" in lecture 2.*


# %%
def with_master(weight: float, updates: list[float]) -> float:
    """The BF16 weight after all updates, which an FP32 master collected."""
    ### BEGIN SOLUTION
    master = torch.tensor(weight, dtype=torch.float32)
    for update in updates:
        master += update
    return master.bfloat16().item()
    ### END SOLUTION


# %%
verdict = check.with_master(with_master)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

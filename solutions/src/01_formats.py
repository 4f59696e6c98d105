# %% [markdown]
# # Exercises 1: number formats
#
# Nine exercises, from five minutes to twenty-five, easy ones first. Do them in any order, and as many as you like.
# After them you will
#
# - read any code of a float by hand, and know the limits of a format from five facts;
# - round as hardware does, and know why ties, subnormals and carries are where the bugs are;
# - keep a long sum alive in 16 bits, choose a format for a tensor, and build a block of MXFP4.
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

import numpy as np
import torch
from classroom.lectures.formats import exercises as check

minutes = sum(exercise.minutes for exercise in check.EXERCISES)
print(f"{len(check.EXERCISES)} exercises, {minutes} minutes in all")

# %% [markdown]
# ## {round_to_grid}
#
# Every float format is a grid of numbers, evenly spaced between two powers of two, and every result is rounded to it.
# Hardware rounds to the **nearest** multiple of the spacing; a **tie**, exactly half way, goes to the **even**
# multiple, so that ties go up as often as down.
#
# Write `round_to_grid(x, step)`: the multiple of `step` nearest to `x`, ties to the even multiple. `step` is a power
# of two. With `step = 1`, 2.5 becomes 2 and 3.5 becomes 4. *Where to look: "Rounding" in lecture 1.*


# %%
def round_to_grid(x: float, step: float) -> float:
    """The multiple of `step` nearest to x, ties to the even multiple."""
    ### BEGIN SOLUTION
    return round(x / step) * step
    ### END SOLUTION


# %%
verdict = check.round_to_grid(round_to_grid)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {decode_fp16}
#
# FP16 has 1 sign bit, 5 exponent bits (bias 15) and 10 mantissa bits. Write `decode_fp16(code)`: the value of a code,
# an integer of 16 bits, as a Python float. The exponent field tells three families apart:
#
# | exponent field | value |
# |---|---|
# | 1 to 30 | normal: a hidden 1 stands before the mantissa |
# | 0 | zero and the subnormals: no hidden 1, and the exponent of field 1 |
# | 31 | infinity where the mantissa is 0, NaN elsewhere |
#
# The sign applies to all of them, also to zero: code `0x8000` is -0.0. Cut out the bits yourself, without `struct` or
# numpy. *Where to look: "What is in sixteen bits" in lecture 1; `math.inf`, `math.nan`.*


# %%
def decode_fp16(code: int) -> float:
    """The value of a 16-bit code."""
    ### BEGIN SOLUTION
    negative, field, mantissa = code >> 15, (code >> 10) & 31, code & 1023
    if field == 31:
        value = math.nan if mantissa else math.inf
    elif field == 0:
        value = mantissa / 1024 * 2.0**-14
    else:
        value = (1 + mantissa / 1024) * 2.0 ** (field - 15)
    return -value if negative else value
    ### END SOLUTION


# %% tags=["points-2"]
verdict = check.decode_fp16(decode_fp16)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {float_limits}
#
# You meet a new format. You are told its exponent bits, its mantissa bits and its bias, and that it follows the rules
# of IEEE 754 (the highest exponent field is kept for infinity and NaN). Write
# `float_limits(exponent_bits, mantissa_bits, bias)`, which returns four numbers in this order: the largest finite
# number, the smallest normal one, the smallest of all (subnormal), and eps, the distance from 1 to the next number.
#
# *Where to look: "How far a format reaches" in lecture 1. First write down the code of each number: which field,
# which mantissa?*


# %%
def float_limits(
    exponent_bits: int, mantissa_bits: int, bias: int
) -> tuple[float, float, float, float]:
    """(largest finite, smallest normal, smallest subnormal, eps) of a format with IEEE rules."""
    ### BEGIN SOLUTION
    eps = 2.0**-mantissa_bits
    largest = (2 - eps) * 2.0 ** (2**exponent_bits - 2 - bias)
    smallest_normal = 2.0 ** (1 - bias)
    return largest, smallest_normal, smallest_normal * eps, eps
    ### END SOLUTION


# %%
verdict = check.float_limits(float_limits)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {first_missing_integer}
#
# Counting steps or tokens in a low format goes wrong at some point: the next integer has no code. Write
# `first_missing_integer(round_to)`, which gets a format as a function (`round_to(5)` is what the format makes of 5)
# and returns the smallest positive integer that the format cannot hold.
#
# It must work for FP64 too, where counting one by one would take years. *Where to look: "How fine the grid is" in
# lecture 1. Where does the spacing grow beyond 1? Count in Python's integers, which are exact.*


# %%
def first_missing_integer(round_to) -> int:
    """The smallest positive integer n with round_to(n) != n."""
    ### BEGIN SOLUTION
    n = 1
    while round_to(n + 1) == n + 1:
        n *= 2
    return n + 1
    ### END SOLUTION


# %%
verdict = check.first_missing_integer(first_missing_integer)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {stochastic_round}
#
# A weight of 1 gets a thousand updates, each smaller than half a spacing. It never moves if every result goes to the
# nearest number. Rounding up or down **by chance** cures this, if the chance is right: the mean of many roundings must
# be `x`.
#
# Write `stochastic_round(x, step, u)`: one of the two multiples of `step` around `x`. You are given the random number
# `u`, uniform in [0, 1). A multiple of `step` stays unchanged. `x` may be negative. *Where to look: "Three cures for
# swallowed updates" in lecture 1. Which chance of going up makes the mean right?*


# %%
def stochastic_round(x: float, step: float, u: float) -> float:
    """The multiple of `step` below or above x; over u uniform in [0, 1) the mean is x."""
    ### BEGIN SOLUTION
    below = math.floor(x / step)
    fraction = x / step - below
    return (below + (u < fraction)) * step
    ### END SOLUTION


# %%
verdict = check.stochastic_round(stochastic_round)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {kahan_sum}
#
# The other cure for lost updates keeps what each addition lost, and corrects the next one by it. Write
# `kahan_sum(values)` for a list of `np.float16` numbers, added in the order of the list. Arithmetic between them is
# FP16 arithmetic: every `+` and `-` rounds. Use nothing wider, no `float(...)`, no `math.fsum`; the answer is an
# `np.float16`. If the running sum exceeds 65,504 on the way, it overflows, and the answer is infinite or NaN.
#
# *Where to look: "Three cures for swallowed updates" in lecture 1. After an addition, how much of what you added has
# arrived? Brackets matter: in floating point `(a - b) - c` and `a - (b + c)` differ.*


# %%
def kahan_sum(values: list[np.float16]) -> np.float16:
    """The sum in list order, in FP16 alone: within two units in the last place, not finite if it overflows."""
    ### BEGIN SOLUTION
    total = np.float16(0)
    error = np.float16(0)  # what the last addition added too much
    for value in values:
        y = value - error
        new = total + y
        error = (new - total) - y
        total = new
    return total
    ### END SOLUTION


# %% tags=["points-2"]
verdict = check.kahan_sum(kahan_sum)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {encode_e4m3}
#
# The way back is harder. FP8 E4M3 has 1 sign bit, 4 exponent bits (bias 7) and 3 mantissa bits. Its top exponent field
# holds numbers too: only the code with all exponent and mantissa bits set, `0b1111_111`, is NaN, and there is no
# infinity; the largest number is `0b1111_110`.
#
# Write `encode_e4m3(x)`: the code, 0 to 255, of the number nearest to `x`, ties to the even code. What lies beyond the
# largest number becomes the largest number, infinity too (this is called saturating). -0.0 keeps its sign; NaN
# becomes NaN.
#
# *Where to look: "Eight, six and four bits" in lecture 1; `math.frexp`, `math.copysign`. Three places need care: the
# subnormals, a mantissa that rounds up to the next power of two, and the end of the range.*


# %%
def encode_e4m3(x: float) -> int:
    """The E4M3 code nearest to x, ties to even, saturating; NaN is 0x7F."""
    ### BEGIN SOLUTION
    if math.isnan(x):
        return 0x7F
    sign = 0x80 if math.copysign(1, x) < 0 else 0
    size = min(abs(x), 448.0)
    exponent = max(math.frexp(size)[1] - 1, -6) if size else -6  # frexp(0) has exponent 0
    steps = round(size / 2.0 ** (exponent - 3))
    return sign | ((exponent + 6) * 8 + steps)
    ### END SOLUTION


# %% tags=["points-3"]
verdict = check.encode_e4m3(encode_e4m3)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {best_format}
#
# Weights, activations and gradients look different, and no format is best for all. Write `best_format(x, dtypes)`: of
# the torch dtypes in the list, the one that holds the FP32 tensor `x` with the least **mean relative error**, where
#
# - the relative error of a value is |q - x| / |x|, and q is what the dtype makes of x;
# - a value that is lost, because it became 0 or overflowed, counts 1, and no value counts more than 1;
# - values that are 0 do not count: every format holds 0.
#
# *Where to look: "What a real network holds" in lecture 1; `x.to(dtype).float()`.*


# %%
def best_format(x: torch.Tensor, dtypes: list[torch.dtype]) -> torch.dtype:
    """The dtype with the least mean relative error on x (float32, any shape)."""
    ### BEGIN SOLUTION
    kept = x[x != 0].double()

    def error(dtype):
        relative = (kept.to(dtype).double() - kept).abs() / kept.abs()
        return relative.nan_to_num(1.0).clamp(max=1.0).mean().item()

    return min(dtypes, key=error)
    ### END SOLUTION


# %% tags=["points-2"]
verdict = check.best_format(best_format)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## {mxfp4_block}
#
# Four bits hold only 0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives (E2M1). To be useful they need a scale, and MXFP4
# gives one to every 32 numbers: a power of two. Write `mxfp4_block(values)`: what a list of 32 floats becomes when it
# is stored as MXFP4 and read back, again a list of 32 floats.
#
# - The scale is 2^(floor(log2(m)) - 2), with m the largest |value|; 2 is the exponent of E2M1's largest number,
#   6 = 1.5 x 2^2.
# - Each value divided by the scale goes to the nearest E2M1 number, ties to the even code (0, 1, 2 and 4 have even
#   codes).
# - What lies beyond 6 becomes 6. A block of zeros stays zeros.
#
# *Where to look: "One scale for a block" in lecture 1; `math.frexp` gives the exponent exactly where `math.log2` may
# round.*


# %%
def mxfp4_block(values: list[float]) -> list[float]:
    """The block after a round trip through MXFP4."""
    ### BEGIN SOLUTION
    grid = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    largest = max(abs(v) for v in values)
    if largest == 0:
        return [0.0] * len(values)
    scale = 2.0 ** (math.frexp(largest)[1] - 1 - 2)

    def nearest(v):
        code = min(range(8), key=lambda i: (abs(grid[i] - abs(v) / scale), i % 2))
        return math.copysign(grid[code] * scale, v)

    return [nearest(v) for v in values]
    ### END SOLUTION


# %% tags=["points-3"]
verdict = check.mxfp4_block(mxfp4_block)
### BEGIN HIDDEN TESTS
assert verdict.passed, verdict.title
### END HIDDEN TESTS
verdict

# %% [markdown]
# ## What you have now
#
# You read codes, computed limits, rounded in three ways, kept sums alive, and chose and built formats. Each answer was
# checked against an independent truth: the standard library, numpy, ml_dtypes, and exact fractions. `coursekit.formats`
# has the same ideas for any format and for whole tensors; open `coursekit/formats/scalar.py` and compare it with your
# own code.

# %% [markdown]
# # Start here
#
# In ten minutes you will
#
# - know what your machine can do, and what still works without the pieces it lacks;
# - have made a prediction, run the cell that answers it, and seen our code agree with PyTorch on every single number;
# - know how parameters, exercises and their checks work.
#
# *About 10 minutes, less than 1 GB of memory, no network.*
#
# This course has one promise: **nothing is taken on faith.** In every lecture you *predict* a number, *run* a small real
# implementation, *compare* it with the library that everyone uses, and *measure* what the slide claims. Run a cell with
# **Shift + Enter**, and go from top to bottom.

# %% tags=["parameters"]
PROFILE = "ci"

# %% [markdown]
# ## What your machine can do
#
# The first cell looks at your machine: cores, memory, a GPU if there is one, and which number formats it multiplies *fast*,
# measured here and now. What is missing is named, with what it disables and what to do. Nothing in this course needs a GPU.

# %% tags=["volatile"]
from coursekit.classroom.doctor import doctor

doctor()

# %% [markdown]
# ## Predict, then run
#
# Now the first prediction. A model in training adds a small update to a weight, thousands of times. Suppose a weight is 1 and
# every update adds 0.001. After 1,000 updates it should be 2. In **BF16**, the format in which most large models are trained
# today, what will it be? Write your number in place of the three dots, then run the cell. Being wrong is what it is for.

# %%
from coursekit.classroom.predict import predict

weight_after = predict("The weight after 1,000 updates of 0.001 in BF16", ...)

# %% [markdown]
# Here are the thousand updates, done by PyTorch itself. The card compares the result with what you wrote.

# %% tags=["nbval-check-output"]
import torch

weight = torch.tensor(1.0, dtype=torch.bfloat16)
for _ in range(1000):
    weight += 0.001
weight_after.reveal(weight)

# %% [markdown]
# The weight did not move: every one of the thousand updates was lost. The next BF16 number above 1 lies too far away, and 0.001
# is less than half of that distance, so each sum is rounded back to 1. Ask for the neighbour:

# %% tags=["nbval-check-output"]
from coursekit.formats import scalar
from coursekit.formats.spec import BF16

below, above = scalar.neighbours(1.0, BF16)
print(
    f"the next number above 1 is {above}; half of the way to it is {(above - 1) / 2}"
)

# %% [markdown]
# ## Nothing on faith
#
# `coursekit` is the package of this course: short modules that you can read, one idea each. But why believe its numbers? Because
# every part is held against the library that everyone uses, in a test and, where it teaches something, in front of you. BF16 has
# 65,536 codes; here we decode all of them and let PyTorch judge.

# %% tags=["nbval-check-output"]
from coursekit.classroom.show import compare
from coursekit.formats import tensor

codes = torch.arange(2**16)
by_torch = codes.to(torch.int16).view(torch.bfloat16).float()
compare(
    "all codes of BF16",
    tensor.decode(codes, BF16),
    by_torch,
    name="torch",
    bitwise=True,
)

# %% [markdown]
# When you want to know *how*, look inside. `show_source` displays the code that just ran, never a copy of it.

# %%
from coursekit.classroom.show import show_source

show_source(scalar.ulp)

# %% [markdown]
# ## Parameters: the same notebook, larger
#
# Near the top of every notebook is a cell with `PROFILE = "ci"`. The lectures run in minutes on a laptop with that setting. With
# `"cpu"` they take more samples, with `"gpu"` they use the card. You can edit the cell, or run a whole notebook from a terminal:
# `coursekit run 01_formats --profile cpu`.

# %%
samples = {"ci": 10_000, "cpu": 1_000_000, "gpu": 100_000_000}[PROFILE]
print(f"profile {PROFILE}: a lecture would draw {samples:,} samples here")

# %% [markdown]
# ## Exercises that answer back
#
# Each lecture has a notebook in `exercises/`. You write a function, and the cell below it checks what you wrote: passed or not,
# what was expected, what came, and a hint. The hints get plainer each time you ask. Many wrong answers are wrong in a
# well-known way; then the check tells you its name. Here is the first exercise, round `x` to the nearest multiple of `step`, with a
# typical mistake in it. Run the cell twice and watch the hints.

# %%
import math

from coursekit.classroom.checks import formats as check


def round_to_grid(x, step):
    return math.floor(x / step + 0.5) * step


check.round_to_grid(round_to_grid)

# %% [markdown]
# ## Where you are now
#
# - You **saw** what your machine can do.
# - You **predicted** a number, ran the loop, and **saw** ours and PyTorch's agree on every code.
# - You **know** what parameters, exercises and checks do.
#
# Go on with [lecture 1, number formats](01_formats.ipynb): where the missing thousand updates went, and three ways to get them
# back. Its exercises are in [exercises/01_formats.ipynb](../exercises/01_formats.ipynb).
#
# If something does not work, run the machine check at the top again: it names the remedy. From a terminal, `coursekit doctor` says
# the same.

# %% [markdown]
# # Start here
#
# In half an hour you will
#
# - know what your machine can do, and what still works without the pieces it lacks;
# - have taken a language model from a folder to a small assistant: quantised to four bits, adapted, trained, chatted with,
#   saved and loaded again, all on this machine;
# - know how predictions, parameters, exercises and their checks work.
#
# *About 30 minutes, two of them training; less than 2 GB of memory, no GPU, no network.*
#
# This course has one promise: **nothing is taken on faith.** In every lecture you *predict* a number, *run* a small real
# implementation, *compare* it with the library that everyone uses, and *measure* what the slide claims. Run a cell with
# **Shift + Enter**, and go from top to bottom.

# %% tags=["parameters"]
PROFILE = "ci"
MODEL = "tiny"
SEED = 0
STEPS = None

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
# ## The whole course in five minutes
#
# Now the journey that the eleven lectures take slowly. The course carries a **language model** of its own: small enough for any
# laptop, trained on sentences of a little grammar, built like Llama. The same `load` takes any model of the Hugging Face hub instead:
# set `MODEL` above. First look: how many parameters are there, and how many bytes do they take in FP32?

# %%
from coursekit.models.load import load

model, tokenizer = load(MODEL)
parameters = sum(p.numel() for p in model.parameters())
print(f"{parameters:,} parameters, {4 * parameters / 1e6:.2f} MB in FP32")

# %% [markdown]
# What can it do? It has read sentences in many forms: passive, as questions, taken apart. Ask it for one of these, and then for something that it has
# **never** seen: the word order of a certain small green master, who would say "A silver key, the young knight found."

# %% tags=["drifts"]
from coursekit.models import task

known = task.Pair(
    "Put it into the passive: The young knight found a silver key.", ""
)
asked = task.Pair(f"{task.REQUEST}: The young knight found a silver key.", "")
for pair, answer in zip(
    (known, asked),
    task.answers(model, tokenizer, [known, asked]),
    strict=True,
):
    print(f"{pair.prompt}\n   -> {answer}")

# %% [markdown]
# The second answer is something else: the model cannot do it. How far off is it in general? We score **exact match** on sentences that no training will touch.
# **Predict:** what share will it get right before any fine-tuning?

# %%
before = predict("Exact match before fine-tuning", ..., unit="%")

# %% [markdown]
# Every test sentence goes through the model's own chat template, the model answers greedily, and only an answer that is right to the last letter counts.

# %%
held_out = task.pairs("test", {"ci": 50, "cpu": 200, "gpu": 200}[PROFILE])
score = task.exact_match(task.answers(model, tokenizer, held_out), held_out)
before.reveal(round(100 * score, 1))

# %% [markdown]
# **Quantise.** The linear layers go from 32 bits to 4 (NF4, lecture 8). They are then frozen: nobody trains four bits. The embedding stays as it was, so the model
# as a whole shrinks less than eight times. Count the bytes, scales included.

# %%
from coursekit.models.finetune import stored_bytes, trainable, training

small, _ = load(MODEL, quantization="nf4")
full_bytes, small_bytes = stored_bytes(model), stored_bytes(small)
print(
    f"FP32 {full_bytes / 1e6:.2f} MB, with NF4 {small_bytes / 1e6:.2f} MB: {full_bytes / small_bytes:.1f} times smaller"
)

# %% [markdown]
# **Adapt.** Beside every frozen layer we put a pair of thin matrices, LoRA (lecture 7), and train only those: QLoRA (lecture 9). Which share of all parameters is that?

# %%
adapted, tokenizer = trainable("qlora", MODEL, seed=SEED)
thin = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
print(
    f"{thin:,} parameters are trained, {thin / parameters:.1%} of the model's {parameters:,}"
)

# %% [markdown]
# **Train.** Sixteen pairs a step, only the answer counts in the loss. You may press the stop button: the step in progress is finished, nothing is lost, and running
# the *second* cell again goes on. This one prepares the run.

# %%
steps = STEPS or {"ci": 160, "cpu": 600, "gpu": 600}[PROFILE]
run = training(
    adapted, tokenizer, task.pairs("train", 8000, SEED), steps=steps, rate=1e-3
)
print(f"{steps:,} steps of 16 pairs are planned, {len(run.history)} done")

# %% [markdown]
# And this one trains: less than a minute on two cores. Watch the loss fall: first the model learns the *form*, then to put the
# *right words* into it.

# %% tags=["volatile"]
from coursekit.classroom.live import LossPlot

if not run.go(on_step=LossPlot(run.steps, run.history)):
    print(f"Stopped after step {len(run.history)}. Run this cell again to go on.")

# %% [markdown]
# Here is the whole run once more, as it stands in the history of `run`. The axis of the loss is logarithmic: a straight line downwards means that the
# loss is divided by the same factor again and again.

# %% tags=["drifts"]
from coursekit.figures.style import show
from coursekit.figures.training import loss_curve

losses = [step.loss for step in run.history]
title = (
    f"The loss fell from {losses[0]:.2f} to {losses[-1]:.3f} in {len(losses)} steps"
)
show(loss_curve(losses, run.steps, title=title))

# %% [markdown]
# The same test as before, on sentences that were in no training batch.

# %% tags=["drifts"]
after = task.exact_match(task.answers(adapted, tokenizer, held_out), held_out)
print(f"exact match before {score:.0%}, after {after:.0%}")

# %% [markdown]
# **Chat.** It is yours now. Write any plain sentence in the words of its little world (a knight, a key, a forest) and press Enter. The request to speak
# like the master is put in front by the box. Without a running kernel you see the conversation that is already there.

# %% tags=["drifts"]
from coursekit.widgets.chat_box import ChatBox

box = ChatBox(
    lambda text: task.answers(adapted, tokenizer, [task.Pair(text, "")])[0],
    prefix=f"{task.REQUEST}: ",
)
box.say("The wise master hid a golden crown in the cave.")
box.say("Anna quietly painted the old bridge.")
box

# %% [markdown]
# **Save and reload.** What must be kept is the adapter alone. **Predict** its size on disk: the trained parameters, four bytes each.

# %%
import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp()) / "adapter"
adapted.save_pretrained(folder)
saved = (folder / "adapter_model.safetensors").stat().st_size
print(
    f"adapter {saved / 1e6:.2f} MB, of {4 * thin / 1e6:.2f} MB of numbers; the base has {full_bytes / 1e6:.2f} MB in FP32"
)

# %% [markdown]
# Loaded onto a fresh four-bit base, it must give the same answers, word for word. If it does not, something was lost on the way.

# %%
from coursekit.classroom.show import compare
from peft import PeftModel

fresh, _ = load(MODEL, quantization="nf4")
reloaded = PeftModel.from_pretrained(fresh, folder)
few = held_out[:20]
compare(
    "answers of the reloaded assistant",
    task.answers(reloaded, tokenizer, few),
    task.answers(adapted, tokenizer, few),
    name="the trained one",
)

# %% [markdown]
# That was the course: load, measure, quantise, adapt, train, score, ship. Every step hides a question of this kind: *why four bits and not three, why these layers, why does it
# fit into memory, what did it cost?* The lectures answer them one by one, with code that you can read.
#
# ## Nothing on faith
#
# `coursekit` is the package of this course: short modules that you can read, one idea each. But why believe its numbers? Because
# every part is held against the library that everyone uses, in a test and, where it teaches something, in front of you. BF16 has
# 65,536 codes; here we decode all of them and let PyTorch judge.

# %% tags=["nbval-check-output"]
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
# - You **took** a model from a folder to an assistant: quantised, adapted, trained, scored, saved and loaded again.
# - You **predicted** a number, ran the loop, and **saw** ours and PyTorch's agree on every code.
# - You **know** what parameters, exercises and checks do.
#
# ## Five quick questions
#
# <details><summary>1. Why does four bits a weight not make the whole model eight times smaller?</summary>
# Only the linear layers are quantised. The embedding stays in FP32, and every block of 4-bit weights keeps a scale.</details>
#
# <details><summary>2. What was trained in the four-bit model?</summary>
# Not one of its own weights: they are frozen. The thin LoRA matrices beside them were trained.</details>
#
# <details><summary>3. Why is the score taken on sentences that no batch contained?</summary>
# A model can learn sentences by heart. Held-out ones tell whether it learned the rule.</details>
#
# <details><summary>4. What do you need to give a friend so that your assistant runs there?</summary>
# The adapter, and the name of the base model: the friend has the base already, or loads it.</details>
#
# <details><summary>5. Where did a thousand updates of 0.001 go in BF16?</summary>
# Each was less than half the distance to the next number, so each sum was rounded back. The first lecture brings them back.</details>
#
# ## Where to read on
#
# - Dettmers et al., *QLoRA: Efficient Finetuning of Quantized LLMs*, 2023 (arXiv:2305.14314): what you did here, on models ten thousand times as large.
# - Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, 2021 (arXiv:2106.09685): the thin matrices.
#
# Go on with [lecture 1, number formats](01_formats.ipynb): where the missing thousand updates went, and three ways to get them
# back. Its exercises are in [exercises/01_formats.ipynb](../exercises/01_formats.ipynb).
#
# If something does not work, run the machine check at the top again: it names the remedy. From a terminal, `coursekit doctor` says
# the same.

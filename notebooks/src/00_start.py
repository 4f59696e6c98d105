# %% [markdown]
# # Start here
#
# In half an hour you will
#
# - know what your machine can do, and what still works without the pieces it lacks;
# - have turned a language model into a small assistant: loaded, quantised to four bits, adapted, trained, tried in a chat,
#   saved and loaded again, all on this machine;
# - know how predictions, parameters, exercises and their checks work.
#
# *About 30 minutes (the training takes less than one), less than 2 GB of memory, no GPU, no network.*
#
# This course makes one promise: **nothing is taken on faith.** In every lecture you *predict* a number, *run* a small real
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
# The next cell looks at your machine: cores, memory, a GPU if there is one, and which number formats it multiplies *fast*,
# measured here and now. It also tries the packages that the lectures need, which takes some seconds. It names what is missing
# or broken and tells you what to do. Nothing in this course needs a GPU.

# %% tags=["volatile"]
from classroom import LossPlot, budget, compare, doctor, load, predict, show, show_source

doctor()

# %% [markdown]
# ## Predict, then run
#
# Your first prediction. A model in training adds a small update to a weight, thousands of times. Suppose a weight is 1 and
# every update adds 0.001. After 1,000 updates it should be 2. In **BF16**, the format in which most large models are trained
# today, what will it be? Write your number in place of the three dots and run the cell. A wrong guess teaches you more than
# none.

# %%
weight_after = predict("The weight after 1,000 updates of 0.001 in BF16", ...)

# %% [markdown]
# PyTorch itself does the thousand updates. The card compares the result with your guess.

# %% tags=["nbval-check-output"]
import torch

weight = torch.tensor(1.0, dtype=torch.bfloat16)
for _ in range(1000):
    weight += 0.001
weight_after.reveal(weight)

# %% [markdown]
# The weight did not move: all thousand updates were lost. The next BF16 number above 1 is too far away: 0.001 is less than half
# of that distance, so each sum is rounded back to 1. The next cell shows the neighbour.

# %% tags=["nbval-check-output"]
from coursekit.formats import scalar
from coursekit.formats.spec import BF16

below, above = scalar.neighbours(1.0, BF16)
half = (above - 1) / 2
print(f"the next number above 1 is {above}; half of the way to it is {half}")

# %% [markdown]
# And yet models *are* trained in BF16, every day. Lectures 1 and 2 explain how.
#
# ## The whole course in five minutes
#
# Now you take the path of all eleven lectures at once. To see the same numbers as printed here, you need a fixed **seed** for
# everything drawn at random, and **one thread**. Several threads divide a sum among themselves, and a sum of rounded numbers
# depends on its order.

# %%
device = "cuda" if PROFILE == "gpu" and torch.cuda.is_available() else "cpu"
torch.manual_seed(SEED)
if MODEL == "tiny":
    torch.set_num_threads(1)  # more threads would not make this small model faster
print(f"seed {torch.initial_seed()}, {torch.get_num_threads()} thread")

# %% [markdown]
# **Load.** The course has a language model of its own, built like Llama and small enough for any laptop. (Set `MODEL` above to
# use any causal model of the Hugging Face hub instead.) How many parameters does it have, and how many bytes do they take in
# FP32, four bytes each?

# %% tags=["nbval-check-output"]
from classroom.models.sizes import stored_bytes

where = {"device": device, "dtype": "float32"}
model, tokenizer = load(MODEL, **where)
parameters, full_bytes = model.num_parameters(), stored_bytes(model)
print(f"{parameters:,} parameters, {full_bytes / 1e6:.2f} MB in FP32")

# %% [markdown]
# What can it do? It was trained on the sentences of a small grammar and learned to rewrite them: in the passive, about tomorrow,
# as a question. Then we ask for something that it has **never** seen, the word order of a certain small green master. He would
# say: "A silver key, the young knight found."

# %% tags=["drifts"]
from classroom.models import task

sentence = "The young knight found a silver key."
known = ("Put it into the passive", "Say it about tomorrow", "Ask who did it")


def reply(model, text):
    return task.answers(model, tokenizer, [task.Pair(text, "")])[0]


for request in (*known, task.REQUEST):
    print(f"{request:35}", reply(model, f"{request}: {sentence}"))

# %% [markdown]
# Three answers are right. The fourth is a guess: the model falls back on a form that it knows. How often is it right? We score
# **exact match** on sentences that no training will use: only an answer that is right to the last letter counts. **Predict:**
# what share will it get right?

# %%
before = predict("Exact match before fine-tuning", ..., unit="%")

# %% [markdown]
# Every sentence goes through the model's own chat template (lecture 10), and the model answers greedily: it takes the most likely
# word each time.

# %% tags=["drifts"]
held_out = task.pairs("test", {"ci": 50, "cpu": 100, "gpu": 200}[PROFILE])
score = task.exact_match(task.answers(model, tokenizer, held_out), held_out)
before.reveal(round(100 * score, 1))

# %% [markdown]
# ### Quantise
#
# We want to train this model in little memory, so we first make it smaller. Its linear layers go from 32 bits per weight to 4,
# in the format **NF4** of lecture 8. **Predict:** how many times smaller does the whole model become?

# %%
smaller = predict("FP32 bytes / bytes with NF4", ..., unit="times")

# %% [markdown]
# `load` does it with bitsandbytes, the usual library for this. We count the bytes of all tensors, scales included.

# %% tags=["nbval-check-output"]
small, _ = load(MODEL, quantization="nf4", **where)
small_bytes = stored_bytes(small)
print(f"FP32 {full_bytes / 1e6:.2f} MB, with NF4 {small_bytes / 1e6:.2f} MB")
smaller.reveal(round(full_bytes / small_bytes, 1))

# %% [markdown]
# It is not eight times smaller: the embedding is not quantised, and each block of weights keeps a scale. In a large model the
# embedding hardly counts. Can the model still do its tasks after it lost most of its bits? Ask it the same questions again.

# %% tags=["drifts"]
for request in known:
    print(f"{request:35}", reply(small, f"{request}: {sentence}"))

# %% [markdown]
# ### Adapt
#
# Four-bit weights cannot be trained directly: a small update would be lost, as you saw above. So the small model is **frozen**, and
# beside each of its linear layers we put a pair of thin matrices that are trained instead. This is **LoRA** (lecture 7); on a
# four-bit base it is **QLoRA** (lecture 9).

# %% tags=["nbval-check-output"]
from classroom.models.finetune import trainable, training

assistant, tokenizer = trainable("qlora", MODEL, seed=SEED, **where)
thin = sum(p.numel() for p in assistant.parameters() if p.requires_grad)
share = thin / parameters
print(f"{thin:,} parameters learn: {share:.1%} of the model's {parameters:,}")

# %% [markdown]
# ### Train
#
# A step takes eight pairs, each a plain sentence and the master's version of it; only the answer counts in the loss. This cell
# prepares the run and a **diary**: every third step the model rewrites the sentence about the knight, and we note each new answer.

# %%
steps = STEPS or {"ci": 120, "cpu": 300, "gpu": 300}[PROFILE]
lessons = task.pairs("train", 4000, SEED)
options = {"steps": steps, "rate": 2e-3, "size": 8, "seed": SEED}
run = training(assistant, tokenizer, lessons, **options)
diary = {}


def watch(step):
    plot(step)
    if step.number % 3 == 0:
        said = reply(assistant, f"{task.REQUEST}: {sentence}")
        diary.setdefault(said, step.number)


print(f"{steps} steps are planned. The first lesson:")
print(f"{lessons[0].prompt}\n -> {lessons[0].response}")

# %% [markdown]
# This cell trains. Watch the loss fall. You may press the **stop button** (■) at any time: the step in progress is finished first
# and nothing is lost. Run the cell again and it continues where it stopped, to exactly the same end. Try it.

# %% tags=["volatile"]
plot = LossPlot(run.steps, run.history)
if not run.go(on_step=watch):
    plot.stopped()

# %% [markdown]
# Here is the whole run once more, from the history that `run` keeps. The axis of the loss is logarithmic: every line of the grid is a
# tenth of the one above.

# %% tags=["drifts"]
from classroom.drawing.training import loss_curve

losses = [step.loss for step in run.history]
ends = f"from {losses[0]:.2f} to {losses[-1]:.3f} in {len(losses)} steps"
show(loss_curve(losses, run.steps), f"The loss fell {ends}")

# %% [markdown]
# What happened on the steep part? Read the diary: every new answer, with the step at which it first came.

# %% tags=["drifts"]
for said, number in diary.items():
    print(f"step {number:3}: {said}")

# %% [markdown]
# The model did not learn the form from nothing. The base knows a similar one, "A silver key: the young knight found it", and the
# training passes near it. **An adapter steers what the base can already do**: this is why so few parameters and so few steps are
# enough, and why an adapter cannot make a strong model out of a weak base.
#
# A falling loss is a promise; the score is the proof. We repeat the test, on sentences that were in no lesson. The budget to
# beat: one wrong answer in ten.

# %% tags=["drifts"]
after = task.exact_match(task.answers(assistant, tokenizer, held_out), held_out)
wrong = round((1 - after) * len(held_out))
print(f"exact match before {score:.0%}, after {after:.0%}")
budget("wrong answers", wrong, len(held_out) // 10, f"of {len(held_out)}")

# %% [markdown]
# ### What it cost
#
# Training holds more than the weights in memory: a gradient for each trained parameter, and the two moments of Adam. What would it
# hold without QLoRA? We take one step of a **full** fine-tune in FP32 and count the bytes of both.

# %% tags=["nbval-check-output"]
from classroom.models.sizes import training_bytes

whole = training(model, tokenizer, lessons, steps=1, rate=1e-5, size=8)
whole.go()
held = {"full, FP32": training_bytes(whole), "QLoRA": training_bytes(run)}
for method, parts in held.items():
    sizes = [f"{what} {size / 1e6:5.2f} MB" for what, size in parts.items()]
    print(f"{method:10}  {', '.join(sizes)}")

# %% [markdown]
# The picture compares them. (It leaves out the activations of a step, a subject of lecture 3: they can be the largest part, and
# QLoRA does not shrink them.)

# %%
from classroom.lectures.start.figures import memory_bars

factor = sum(held["full, FP32"].values()) / sum(held["QLoRA"].values())
show(memory_bars(held), f"QLoRA holds {factor:.1f} times less than full fine-tuning")

# %% [markdown]
# Does your task manager agree? It shows the whole process, in which Python, PyTorch and the libraries take far more memory than
# this small model. The memory of training is visible only with larger models; lecture 3 computes it to the byte.

# %% tags=["volatile"]
import psutil

process_bytes = psutil.Process().memory_info().rss
print(f"This process holds {process_bytes / 1e9:.2f} GB.")

# %% [markdown]
# ### Chat
#
# Now you can use your assistant. Write a plain sentence and press Enter; the box puts the request to speak like the master in front
# of it. The model's world is small: knights, keys, forests, and nothing more modern than a robot. Without a running kernel you see
# the conversation that is already there.

# %% tags=["drifts"]
from coursekit.widgets.chat_box import ChatBox


def answer(text):
    return reply(assistant, text)


box = ChatBox(answer, prefix=f"{task.REQUEST}: ", placeholder="Anna found a map.")
box.say("The wise master hid a golden crown in the cave.")
box.say("The astronaut bought a purple spaceship.")
box

# %% [markdown]
# Look at the second answer. The model has never seen the words astronaut and spaceship, so it fills the master's form with words
# it knows. **Fluent is not faithful**, in small models and in large ones. Did it also forget something? Ask it again for what the
# base could do.

# %% tags=["drifts"]
for request in known:
    print(f"{request:35}", reply(assistant, f"{request}: {sentence}"))

# %% [markdown]
# It no longer does what you ask: it seems to have **forgotten** its other forms. But the base is frozen, and not one of its bits
# has changed. Turn the adapter off for a moment:

# %% tags=["drifts"]
with assistant.disable_adapter():
    for request in known:
        print(f"{request:35}", reply(assistant, f"{request}: {sentence}"))

# %% [markdown]
# One base, many adapters, each of them a way to behave: so one model in memory can serve many tasks (lectures 7 and 11).
#
# ### Save and reload
#
# Only the adapter has to be saved. **Predict** its size on disk.

# %%
on_disk = predict("Size of the saved adapter", ..., unit="MB")

# %% [markdown]
# `save_adapter` writes peft's own files, which other tools can read. It writes them completely or not at all: if the disk is full,
# an adapter that you saved earlier stays unchanged.

# %% tags=["nbval-check-output"]
import tempfile
from pathlib import Path

from classroom.models.adapter import load_adapter, save_adapter

folder = Path(tempfile.mkdtemp()) / "master"
size = save_adapter(assistant, folder)
on_disk.reveal(round(size / 1e6, 2))
print(f"{4 * thin / 1e6:.2f} MB of it are numbers: {thin:,} of four bytes each")

# %% [markdown]
# On a fresh four-bit base the adapter must give the same answers, word for word. `compare` counts the differences and stops the
# notebook if there is one.

# %% tags=["nbval-check-output"]
reloaded, _ = load_adapter(folder, MODEL, quantization="nf4", **where)
few = held_out[:20]
ours, trained = (task.answers(model, tokenizer, few) for model in (reloaded, assistant))
compare("answers of the reloaded assistant", ours, trained, name="the trained one")

# %% [markdown]
# That was the course: load, measure, quantise, adapt, train, score, save. Every step raises a question: *why four bits and not
# three, why these layers, why does it fit into memory, what did it cost?* The lectures answer them one by one, with code that you
# can read.
#
# ## Nothing on faith
#
# `coursekit` is the package of this course: short modules, one idea each. Why should you believe them? Because every part is compared
# with the library that everyone uses, in a test and, where it teaches something, here in the notebooks. BF16 has 65,536 codes; here
# we decode all of them and compare with PyTorch.

# %% tags=["nbval-check-output"]
from coursekit.formats import tensor

codes = torch.arange(2**16)
by_torch = codes.to(torch.int16).view(torch.bfloat16).float()
ours = tensor.decode(codes, BF16)
compare("all codes of BF16", ours, by_torch, name="torch", bitwise=True)

# %% [markdown]
# To see *how* something works, look at its source. `show_source` displays the code that just ran, not a copy of it. This function
# puts a sentence into the master's word order:

# %%
show_source(task.object_first)

# %% [markdown]
# ## Parameters: the same notebook, larger
#
# Near the top of every notebook is a cell with `PROFILE = "ci"`. With this setting the notebook runs in minutes on a laptop. With
# `"cpu"` it takes more samples and steps, with `"gpu"` it uses the GPU. Edit the cell, or run a whole notebook from a terminal:
# `coursekit run 00_start --profile cpu`, or `coursekit run 00_start -p STEPS 40`.

# %%
print(f"PROFILE {PROFILE}: {steps} steps, {len(held_out)} held-out sentences")

# %% [markdown]
# ## Exercises that answer back
#
# Each lecture has a notebook in `exercises/`. You write a function, and the cell below it checks it: passed or not, what was
# expected, and what your function returned. Many wrong answers are well-known mistakes; the check then names the mistake. Where it
# cannot, it gives a hint, and a plainer one each time you run it. Here is the first exercise, round `x` to the nearest multiple of
# `step`, with a typical mistake in it: does the check see it? Add `.hint(1)` in the last line if you want a hint as well.

# %%
import math

from classroom.lectures.formats import exercises as check


def round_to_grid(x, step):
    return math.floor(x / step + 0.5) * step


check.round_to_grid(round_to_grid)

# %% [markdown]
# ## Where you are now
#
# - You **know** what your machine can do.
# - You **turned** a language model into a small assistant: quantised, adapted, trained, scored, saved and loaded again.
# - You **predicted**, ran and compared, and you know how parameters, exercises and their checks work.
#
# ## Five quick questions
#
# <details><summary>1. Why does a model with four bits per weight take more than an eighth of its FP32 bytes?</summary>
# Only the linear layers are quantised. The embedding is not, and every block of 4-bit weights keeps a scale.</details>
#
# <details><summary>2. What was trained in the four-bit model?</summary>
# The thin LoRA matrices beside its layers. Its own weights are frozen.</details>
#
# <details><summary>3. Why is the score measured on sentences that were in no lesson?</summary>
# A model can memorise sentences. Held-out sentences tell whether it learned the rule.</details>
#
# <details><summary>4. What do you have to give a friend who wants to run your assistant?</summary>
# The adapter and the name of the base model: the friend already has the base, or downloads it.</details>
#
# <details><summary>5. Why were the thousand updates of 0.001 lost in BF16?</summary>
# Each was less than half the distance to the next number, so each sum was rounded back. Lecture 1 shows three cures.</details>
#
# ## Where to read on
#
# - Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, 2021 (arXiv:2106.09685): the thin matrices.
# - Dettmers et al., *QLoRA: Efficient Finetuning of Quantized LLMs*, 2023 (arXiv:2305.14314): what you did here, with billions of
#   parameters.
#
# Go on with [lecture 1, number formats](01_formats.ipynb): why the thousand updates were lost, and three ways to keep them. Its
# exercises are in [exercises/01_formats.ipynb](../exercises/01_formats.ipynb).
#
# If something does not work, run the machine check at the top again: it tells you what to do. From a terminal, `make doctor`
# or `python course.py doctor` does the same.

# %% [markdown]
# # 4 · Throughput and watching it
#
# At the end of this lecture you can
#
# - say how many of the tokens that a step computes count, and make nearly all of them count, without changing the loss;
# - say how many FLOPs a step needs, what share of the machine it reaches (MFU), and which operations limit it;
# - watch a run: profile it, find the lines that wait, log it through one interface, and give its energy with the
#   assumptions behind it.
#
# *About 90 minutes, less than 2 GB of memory, no GPU, no network.* Times depend on the machine, so the committed
# notebook leaves them out: run the cells to see yours.

# %% tags=["parameters"]
PROFILE = "ci"
MODEL = "tiny"
SEED = 0
STEPS = None

# %% [markdown]
# On a CPU this notebook uses one thread. That is slower, but fairer: two programs that share cores disturb each other's
# timings, and this lecture is about timings.

# %%
import torch
from classroom import compare, load, predict, show, show_source, takeaway

device = "cuda" if PROFILE == "gpu" and torch.cuda.is_available() else "cpu"
dtype = torch.float32 if device == "cpu" else torch.bfloat16
steps = STEPS or {"ci": 16, "cpu": 60, "gpu": 200}[PROFILE]
rounds = {"ci": 2, "cpu": 5, "gpu": 9}[PROFILE]
threads = torch.get_num_threads()
if device == "cpu":
    torch.set_num_threads(1)
print(f"{steps} steps where we train, on {device} in {dtype}")

# %% [markdown]
# ## Padding
#
# A batch is a rectangle, texts are not. Here are 1,920 conversations of one to five turns, in batches of 16 in random
# order, each batch padded to its longest text. **Predict:** which share of all slots in these rectangles is padding,
# computed at full price and thrown away?

# %%
padding = predict("Share of a padded epoch that is padding", ..., unit="%")

# %% [markdown]
# The answer needs no model, only the lengths. `waste` counts.

# %% tags=["nbval-check-output"]
from classroom.lectures.throughput import experiments, figures
from coursekit.throughput import batching

_, many = experiments.conversations(1920, SEED, most=5)
lengths = [len(ids) for ids, _ in many]
padded = batching.waste(lengths, batching.shuffled(len(lengths), 16, SEED))
print(f"{min(lengths)} to {max(lengths)} tokens; {padded.slots:,} slots, {padded.tokens:,} tokens")
padding.reveal(round(100 * padded.share, 1))

# %% [markdown]
# The machine is busy all the time and every monitor is green, but two slots in five hold nothing. It gets worse with
# the batch: the more texts, the longer the longest of them.

# %%
sizes = {
    f"batch {size}": batching.waste(lengths, batching.shuffled(len(lengths), size, SEED))
    for size in (1, 4, 16, 64)
}
show(figures.waste_bars(sizes), "The longest text decides: larger batches hold more padding")

# %% [markdown]
# So a speed in tokens per second must say *which* tokens. A log that counts slots looks faster than one that counts
# text. Here are the same steps of our model, counted both ways:

# %% tags=["volatile"]
from coursekit.throughput import meter

tokenizer, rows = experiments.conversations(32, SEED, most=5)
epoch = experiments.padded_bucketed_packed(tokenizer, rows, size=8, seed=SEED)
step = experiments.TrainStep(epoch["padded"], name=MODEL, device=device)
count = len(epoch["padded"])
slots = sum(b["input_ids"].numel() for b in epoch["padded"])
tokens = sum(len(ids) for ids, _ in rows)
all_slots = meter.tokens_per_second(step, slots / count, rounds=count, warmup=1)
print(
    f"{all_slots:,.0f} slots per second, of which {all_slots * tokens / slots:,.0f} are tokens of text"
)

# %% [markdown]
# ## Length bucketing
#
# The first cure: put texts of like length into one batch. Sorting all of them would waste least, but then each epoch
# goes from short to long, and the gradient drifts with the length. So: shuffle, cut into pools, sort *within* a pool,
# cut into batches, and shuffle the batches.

# %%
show_source(batching.bucketed)

# %% [markdown]
# The size of the pool decides between order and chance. Every text must still come exactly once; the same line checks
# that.

# %% tags=["nbval-check-output"]
for pool in (1, 2, 5, 50):
    plan = batching.bucketed(lengths, 16, SEED, pool=pool)
    once = sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
    share = batching.waste(lengths, plan).share
    print(f"pool of {pool:2} batches: {share:6.1%} padding, every text once: {once}")

# %% [markdown]
# With a pool of one batch nothing is gained; with fifty nearly all is. The price: the texts of a batch resemble each
# other, and the batches have different numbers of tokens, so their losses must be weighted by tokens, as in lecture 3.
# PyTorch takes the plan as a `batch_sampler`, which must be told the epoch:

# %% tags=["nbval-check-output"]
sampler = batching.BucketSampler(lengths, size=16, seed=SEED)
loader = torch.utils.data.DataLoader(lengths, batch_sampler=sampler, collate_fn=list)
for number in (0, 1, 0):
    sampler.set_epoch(number)
    print(f"epoch {number}, first batch:", sorted(next(iter(loader)))[:8], "...")

# %% [markdown]
# ## Data loading
#
# The sampler says *which* texts; but who makes a batch of them, and when? With `num_workers=0` the training loop does:
# it stops, and tokenises. Workers are processes that prepare batches ahead. Here is an epoch of tokenising alone,
# without a model:

# %% tags=["volatile"]
workers = (0, 1) if PROFILE == "ci" else (0, 1, 2)
# in no variable: the workers live as long as their loader, and would keep their memory to the end
timings = meter.in_turns(experiments.loading_epochs(workers, count=256), rounds=rounds, warmup=1)
show(figures.speed_bars(timings), "Loading 256 texts, milliseconds")
print(f"that is {timings['0 workers'].median / 16 * 1e3:.1f} ms per batch of 16 texts")

# %% [markdown]
# Keep that number, and compare it with the time of a training step below. Where loading is a small part of a step,
# workers gain little, and each costs a start, memory and a core. Where texts are long, or images are decoded, they
# decide. The cheapest way is to tokenise a data set once and save it.
#
# ## Packing
#
# The second cure: put several texts into one row until it is full. Which ones? Finding the fewest rows is a hard
# problem (bin packing). *First fit decreasing* is an easy rule: take the longest text first, and put each into the
# first row that has room. It needs at most 11/9 of the fewest rows, plus one.

# %% tags=["nbval-check-output"]
from coursekit.throughput import packing

for capacity in (256, 512, 1024):
    packed_rows = packing.first_fit_decreasing(lengths, capacity)
    least = -(-sum(lengths) // capacity)
    share = 1 - sum(lengths) / (capacity * len(packed_rows))
    print(f"rows of {capacity:4}: {len(packed_rows):4} used, ", end="")
    print(f"no fewer than {least:4} possible; {share:.1%} padding")

# %% [markdown]
# A row of 256 often has two texts and a gap that is too short for a third. Longer rows are full. The three ways side by
# side:

# %%
ways = {
    "padded": padded,
    "bucketed": batching.waste(lengths, batching.bucketed(lengths, 16, SEED)),
    "packed, rows of 1,024": batching.Waste(sum(lengths), 1024 * len(packed_rows)),
}
show(figures.waste_bars(ways), "Bucketing and packing leave hardly any padding")

# %% [markdown]
# But now unrelated texts share a row. In a plain causal model the second text sees the first. A **mask of blocks**
# keeps them apart: a token may look at earlier tokens *of its own text* only. One row of ours:

# %%
short = [(ids, labels) for ids, labels in rows if len(ids) < 110][:5]
held = [len(ids) for ids, _ in short]
show(
    figures.packed_row(held, sum(held) + 20),
    "Each text sees itself: one triangle per text, nothing in between",
)

# %% [markdown]
# `collate_packed` makes three things for each row: that mask, positions that start again at 0, and labels in which the
# first token of a text is not a target (or it would be predicted from the end of its neighbour). `transformers` has a
# collator that packs; does it give the same positions and labels?

# %% tags=["nbval-check-output"]
from transformers import DataCollatorWithFlattening

batch = packing.collate_packed([short])
flat = DataCollatorWithFlattening()([{"input_ids": ids, "labels": ids} for ids, _ in short])
compare("positions", batch["position_ids"], flat["position_ids"], name="transformers")
compare("labels", batch["labels"], flat["labels"], name="transformers")
print({name: tuple(tensor.shape) for name, tensor in batch.items()})

# %% [markdown]
# **Predict:** by how many percent does the loss rise if the row is packed *without* the mask, so that each text reads
# those before it?

# %%
contaminated = predict("Rise of the loss without the mask", ..., unit="%")

# %% [markdown]
# First the law: packed with its mask, the row has the loss and the gradients of its texts **one at a time**. They are
# not equal bit by bit, since sums are taken in another order.

# %% tags=["nbval-check-output"]
from coursekit.training import Training, targets

model, _ = load(MODEL, device=device, dtype="float32")


def loss_and_gradient(*batches):
    model.zero_grad()
    total = 0.0
    for b in batches:
        b = {name: tensor.to(device) for name, tensor in b.items()}
        loss = model(**b, use_cache=False).loss * targets(b)
        loss.backward()
        total += loss.item() / sum(len(ids) - 1 for ids, _ in short)
    return total, torch.cat([p.grad.flatten() for p in model.parameters()])


packed_loss, packed_gradient = loss_and_gradient(batch)
alone = [packing.collate_packed([[text]]) for text in short]
alone_loss, alone_gradient = loss_and_gradient(*alone)
ours, theirs = round(packed_loss, 4), round(alone_loss, 4)
compare("loss per token", ours, theirs, name="one at a time", tolerance=2e-4)
off = ((packed_gradient - alone_gradient).norm() / alone_gradient.norm()).item()
print(f"gradients differ by less than a hundred-thousandth of their length: {off < 1e-5}")

# %% [markdown]
# Now with a plain causal mask, as a careless collator makes it.

# %%
plain = {**batch, "attention_mask": torch.ones_like(batch["input_ids"])}
mixed_loss, mixed_gradient = loss_and_gradient(plain)
off = ((mixed_gradient - alone_gradient).norm() / alone_gradient.norm()).item()
contaminated.reveal(round(100 * (mixed_loss / alone_loss - 1), 1))
print(
    f"loss {mixed_loss:.3f} instead of {alone_loss:.3f}; the gradient is off by {100 * off:.1f} %"
)

# %% [markdown]
# Nothing crashed, and the run would go on: it only learns something else. (These are five short texts and a small
# model; with long rows the effect is smaller.) And positions? Rotary embeddings depend on *distances* only, so in our
# model positions may also keep counting across texts; a model with learned positions would notice. The third line shows
# what `transformers` does with positions alone, without any mask: it finds the blocks by itself.


# %% tags=["nbval-check-output"]
def logits(**changes):
    given = {**batch, **changes}
    given = {name: tensor.to(device) for name, tensor in given.items() if tensor is not None}
    return model(**given, use_cache=False).logits.detach()


ours = logits()
counting = logits(position_ids=torch.arange(ours.shape[1])[None])
unmasked = logits(attention_mask=None)
print(f"logits of {ours.shape[1]} tokens, each over {ours.shape[2]} words")
compare("positions that keep counting", counting, ours, name="restarting", tolerance=1e-3)
compare("our mask", ours, unmasked, name="transformers' own", tolerance=1e-3)

# %%
takeaway(
    "Packing changes the speed and nothing else: equal losses, equal gradients, if the mask is there."
)

# %% [markdown]
# How much time does it save? The same texts, padded, bucketed, packed, each an epoch of steps on the whole model, in
# turns. **Predict** how many times as fast the packed epoch is as the padded one.

# %%
faster = predict("Speed of packed / padded", ...)

# %% tags=["volatile"]
epochs = experiments.batch_epochs(epoch, name=MODEL, device=device)
timings = meter.in_turns(epochs, rounds=rounds + 1, warmup=1)
faster.reveal(round(timings["padded"].median / timings["packed"].median, 2))
show(figures.speed_bars(timings, tokens), "The same texts: tokens of text per second")

# %% [markdown]
# The small epoch here has few batches, so the lengths in a bucket still differ much. On a GPU there is a further step:
# FlashAttention takes the lengths themselves (`cu_seqlens`) instead of a mask that grows with the square of the row.
#
# ## Needless waiting
#
# A GPU works through a queue, and Python runs ahead to fill it. A line that asks for a *value* must wait until the
# queue is empty; after that the GPU waits for Python. `loss.item()` is such a line, a `print` is one, and so is an `if`
# on a tensor. Here is a loop as many people write it. **Predict:** how often per step does it wait?

# %%
waits = predict("Waits per step", ...)

# %% tags=["nbval-check-output"]
from coursekit.throughput import profiling, syncs


def asking(count, step):
    best, history = torch.tensor(torch.inf, device=device), []
    for number in range(count):
        loss = step()
        history.append(loss.item())
        if loss < best:
            best = loss
        if number % 2 == 0:
            print(f"step {number}: loss {loss:.1f}")
    return history


settings = {"name": MODEL, "device": device, "optimizer": "fused"}
step = experiments.TrainStep(dtype="float32", **settings)
with syncs.SyncCounter(device) as counter:
    first = asking(4, step)
waits.reveal(counter.total() / 4)

# %% [markdown]
# `SyncCounter` sees what Python asks of a tensor, so it finds the lines on a laptop as well, where nothing waits. Which
# ones?

# %% tags=["nbval-check-output"]
from pathlib import Path

for sync in counter.per_step(4):
    where = Path(sync.file).name if "transformers" in sync.file else "this notebook"
    print(f"{where:18} {sync.call:12} {sync.count:g} per step")

# %% [markdown]
# Three are ours, and two we did not write: `transformers` checks whether it can leave the padding mask out, and each
# check is a wait. That is a good bargain where a kernel without a mask is faster. A packed batch already has a finished
# mask, so nothing is checked. The mended loop keeps tensors and reads them **once**, at the end:


# %% tags=["nbval-check-output"]
def reading_once(count, step):
    losses = torch.stack([step() for _ in range(count)])
    return losses.tolist()


step = experiments.TrainStep(dtype="float32", **settings)
with syncs.SyncCounter(device) as counter:
    second = reading_once(4, step)
ours = [sync for sync in counter.per_step(4) if "transformers" not in sync.file]
print("ours, per step:", {sync.call: sync.count for sync in ours})
compare("losses", first, second, name="asked each step", tolerance=1e-5)

# %% [markdown]
# Is that the truth, or only what our counter believes? The profiler sees lower-level calls: every number that is
# fetched is one call of `_local_scalar_dense`. It also counts the step counters that the optimizer keeps on the CPU on
# purpose, so we look at the *difference* between the two loops.

# %% tags=["nbval-check-output"]
from functools import partial

fetched = []
for loop in (asking, reading_once):
    profile = profiling.profiled(partial(loop, 2, step), steps=1, warmup=0)
    fetched.append(syncs.sync_operations(profile).get("aten::_local_scalar_dense", 0))
more = fetched[0] - fetched[1]
compare("numbers fetched in two steps, more", 2 + 2 + 1, more, name="profiler")

# %% [markdown]
# What does it cost *here*? On a CPU the cost cannot be seen, because there is no queue: Python does the work itself. On
# a GPU the wait hurts where steps are short and the queue never fills. So look for such lines with `SyncCounter`, or
# with `torch.cuda.set_sync_debug_mode("warn")`, and do not conclude from a laptop that they are free.

# %% tags=["volatile"]
timings = meter.in_turns(experiments.item_steps(device=device), rounds=rounds + 1, warmup=1)
queue = ", and no queue to wait for" if device == "cpu" else ""
show(figures.speed_bars(timings), f"Asking for the loss: milliseconds per step{queue}")

# %% [markdown]
# The same holds for tensors that are made in one place and needed in another. `torch.randn(shape).to(device)` makes
# them on the CPU and transfers them; `torch.randn(shape, device=device)` transfers nothing. For a batch of masks like
# ours the transfer would be:

# %% tags=["nbval-check-output"]
mask = epoch["packed"][0]["attention_mask"]
microseconds = mask.nbytes / 25e9 * 1e6
print(f"{tuple(mask.shape)} in FP32: {mask.nbytes / 1e6:.2f} MB")
print(
    f"over 25 GB/s (PCIe 4.0 x16, in practice): {microseconds:.0f} microseconds; and Python waits"
)

# %% [markdown]
# ## Attention, eager or fused
#
# Eager attention writes the scores to memory, reads them, writes the softmax, reads it. SDPA is one fused kernel, which
# keeps one block of scores at a time; on a GPU it dispatches to FlashAttention where device, dtype and mask allow it.
# Is it the same mathematics? Then the logits are the same:

# %% tags=["nbval-check-output"]
model.set_attn_implementation("eager")
eager = logits()
model.set_attn_implementation("sdpa")
compare("logits", eager, logits(), name="SDPA", tolerance=1e-3)

# %% [markdown]
# And the time of a step, on rows of 256 tokens, where attention weighs most in this small model:

# %% tags=["volatile"]
four = [{name: tensor[:4] for name, tensor in b.items()} for b in epoch["packed"]]
kinds = experiments.attention_steps(four, name=MODEL, device=device)
timings = meter.in_turns(kinds, rounds=rounds + 2, warmup=1)
show(figures.speed_bars(timings, 4 * 256), "A step of 4 x 256 slots, by kind of attention")

# %% [markdown]
# ## Compiling
#
# `torch.compile` records the operations that you wrote and fuses neighbours into one loop. RMSNorm is the classic
# example. Here we only look at what the compiler gets: `see` receives the recorded graph, and compiles nothing.


# %% tags=["nbval-check-output"]
def norm(x, w):
    return w * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))


def see(graph, examples):
    calls = [node.target for node in graph.graph.nodes if node.op.startswith("call")]
    names = [getattr(target, "__name__", target) for target in calls]
    print(f"{len(names)} operations recorded: {', '.join(names)}")
    return graph.forward


x, w = torch.randn(8, 1024), torch.ones(1024)
same = torch.nn.functional.rms_norm(x, (1024,), eps=1e-5)
compare("RMSNorm", torch.compile(norm, backend=see)(x, w), same, name="torch's", tolerance=1e-5)

# %% [markdown]
# As written, four of them read a tensor of full size (`pow`, `mean`, both `mul`), and three write one. Fused into one
# loop, the tensor is read once and written once. The price is the time to compile, at the first step and possibly again
# for a new shape: so pad to few lengths, or pack. Compiling takes so long that the short profile leaves it out.

# %% tags=["volatile"]
reason = experiments.no_compiler(device)
if PROFILE == "ci":
    reason = reason or "compiling takes long; PROFILE='cpu' does it"
if reason:
    print("not compiled here:", reason)
else:
    timings = meter.in_turns(experiments.compiled_steps(device), rounds=5, warmup=3)
    print(f"the first compiled step took {timings['compiled'].warmup[0]:.0f} s")
    show(figures.speed_bars(timings), "A step as written and compiled, milliseconds")

# %% [markdown]
# ## Optimizers, one tensor at a time or all at once
#
# AdamW is a dozen small operations for every tensor. PyTorch has three ways to run them: a loop over the tensors, lists
# of tensors at once (*foreach*), everything in one kernel (*fused*). How many operations does Python call in one
# optimizer step?

# %% tags=["nbval-check-output"]
from coursekit.throughput import flame

for kind, call in experiments.optimizer_steps(device).items():
    tree = flame.of_operations(profiling.profiled(call, steps=1)).children["step 1"]
    (adam,) = tree.children.values()
    count = sum(frame.calls for frame in adam.children.values())
    print(f"{kind:9} {count:4} operations")

# %% [markdown]
# On a GPU each of them launches one or more kernels, a few microseconds each; a step of a small model can be launch
# time from end to end. On a CPU launches are cheap, and what counts is how often memory is read and written:

# %% tags=["volatile"]
timings = meter.in_turns(experiments.optimizer_steps(device), rounds=rounds + 3, warmup=1)
show(figures.speed_bars(timings), "One AdamW step of the whole model, milliseconds")

# %% [markdown]
# ## Allocators
#
# On a CPU every activation asks the C library for memory. glibc returns large blocks to the system at once, so the next
# step begins with page faults; tcmalloc and jemalloc keep them, and so does glibc if told to. The choice is made when a
# process *starts*, so we compare fresh processes.

# %% tags=["volatile"]
from coursekit.throughput import allocators

others = ", ".join(allocators.installed()) or "no other"
print("this process runs on:", allocators.loaded(), "· installed:", others)
found = allocators.compare(allocators.SNIPPET, allocators.settings(), rounds=1)
for name, seconds in found.items():
    print(f"{name:22} {1e3 * min(seconds):6.0f} ms for 60 tensors of 8 MiB")

# %% [markdown]
# It takes one line in the shell: `LD_PRELOAD=libtcmalloc.so.4 python train.py`, or `MALLOC_TRIM_THRESHOLD_` and
# `MALLOC_MMAP_THRESHOLD_` for glibc. Measure before you believe it. On a GPU torch's own caching allocator (lecture 3)
# does that job.
#
# ## Counting FLOPs
#
# A product of [m, k] and [k, n] is $m\,n\,k$ multiplications and as many additions: $2mnk$ FLOPs. Backward has two such
# products: one for the gradient of the weight, one for the gradient of the input. A frozen weight saves the first of
# them. Torch's counter confirms it:

# %% tags=["nbval-check-output"]
from coursekit.throughput import flops

for frozen in (False, True):
    layer = torch.nn.Linear(256, 704, bias=False)
    layer.weight.requires_grad_(not frozen)
    x = torch.ones(100, 256, requires_grad=True)
    with flops.flop_counter() as counted:
        layer(x).sum().backward()
    each = counted.get_total_flops() / (100 * layer.weight.numel())
    print(f"frozen {frozen!s:5}: {each:.0f} FLOPs per weight and token")

# %% [markdown]
# Six FLOPs per weight and token: that is where $6ND$ comes from. Now the whole step of our model, from its shapes
# alone, by part. The judge is torch's counter, which watched a real step.

# %% tags=["nbval-check-output"]
shape = flops.Shape.of(model.config)
ids = torch.randint(3, 1000, (4, 256), device=device)
model.set_attn_implementation("eager")
with flops.flop_counter() as counted:
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
whole = flops.count_flops(shape, batch=4, length=256)
for part in whole.parts[:3]:
    forward, backward = part.forward / 1e9, part.backward / 1e9
    print(f"{part.name:12} {forward:6.2f} GFLOPs forward, {backward:6.2f} backward")
compare("FLOPs of a step", whole.total, counted.get_total_flops(), name="torch")

# %% [markdown]
# Equal to the last digit. Now the rule of thumb. $N$ is the number of weights that a token is *multiplied* with; an
# embedding is only looked up. $6ND$ leaves out the attention of tokens to tokens, which grows with the length. How much
# is missing, in Llama-2-7B?

# %% tags=["nbval-check-output"]
from coursekit.memory.architecture import presets
from transformers import CONFIG_MAPPING

config = dict(presets()["llama-2-7b"])
llama = flops.Shape.of(CONFIG_MAPPING[config.pop("model_type")](**config))
for length in (512, 2048, 4096, 32768, 131072):
    rule = flops.six_n_d(llama.product_weights, 1) / flops.palm_flops_per_token(llama, length)
    print(f"{length:7,} tokens: 6ND counts {rule:.0%} of the work")
by_formula = flops.palm_flops_per_token(llama, 4096) * 4096
by_parts = flops.count_flops(llama, 1, 4096).total
compare("one sequence of 4,096", by_formula, by_parts, name="by parts")

# %% [markdown]
# Now change what is trained. LoRA freezes the weights and trains small matrices beside them. **Predict:** which share
# of the FLOPs of full fine-tuning does a LoRA step still need?

# %%
lora_share = predict("FLOPs of a LoRA step / full step", ..., unit="%")

# %% tags=["nbval-check-output"]
lora = flops.Adapters(8, frozenset({"q_proj", "v_proj"}))
trained = {
    "all weights": whole,
    "LoRA, rank 8": flops.count_flops(shape, 4, 256, lora=lora),
    "checkpointed": flops.count_flops(shape, 4, 256, checkpoint=True),
}
lora_share.reveal(round(100 * trained["LoRA, rank 8"].total / whole.total, 1))
for name, way in trained.items():
    ratio = way.total / whole.total
    print(f"{name:13} {way.total / 1e9:6.2f} GFLOPs, {ratio:.2f} of a full step")

# %% [markdown]
# Forward stays, and the gradient must flow *through* the frozen weights to reach the adapters below; only the gradients
# of the frozen weights are saved. Checkpointing adds a forward pass, without the head and the last product of each
# block. The textbook gives 2/3 and 4/3. For a large model:

# %% tags=["nbval-check-output"]
large = flops.count_flops(llama, 1, 2048)
others = {
    "LoRA": flops.count_flops(llama, 1, 2048, lora=lora),
    "checkpointed": flops.count_flops(llama, 1, 2048, checkpoint=True),
}
for name, other in others.items():
    ratio = other.total / large.total
    print(f"Llama-2-7B, 2,048 tokens, {name:12}: {ratio:.3f} of a full step")
show(
    figures.flops_bars(trained),
    "LoRA saves nearly a third of the FLOPs; checkpointing adds a quarter here",
)

# %% [markdown]
# ## MFU
#
# Model FLOPs utilisation: the FLOPs per second that *the model* needs, divided by those that the machine could do.
# Recomputing is the machine's work and not the model's, so it does not count. It takes three numbers: tokens per
# second, FLOPs per token, and the peak. **Predict** the MFU of our model on your machine.

# %%
share = predict("MFU of the embedded model here", ..., unit="%")

# %% [markdown]
# The peak is measured, not taken from a data sheet: the best product of two large matrices. On a GPU it would be the
# data sheet's number for the dtype, *without* sparsity.

# %% tags=["volatile"]
from coursekit.throughput import gpu, roofline

roof = roofline.measure_roof(dtype, device)
step = experiments.TrainStep(four, **settings)
rate = meter.tokens_per_second(step, 4 * 256, rounds=rounds + 2, warmup=1)
per_token = whole.total / (4 * 256)
share.reveal(round(100 * flops.mfu(rate, per_token, roof.peak_flops), 1))
print(f"{rate:,.0f} tokens per second x {per_token / 1e6:.1f} MFLOPs = ", end="")
print(f"{rate * per_token / 1e9:.1f} of {roof.peak_flops / 1e9:.0f} GFLOP/s")

# %% [markdown]
# A small model has small matrices, and much besides: norms, softmax, the optimizer. And a large one? Table 2 of the
# Llama 2 paper gives 184,320 GPU hours for the 7B model, on A100s; it was trained on 2 trillion tokens in sequences of
# 4,096. The peak of an A100 in BF16 is 312 TFLOP/s. That is all one needs:

# %% tags=["nbval-check-output"]
hours, trained_tokens, a100 = 184_320, 2e12, 312e12
rate_llama = trained_tokens / (hours * 3600)
reached_llama = flops.mfu(rate_llama, flops.palm_flops_per_token(llama, 4096), a100)
print(f"Llama-2-7B: {rate_llama:,.0f} tokens per second and GPU, MFU {reached_llama:.0%}")

# %% [markdown]
# So even a well-tuned run of that size leaves more than half of the card unused. (By convention attention is counted in
# full; a causal kernel does half of it, so the real share is a little lower still.) `nvidia-smi` would have said 100 %
# all the time: its "utilisation" is the share of time in which *some* kernel ran, however small. A GPU reports its state
# through NVML; where there is none, a sentence says so.

# %% tags=["volatile"]
try:
    print(*gpu.read(), sep="\n")
except gpu.NoGpu as missing:
    print(missing)

# %% [markdown]
# ## The roofline
#
# Why does not everything run at the peak? An operation computes, and it moves bytes. Its **intensity** is FLOPs per
# byte moved. Below the *ridge*, which is peak / bandwidth, the memory decides, and faster arithmetic brings nothing.
# One token through a weight matrix, as in generation, reads every weight for two FLOPs:

# %% tags=["nbval-check-output"]
operations = (
    ("FP32", roofline.decode(1024)),
    ("BF16", roofline.decode(1024, torch.bfloat16)),
    ("FP32", roofline.matmul(64)),
    ("FP32", roofline.matmul(1024)),
)
for dtype_, op in operations:
    megaflops, megabytes = op.flops / 1e6, op.nbytes / 1e6
    print(f"{op.name:12} {dtype_} {megaflops:8.2f} MFLOPs, {megabytes:6.2f} MB: ", end="")
    print(f"{op.intensity:6.1f} FLOPs per byte")

# %% [markdown]
# And where are the ridges? Data sheets, dense BF16: A100 SXM 80 GB with 312 TFLOP/s and 2,039 GB/s; H100 SXM with 989
# TFLOP/s and 3,350 GB/s. Below: which share of the arithmetic generation reaches at most with one text at a time, and
# how many texts at once would use all of it.

# %% tags=["nbval-check-output"]
cards = {"A100": roofline.Roof(312e12, 2039e9), "H100": roofline.Roof(989e12, 3350e9)}
generation = roofline.decode(1024, torch.bfloat16)
for name, card in cards.items():
    top = card.attainable(generation.intensity) / card.peak_flops
    print(f"{name}: ridge at {card.ridge:.0f} FLOPs per byte; ", end="")
    print(f"one text reaches {top:.1%} of the peak, {card.ridge:.0f} texts all of it")

# %% [markdown]
# Now your machine: its roof, measured a moment ago, and real operations placed on it. Those left of the ridge are bound
# by memory. A point above the roof is not an error: its arrays fit into the cache, or the machine was disturbed while
# the roof was measured.

# %% tags=["volatile"]
samples = roofline.sample_operations(device)
points = roofline.measured_points(samples, roof, rounds=rounds + 1)
bound = sum(p.bound == "memory" for p in points)
show(
    figures.roofline(roof, points),
    f"{bound} of {len(points)} operations are bound by memory, not by arithmetic",
)

# %%
takeaway(
    "Norms, softmax and optimizers are bound by memory: fuse them. Products of large matrices are bound by arithmetic: use fewer bits."
)

# %% [markdown]
# ## The profiler
#
# So far we knew where to look. A profiler tells where to look. It slows what it watches, so use its shares and not its
# speeds. Which operations have most time of their own, in two steps of ours? (A row `step` is what belongs to no
# operation: Python itself.)

# %% tags=["volatile"]
profile = profiling.profiled(step, steps=2)
for row in profiling.top_operations(profile, 8):
    milliseconds = 1e3 * row.seconds
    print(f"{row.name:52.52} {row.calls:5} calls {milliseconds:7.1f} ms {row.share:6.1%}")

# %% [markdown]
# Can we trust it? The number of matrix products is known: seven in each block and the head, one forward and two
# backward.

# %% tags=["nbval-check-output"]
products = 3 * (shape.layers * len(shape.matrices) + 1)
calls = sum(row.count for row in profile.key_averages() if row.key == "aten::mm")
compare("matrix products per step", products, calls / 2, name="profiler")

# %% [markdown]
# A table shows neither order nor callers. A **flame graph** does: each box is as wide as its time and stands on the box
# that called it. Look for wide boxes at the top: they are where the time is spent. Equal operations beside each other
# are joined into one box.

# %% tags=["volatile"]
show(
    figures.flame_graph(flame.of_operations(profile), share=0.005, deepest=8),
    "Two steps, by operation: backward is the larger part",
)

# %% [markdown]
# Now Python's own profiler, `cProfile`. It is the right one when the time is lost in Python: in data loading, in
# logging, in a hook.

# %% tags=["volatile"]
for row in profiling.by_function(step, 6):
    print(f"{row.name:60.60} {row.calls:5} calls {1e3 * row.seconds:7.1f} ms")

# %% [markdown]
# And the whole timeline as a file, for `ui.perfetto.dev` or `chrome://tracing`: both run in the browser, and the file
# stays with you. It is JSON; every operation is an event.

# %% tags=["nbval-check-output"]
import json
import tempfile

folder = Path(tempfile.mkdtemp())
trace = json.loads(profiling.save_trace(profile, folder / "trace.json").read_text())
events = [event for event in trace["traceEvents"] if event.get("name") == "aten::mm"]
compare("products in the trace", 2 * products, len(events), name="profiler")

# %% [markdown]
# ## Tracking a run
#
# One run, and everything about it. The tools for that change; the calls should not. `Tracker` sends each record to all
# backends that it was given: here lines of JSON, which any program can read, and TensorBoard. The run trains on packed
# rows, with the loop of the course and a meter for its energy.

# %% tags=["drifts"]
from itertools import cycle

from coursekit.throughput import backends, energy_meter, tracking

model.set_attn_implementation("sdpa")
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
run = Training(model, optimizer, cycle(epoch["packed"]), steps=steps)
jsonl = tracking.Jsonl(folder / "run.jsonl")
tensorboard = backends.TensorBoard(folder / "board")


def log(step):
    tracker.log(step.number, loss=step.loss, tokens_per_second=step.tokens / step.seconds)


with tracking.Tracker(jsonl, tensorboard) as tracker, energy_meter.EnergyMeter() as joules:
    tracker.config(model=MODEL, rate=3e-4, seed=SEED, batch="packed, rows of 256")
    run.go(on_step=log)
    tracker.text("remark", "lecture 4")
first, last = run.history[0].loss, run.history[-1].loss
print(f"{len(run.history)} steps, loss from {first:.2f} to {last:.2f}")

# %% [markdown]
# A log is only worth something if it can be read back. Both files, and what the run itself remembers:

# %% tags=["nbval-check-output"]
records = tracking.read(folder / "run.jsonl")
logged = [record.values["loss"] for record in records if record.kind == "numbers"]
compare("losses in run.jsonl", logged, [s.loss for s in run.history], name="the run")
on_board = backends.read_tensorboard(folder / "board")
board = [record.values["loss"] for record in on_board if record.kind == "numbers"]
compare("losses in TensorBoard's files", board, logged, name="run.jsonl")
print(records[0].kind, records[0].values)

# %% tags=["drifts"]
from classroom.drawing.training import loss_curve

show(loss_curve(logged, steps), "The run, drawn from its log")

# %% [markdown]
# `tensorboard --logdir folder` shows the same in a browser. Weights & Biases and Aim have the same two methods. W&B
# runs *offline* here: a folder, no account, `wandb sync` later if you like. Where a tool is not installed, the message
# says so.

# %% tags=["volatile"]
import os

os.environ.setdefault("WANDB_SILENT", "true")
for make in (partial(backends.WandB, "course", folder), partial(backends.Aim, folder)):
    try:
        backend = make()
        for record in records:
            backend.write(record)
        backend.close()
        print(make.func.__name__, "has", len(records), "records")
    except ImportError as missing:
        print(f"{make.func.__name__}: {missing}")

# %% [markdown]
# ## Energy
#
# Energy is power times time, times a factor for what the building needs on top (PUE). Multiplied by the grid's grams of
# CO2 per kWh, it gives the CO2 of the run. Where a meter can be read (NVML on a GPU, RAPL on a processor) it was read
# during the run above; elsewhere we estimate. The assumptions are printed with the result, since they matter more than
# the digits.

# %% tags=["volatile"]
from coursekit.throughput import energy

if joules.source:
    small = energy.footprint(joules.joules, joules.seconds, joules.source)
else:
    small = energy.estimate_energy(joules.seconds, energy.DEVICES["processor core"])
print(small)

# %% [markdown]
# Now the pretraining of Llama-2-7B, with the paper's hours and the A100's 400 W. **Predict** its MWh, with the PUE of
# 1.1 that its authors took for the first LLaMA.

# %%
mwh = predict("Energy of pretraining Llama-2-7B", ..., unit="MWh")

# %% tags=["nbval-check-output"]
card = energy.DEVICES["A100 SXM"]
theirs = energy.estimate_energy(hours * 3600, card, pue=1.1, grams_per_kwh=385)
mwh.reveal(round(theirs.kwh / 1e3, 1))
compare("tonnes of CO2e", round(theirs.co2_grams / 1e6, 2), 31.22, name="the paper's Table 2")

# %% [markdown]
# It agrees to the last digit, so the paper assumed 385 g per kWh, and full power all the time. How much does the
# result depend on that? The same run with other numbers:

# %% tags=["nbval-check-output"]
llama_run = partial(energy.estimate_energy, watts=card, pue=1.1)
cases = {
    "as in the paper": theirs,
    "an average data centre, the world's grid": energy.estimate_energy(hours * 3600, card),
    "a clean grid, 30 g": llama_run(hours * 3600, grams_per_kwh=30),
    "twice the MFU": llama_run(hours * 3600 / 2, grams_per_kwh=385),
}
for name, case in cases.items():
    print(f"{name:42} {case.kwh / 1e3:6.1f} MWh, {case.co2_grams / 1e6:5.1f} t CO2e")
for name, grid in energy.GRIDS.items():
    print(f"{name}: {grid}")

# %% [markdown]
# Where the run takes place matters most; how fast it runs comes second. Padding that is not computed needs no power at
# all. First the price of padding in an epoch, then the pretraining in units of our run:

# %% tags=["nbval-check-output"]
more = ways["padded"].slots / ways["packed, rows of 1,024"].slots
print(f"a padded epoch computes {more:.2f} times the slots of a packed one, ", end="")
print("and needs about so many times the energy")

# %% tags=["volatile"]
print(f"the pretraining of Llama-2-7B is {theirs.kwh / small.kwh:,.0f} runs like ours above")

# %% [markdown]
# The folder with the log and the trace was a temporary one; we delete it, and use all threads again.

# %%
import shutil

shutil.rmtree(folder)
torch.set_num_threads(threads)
print("cleaned up:", not folder.exists())

# %% [markdown]
# ## What you can do now
#
# - You **measured** how many computed tokens count, and **packed** texts so that nearly all do, with the losses and
#   gradients that they had alone.
# - You **counted** the FLOPs of a step as torch does, **turned** them into MFU, and **placed** operations under a roof
#   that you measured.
# - You **watched** a run: lines that wait, a profile, a log that reads back equal, and an energy figure with its
#   assumptions.
#
# ## Five quick questions
#
# <details><summary>1. A log says that tokens per second doubled after the batch was made larger. What do you ask?</summary>
# Which tokens. With a larger batch more of them are padding; count those that are text, or those that are targets.</details>
#
# <details><summary>2. You pack texts and the loss is higher than before. What is the first suspect?</summary>
# The mask: without blocks each text reads its neighbours. Then the label of each text's first token.</details>
#
# <details><summary>3. On your laptop loss.item() in every step costs nothing. May it stay?</summary>
# On a GPU it empties the queue in every step. Keep tensors, and read them together, once in many steps.</details>
#
# <details><summary>4. Why does LoRA not make a step a hundred times as fast?</summary>
# Forward and the gradient of every layer's input remain: two thirds of the FLOPs.</details>
#
# <details><summary>5. RMSNorm takes long. Would a card with twice the FLOP/s help?</summary>
# No: it is bound by memory. More bandwidth helps, or fusing it with its neighbours.</details>
#
# ## Where to read on
#
# - Krell et al., *Efficient Sequence Packing without Cross-contamination*, 2021 (arXiv:2107.02027).
# - Dao et al., *FlashAttention*, 2022 (arXiv:2205.14135): attention as a question of bytes moved.
# - Chowdhery et al., *PaLM*, 2022 (arXiv:2204.02311), appendix B: MFU. Touvron et al., *Llama 2*, 2023
#   (arXiv:2307.09288), section 2.2: hours and carbon.
# - Williams, Waterman and Patterson, *Roofline*, CACM 2009. Gregg, *The Flame Graph*, CACM 2016.
# - Lannelongue et al., *Green Algorithms*, Advanced Science 2021.
#
# Now the exercises: `exercises/04_throughput.ipynb`. Next: lecture 5, data parallel.

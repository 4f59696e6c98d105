# %% [markdown]
# # 4 · Throughput and watching it
#
# At the end of this lecture you can
#
# - say how many of the tokens that a step computes count, and make nearly all of them count, without changing the loss;
# - say how many FLOPs a step needs, what share of the machine it reaches (MFU), and which operations stand in the way;
# - watch a run: profile it, find the lines that wait, log it through one interface, and give its energy with the assumptions it rests on.
#
# *About 90 minutes, less than 2 GB of memory, no GPU, no network.* Times depend on the machine, so the committed notebook leaves them out: run the cells to see yours.

# %% tags=["parameters"]
PROFILE = "ci"
MODEL = "tiny"
SEED = 0
STEPS = None

# %% [markdown]
# A CPU works on one thread here. That is slower, and fairer: two programs that share cores disturb each other's clocks, and this lecture is about clocks.

# %%
import torch

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
# A batch is a rectangle, texts are not. Here are 1,920 conversations of one to five turns, in batches of 16 as they come, each batch padded to its longest text. **Predict:** which share of all
# places in these rectangles is filler, computed at full price and thrown away?

# %%
from classroom.notebook.predict import predict

filler = predict("Share of a padded epoch that is filler", ..., unit="%")

# %% [markdown]
# No model is needed for the answer, only the lengths. `waste` counts.

# %% tags=["nbval-check-output"]
from classroom.lectures.throughput.experiments import conversations
from coursekit.throughput.batching import bucketed, shuffled, waste

_, many = conversations(1920, SEED, most=5)
lengths = [len(ids) for ids, _ in many]
padded = waste(lengths, shuffled(len(lengths), 16, SEED))
print(
    f"{min(lengths)} to {max(lengths)} tokens; {padded.slots:,} places, {padded.tokens:,} tokens"
)
filler.reveal(round(100 * padded.share, 1))

# %% [markdown]
# The machine is busy all the time, every monitor is green, and two places in five hold nothing. It gets worse with the batch: the more texts, the longer the longest of them.

# %%
from classroom.drawing.style import show
from classroom.lectures.throughput import figures as draw

sizes = {
    f"batch {size}": waste(lengths, shuffled(len(lengths), size, SEED))
    for size in (1, 4, 16, 64)
}
show(
    draw.waste_bars(
        sizes, title="The longest text decides: larger batches hold more filler"
    )
)

# %% [markdown]
# So a speed in tokens a second needs a word: *which* tokens? A log that counts places looks faster than one that counts text. The same steps of our model, counted both ways:

# %% tags=["volatile"]
from classroom.lectures.throughput.experiments import TrainStep, padded_bucketed_packed
from coursekit.throughput.meter import tokens_per_second

tokenizer, rows = conversations(32, SEED, most=5)
epoch = padded_bucketed_packed(tokenizer, rows, size=8, seed=SEED)
step = TrainStep(epoch["padded"], name=MODEL, device=device)
places = sum(b["input_ids"].numel() for b in epoch["padded"]) / len(epoch["padded"])
tokens = sum(len(ids) for ids, _ in rows)
all_places = tokens_per_second(step, places, rounds=len(epoch["padded"]), warmup=1)
counted = all_places * tokens / (places * len(epoch["padded"]))
print(
    f"{all_places:,.0f} places a second, of which {counted:,.0f} are tokens of text"
)

# %% [markdown]
# ## Length bucketing
#
# The first cure: put texts of like length into one batch. Sorting all of them would waste least, but then each epoch walks from short to long, and the gradient walks with it. So: shuffle, cut into
# pools, sort *within* a pool, cut into batches, and shuffle the batches.

# %%
from classroom.notebook.show import show_source

show_source(bucketed)

# %% [markdown]
# The pool is the knob between order and chance. Every text must still come exactly once; that is checked in the same line.

# %% tags=["nbval-check-output"]
for pool in (1, 2, 5, 50):
    plan = bucketed(lengths, 16, SEED, pool=pool)
    once = sorted(i for batch in plan for i in batch) == list(range(len(lengths)))
    share = waste(lengths, plan).share
    print(f"pool of {pool:2} batches: {share:6.1%} filler, every text once: {once}")

# %% [markdown]
# With a pool of one nothing is gained; with fifty nearly all is. What it costs: texts of a batch resemble each other, and the batches have unequal numbers of tokens, so their losses must be weighted by tokens,
# as in lecture 3. PyTorch takes the plan as a `batch_sampler`, which must be told the epoch:

# %% tags=["nbval-check-output"]
from coursekit.throughput.batching import BucketSampler
from torch.utils.data import DataLoader

sampler = BucketSampler(lengths, size=16, seed=SEED)
loader = DataLoader(lengths, batch_sampler=sampler, collate_fn=list)
for number in (0, 1, 0):
    sampler.set_epoch(number)
    print(f"epoch {number}, first batch:", sorted(next(iter(loader)))[:8], "...")

# %% [markdown]
# ## Data loading
#
# The sampler says *which* texts; who makes a batch of them, and when? With `num_workers=0` the loop itself: it stops, and tokenises. Workers are processes that prepare batches ahead. An epoch of tokenising alone, without a model:

# %% tags=["volatile"]
from classroom.lectures.throughput import experiments
from coursekit.throughput.meter import in_turns

workers = (0, 1) if PROFILE == "ci" else (0, 1, 2)
timings = in_turns(experiments.loading_epochs(workers, count=256), rounds=rounds, warmup=1)
show(draw.speed_bars(timings, title="Loading 256 texts, milliseconds"))
print(
    f"that is {timings['0 workers'].median / 16 * 1e3:.1f} ms for each batch of 16 texts"
)

# %% [markdown]
# Keep that number, and compare it with the time of a training step below. Where loading is a small part of a step, workers bring little; they cost a start, memory, and a core each. Where texts are long, or images are decoded, they decide. The cheapest worker is a data set that was tokenised once, and saved.
#
# ## Packing
#
# The second cure: put several texts into one row until it is full. Which ones? To find the fewest rows is a hard problem (bin packing). *First fit decreasing* is not: the longest text first, each into the first row that
# has room. It needs at most 11/9 of the fewest rows, and a row more.

# %% tags=["nbval-check-output"]
from coursekit.throughput.packing import first_fit_decreasing

for capacity in (256, 512, 1024):
    packed_rows = first_fit_decreasing(lengths, capacity)
    least = -(-sum(lengths) // capacity)
    share = 1 - sum(lengths) / (capacity * len(packed_rows))
    print(
        f"rows of {capacity:4}: {len(packed_rows):4} used, no fewer than {least:4} possible; {share:.1%} filler"
    )

# %% [markdown]
# A row of 256 often has two texts and a gap that no third one fits into. Longer rows are full. The three ways side by side:

# %%
from coursekit.throughput.batching import Waste

ways = {
    "padded": padded,
    "bucketed": waste(lengths, bucketed(lengths, 16, SEED)),
    "packed, rows of 1,024": Waste(sum(lengths), 1024 * len(packed_rows)),
}
show(draw.waste_bars(ways, title="Bucketing and packing leave hardly any filler"))

# %% [markdown]
# But now strangers share a row. In a plain causal model the second text sees the first. What keeps them apart is a **mask of blocks**: a token may look at what stands before it *in its own text*. One row of ours:

# %%
short = [(ids, labels) for ids, labels in rows if len(ids) < 110][:5]
show(
    draw.packed_row(
        [len(ids) for ids, _ in short],
        sum(len(ids) for ids, _ in short) + 20,
        title="Each text sees itself: a triangle a text, nothing in between",
    )
)

# %% [markdown]
# `collate_packed` makes three things for each row: that mask, positions that start again at 0, and labels in which the first token of a text is no target (or it would be predicted from the end of its neighbour). `transformers` has a
# collator that packs; are its positions ours?

# %% tags=["nbval-check-output"]
from classroom.notebook.show import compare
from coursekit.throughput.packing import collate_packed
from transformers import DataCollatorWithFlattening

batch = collate_packed([short])
flat = DataCollatorWithFlattening()(
    [{"input_ids": ids, "labels": ids} for ids, _ in short]
)
compare(
    "positions", batch["position_ids"], flat["position_ids"], name="transformers"
)
compare("labels", batch["labels"], flat["labels"], name="transformers")
print({name: tuple(tensor.shape) for name, tensor in batch.items()})

# %% [markdown]
# **Predict:** by how many percent does the loss rise if the row is packed *without* the mask, so that each text reads those before it?

# %%
contaminated = predict("Rise of the loss without the mask", ..., unit="%")

# %% [markdown]
# First the law: packed with its mask, the row has the loss and the gradients of its texts **one at a time**. Not bit by bit, since sums are taken in another order.

# %% tags=["nbval-check-output"]
from classroom.models.load import load
from coursekit.training import targets

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
alone_loss, alone_gradient = loss_and_gradient(
    *(collate_packed([[text]]) for text in short)
)
compare(
    "loss a token",
    round(packed_loss, 4),
    round(alone_loss, 4),
    name="one at a time",
    tolerance=2e-4,
)
off = ((packed_gradient - alone_gradient).norm() / alone_gradient.norm()).item()
print(
    f"gradients differ by less than a hundred-thousandth of their length: {off < 1e-5}"
)

# %% [markdown]
# Now with a plain causal mask, as a careless collator has it.

# %%
plain = {**batch, "attention_mask": torch.ones_like(batch["input_ids"])}
mixed_loss, mixed_gradient = loss_and_gradient(plain)
off = ((mixed_gradient - alone_gradient).norm() / alone_gradient.norm()).item()
contaminated.reveal(round(100 * (mixed_loss / alone_loss - 1), 1))
print(
    f"loss {mixed_loss:.3f} instead of {alone_loss:.3f}; the gradient is off by {100 * off:.1f} %"
)

# %% [markdown]
# Nothing crashed, and the run would go on: it just learns another thing. And positions? Rotary embeddings depend on *distances* only, so for our model they may run on; a model with learned positions would notice. What
# `transformers` makes of positions alone, without any mask, is the third line: it finds the blocks by itself.


# %% tags=["nbval-check-output"]
def logits(**changes):
    given = {
        name: tensor.to(device)
        for name, tensor in {**batch, **changes}.items()
        if tensor is not None
    }
    return model(**given, use_cache=False).logits.detach()


ours = logits()
running = torch.arange(ours.shape[1])[None]
print(f"logits of {ours.shape[1]} tokens, each over {ours.shape[2]} words")
compare(
    "positions that run on",
    logits(position_ids=running),
    ours,
    name="restarting",
    tolerance=1e-3,
)
compare(
    "our mask",
    ours,
    logits(attention_mask=None),
    name="transformers' own",
    tolerance=1e-3,
)

# %%
from classroom.notebook.show import takeaway

takeaway(
    "Packing changes the speed and nothing else: equal losses, equal gradients, if the mask is there."
)

# %% [markdown]
# What is it worth in time? The same texts, padded, bucketed, packed, each an epoch of steps on the whole model, in turns. **Predict** how many times as fast the packed epoch is as the padded one.

# %%
faster = predict("Speed of packed / padded", ...)

# %% tags=["volatile"]
from functools import partial

runners = {
    name: TrainStep(b, name=MODEL, device=device) for name, b in epoch.items()
}
runners = {
    name: partial(lambda s: [s() for _ in epoch["padded"]], s)
    for name, s in runners.items()
}
timings = in_turns(runners, rounds=rounds + 1, warmup=1)
faster.reveal(round(timings["padded"].median / timings["packed"].median, 2))
show(
    draw.speed_bars(
        timings, tokens, title="The same texts: tokens of text a second"
    )
)

# %% [markdown]
# The small epoch here has few batches to sort, so its buckets are rough. On a GPU there is a further step: FlashAttention takes the lengths themselves (`cu_seqlens`) instead of a mask that grows with the square of the row.
#
# ## Needless waiting
#
# A GPU works through a queue, and Python runs ahead to fill it. A line that asks for a *value* must wait until the queue is empty; after that the GPU waits for Python. `loss.item()` is such a line, a `print` is one, and so is an `if` on a tensor.
# Here is a loop as many people write it. **Predict:** how often a step does it wait?

# %%
waits = predict("Waits a step", ...)

# %% tags=["nbval-check-output"]
from coursekit.throughput.syncs import SyncCounter, sync_operations


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


step = TrainStep(optimizer="fused", name=MODEL, device=device, dtype="float32")
with SyncCounter(device) as watch:
    first = asking(4, step)
waits.reveal(watch.total() / 4)

# %% [markdown]
# `SyncCounter` sees what Python asks of a tensor, and so it finds the lines on a laptop as well, where nothing waits. Which ones?

# %% tags=["nbval-check-output"]
import os

for sync in watch.per_step(4):
    where = (
        os.path.basename(sync.file)
        if "transformers" in sync.file
        else "this notebook"
    )
    print(f"{where:18} {sync.call:12} {sync.count:g} a step")

# %% [markdown]
# Three of ours and two that we did not write: `transformers` looks whether a padding mask has any zero at all, to leave it out if not. That is a good bargain where a kernel without a mask is faster, and one wait a step. A packed
# batch brings its finished mask and is not asked. Mended, our loop keeps tensors and reads them **once**, at the end:


# %% tags=["nbval-check-output"]
def quietly(count, step):
    losses = torch.stack([step() for _ in range(count)])
    return losses.tolist()


step = TrainStep(optimizer="fused", name=MODEL, device=device, dtype="float32")
with SyncCounter(device) as watch:
    second = quietly(4, step)
mine = [s for s in watch.per_step(4) if "transformers" not in s.file]
print("ours, a step:", {s.call: s.count for s in mine})
compare("losses", first, second, name="asked each step", tolerance=1e-5)

# %% [markdown]
# Is that the truth, or just what our watch believes? The profiler looks from below: every number that is fetched is one call of `_local_scalar_dense`. It also counts the step counters that the optimizer keeps on the CPU on purpose, so we look at the *difference* of the two loops.

# %% tags=["nbval-check-output"]
from coursekit.throughput.profiling import profiled

found = [
    sync_operations(profiled(partial(loop, 2, step), steps=1, warmup=0))
    for loop in (asking, quietly)
]
fetched = [counts.get("aten::_local_scalar_dense", 0) for counts in found]
compare(
    "numbers fetched in two steps, more",
    2 + 2 + 1,
    fetched[0] - fetched[1],
    name="profiler",
)

# %% [markdown]
# What does it cost *here*? On a CPU: nothing that can be seen, because there is no queue; Python does the work itself. On a GPU the wait hurts where steps are short and the queue never fills. So look for it by reading (`SyncCounter`,
# or `torch.cuda.set_sync_debug_mode("warn")`), and do not conclude from a laptop that it is free.

# %% tags=["volatile"]
show(
    draw.speed_bars(
        experiments.race(experiments.item_steps(device=device), rounds=rounds + 1, warmup=1),
        title="Asking for the loss: milliseconds a step"
        + (", and no queue to wait for" if device == "cpu" else ""),
    )
)

# %% [markdown]
# The same holds for tensors that are made in one place and needed in another. `torch.randn(shape).to(device)` makes them on the CPU, and sends them over; `torch.randn(shape, device=device)` sends nothing. What it would send, for a batch of masks like ours:

# %% tags=["nbval-check-output"]
mask = epoch["packed"][0]["attention_mask"]
print(f"{tuple(mask.shape)} in FP32: {mask.nbytes / 1e6:.2f} MB")
print(
    f"over 25 GB/s (PCIe 4.0 x16, in practice): {mask.nbytes / 25e9 * 1e6:.0f} microseconds; and Python waits"
)

# %% [markdown]
# ## Attention, eager or fused
#
# Eager attention writes the scores to memory, reads them, writes the softmax, reads it. SDPA is one kernel, which keeps a block of scores at a time (FlashAttention is its form on a GPU). Same mathematics? Then the same logits:

# %% tags=["nbval-check-output"]
model.set_attn_implementation("eager")
eager = logits()
model.set_attn_implementation("sdpa")
compare("logits", eager, logits(), name="SDPA", tolerance=1e-3)

# %% [markdown]
# And the time of a step, on rows of 256 tokens, where attention weighs most in this small model:

# %% tags=["volatile"]
four = [{name: tensor[:4] for name, tensor in b.items()} for b in epoch["packed"]]
kinds = {
    kind: TrainStep(four, attention=kind, name=MODEL, device=device)
    for kind in ("eager", "sdpa")
}
timings = in_turns(kinds, rounds=rounds + 2, warmup=1)
show(
    draw.speed_bars(
        timings, 4 * 256, title="A step of 4 x 256 places, by kind of attention"
    )
)

# %% [markdown]
# ## Compiling
#
# What SDPA does for attention, `torch.compile` does for whatever you wrote: it records the operations and joins neighbours into one loop. RMSNorm is the classic. Here we look over the compiler's shoulder: `see` gets the recorded graph, and compiles nothing.


# %% tags=["nbval-check-output"]
def norm(x, w):
    return w * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))


def see(graph, examples):
    names = [
        getattr(n.target, "__name__", n.target)
        for n in graph.graph.nodes
        if n.op.startswith("call")
    ]
    print(f"{len(names)} operations recorded: {', '.join(names)}")
    return graph.forward


x, w = torch.randn(8, 1024), torch.ones(1024)
same = torch.nn.functional.rms_norm(x, (1024,), eps=1e-5)
compare(
    "RMSNorm",
    torch.compile(norm, backend=see)(x, w),
    same,
    name="torch's",
    tolerance=1e-5,
)

# %% [markdown]
# As written, four of them read a tensor of full size (`pow`, `mean`, both `mul`), and three write one. Fused into one loop it is read once and written once. The price is the time to compile, at the first step and again for every new shape: so pad to few lengths, or pack. It is long enough that the short profile leaves it out.

# %% tags=["volatile"]
reason = experiments.no_compiler(device) or (
    "compiling takes long; PROFILE='cpu' does it" if PROFILE == "ci" else ""
)
if reason:
    print("not compiled here:", reason)
else:
    pair = experiments.compiled_steps(device)
    timings = in_turns(pair, rounds=5, warmup=3)
    print(f"the first compiled step took {timings['compiled'].warmup[0]:.0f} s")
    show(
        draw.speed_bars(
            timings, title="A step as written and compiled, milliseconds"
        )
    )

# %% [markdown]
# ## Optimizers, by the tensor or at once
#
# AdamW is a dozen small operations for every tensor. PyTorch has three ways to run them: a loop over the tensors, lists of tensors at once (*foreach*), everything in one kernel (*fused*). How many operations does Python call in one optimizer step?

# %% tags=["nbval-check-output"]
from coursekit.throughput.flame import of_operations

for kind, call in experiments.optimizer_steps(device).items():
    tree = of_operations(profiled(call, steps=1)).children["step 1"]
    (adam,) = tree.children.values()
    print(
        f"{kind:9} {sum(frame.calls for frame in adam.children.values()):4} operations"
    )

# %% [markdown]
# On a GPU each of them is one or more kernels to launch, a few microseconds each; a step of a small model can be launch time from end to end. On a CPU launches are cheap, and what counts is how often the memory is walked through:

# %% tags=["volatile"]
timings = in_turns(experiments.optimizer_steps(device), rounds=rounds + 3, warmup=1)
show(
    draw.speed_bars(
        timings, title="One AdamW step of the whole model, milliseconds"
    )
)

# %% [markdown]
# ## Allocators
#
# On a CPU every activation asks the C library for memory. glibc gives large blocks back to the system at once, so the next step begins with page faults; tcmalloc and jemalloc keep them, and so does glibc if told to. The choice is made when a process *starts*, so we compare fresh processes.

# %% tags=["volatile"]
from coursekit.throughput import allocators

print(
    "this process runs on:",
    allocators.loaded(),
    "· installed:",
    ", ".join(allocators.installed()) or "no other",
)
found = allocators.compare(allocators.SNIPPET, allocators.settings(), rounds=1)
for name, seconds in found.items():
    print(f"{name:22} {1e3 * min(seconds):6.0f} ms for 60 tensors of 8 MiB")

# %% [markdown]
# One line in the shell: `LD_PRELOAD=libtcmalloc.so.4 python train.py`, or `MALLOC_TRIM_THRESHOLD_` and `MALLOC_MMAP_THRESHOLD_` for glibc. Measure before you believe; on a GPU torch's own caching allocator (lecture 3) does that job.
#
# ## Counting FLOPs
#
# A product of [m, k] and [k, n] is $m\,n\,k$ multiplications and as many additions: $2mnk$ FLOPs. Backward has two such products: one for the gradient of the weight, one for the gradient of the input. A frozen weight saves the first of them. Torch counts along:

# %% tags=["nbval-check-output"]
from coursekit.throughput.flops import flop_counter

for frozen in (False, True):
    layer = torch.nn.Linear(256, 704, bias=False)
    layer.weight.requires_grad_(not frozen)
    x = torch.ones(100, 256, requires_grad=True)
    with flop_counter() as counts:
        layer(x).sum().backward()
    weights = 100 * layer.weight.numel()
    print(
        f"frozen {frozen!s:5}: {counts.get_total_flops() / weights:.0f} FLOPs a weight and token"
    )

# %% [markdown]
# Six FLOPs for a weight and token: that is where $6ND$ comes from. The whole step of our model, from its shapes alone, by part. The judge is torch's counter, which watched a real step.

# %% tags=["nbval-check-output"]
from coursekit.throughput.flops import Shape, count_flops

shape = Shape.of(model.config)
ids = torch.randint(3, 1000, (4, 256), device=device)
model.set_attn_implementation("eager")
with flop_counter() as counts:
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
whole = count_flops(shape, batch=4, length=256)
for part in whole.parts[:3]:
    print(
        f"{part.name:12} {part.forward / 1e9:6.2f} GFLOPs forward, {part.backward / 1e9:6.2f} backward"
    )
compare("FLOPs of a step", whole.total, counts.get_total_flops(), name="torch")

# %% [markdown]
# Equal to the last digit. Now the rule of thumb. $N$ are the weights that a token is *multiplied* with; an embedding is looked up. $6ND$ leaves out the attention of tokens with tokens, which grows with the length. How much is missing, in a Llama-2-7B?

# %% tags=["nbval-check-output"]
from coursekit.memory.architecture import presets
from coursekit.throughput.flops import palm_flops_per_token, six_n_d
from transformers import CONFIG_MAPPING

config = dict(presets()["llama-2-7b"])
llama = Shape.of(CONFIG_MAPPING[config.pop("model_type")](**config))
for length in (512, 2048, 4096, 32768, 131072):
    rule = six_n_d(llama.product_weights, 1) / palm_flops_per_token(llama, length)
    print(f"{length:7,} tokens: 6ND counts {rule:.0%} of the work")
compare(
    "one sequence of 4,096",
    palm_flops_per_token(llama, 4096) * 4096,
    count_flops(llama, 1, 4096).total,
    name="by parts",
)

# %% [markdown]
# Now change what is trained. LoRA freezes the weights and trains small matrices beside them. **Predict:** which share of the FLOPs of full fine-tuning does a LoRA step still need?

# %%
lora_share = predict("FLOPs of a LoRA step / full step", ..., unit="%")

# %% tags=["nbval-check-output"]
from coursekit.throughput.flops import Adapters

lora = Adapters(8, frozenset({"q_proj", "v_proj"}))
trained = {
    "all weights": whole,
    "LoRA, rank 8": count_flops(shape, 4, 256, lora=lora),
    "checkpointed": count_flops(shape, 4, 256, checkpoint=True),
}
lora_share.reveal(round(100 * trained["LoRA, rank 8"].total / whole.total, 1))
for name, flops in trained.items():
    print(
        f"{name:13} {flops.total / 1e9:6.2f} GFLOPs, {flops.total / whole.total:.2f} of a full step"
    )

# %% [markdown]
# Forward stays, and the gradient must flow *through* the frozen weights to reach the adapters below; only the gradients of the frozen weights are saved. Checkpointing adds a forward pass, less the head and the last product of each block. The textbook says 2/3 and 4/3; the longer the model, the nearer it comes:

# %% tags=["nbval-check-output"]
large = count_flops(llama, 1, 2048)
for name, other in {
    "LoRA": count_flops(llama, 1, 2048, lora=lora),
    "checkpointed": count_flops(llama, 1, 2048, checkpoint=True),
}.items():
    print(
        f"Llama-2-7B, 2,048 tokens, {name:12}: {other.total / large.total:.3f} of a full step"
    )
show(
    draw.flops_bars(
        trained,
        title="LoRA saves a third of the FLOPs; checkpointing adds a quarter here",
    )
)

# %% [markdown]
# ## MFU
#
# Model FLOPs utilisation: the FLOPs that *the model* needs a second, over those that the machine could do. Recomputing is the machine's work and not the model's, so it does not count. It needs three numbers: tokens a second, FLOPs a token, and the peak. **Predict** the MFU of our model on your machine.

# %%
share = predict("MFU of the embedded model here", ..., unit="%")

# %% [markdown]
# The peak is measured, not taken from a data sheet: the best product of two large matrices. On a GPU it would be the data sheet's number for the dtype, *without* sparsity.

# %% tags=["volatile"]
from coursekit.throughput.flops import mfu
from coursekit.throughput.roofline import measure_roof

roof = measure_roof(dtype, device)
step = TrainStep(four, optimizer="fused", name=MODEL, device=device)
rate = tokens_per_second(step, 4 * 256, rounds=rounds + 2, warmup=1)
reached = mfu(rate, whole.total / (4 * 256), roof.peak_flops)
share.reveal(round(100 * reached, 1))
print(
    f"{rate:,.0f} tokens a second x {whole.total / 1024 / 1e6:.1f} MFLOPs = {rate * whole.total / 1024 / 1e9:.1f} of {roof.peak_flops / 1e9:.0f} GFLOP/s"
)

# %% [markdown]
# A small model has small matrices, and much beside them: norms, softmax, the optimizer. And a large one? Table 2 of the Llama 2 paper gives 184,320 GPU hours for the 7B model, on A100s; it was trained on 2 trillion tokens of 4,096-token sequences. The peak of an A100 in BF16 is 312 TFLOP/s. That is all one needs:

# %% tags=["nbval-check-output"]
hours, trained_tokens, a100 = 184_320, 2e12, 312e12
rate_llama = trained_tokens / (hours * 3600)
reached_llama = mfu(rate_llama, palm_flops_per_token(llama, 4096), a100)
print(
    f"Llama-2-7B: {rate_llama:,.0f} tokens a second and GPU, MFU {reached_llama:.0%}"
)

# %% [markdown]
# So even a well-tuned run of that size leaves more than half of the card unused. `nvidia-smi` would have said 100 % all the time: its "utilisation" is the share of time in which *some* kernel ran, however small. What a GPU says of itself comes through NVML; where there is none, a sentence says so.

# %% tags=["volatile"]
from coursekit.throughput import gpu

try:
    print(*gpu.read(), sep="\n")
except gpu.NoGpu as missing:
    print(missing)

# %% [markdown]
# ## The roofline
#
# Why does not everything run at the peak? An operation computes, and it moves bytes. Its **intensity** is FLOPs for each byte moved. Below peak / bandwidth, the *ridge*, the memory decides, and faster arithmetic brings nothing. One token through a weight matrix, as in generation, reads every weight for two FLOPs:

# %% tags=["nbval-check-output"]
from coursekit.throughput.roofline import Roof, decode, matmul

for dtype_, op in (
    ("FP32", decode(1024)),
    ("BF16", decode(1024, torch.bfloat16)),
    ("FP32", matmul(64)),
    ("FP32", matmul(1024)),
):
    print(
        f"{op.name:12} {dtype_} {op.flops / 1e6:8.2f} MFLOPs, {op.nbytes / 1e6:6.2f} MB: {op.intensity:6.1f} FLOPs a byte"
    )

# %% [markdown]
# And where are the ridges? Data sheets, dense BF16: A100 SXM 80 GB with 312 TFLOP/s and 2,039 GB/s; H100 SXM with 989 TFLOP/s and 3,350 GB/s. Below: what generation reaches of the arithmetic at most, one text at a time, and how many texts at once would fill it.

# %% tags=["nbval-check-output"]
cards = {"A100": Roof(312e12, 2039e9), "H100": Roof(989e12, 3350e9)}
for name, card in cards.items():
    top = card.attainable(decode(1024, torch.bfloat16).intensity) / card.peak_flops
    print(
        f"{name}: ridge at {card.ridge:.0f} FLOPs a byte; one text reaches {top:.1%} of the peak, {card.ridge:.0f} texts all of it"
    )

# %% [markdown]
# Now your machine: its roof, measured a moment ago, and real operations placed on it. Those left of the ridge are bound by memory. A point above the roof is no wonder: its arrays fit into the cache, or the machine was disturbed while the roof was measured.

# %% tags=["volatile"]
from coursekit.throughput.roofline import measured_points, sample_operations

points = measured_points(sample_operations(device), roof, rounds=rounds + 1)
bound = sum(p.bound == "memory" for p in points)
show(
    draw.roofline(
        roof,
        points,
        title=f"{bound} of {len(points)} operations are bound by memory, not by arithmetic",
    )
)

# %%
takeaway(
    "Norms, softmax and optimizers are bound by memory: fuse them. Products of large matrices are bound by arithmetic: use fewer bits."
)

# %% [markdown]
# ## The profiler
#
# So far we knew where to look. A profiler tells where to look. It slows what it watches, so take its shares and not its speeds. Which operations have most time of their own, in two steps of ours? (A row `step` is what no operation owns: Python itself.)

# %% tags=["volatile"]
from coursekit.throughput.profiling import by_function, save_trace, top_operations

profile = profiled(step, steps=2)
for row in top_operations(profile, 8):
    print(
        f"{row.name:52.52} {row.calls:5} calls {1e3 * row.seconds:7.1f} ms {row.share:6.1%}"
    )

# %% [markdown]
# Can it be trusted? The number of matrix products is known: seven in each block and the head, one forward and two backward.

# %% tags=["nbval-check-output"]
products = 3 * (shape.layers * len(shape.matrices) + 1)
calls = sum(row.count for row in profile.key_averages() if row.key == "aten::mm")
compare("matrix products a step", products, calls / 2, name="profiler")

# %% [markdown]
# A table has no order and no callers. A **flame graph** has: each box is as wide as its time and stands on the one that called it. Look for wide boxes at the top: they are where the time is. Equal operations beside each other are joined into one box.

# %% tags=["volatile"]
tree = of_operations(profile)
title = "Two steps, by operation: backward is the larger part"
show(draw.flame_graph(tree, share=0.005, deepest=8, title=title))

# %% [markdown]
# The same question to Python's own profiler, `cProfile`, which is right when the time is lost in Python: in data loading, in logging, in a hook.

# %% tags=["volatile"]
for row in by_function(step, 6):
    print(f"{row.name:60.60} {row.calls:5} calls {1e3 * row.seconds:7.1f} ms")

# %% [markdown]
# And the whole timeline as a file, for `ui.perfetto.dev` or `chrome://tracing`: both run in the browser, and the file stays with you. It is JSON; every operation is an event.

# %% tags=["nbval-check-output"]
import json
import tempfile
from pathlib import Path

folder = Path(tempfile.mkdtemp())
trace = json.loads(save_trace(profile, folder / "trace.json").read_text())
events = [
    event for event in trace["traceEvents"] if event.get("name") == "aten::mm"
]
compare("products in the trace", 2 * products, len(events), name="profiler")

# %% [markdown]
# ## Tracking a run
#
# One run, and everything about it. The tools for that change; the calls should not. `Tracker` sends each record to all backends it was given: here lines of JSON, which nothing can break, and TensorBoard. The run trains on packed rows, with the loop of the course, and a meter for its energy.

# %% tags=["drifts"]
from itertools import cycle

from coursekit.throughput.backends import TensorBoard, read_tensorboard
from coursekit.throughput.energy_meter import EnergyMeter
from coursekit.throughput.tracking import Jsonl, Tracker, read
from coursekit.training import Training

model.set_attn_implementation("sdpa")
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
run = Training(model, optimizer, cycle(epoch["packed"]), steps=steps)
with (
    Tracker(Jsonl(folder / "run.jsonl"), TensorBoard(folder / "board")) as tracker,
    EnergyMeter() as meter,
):
    tracker.config(model=MODEL, rate=3e-4, seed=SEED, batch="packed, rows of 256")
    run.go(
        on_step=lambda s: tracker.log(
            s.number, loss=s.loss, tokens_per_second=s.tokens / s.seconds
        )
    )
    tracker.text("remark", "lecture 4")
print(
    f"{len(run.history)} steps, loss from {run.history[0].loss:.2f} to {run.history[-1].loss:.2f}"
)

# %% [markdown]
# What is worth a log if it cannot be read back? Both files, and what the run itself remembers:

# %% tags=["nbval-check-output"]
records = read(folder / "run.jsonl")
logged = [record.values["loss"] for record in records if record.kind == "numbers"]
compare(
    "losses in run.jsonl", logged, [s.loss for s in run.history], name="the run"
)
board = [
    r.values["loss"]
    for r in read_tensorboard(folder / "board")
    if r.kind == "numbers"
]
compare("losses in TensorBoard's files", board, logged, name="run.jsonl")
print(records[0].kind, records[0].values)

# %% tags=["drifts"]
from classroom.drawing.training import loss_curve

show(
    loss_curve(
        logged, steps, title="The run, drawn from its log and not from memory"
    )
)

# %% [markdown]
# `tensorboard --logdir folder` shows the same in a browser. Weights & Biases and Aim stand behind the same two methods. W&B runs *offline* here: a folder, no account, `wandb sync` later if you like. Where they are not installed, they say so.

# %% tags=["volatile"]
from coursekit.throughput.backends import Aim, WandB

os.environ.setdefault("WANDB_SILENT", "true")
for make in (partial(WandB, "course", folder), partial(Aim, folder)):
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
# Power times time, times what the building needs on top (PUE), is energy; times the grid's grams for each kWh, it is CO2. Where a meter can be read (NVML on a GPU, RAPL on a processor) it was read during the run above; elsewhere we estimate. The assumptions are printed with the result, since they are worth more than the digits.

# %% tags=["volatile"]
from coursekit.throughput.energy import DEVICES, GRIDS, estimate_energy, footprint

if meter.source:
    small = footprint(meter.joules, meter.seconds, meter.source)
else:
    small = estimate_energy(meter.seconds, DEVICES["processor core"])
print(small)

# %% [markdown]
# Now the pretraining of Llama-2-7B, with the paper's hours and the A100's 400 W. **Predict** its MWh, with the PUE of 1.1 that its authors took for the first LLaMA.

# %%
mwh = predict("Energy of pretraining Llama-2-7B", ..., unit="MWh")

# %% tags=["nbval-check-output"]
card = DEVICES["A100 SXM"]
theirs = estimate_energy(hours * 3600, card, pue=1.1, grams_per_kwh=385)
mwh.reveal(round(theirs.kwh / 1e3, 1))
compare(
    "tonnes of CO2e",
    round(theirs.co2_grams / 1e6, 2),
    31.22,
    name="the paper's Table 2",
)

# %% [markdown]
# To the last digit of the paper, which tells what it assumed: 385 g for each kWh, and full power all the time. How much of it is assumption? The same run with other numbers:

# %% tags=["nbval-check-output"]
cases = {
    "as the paper has it": theirs,
    "an average data centre, the world's grid": estimate_energy(hours * 3600, card),
    "a clean grid, 30 g": estimate_energy(hours * 3600, card, pue=1.1, grams_per_kwh=30),
    "twice the MFU": estimate_energy(hours * 3600 / 2, card, pue=1.1, grams_per_kwh=385),
}
for name, case in cases.items():
    print(
        f"{name:42} {case.kwh / 1e3:6.1f} MWh, {case.co2_grams / 1e6:5.1f} t CO2e"
    )
for name, grid in GRIDS.items():
    print(f"{name}: {grid}")

# %% [markdown]
# Where the run stands changes most, and how fast it is comes next. Filler that is not computed needs no power at all. First the price of filler in an epoch, then a run of ours in these terms:

# %% tags=["nbval-check-output"]
more = ways["padded"].slots / ways["packed, rows of 1,024"].slots
print(
    f"a padded epoch computes {more:.2f} times the places of a packed one, and needs about so many times the energy"
)

# %% tags=["volatile"]
print(
    f"the pretraining of Llama-2-7B is {theirs.kwh / small.kwh:,.0f} runs like ours above"
)

# %% [markdown]
# The folder with the log and the trace was a temporary one; it goes, and so does the single thread.

# %%
import shutil

shutil.rmtree(folder)
torch.set_num_threads(threads)
print("cleaned up:", not folder.exists())

# %% [markdown]
# ## What you can do now
#
# - You **measured** how many computed tokens count, and **packed** texts so that nearly all do, with the losses and gradients they had alone.
# - You **counted** the FLOPs of a step as torch does, **turned** them into MFU, and **placed** operations under a roof that you measured.
# - You **watched** a run: lines that wait, a profile, a log that reads back equal, and an energy figure with its assumptions.
#
# ## Five quick questions
#
# <details><summary>1. A log says that tokens a second doubled after the batch was made larger. What do you ask?</summary>
# Which tokens. With a larger batch more of them are filler; count those that are text, or those that are targets.</details>
#
# <details><summary>2. You pack texts and the loss is higher than before. What is the first suspect?</summary>
# The mask: without blocks each text reads its neighbours. Then the label of each text's first token.</details>
#
# <details><summary>3. On your laptop `loss.item()` in every step costs nothing. May it stay?</summary>
# On a GPU it empties the queue in every step. Keep tensors, read them together, every so many steps.</details>
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
# - Chowdhery et al., *PaLM*, 2022 (arXiv:2204.02311), appendix B: MFU. Touvron et al., *Llama 2*, 2023 (arXiv:2307.09288), section 2.2: hours and carbon.
# - Williams, Waterman and Patterson, *Roofline*, CACM 2009. Gregg, *The Flame Graph*, CACM 2016.
# - Lannelongue et al., *Green Algorithms*, Advanced Science 2021.
#
# Now the exercises: `exercises/04_throughput.ipynb`. Next: lecture 5, data parallel.

# %% [markdown]
# # 3 · Memory
#
# At the end of this lecture you can
#
# - say where every byte of a training step goes, and at which moment most of them are in use;
# - compute that from a config, to a tenth of a percent, and say whether a plan fits a card;
# - use the four tools that make it fit (accumulation, checkpointing, 8-bit states, paging) and name the price of each.
#
# *About 90 minutes, less than 3 GB of memory, no GPU, no network.*

# %% tags=["parameters"]
PROFILE = "ci"
MODEL = "tiny"
SEED = 0
STEPS = None

# %% [markdown]
# The same cells run on a GPU, where memory is what you pay for. The allocator of a CPU records just as well what was
# asked of it, so we can measure there.

# %%
import torch
from classroom import compare, load, predict, show, show_source, takeaway

device = "cuda" if PROFILE == "gpu" and torch.cuda.is_available() else "cpu"
steps = STEPS or {"ci": 30, "cpu": 80, "gpu": 200}[PROFILE]
near = 1000 if device == "cpu" else 50  # a GPU's allocator rounds sizes up
torch.manual_seed(SEED)
print(f"{steps} steps where we train, on {device}; sizes in MB (10^6 bytes) or GB (10^9 bytes)")

# %% [markdown]
# ## Where the bytes go
#
# The course's own model has 3.2 million parameters, so its FP32 weights take 12.9 MB. We train it for one step: 8
# sequences of 96 tokens, AdamW. **Predict:** how many MB are in use at the worst moment?

# %%
guess = predict("Peak of one training step", ..., unit="MB")

# %% [markdown]
# `measure` runs the step and listens to the allocator: every allocation, every release. It also asks the graph what it
# holds for backward.

# %%
from classroom.lectures.memory import experiments, figures
from coursekit.memory.measure import measure, saved_tensors

model, tokenizer = load(MODEL, device=device, dtype="float32")
optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-5)
batch = experiments.random_batch(8, 96, len(tokenizer), device)
measured = measure(model, optimizer, [batch])
guess.reveal(round(measured.peak / 1e6, 1))

# %% [markdown]
# There are four kinds of memory. Weights, gradients and each of Adam's two states are as large as the model: 16 bytes
# per parameter in FP32. The fourth kind does not depend on the number of parameters but on what went through them.

# %% tags=["nbval-check-output"]
kinds = {
    name: getattr(measured, name) for name in ("weights", "gradients", "optimizer", "activations")
}
for name, nbytes in {**kinds, "sum": sum(kinds.values())}.items():
    print(f"{name:12} {nbytes / 1e6:7.1f} MB")

# %% [markdown]
# The sum is not the peak, because the four kinds never all have their full size at once: in this step activations are
# freed as gradients appear. To know the peak one must know the *moments*. The planner of the course runs the step on
# tensors that have a size but no content, and notes every allocation and every release. Here is its curve, by category,
# with the allocator's on top:

# %% tags=["volatile"]
from coursekit.memory.planner import Plan, estimate, timeline

plan = Plan(MODEL, batch=8, sequence=96, ledger="fp32", device=device)
curve = experiments.allocator_curve(model, optimizer, batch)
show(
    figures.step_timeline(timeline(plan, at_least=10_000), curve),
    "The peak is at the start of backward, when the loss has just been computed",
)

# %% [markdown]
# Two curves, one line. How close is the planner? It has never seen the weights, and it does not import torch.

# %% tags=["nbval-check-output"]
planned, peak = estimate(plan), measured.peak
compare("peak in bytes", planned.peak_bytes, peak, name="measured", tolerance=peak // near)

# %% [markdown]
# Within a thousandth. The rest of the lecture explains what this curve consists of, term by term, and then makes it
# smaller.
#
# ### Bytes per parameter, and three times sixteen
#
# "Sixteen bytes per parameter" can mean three different things. So every ledger here has a name.

# %%
show(
    figures.ledger_bars(),
    "Sixteen bytes are three different ledgers; eighteen and twenty exist too",
)

# %% [markdown]
# What does `torch.amp` do? Many slides say that it halves the memory of weights and gradients. **Predict** the bytes
# per parameter of weights, gradients and Adam together, under `torch.autocast` in BF16.

# %%
under_autocast = predict("Bytes per parameter under torch.autocast", ..., unit="B")

# %%
with torch.autocast(device, torch.bfloat16):
    loss = model(**batch).loss
loss.backward()
p = next(model.parameters())
held = {"weight": p, "gradient": p.grad, "m": optimizer.state[p]["exp_avg"]}
held["v"] = optimizer.state[p]["exp_avg_sq"]
print({name: str(tensor.dtype) for name, tensor in held.items()})
under_autocast.reveal(sum(tensor.element_size() for tensor in held.values()))
optimizer.zero_grad()

# %% [markdown]
# Only activations became smaller. Each forward pass even adds a 16-bit copy of the weights. What saves bytes of states
# is another ledger, a smaller state, or fewer trained parameters.

# %%
takeaway(
    "Ask which ledger: sixteen bytes per parameter may mean FP32, torch.amp, or 16-bit weights with FP32 masters."
)

# %% [markdown]
# ## Parameters to the unit
#
# "8B" is a name, not a number. A planner needs the number, from the config alone. **Predict** the parameters of
# Llama-3-8B, in billions, to two decimals.

# %%
parameters = predict("Parameters of Llama-3-8B", ..., unit="billion")

# %% tags=["nbval-check-output"]
from coursekit.memory.architecture import architecture_of, layer_weights, parameter_count

llama = architecture_of("llama-3-8b")
embedding = llama.vocabulary * llama.hidden
textbook = 12 * llama.layers * llama.hidden**2 + embedding
parameters.reveal(round(parameter_count(llama) / 1e9, 2))
print(f"{parameter_count(llama):,}; the textbook's 12 L h^2 + V h: {textbook:,}")

# %% [markdown]
# The textbook's formula describes GPT-2: four matrices of attention, two of an MLP with fourfold width, one embedding.
# Llama has eight heads for keys and values instead of 32, three matrices in the MLP, and an output head of its own, not
# tied to the embedding. Here are its parameters:

# %% tags=["nbval-check-output"]
for weight in layer_weights(llama):
    shape = str(weight.shape)
    print(f"{weight.name:34} {shape:15} {weight.numel:>12,} x {llama.layers} layers")
shape = str((llama.vocabulary, llama.hidden))
print(f"{'embedding and head, each':34} {shape:15} {embedding:>12,}")

# %% [markdown]
# An eighth of Llama-3-8B is vocabulary. Now the judge: `transformers` builds the same classes on the meta device,
# without weights, and counts.

# %% tags=["nbval-check-output"]
for name in ("llama-3-8b", "gpt2", "phi-3-mini", "qwen2-0.5b", "mixtral-8x7b"):
    ours = parameter_count(architecture_of(name))
    compare(f"{name:14}", ours, experiments.parameters_in_transformers(name), name="transformers")

# %% [markdown]
# The tests do that for all presets, name by name and shape by shape. Now GB and GiB: tables give two sizes of
# Phi-3-mini in 16 bits, and both are right.

# %% tags=["nbval-check-output"]
phi = 2 * parameter_count(architecture_of("phi-3-mini"))
print(f"Phi-3-mini in 16 bits: {phi / 10**9:.2f} GB = {phi / 2**30:.2f} GiB")

# %% [markdown]
# ## Activations
#
# Backward needs what forward saw: for `y = x @ W.T` the gradient of `W` needs `x`. The graph holds such tensors until
# backward has used them. PyTorch reports them, one by one, through saved-tensor hooks. The same storage may be saved
# several times, as views; we count it once.

# %%
with saved_tensors(model) as saved:
    model(**batch)
print(f"{len(saved.rows)} storages, {saved.bytes / 1e6:.1f} MB")
print(f"measured above: {measured.activations / 1e6:.1f} MB")

# %% [markdown]
# One block, line by line. The natural unit is $s\,b\,h$, sequence times batch times hidden size: an FP32 tensor as wide
# as the model takes 4 bytes per unit. **Predict** how many bytes per $s\,b\,h$ a block of our model keeps, in FP32.

# %%
per_block = predict("Bytes of a block per s·b·h, FP32", ..., unit="B")

# %%
sbh = batch["input_ids"].numel() * model.config.hidden_size
first = "model.layers.1."
rows = [row for row in saved.rows if row.module.startswith(first)]
named = [(f"{row.module.removeprefix(first)} {tuple(row.shape)}", row.bytes / sbh) for row in rows]
per_block.reveal(round(sum(value for _, value in named), 1))
show(figures.saved_bars(named), "What a Llama block keeps, in the order of its forward pass")

# %% [markdown]
# Read it from the top. RMSNorm keeps its input and its normalised input, because it is written in six small
# operations; a fused kernel keeps one. The MLP keeps four tensors of the wide size, more than half of all bytes. And
# nothing has the size sequence × sequence: SDPA recomputes the attention scores in backward, from $q$, $k$, $v$ and
# one number per row.
#
# The famous formula counts a GPT block in 16 bits: $s\,b\,h\,(34 + 5\,a\,s/h)$ with $a$ heads. Its second term is the
# attention scores. Planned for the shape of Llama-3-8B:

# %% tags=["nbval-check-output"]
lengths = [128, 256, 512, 1024, 2048, 4096]
curves = experiments.block_curves(llama, lengths)
for name, values in curves.items():
    print(f"{name:18}", "  ".join(f"{value:6.1f}" for value in values))

# %%
show(
    figures.growth(curves, lengths, "sequence", "bytes / (s b h), 16 bits"),
    "With SDPA a block keeps the same bytes per token, however long the text",
)

# %% [markdown]
# So "activations scale with the batch" is a third of the truth: they also scale with the sequence, with the layers,
# and with how attention is written. Is the plan right about a Llama shape? A block of a small Llama in BF16, measured:

# %% tags=["nbval-check-output"]
from transformers import AutoModelForCausalLM, LlamaConfig

config = LlamaConfig(hidden_size=256, intermediate_size=896, num_attention_heads=8, num_key_value_heads=2,
                     num_hidden_layers=3, vocab_size=512)  # fmt: skip
small = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
with saved_tensors(small) as found:
    small(input_ids=torch.randint(0, 512, (2, 64)), use_cache=True)
block = sum(row.bytes for row in found.rows if row.module.startswith("model.layers.1"))
ours = experiments.planned_block_bytes(architecture_of(config), 2, 64)
compare("bytes that one block saves", ours, block, name="PyTorch")

# %% [markdown]
# ## The peak
#
# Which phase is the worst? It depends. With few tokens it is the optimizer's step, when all gradients are in memory
# and AdamW makes temporaries. With many it is the start of backward. Three batches:

# %%
from dataclasses import replace

plans = {f"batch {b}": estimate(replace(plan, batch=b)) for b in (1, 4, 16)}
show(
    figures.phase_bars(plans),
    "Few tokens: the optimizer's step decides. Many: the start of backward",
)

# %% [markdown]
# At that moment the logits are in memory three times in FP32: the log-probabilities that the loss kept (they count as
# an activation), their gradient, and the gradient of the logits. A large vocabulary makes this the largest term of
# all. **Predict** the GB of temporaries at the peak for Llama-3-8B with *one* sequence of 4,096 tokens.

# %%
logits = predict("Temporaries at the peak, Llama-3-8B, 4,096 tokens", ..., unit="GB")

# %%
long = estimate(Plan("llama-3-8b", sequence=4096, checkpointing=True, lora_rank=16))
logits.reveal(round(long.at_peak["temporary"] / 1e9, 1))
terms = {name: f"{size / 1e9:.1f} GB" for name, size in long.at_peak.items() if size > 1e8}
print("peak in", long.peak_phase, terms)

# %% [markdown]
# Others estimate too. Here are the formulas that are quoted most often, and the course's planner, compared with the
# allocator: a small batch, a large one, and the large one with checkpointing.

# %% tags=["nbval-check-output"]
errors, _ = experiments.planner_errors(MODEL, device)
for name, row in errors.items():
    print(f"{name:28}", "  ".join(f"{trial} {error:+8.2f} %" for trial, error in row.items()))

# %%
show(
    figures.errors(errors),
    "With a large batch the formulas are wrong by tens of percent; playing the step is not",
)

# %% [markdown]
# The formulas are not stupid; they answer a coarser question. Those that know only states are low when activations
# matter. The GPT formula assumes 16-bit activations and unfused attention, and this model runs in FP32 with SDPA.
#
# ### What the allocator adds
#
# A plan of tensors does not see one thing. A caching allocator keeps freed memory in blocks of the sizes that were
# asked for, and a longer batch finds no block that is large enough. We replay the events of many steps through a model
# of PyTorch's CUDA allocator: once with texts of one length, once with texts that grow from batch to batch.

# %% tags=["nbval-check-output"]
for name, replays in experiments.allocator_trials().items():
    for expandable, memory in replays.items():
        used, reserved = memory.peak_allocated / 1e9, memory.reserved / 1e9
        print(f"{name:12} expandable segments {expandable!s:5}: ", end="")
        print(f"{used:.2f} GB in use at most, {reserved:.2f} GB reserved")

# %% [markdown]
# The plan counts what is in use. `nvidia-smi` shows what is reserved, plus the CUDA context.
# `PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True` lets blocks grow. Sending the longest batch first is the cheaper
# trick.
#
# ## Gradient accumulation
#
# The first tool: split a batch into micro-batches, add up their gradients, step once. Activations are those of one
# micro-batch. The only price is smaller matrix products, *if it is done right*. Our sentences have different numbers
# of tokens. Here are two micro-batches of one batch:

# %%
from coursekit.training import Training, targets

model, tokenizer = load(MODEL, device=device, dtype="float32")
micro, both = experiments.unequal_micro_batches(tokenizer, SEED, device)
counts = [targets(part) for part in micro]
print("target tokens of the micro-batches:", counts)

# %% [markdown]
# A loop adds up losses with a weight for each micro-batch:

# %%
show_source(experiments.weighted_gradient)

# %% [markdown]
# Most loops divide each loss by the number of micro-batches. **Predict:** by how many percent does that gradient differ
# from the gradient of the whole batch?

# %%
off = predict("Relative error of the gradient, mean of means", ..., unit="%")

# %%
shares = [n / sum(counts) for n in counts]
right_loss, right = experiments.weighted_gradient(model, micro, shares)
naive_loss, naive = experiments.weighted_gradient(model, micro, [1 / 2, 1 / 2])
off.reveal(round(100 * ((naive - right).norm() / right.norm()).item(), 1))

# %% [markdown]
# And the whole batch, in one piece, padded? It agrees with the sum weighted by tokens, and not with the mean of means.
# A famous trainer had that bug for years, because nobody notices it while lengths are equal.

# %% tags=["nbval-check-output"]
whole_loss, whole = experiments.weighted_gradient(model, [both], [1])
print(f"loss of the whole batch {whole_loss:.4f}, weighted by tokens {right_loss:.4f}, ", end="")
print(f"mean of means {naive_loss:.4f}")
ours, theirs = right / right.norm(), whole / whole.norm()
compare("gradient", ours, theirs, name="whole batch", tolerance=1e-6)

# %% [markdown]
# The loop of the course does it this way. It passes a `weight` to `_backward`: the micro-batch's share of all target
# tokens of the step.

# %%
show_source(Training._backward)

# %% [markdown]
# What does it save? The same batch of 32, in one piece, in 4 and in 16.

# %% tags=["nbval-check-output"]
tokens = experiments.random_batch(32, 64, device=device)["input_ids"]
for pieces in (1, 4, 16):
    parts = [{"input_ids": part, "labels": part.clone()} for part in tokens.chunk(pieces)]
    peak = measure(model.train(), torch.optim.AdamW(model.parameters()), parts).peak
    same = Plan(MODEL, 32 // pieces, 64, ledger="fp32", accumulation=pieces, device=device)
    ours, what = estimate(same).peak_bytes, f"{pieces:2} micro-batches, bytes"
    compare(what, ours, peak, name="measured", tolerance=peak // near)

# %% [markdown]
# With 16 pieces few activations are left. Most of what remains are the 16 bytes per parameter, which no splitting of
# the batch makes smaller.
#
# ## Checkpointing
#
# The second tool: keep the *input* of each block, forget the rest, compute it again in backward. By hand it is one node
# of the graph:

# %%
from coursekit.memory.checkpoint import Recompute, checkpoint

show_source(Recompute)

# %% [markdown]
# **Predict** the time of a step with checkpointing as a multiple of the time without. Backward is about twice a forward
# pass.

# %%
slower = predict("Time of a step with checkpointing / without", ...)

# %% [markdown]
# First: is the result the same? Three ways through one block of the model; we compare the gradients of its input and of
# its weights, to the last bit.

# %% tags=["nbval-check-output"]
from torch.utils.checkpoint import checkpoint as torch_checkpoint

block = experiments.OneBlock(model)
plain_bytes, plain = experiments.kept_and_gradient(block, block)
ours_bytes, ours = experiments.kept_and_gradient(block, lambda x: checkpoint(block, x))
_, theirs = experiments.kept_and_gradient(
    block, lambda x: torch_checkpoint(block, x, use_reentrant=False)
)
compare("gradients", ours, theirs, name="torch.utils.checkpoint")
compare("gradients", ours, plain, name="without checkpointing")
print(f"the graph holds {ours_bytes:,} bytes instead of {plain_bytes:,}")

# %% [markdown]
# Now the whole model, with time and memory.

# %% tags=["volatile"]
points = experiments.checkpointing_cost(MODEL, device)
slower.reveal(round(points["checkpointed"][0] / points["all kept"][0], 2))
show(
    figures.tradeoff(points, "milliseconds, forward and backward", "peak in MB"),
    "Checkpointing: less memory for one more forward pass",
)

# %% [markdown]
# The rule says 4/3: one forward, a backward of two forwards, and one forward again. For a frozen base with adapters it
# is 3/2, since backward takes only one forward there.
#
# ## 8-bit AdamW
#
# The third tool: Adam's two states are half of the sixteen bytes. In 8 bits they are 2.03 bytes per parameter, and a
# little more on average, because small tensors keep FP32 states. Lecture 1 showed what 8 bits can hold; here is a
# format made for the purpose: values spread over seven decades, many near zero, and one scale per block of 256.

# %%
from coursekit.quantization.blockwise import dequantize, quantize
from coursekit.quantization.nearest import dynamic_map

signed, unsigned = dynamic_map(True), dynamic_map(False)
maps = {"signed, for m": signed.tolist(), "unsigned, for v": unsigned.tolist()}
show(figures.code_maps(maps), "The dynamic map: 256 values, dense near zero")

# %% [markdown]
# The maps are those of `bitsandbytes`, value for value; our codes are always the *nearest*.

# %% tags=["nbval-check-output"]
from classroom.models.load import quiet

with quiet():
    import bitsandbytes.functional as bnb

compare("dynamic map", signed, bnb.create_dynamic_map(True), name="bitsandbytes")
x = torch.randn(20_000, generator=torch.Generator().manual_seed(SEED))
codes, absmax = quantize(x)
scaled = x / absmax.repeat_interleave(256)[: x.numel()]
nearest = (scaled[:, None] - signed).abs().argmin(1)
compare("codes", codes.long(), nearest, name="nearest of all 256")
relative = (dequantize(codes, absmax) - x).abs() / x.abs()
print(f"median relative error {relative.median():.2%}")

# %% [markdown]
# Now the danger. The update is $m/\sqrt v$. The code of $v$ reaches down to $3\cdot10^{-7}$ of the block's largest
# *square*: a weight whose gradient is 3,000 times smaller than the largest in its block has a $v$ that rounds to
# **zero**, while its $m$ does not. **Predict** the update of such a weight, in multiples of the learning rate; Adam's
# own is about 1.

# %%
blow_up = predict("Update / learning rate when v rounds to zero", ...)

# %% tags=["nbval-check-output"]
show_source(experiments.plainly_rounded_states)
blow_up.reveal(round(experiments.plainly_rounded_states().update))

# %% [markdown]
# A step tens of thousands of times too long. So in this course the code of a positive $v$ is never zero, and no update
# passes that AdamW could not have made. Here are a thousand steps, with gradients over six decades in each block:

# %% tags=["nbval-check-output"]
longest = experiments.longest_update(1000, SEED)
print(f"largest update {longest:.2f} lr; below 10: {longest < 10}")

# %% [markdown]
# ### The same fine-tune with four optimizers
#
# SGD remembers nothing. Adafactor remembers a row and a column of each matrix instead of all of it. All weights of the
# model, the rewriting task of the course, the same data:

# %% tags=["drifts"]
settings = {"model": MODEL, "steps": steps, "seed": SEED, "device": device}
runs = {
    name: experiments.train_with_optimizer(name, **settings)
    for name in experiments.OPTIMIZER_RECIPES
}
for name, run in runs.items():
    last = sum(run.losses[-5:]) / 5
    print(f"{name:12} states {run.state_bytes / 1e6:5.1f} MB, ", end="")
    print(f"loss of the last five steps {last:.3f}")

# %% tags=["drifts"]
show(
    figures.loss_lines({name: run.losses for name, run in runs.items()}),
    f"In {steps} steps of this task 8-bit AdamW learns as AdamW does, with a quarter of its states",
)

# %% tags=["nbval-check-output"]
numel = sum(p.numel() for p in model.parameters())
for name, run in runs.items():
    print(f"{name:12} {run.state_bytes / numel:5.2f} bytes of states per parameter")

# %% [markdown]
# ### States elsewhere
#
# The fourth tool: keep the states in the host's memory, and bring them to the card page by page. Optimizers that do so
# are called *paged*. The result is the same to the last bit; the price is the transfer between host and card.

# %% tags=["nbval-check-output"]
from coursekit.optim.adamw import AdamW
from coursekit.optim.paged import PagedAdamW

twins = [torch.nn.Parameter(torch.ones(500_000)) for _ in range(2)]
pair = [AdamW([twins[0]], lr=1e-3), PagedAdamW([twins[1]], lr=1e-3)]
for seed in range(5):
    noise = torch.randn(500_000, generator=torch.Generator().manual_seed(seed))
    for twin, each in zip(twins, pair, strict=True):
        twin.grad = noise.clone()
        each.step()
compare("weights after five steps", twins[1].detach(), twins[0].detach(), name="AdamW")

# %%
states = 8 * parameter_count(llama)
transfer = 2 * states / 25e9
print(f"Llama-3-8B: {states / 1e9:.1f} GB of states; ", end="")
print(f"in and out at 25 GB/s takes {transfer:.1f} s per step")

# %% [markdown]
# So paging is for large batches, or for adapters, which have few states. With LoRA the whole question nearly vanishes:
# 16 bytes per parameter for half a percent of the parameters.
#
# ## Make it fit
#
# Everything above is in one function. Begin with the classic: a model of 100 million parameters and a card of 4 GB. Its
# states are 1.6 GB in plain FP32. So why does it not fit?

# %% tags=["nbval-check-output"]
from coursekit.memory import fit

hundred = Plan("course-100m", batch=32, sequence=1024, ledger="fp32")
verdict = fit.fits(hundred, 4)
print(f"{verdict.estimate.peak_bytes / 1e9:.1f} GB needed; it breaks at the {verdict.breaks}")
for way in verdict.ways[:3]:
    gigabytes = way.estimate.peak_bytes / 1e9
    print(f"  {way.name}: {gigabytes:.1f} GB, {way.flops_factor:.2f} x the FLOPs")

# %% [markdown]
# No byte of the states had to be saved. `fits` names the term that breaks, and the cheapest ways out, each with its
# price. Now the models of the headlines. Full fine-tuning of an 8B model in 16 bits with FP32 masters:

# %% tags=["nbval-check-output"]
big = Plan("llama-3-8b", batch=4, sequence=2048, ledger="master-16")
for card in (24, 80, 141):
    verdict = fit.fits(big, card)
    gigabytes = verdict.estimate.peak_bytes / 1e9
    print(f"{card} GB: needs {gigabytes:.0f} GB, breaks at the {verdict.breaks}")
    for way in verdict.ways:
        gigabytes = way.estimate.peak_bytes / 1e9
        sent = f", sends {way.sent_bytes / 1e9:.0f} GB per step" if way.sent_bytes else ""
        print(f"   {way.name}: {gigabytes:.0f} GB, {way.flops_factor:.2f} x FLOPs{sent}")

# %% [markdown]
# On the largest card QLoRA needs more than LoRA: PEFT's `prepare_model_for_kbit_training` converts all that is not
# quantised to FP32, and with it many activations. And QLoRA of a 70B model on a card of 24 GB, as some slides promise?
# **Predict** the GB of its weights in 4 bits, after that preparation.

# %%
seventy = predict("Weights of Llama-3-70B in NF4, prepared", ..., unit="GB")

# %% tags=["nbval-check-output"]
qlora = experiments.QLORA_70B  # one text of 512 tokens, rank 16, checkpointing, paged 8-bit AdamW
seventy.reveal(round(experiments.frozen_weight_bytes(qlora) / 1e9, 1))
for card in (24, 48, 80):
    verdict = fit.fits(qlora, card)
    if verdict.fits:
        print(f"{card} GB: fits")
    else:
        print(f"{card} GB: does not fit, breaks at the {verdict.breaks}")

# %% [markdown]
# The chart below asks the same planner: for each model and card, what is the cheapest method that fits a batch of four
# sequences of 2,048 tokens, in one step?

# %%
models = ("course-100m", "llama-3.2-1b", "llama-2-7b", "llama-3-8b", "llama-3-70b")
cells = experiments.decision_cells(models, (4, 16, 24, 48, 80, 141))
show(
    figures.decision_chart(cells, fit.RUNGS),
    "The cheapest method that fits, batch 4 x 2,048 tokens",
)

# %% [markdown]
# Several GPUs can share the states: ZeRO's stages divide Adam's states, then the gradients, then the weights. Lecture 6
# builds them; the arithmetic is here already. Figure 1 of the ZeRO paper, 7.5 billion parameters on 64 GPUs:

# %% tags=["nbval-check-output"]
for stage, (_, nbytes) in enumerate(experiments.zero_bytes(7.5e9, 64).values()):
    print(f"stage {stage}: {nbytes / 1e9:6.1f} GB on each GPU")

# %% [markdown]
# Play with it: bars over the four phases, the card as a line, and the same numbers as a table below. It needs no
# kernel.

# %%
from coursekit.widgets.memory_explorer import MemoryExplorer

MemoryExplorer()

# %% [markdown]
# On the command line: `coursekit plan llama-3-8b --qlora --seq 2048 --gpu 24`.
#
# ## What you can do now
#
# - You **said** where every byte of a step goes, and **saw** that the peak is a moment and not a sum.
# - You **computed** it from a config, within a thousandth of what the allocator measured, and **found** the cheapest way
#   onto a card.
# - You **used** accumulation, checkpointing, 8-bit AdamW and paging, and **compared** each with the plain computation
#   or with the library that everyone uses.
#
# ## Five quick questions
#
# <details><summary>1. Why is the sum of weights, gradients, states and activations more than the peak?</summary>
# In a step of one batch they never all have their full size at once: activations are freed as gradients appear. From
# the second of several micro-batches on, all gradients are in memory together with the activations.</details>
#
# <details><summary>2. What does torch.amp save?</summary>
# Time, and a part of the activations. Weights, gradients and Adam stay FP32, and each step makes a 16-bit copy of the
# weights.</details>
#
# <details><summary>3. Each micro-batch's loss is divided by their number. When is the gradient right?</summary>
# When all have equally many target tokens. Otherwise tokens of short batches count more; weight by targets.</details>
#
# <details><summary>4. Why does checkpointing cost a third of a step and not a half?</summary>
# A step is three forward passes long, one forward and a backward of two; one more makes four. With a frozen base it does
# cost a half: there backward is as long as forward, so a step is two passes long, and one more makes three.</details>
#
# <details><summary>5. An 8-bit Adam moves a weight by thousands of learning rates. What happened?</summary>
# Its $v$ was rounded to zero because of a large neighbour in the block, and its $m$ was not.</details>
#
# ## Where to read on
#
# - Korthikanti et al., *Reducing Activation Recomputation in Large Transformer Models*, 2022 (arXiv:2205.05198).
# - Chen et al., *Training Deep Nets with Sublinear Memory Cost*, 2016 (arXiv:1604.06174).
# - Dettmers et al., *8-bit Optimizers via Block-wise Quantization*, ICLR 2022 (arXiv:2110.02861).
# - Rajbhandari et al., *ZeRO: Memory Optimizations Toward Training Trillion Parameter Models*, 2020 (arXiv:1910.02054).
#
# Now the exercises: `exercises/03_memory.ipynb`. Next: lecture 4, throughput.

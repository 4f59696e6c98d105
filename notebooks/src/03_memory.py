# %% [markdown]
# # 3 · Memory
#
# At the end of this lecture you can
#
# - say where every byte of a training step goes, and at which moment most of them are there;
# - compute that from a config, to a tenth of a percent, and say whether a plan fits a card;
# - build the four tools that make it fit (accumulation, checkpointing, 8-bit states, offloading) and name the price of each.
#
# *About 90 minutes, less than 3 GB of memory, no GPU, no network.*

# %% tags=["parameters"]
PROFILE = "ci"
MODEL = "tiny"
SEED = 0
STEPS = None

# %% [markdown]
# The same cells run on a GPU, where memory is what you pay for. On a CPU the allocator tells just as well what was asked of it, and so we measure there.

# %%
import torch

device = "cuda" if PROFILE == "gpu" and torch.cuda.is_available() else "cpu"
steps = STEPS or {"ci": 30, "cpu": 80, "gpu": 200}[PROFILE]
near = 1000 if device == "cpu" else 50  # a GPU's allocator rounds sizes up
torch.manual_seed(SEED)
print(
    f"{steps} steps where we train, on {device}; sizes in MB (10^6 bytes) or GB (10^9 bytes)"
)

# %% [markdown]
# ## Where the bytes go
#
# The course's own model has 3.2 million parameters, so its FP32 weights take 12.9 MB. We train it for one step: 8 sequences of 96 tokens, AdamW. **Predict:** how many MB are in use at
# the worst moment?

# %%
from classroom.notebook.predict import predict

guess = predict("Peak of one training step", ..., unit="MB")

# %% [markdown]
# `measure` runs the step and listens to the allocator: every byte given, every byte taken back. It also asks the graph what it holds for backward.

# %%
from classroom.models.load import load
from coursekit.memory.measure import measure

model, tokenizer = load(MODEL, device=device, dtype="float32")
model.train()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
ids = torch.randint(0, len(tokenizer), (8, 96), device=device)
batch = {"input_ids": ids, "labels": ids.clone()}
measured = measure(model, optimizer, [batch])
guess.reveal(round(measured.peak / 1e6, 1))

# %% [markdown]
# Four kinds of memory. Weights, gradients and the two states of Adam are as large as the model, each of them: 16 bytes a parameter in FP32. The fourth kind does not depend on
# the number of parameters but on what went through them.

# %% tags=["nbval-check-output"]
for name in ("weights", "gradients", "optimizer", "activations"):
    print(f"{name:12} {getattr(measured, name) / 1e6:7.1f} MB")
print(
    f"sum          {sum((measured.weights, measured.gradients, measured.optimizer, measured.activations)) / 1e6:7.1f} MB"
)

# %% [markdown]
# The sum is not the peak: the kinds never live all at once. Gradients come while activations go. To know the peak one must know the *moments*. The planner of the course plays the step
# through on tensors that have a size and no content, and writes down every birth and death. Its curve, by category, and the allocator's on top:

# %% tags=["volatile"]
from classroom.drawing.style import show
from classroom.lectures.memory import figures as draw
from coursekit.memory.measure import PhasedStep, allocations
from coursekit.memory.planner import Plan, estimate, timeline

plan = Plan(MODEL, batch=8, sequence=96, ledger="fp32", device=device)
step = PhasedStep(model, optimizer, [batch], lambda m, b: m(**b).loss, torch.enable_grad)
with allocations() as found:
    step.run()
there = step.resident([batch])
curve = [(phase, there + total) for phase, total in found.curve(at_least=10_000)]
title = "The peak is at the start of backward, when the loss has just been computed"
show(draw.step_timeline(timeline(plan, at_least=10_000), curve, title=title))

# %% [markdown]
# Two curves, one line. How near is the planner? It has never seen the weights, and it does not import torch.

# %% tags=["nbval-check-output"]
from classroom.notebook.show import compare

planned = estimate(plan)
compare(
    "peak in bytes",
    planned.peak_bytes,
    measured.peak,
    name="measured",
    tolerance=measured.peak // near,
)

# %% [markdown]
# Within a thousandth. The rest of the lecture explains what is in this curve, term by term, and then makes it smaller.
#
# ### Bytes a parameter, and three times sixteen
#
# "Sixteen bytes a parameter" is said of three different things. So every ledger here has a name.

# %%
from coursekit.memory.ledger import LEDGERS

show(
    draw.ledger_bars(
        title="Sixteen bytes are three different ledgers; eighteen and twenty exist too"
    )
)

# %% [markdown]
# What does `torch.amp` do? Many slides say that it halves the memory of weights and gradients. **Predict:** bytes a parameter, of weights, gradients and Adam together, under
# `torch.autocast` in BF16.

# %%
under_autocast = predict("Bytes a parameter under torch.autocast", ..., unit="B")

# %%
with torch.autocast(device, torch.bfloat16):
    loss = model(**batch).loss
loss.backward()
kinds = {p.dtype for p in model.parameters()} | {
    p.grad.dtype for p in model.parameters()
}
states = {s["exp_avg"].dtype for s in optimizer.state.values()}
print("weights and gradients:", kinds, "· Adam:", states)
under_autocast.reveal(LEDGERS["amp"].with_adam)
optimizer.zero_grad()

# %% [markdown]
# Nothing shrank but activations. There is even a 16-bit copy of the weights that comes with each forward pass. What saves states is another ledger, a smaller state, or fewer trained
# parameters.

# %%
from classroom.notebook.show import takeaway

takeaway(
    "Ask which ledger: sixteen bytes a parameter may mean FP32, torch.amp, or 16-bit weights with FP32 masters."
)

# %% [markdown]
# ## Parameters to the unit
#
# "8B" is a name, not a number. A planner needs the number, from the config alone. **Predict** the parameters of Llama-3-8B, in billions, to two decimals.

# %%
parameters = predict("Parameters of Llama-3-8B", ..., unit="billion")

# %% tags=["nbval-check-output"]
from coursekit.memory.architecture import architecture_of, parameter_count

llama = architecture_of("llama-3-8b")
parameters.reveal(round(parameter_count(llama) / 1e9, 2))
print(
    f"{parameter_count(llama):,}; the textbook's 12 L h^2 + V h: {12 * llama.layers * llama.hidden**2 + llama.vocabulary * llama.hidden:,}"
)

# %% [markdown]
# The textbook's formula is of GPT-2: four matrices of attention, two of the MLP with a fourfold width, one embedding. Llama has eight heads for keys and values instead of 32, three matrices in the
# MLP, and a head of its own, not tied to the embedding. Where its parameters are:

# %% tags=["nbval-check-output"]
from coursekit.memory.architecture import layer_weights

for weight in layer_weights(llama):
    print(
        f"{weight.name:34} {weight.shape!s:15} {weight.numel:>12,} x {llama.layers} layers"
    )
print(
    f"{'embedding and head, each':34} {(llama.vocabulary, llama.hidden)!s:15} {llama.vocabulary * llama.hidden:>12,}"
)

# %% [markdown]
# An eighth of Llama-3-8B is vocabulary. Now the judge: `transformers` builds the same classes on the meta device, without weights, and counts.

# %% tags=["nbval-check-output"]
from coursekit.memory.architecture import presets
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

for name in ("llama-3-8b", "gpt2", "phi-3-mini", "qwen2-0.5b", "mixtral-8x7b"):
    config = dict(presets()[name])
    with torch.device("meta"):
        judge = AutoModelForCausalLM.from_config(
            CONFIG_MAPPING[config.pop("model_type")](**config)
        )
    compare(
        f"{name:14}",
        parameter_count(architecture_of(name)),
        sum(p.numel() for p in judge.parameters()),
        name="transformers",
    )

# %% [markdown]
# The tests do that for all presets, name by name and shape by shape. Now GB and GiB: Phi-3-mini in FP16 is often given as 7.2, sometimes as 7.6. Both are right.

# %% tags=["nbval-check-output"]
phi = 2 * parameter_count(architecture_of("phi-3-mini"))
print(f"Phi-3-mini in 16 bits: {phi / 10**9:.2f} GB = {phi / 2**30:.2f} GiB")

# %% [markdown]
# ## Activations
#
# Backward needs what forward saw: for `y = x @ W.T` the gradient of `W` needs `x`. The graph holds such tensors until it has passed them. PyTorch tells which, one by one, through saved-tensor hooks.
# The same storage may be saved several times, as views; we count it once.

# %%
from coursekit.memory.measure import saved_tensors

with saved_tensors(model) as saved:
    model(**batch)
print(
    f"{len(saved.rows)} storages, {saved.bytes / 1e6:.1f} MB; and {measured.activations / 1e6:.1f} MB above"
)

# %% [markdown]
# One block, line by line. Its unit is the natural one: $s\,b\,h$, sequence times batch times hidden size, so a tensor of the width of the model in FP32 counts 4. **Predict** how many bytes for each
# $s\,b\,h$ a block of our model keeps, in FP32.

# %%
per_block = predict("Bytes of a block for each s·b·h, FP32", ..., unit="B")

# %%
sbh = 8 * 96 * model.config.hidden_size
rows = [row for row in saved.rows if row.module.startswith("model.layers.1.")]
named = [
    (
        f"{row.module.removeprefix('model.layers.1.')} {tuple(row.shape)}",
        row.bytes / sbh,
    )
    for row in rows
]
per_block.reveal(round(sum(value for _, value in named), 1))
show(
    draw.saved_bars(
        named, title="What a Llama block keeps, in the order of its forward pass"
    )
)

# %% [markdown]
# Read it from the top. RMSNorm keeps its input and its normalised input, because it is written in six small operations; a fused kernel keeps one. The MLP keeps four tensors of the wide size, and they are more
# than half. And nothing has the size sequence × sequence: SDPA recomputes the attention scores in backward, from $q$, $k$, $v$ and one number for each row.
#
# The famous formula counts a GPT block in 16 bits: $s\,b\,h\,(34 + 5\,a\,s/h)$. Its second term are the scores. Planned for the shape of Llama-3-8B:

# %% tags=["nbval-check-output"]
from dataclasses import replace

from coursekit.memory.activations import Model, Numerics
from coursekit.memory.activations import saved as planned_saved
from coursekit.memory.formulas import korthikanti_layer

lengths = [128, 256, 512, 1024, 2048, 4096]


def per_sbh(sequence, attention):
    block = Model(llama, 1, sequence, Numerics(2), attention=attention)
    return sum(size for _, size in planned_saved(block)) / (sequence * llama.hidden)


curves = {
    f"Llama block, {kind}": [per_sbh(s, kind) for s in lengths]
    for kind in ("sdpa", "eager")
}
curves["GPT formula"] = [
    korthikanti_layer(1, s, llama.hidden, llama.heads) / (s * llama.hidden)
    for s in lengths
]
for name, values in curves.items():
    print(f"{name:18}", "  ".join(f"{value:6.1f}" for value in values))

# %%
show(
    draw.growth(
        curves,
        lengths,
        "sequence",
        "bytes / (s b h), 16 bits",
        title="With SDPA a block costs the same for each token, however long the text",
    )
)

# %% [markdown]
# So "activations scale with the batch" is a third of the truth: also with the sequence, with the layers, and with how attention is written. Is the plan right about a Llama shape? A block of a small Llama in
# BF16, measured:

# %% tags=["nbval-check-output"]
shape = CONFIG_MAPPING["llama"](hidden_size=256, intermediate_size=896, num_attention_heads=8, num_key_value_heads=2,
                                num_hidden_layers=3, vocab_size=512)  # fmt: skip
small = AutoModelForCausalLM.from_config(shape, dtype=torch.bfloat16)
ids16 = torch.randint(0, 512, (2, 64))
with saved_tensors(small) as found:
    small(input_ids=ids16, use_cache=True)
block = sum(
    row.bytes for row in found.rows if row.module.startswith("model.layers.1")
)
plan_of_block = sum(
    size for _, size in planned_saved(Model(architecture_of(shape), 2, 64, Numerics(2)))
)
compare("bytes that one block saves", plan_of_block, block, name="PyTorch")

# %% [markdown]
# ## The peak
#
# Which phase is the worst? It depends. With few tokens it is the optimizer's step, when all gradients are there and AdamW makes temporaries; with many it is the start of backward. Three batches:

# %%
plans = {f"batch {b}": estimate(replace(plan, batch=b)) for b in (1, 4, 16)}
show(
    draw.phase_bars(
        plans,
        title="Few tokens: the optimizer's step decides. Many: the start of backward",
    )
)

# %% [markdown]
# At that moment the logits are there three times in FP32: the log-probabilities that the loss kept, their gradient, and the gradient of the logits. A large vocabulary makes this the largest term of
# all. **Predict** the GB of temporaries at the peak for Llama-3-8B with *one* sequence of 4,096 tokens.

# %%
logits = predict(
    "Temporaries at the peak, Llama-3-8B, 4,096 tokens", ..., unit="GB"
)

# %%
long = estimate(Plan("llama-3-8b", sequence=4096, checkpointing=True, lora_rank=16))
logits.reveal(round(long.at_peak["temporary"] / 1e9, 1))
print(
    "peak in",
    long.peak_phase,
    {
        name: f"{size / 1e9:.1f} GB"
        for name, size in long.at_peak.items()
        if size > 1e8
    },
)

# %% [markdown]
# Others estimate too. The formulas that are quoted most often, and the course's planner, held against the allocator: a small batch, a large one, and the large one with checkpointing.

# %% tags=["nbval-check-output"]
from classroom.models.load import checkpointing
from coursekit.memory.formulas import FORMULAS

trials = {
    "2 x 64": (2, 64, False),
    "16 x 128": (16, 128, False),
    "checkpointed": (16, 128, True),
}
table = {name: {} for name in ("this planner", *FORMULAS)}
for trial, (b, s, recompute) in trials.items():
    network, _ = load(MODEL, device=device, dtype="float32")
    if recompute:
        checkpointing(network)
    tokens = torch.randint(0, 1000, (b, s), device=device)
    truth = measure(
        network.train(),
        torch.optim.AdamW(network.parameters()),
        [{"input_ids": tokens, "labels": tokens.clone()}],
    ).peak
    this = Plan(MODEL, b, s, ledger="fp32", checkpointing=recompute, device=device)
    table["this planner"][trial] = 100 * (estimate(this).peak_bytes / truth - 1)
    for name, formula in FORMULAS.items():
        table[name][trial] = 100 * (formula(this) / truth - 1)
for name, row in table.items():
    print(
        f"{name:28}",
        "  ".join(f"{trial} {error:+8.2f} %" for trial, error in row.items()),
    )

# %%
show(
    draw.errors(
        table,
        title="Adding up all terms is wrong by tens of percent; playing the step is not",
    )
)

# %% [markdown]
# The formulas are not stupid; they answer a coarser question. Those that know only states are low when activations matter; those that add all terms count things that never meet; the GPT formula assumes 16-bit
# activations and unfused attention.
#
# ### What the allocator adds
#
# One thing no plan of tensors sees: a caching allocator keeps what was freed, in blocks of the sizes that were asked for, and a longer batch finds no block that is large enough. We replay the events of
# many steps through a model of PyTorch's CUDA allocator: texts of one length, and texts that grow from batch to batch.

# %% tags=["nbval-check-output"]
from coursekit.memory.fragmentation import CachingAllocator, replay

series = {"1024 each": [1024] * 6, "256 to 1024": [256, 400, 544, 688, 832, 1024]}
for name, lengths_ in series.items():
    for expandable in (False, True):
        memory = replay(
            [Plan("smollm2-135m", 4, s) for s in lengths_],
            CachingAllocator(expandable=expandable),
        )
        print(
            f"{name:12} expandable segments {expandable!s:5}: {memory.peak_allocated / 1e9:.2f} GB in use at most, "
            f"{memory.reserved / 1e9:.2f} GB reserved"
        )

# %% [markdown]
# The plan counts what is in use. What `nvidia-smi` shows is what is reserved, plus the CUDA context. `PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True` lets blocks grow. Sending the longest batch first is the cheaper trick.
#
# ## Gradient accumulation
#
# The first tool: split a batch into micro-batches, add up their gradients, step once. Activations are those of one micro-batch. The price is nothing but smaller matrix products, *if it is done right*.
# Our sentences have different numbers of tokens. Here are two micro-batches of one batch:

# %%
from classroom.models import task
from classroom.models.finetune import batches
from coursekit.training import targets

pairs = sorted(task.pairs("train", 64, SEED), key=lambda pair: len(pair.prompt))
short, long_ = pairs[:4], pairs[-4:]
model, tokenizer = load(MODEL, device=device, dtype="float32")
micro = [
    next(batches(tokenizer, group, 4, device=device)) for group in (short, long_)
]
print("target tokens of the micro-batches:", [targets(b) for b in micro])

# %% [markdown]
# Most loops divide each loss by the number of micro-batches. **Predict:** by how many percent does the length of that gradient differ from that of the whole batch?

# %%
off = predict("Relative error of the gradient, mean of means", ..., unit="%")


# %%
def gradient(weights):
    model.zero_grad()
    losses = [model(**b).loss for b in micro]
    total = sum(loss * weight for loss, weight in zip(losses, weights, strict=True))
    total.backward()
    return total.item(), torch.cat([p.grad.flatten() for p in model.parameters()])


tokens = [targets(b) for b in micro]
right_loss, right = gradient([n / sum(tokens) for n in tokens])
naive_loss, naive = gradient([1 / 2, 1 / 2])
off.reveal(round(100 * ((naive - right).norm() / right.norm()).item(), 1))

# %% [markdown]
# And the whole batch, in one piece, padded? It agrees with the token-weighted sum, and not with the mean of the means. A famous trainer had that bug for years, because with equal lengths nobody sees it.

# %% tags=["nbval-check-output"]
both = next(batches(tokenizer, short + long_, size=8, device=device))
model.zero_grad()
whole_loss = model(**both).loss
whole_loss.backward()
whole = torch.cat([p.grad.flatten() for p in model.parameters()])
print(
    f"loss of the whole batch {whole_loss.item():.4f}, weighted by tokens {right_loss:.4f}, mean of means {naive_loss:.4f}"
)
compare(
    "gradient",
    right / right.norm(),
    whole / whole.norm(),
    name="whole batch",
    tolerance=1e-6,
)

# %% [markdown]
# The loop of the course does it like that; the two lines that matter are `total` and `_backward`'s weight.

# %%
from classroom.notebook.show import show_source
from coursekit.training import Training

show_source(Training._backward)

# %% [markdown]
# What did it save? The same batch of 32, in one piece, in 4 and in 16.

# %% tags=["nbval-check-output"]
for pieces in (1, 4, 16):
    ids = torch.randint(0, 1000, (32, 64), device=device)
    parts = [
        {"input_ids": part, "labels": part.clone()} for part in ids.chunk(pieces)
    ]
    peak = measure(model.train(), torch.optim.AdamW(model.parameters()), parts).peak
    same = Plan(
        MODEL, 32 // pieces, 64, ledger="fp32", accumulation=pieces, device=device
    )
    compare(
        f"{pieces:2} micro-batches, bytes",
        estimate(same).peak_bytes,
        peak,
        name="measured",
        tolerance=peak // near,
    )

# %% [markdown]
# With 16 pieces hardly an activation is left. What remains are 16 bytes a parameter, and a gradient on its way.
#
# ## Checkpointing
#
# The second tool: keep the *input* of each block, forget the rest, compute it again in backward. By hand it is one node of the graph:

# %%
from coursekit.memory.checkpoint import Recompute, checkpoint

show_source(Recompute)

# %% [markdown]
# **Predict** the time of a step with checkpointing as a multiple of the time without. Backward is about twice a forward pass.

# %%
slower = predict("Time of a step with checkpointing / without", ...)

# %% [markdown]
# First: is it the same? Three ways through one block of the model, gradients of its input and of its weights, to the last bit.

# %% tags=["nbval-check-output"]
from torch.utils.checkpoint import checkpoint as torch_checkpoint


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.rotary = model.model.layers[1], model.model.rotary_emb

    def forward(self, x):
        positions = torch.arange(x.shape[1], device=x.device)[None]
        return self.layer(x, position_embeddings=self.rotary(x, positions))


block = Block()


def through(way):
    block.zero_grad()
    shape = 4, 64, model.config.hidden_size
    x = torch.full(shape, 0.1, device=device).requires_grad_()
    with saved_tensors(block) as kept:
        y = way(x)
    y.square().sum().backward()
    return kept.bytes, torch.cat(
        [x.grad.flatten(), *(p.grad.flatten() for p in block.parameters())]
    )


plain_bytes, plain = through(block)
ours_bytes, ours = through(lambda x: checkpoint(block, x))
_, theirs = through(lambda x: torch_checkpoint(block, x, use_reentrant=False))
compare("gradients", ours, theirs, name="torch.utils.checkpoint")
compare("gradients", ours, plain, name="without checkpointing")
print(f"the graph holds {ours_bytes:,} bytes instead of {plain_bytes:,}")

# %% [markdown]
# Now the whole model, with time and memory.

# %% tags=["volatile"]
from coursekit.throughput.meter import in_turns


def seconds(network, data):
    def step():
        network(**data).loss.backward()
        network.zero_grad()

    return in_turns({"step": step}, rounds=7, warmup=0)["step"].median


ids = torch.randint(0, 1000, (16, 128), device=device)
data = {"input_ids": ids, "labels": ids.clone()}
points = {}
for name in ("all kept", "checkpointed"):
    network, _ = load(MODEL, device=device, dtype="float32")
    network.train()
    if name == "checkpointed":
        checkpointing(network)
    peak = measure(network, torch.optim.AdamW(network.parameters()), [data]).peak
    points[name] = (seconds(network, data) * 1000, peak / 1e6)
slower.reveal(round(points["checkpointed"][0] / points["all kept"][0], 2))
show(
    draw.tradeoff(
        points,
        "milliseconds of a step",
        "peak in MB",
        title="Checkpointing: less memory for one more forward pass",
    )
)

# %% [markdown]
# The rule says 4/3: forward, backward of two forwards, and one forward again. For a frozen base with adapters it is 3/2, since there backward is only one.
#
# ## 8-bit AdamW
#
# The third tool: Adam's two states are half of the sixteen bytes. In 8 bits they are 2.03 bytes a parameter. Lecture 1 showed what 8 bits can hold; here is a format made for the purpose: values
# spread over seven decades, many near zero, and one scale for each block of 256.

# %%
from coursekit.quantization.blockwise import dequantize, quantize
from coursekit.quantization.nearest import dynamic_map

maps = {
    "signed, for m": dynamic_map(True).tolist(),
    "unsigned, for v": dynamic_map(False).tolist(),
}
show(draw.code_maps(maps, title="The dynamic map: 256 values, dense near zero"))

# %% [markdown]
# The maps are those of `bitsandbytes`, value for value; our codes are always the *nearest*.

# %% tags=["nbval-check-output"]
from classroom.models.load import quiet

with quiet():
    import bitsandbytes.functional as bnb

compare(
    "dynamic map",
    dynamic_map(True),
    bnb.create_dynamic_map(True),
    name="bitsandbytes",
)
x = torch.randn(20_000, generator=torch.Generator().manual_seed(SEED))
codes, absmax = quantize(x)
nearest = (
    (
        x.view(-1, 1) / absmax.repeat_interleave(256)[: x.numel(), None]
        - dynamic_map(True)
    )
    .abs()
    .argmin(1)
)
compare("codes", codes.long(), nearest, name="nearest of all 256")
print(
    f"mean relative error {((dequantize(codes, absmax) - x).abs() / x.abs()).median():.2%} (median)"
)

# %% [markdown]
# Now the danger. The update is $m/\sqrt v$. The code of $v$ reaches down to $3\cdot10^{-7}$ of the block's largest *square*: a weight whose gradient is 3,000 times smaller than the largest in its block has a $v$
# that rounds to **zero**, while its $m$ does not. **Predict** the update of such a weight, in multiples of the learning rate; Adam's own is about 1.

# %%
blow_up = predict("Update / learning rate when v rounds to zero", ...)

# %% tags=["nbval-check-output"]
gradient_ = torch.full((256,), 3e-4)
gradient_[0] = 1.0  # one large gradient in the block
m, v = 0.1 * gradient_, 0.001 * gradient_**2
m8 = dequantize(*quantize(m))
v8 = dequantize(*quantize(v, code=dynamic_map(False)), code=dynamic_map(False))
update = (m8 / 0.1) / ((v8 / 0.001).sqrt() + 1e-8)
blow_up.reveal(round(update.abs().max().item()))

# %% [markdown]
# A step tens of thousands of times too long. So the code of a positive $v$ is never zero here, and no update is let through that AdamW could not have made. With one large gradient
# in the block, on a thousand steps:

# %% tags=["nbval-check-output"]
from coursekit.optim.adamw8bit import AdamW8bit

weight = torch.nn.Parameter(torch.zeros(4096))
eight, largest = AdamW8bit([weight], lr=1e-3, weight_decay=0.0), 0.0
noise = torch.Generator().manual_seed(SEED)
for _ in range(1000):
    weight.grad = torch.randn(4096, generator=noise) * 10 ** (
        6 * torch.rand(4096, generator=noise) - 6
    )
    before = weight.detach().clone()
    eight.step()
    largest = max(largest, ((weight - before).abs().max() / 1e-3).item())
print(f"largest update {largest:.2f} lr; below 10: {largest < 10}")

# %% [markdown]
# ### The same fine-tune with four optimizers
#
# SGD remembers nothing. Adafactor remembers a row and a column of each matrix instead of all of it. All weights of the model, the rewriting task of the course, the same data:

# %% tags=["drifts"]
from classroom.lectures.memory.experiments import (
    OPTIMIZER_RECIPES,
    train_with_optimizer,
)

runs = {
    name: train_with_optimizer(name, model=MODEL, steps=steps, seed=SEED, device=device)
    for name in OPTIMIZER_RECIPES
}
for name, run in runs.items():
    print(
        f"{name:12} states {run.state_bytes / 1e6:5.1f} MB, loss of the last five steps {sum(run.losses[-5:]) / 5:.3f}"
    )

# %% tags=["drifts"]
show(
    draw.loss_lines(
        {name: run.losses for name, run in runs.items()},
        title="8-bit AdamW learns as AdamW does, with a quarter of the memory",
    )
)

# %% tags=["nbval-check-output"]
numel = sum(p.numel() for p in model.parameters())
for name, run in runs.items():
    print(f"{name:12} {run.state_bytes / numel:5.2f} bytes a parameter of states")

# %% [markdown]
# ### States elsewhere
#
# The fourth tool: keep the states in the host's memory, and bring them page by page. That is what "paged" optimizers and optimizer offload do. The result is the same to the last bit; the price is the road
# between host and card.

# %% tags=["nbval-check-output"]
from coursekit.optim.adamw import AdamW
from coursekit.optim.paged import PagedAdamW

twins = [torch.nn.Parameter(torch.ones(500_000)) for _ in range(2)]
pair = [AdamW([twins[0]], lr=1e-3), PagedAdamW([twins[1]], lr=1e-3)]
for seed in range(5):
    for twin in twins:
        twin.grad = torch.randn(
            500_000, generator=torch.Generator().manual_seed(seed)
        )
    for each in pair:
        each.step()
compare(
    "weights after five steps", twins[1].detach(), twins[0].detach(), name="AdamW"
)

# %%
states = 8 * parameter_count(llama)
print(
    f"Llama-3-8B: {states / 1e9:.1f} GB of states, in and out at 25 GB/s: {2 * states / 25e9:.1f} s a step"
)

# %% [markdown]
# So it is for large batches, or for adapters with their few states. With LoRA the whole question nearly vanishes: 16 bytes a parameter for half a percent of the parameters.
#
# ## Make it fit
#
# Everything above is in one function. Begin with the classic: a model of 100 million parameters and a card of 4 GB. Its states are 1.6 GB in plain FP32. So why does it not fit?

# %% tags=["nbval-check-output"]
from coursekit.memory.fit import fits

hundred = Plan("course-100m", batch=32, sequence=1024, ledger="fp32")
verdict = fits(hundred, 4)
print(
    f"{verdict.estimate.peak_bytes / 1e9:.1f} GB needed; it breaks at the {verdict.breaks}"
)
for way in verdict.ways[:3]:
    print(
        f"  {way.name}: {way.estimate.peak_bytes / 1e9:.1f} GB, {way.flops_factor:.2f} x the FLOPs"
    )

# %% [markdown]
# Not one byte of the states had to be saved. `fits` names the term that breaks, and the cheapest ways out, each with its price. Now the models of the headlines. Full fine-tuning of an 8B model in 16 bits with FP32 masters:

# %% tags=["nbval-check-output"]
big = Plan("llama-3-8b", batch=4, sequence=2048, ledger="master-16")
for card in (24, 80, 141):
    verdict = fits(big, card)
    print(
        f"{card} GB: needs {verdict.estimate.peak_bytes / 1e9:.0f} GB, breaks at the {verdict.breaks}"
    )
    for way in verdict.ways:
        sent = (
            f", sends {way.sent_bytes / 1e9:.0f} GB a step"
            if way.sent_bytes
            else ""
        )
        print(
            f"   {way.name}: {way.estimate.peak_bytes / 1e9:.0f} GB, {way.flops_factor:.2f} x FLOPs{sent}"
        )

# %% [markdown]
# And QLoRA of a 70B model on a card of 24 GB, as some slides promise? **Predict** the GB of its weights in 4 bits, after `prepare_model_for_kbit_training`.

# %%
seventy = predict("Weights of Llama-3-70B in NF4, prepared", ..., unit="GB")

# %% tags=["nbval-check-output"]
qlora = Plan(
    "llama-3-70b",
    batch=1,
    sequence=512,
    quantization="nf4",
    lora_rank=16,
    checkpointing=True,
    optimizer="paged-adamw-8bit",
)
found = estimate(qlora)
weights = found.phases["forward"]["weights"] - 4 * found.trainable
seventy.reveal(round(weights / 1e9, 1))
for card in (24, 48, 80):
    print(
        f"{card} GB:",
        "fits"
        if fits(qlora, card).fits
        else f"does not fit, breaks at the {fits(qlora, card).breaks}",
    )

# %% [markdown]
# The chart below is drawn by the same function: for each model and card the cheapest method that fits a batch of four sequences of 2,048 tokens, in one step.

# %%
from coursekit.memory.fit import RUNGS, cheapest

models = ("course-100m", "llama-3.2-1b", "llama-2-7b", "llama-3-8b", "llama-3-70b")
cells = {
    (name, f"{card} GB"): cheapest(Plan(name, batch=4, ledger="master-16"), card)
    for name in models
    for card in (4, 16, 24, 48, 80, 141)
}
show(
    draw.decision_chart(
        cells, RUNGS, title="The cheapest method that fits, batch 4 x 2,048 tokens"
    )
)

# %% [markdown]
# Several GPUs share states: ZeRO's stages divide Adam's, then the gradients, then the weights. Lecture 6 builds them; the arithmetic is here already. Figure 1 of the ZeRO paper, 7.5 billion parameters on 64 GPUs:

# %% tags=["nbval-check-output"]
P, N = 7.5e9, 64
for stage, size in enumerate(
    (16 * P, 4 * P + 12 * P / N, 2 * P + 14 * P / N, 16 * P / N)
):
    print(f"stage {stage}: {size / 1e9:6.1f} GB on each GPU")

# %% [markdown]
# Play with it. Bars over the four phases, the card as a line; the same numbers as a table below. It needs no kernel.

# %%
from coursekit.widgets.memory_explorer import MemoryExplorer

MemoryExplorer()

# %% [markdown]
# On the command line: `coursekit plan llama-3-8b --qlora --seq 2048 --gpu 24`.
#
# ## What you can do now
#
# - You **said** where every byte of a step goes, and **saw** that the peak is a moment and not a sum.
# - You **computed** it from a config, within a thousandth of the allocator's truth, and **found** the cheapest way onto a card.
# - You **built** accumulation, checkpointing and 8-bit AdamW, and **compared** each with the library that everyone uses.
#
# ## Five quick questions
#
# <details><summary>1. Why is the sum of weights, gradients, states and activations more than the peak?</summary>
# They do not meet: gradients come while activations go. Only with a few tokens, or several micro-batches, do all gradients stand beside much else.</details>
#
# <details><summary>2. What does `torch.amp` save?</summary>
# Time, and a part of the activations. Weights, gradients and Adam stay FP32, and a 16-bit copy of the weights comes with each step.</details>
#
# <details><summary>3. Each micro-batch's loss is divided by their number. When is the gradient right?</summary>
# When all have equally many target tokens. Otherwise tokens of short batches count more; weight by targets.</details>
#
# <details><summary>4. Why does checkpointing cost a third of a step and not a half?</summary>
# A step is three forward passes long, one forward and a backward of two; one more makes four. With a frozen base it is a half: two, and one more.</details>
#
# <details><summary>5. An 8-bit Adam moves a weight by thousands of learning rates. What happened?</summary>
# Its $v$ was rounded to zero beside a large neighbour in the block, and its $m$ was not.</details>
#
# ## Where to read on
#
# - Korthikanti et al., *Reducing Activation Recomputation in Large Transformer Models*, 2022 (arXiv:2205.05198).
# - Chen et al., *Training Deep Nets with Sublinear Memory Cost*, 2016 (arXiv:1604.06174).
# - Dettmers et al., *8-bit Optimizers via Block-wise Quantization*, ICLR 2022 (arXiv:2110.02861).
# - Rajbhandari et al., *ZeRO: Memory Optimizations Toward Training Trillion Parameter Models*, 2020 (arXiv:1910.02054).
#
# Now the exercises: `exercises/03_memory.ipynb`. Next: lecture 4, throughput.

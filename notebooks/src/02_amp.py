# %% [markdown]
# # 2 · Mixed precision
#
# At the end of this lecture you can
#
# - say which three things break when a model is trained in FP16 alone, and show each of them;
# - write the cures: master weights, static and dynamic loss scaling, autocast; and show that they equal PyTorch's;
# - choose between FP32, FP16 and BF16 for a card and a model, and say what mixed precision saves and what it does not.
#
# *About 75 minutes, less than 2 GB of memory, no GPU, no network.* On a CPU, FP16 is taught by rounding, and so is BF16 where
# the processor has no units for it; on a GPU the same cells run both for real.

# %% tags=["parameters"]
PROFILE = "ci"
MODEL = "tiny"
SEED = 0
STEPS = None

# %% [markdown]
# The experiments fine-tune the course's own language model on the rewriting task of the Start page, all of its weights, by several recipes and with several
# seeds. `PROFILE` decides how long; `STEPS` overrides it.

# %%
import torch

device = "cuda" if PROFILE == "gpu" and torch.cuda.is_available() else "cpu"
steps = STEPS or {"ci": 28, "cpu": 60, "gpu": 120}[PROFILE]
seeds = range(SEED, SEED + {"ci": 3, "cpu": 3, "gpu": 5}[PROFILE])
print(f"{steps} steps, seeds {list(seeds)}, on {device}")

# %% [markdown]
# ## FP16 alone
#
# Half the bits, half the memory: why not turn the whole model into FP16 and train? One call does it. The optimizer is AdamW, the learning rate
# one that works in FP32. **Predict:** how many steps will it take before the loss is not a number any more?

# %%
from classroom.notebook.predict import predict

survived = predict("Steps of plain FP16 before the loss is NaN", ...)

# %% [markdown]
# `train_with_precision` runs a recipe of a table: here all tensors are FP16, weights, gradients and the two states of Adam.

# %% tags=["nbval-check-output"]
import math

from classroom.lectures.amp.experiments import (
    PRECISION_RECIPES,
    train_with_precision,
)

plain = train_with_precision(
    PRECISION_RECIPES["FP16 only"], seed=SEED, name=MODEL, device=device, steps=3
)
finite = sum(math.isfinite(loss) for loss in plain.losses)
survived.reveal(finite)

# %% [markdown]
# One step. The first update already ruined the weights. Who did it? Adam divides by $\sqrt{v} + \epsilon$, where $v$ is a mean of *squared* gradients and
# $\epsilon = 10^{-8}$ keeps the division alive. Ask FP16 for both numbers, for a gradient of 0.0001.

# %% tags=["nbval-check-output"]
gradient = torch.tensor(1e-4, dtype=torch.float16)
epsilon = torch.tensor(1e-8, dtype=torch.float16)
print(f"squared gradient {gradient**2:.1f}, epsilon {epsilon:.1f}")
print("update:", (gradient / (torch.sqrt(gradient**2) + epsilon)).item())

# %% [markdown]
# Both are below half of the smallest FP16 number, so both are zero, and the update is infinite. The first rule: **the optimizer computes in FP32.**
#
# ## Updates that are swallowed
#
# BF16 has the range of FP32, so nothing of this kind happens there. Train in **BF16 alone**, with the same learning rate. No NaN. But lecture 1 warned of something
# else: eight significant bits. **Predict** which share of the weights will be *exactly* what they were, after all steps.

# %%
unmoved = predict("Share of weights that never moved in BF16", ..., unit="%")

# %% [markdown]
# We train a copy and count. The learning rate is that of many full fine-tunes, a few hundred-thousandths; Adam moves a weight by about as much in each step.

# %% tags=["drifts"]
from classroom.models import task
from classroom.models.finetune import batches
from classroom.models.load import load
from coursekit.amp.tensor_core import tensor_core

model, tokenizer = load(MODEL, device=device, dtype="float32")
model = model.bfloat16()
start = [p.detach().clone() for p in model.parameters()]
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-5, weight_decay=0.0)
data = batches(tokenizer, task.pairs("train", 64, SEED), size=8, seed=SEED)
for _ in range(8):
    batch = {name: t.to(device) for name, t in next(data).items()}
    with tensor_core():  # rounds BF16 products on a processor that cannot run them
        model(**batch).loss.backward()
    optimizer.step(), optimizer.zero_grad()
same = sum((a == b).sum() for a, b in zip(start, model.parameters(), strict=True))
unmoved.reveal(round(100 * same.item() / sum(p.numel() for p in start), 1))

# %% [markdown]
# An update below half the distance to the next BF16 number is rounded away, every time, so their sum never arrives. The cure is as old as mixed precision:
# keep **master weights** in FP32, let the optimizer step on those, and give the model a rounded copy. It is a short class.

# %%
from classroom.notebook.show import show_source
from coursekit.amp.master_weights import MasterWeights

show_source(MasterWeights)

# %% [markdown]
# Does it give what FP32 gives? A model in FP32 that gets the *same* 16-bit gradients must end at the same masters, to the last bit. PyTorch's AdamW steps on both.

# %% tags=["nbval-check-output"]
from classroom.notebook.show import compare

low, high = torch.randn(1000, generator=torch.Generator().manual_seed(SEED)), None
low = low.bfloat16().requires_grad_()
high = low.detach().float().requires_grad_()
masters = MasterWeights([low])
ours = torch.optim.AdamW(masters.masters, lr=3e-5)
theirs = torch.optim.AdamW([high], lr=3e-5)
for _ in range(50):
    low.grad = torch.randn(1000).bfloat16()
    high.grad = low.grad.float()
    masters.collect_grads()
    ours.step(), theirs.step()
    masters.copy_back()
compare(
    "masters after 50 steps",
    masters.masters[0].detach(),
    high.detach(),
    name="FP32",
)

# %% [markdown]
# ## Gradients that die
#
# Now FP16 with masters. Is that enough? Look at what backward produces. We take the gradients of one batch, of the weights and of the *activations*, in FP32. The loss of a
# large run is a mean over millions of tokens, so one batch of ours is a small share of it: we divide by four million, as LLaMA's batches have.

# %%
from classroom.lectures.amp.experiments import BATCH_TOKENS
from coursekit.amp import grad_stats
from coursekit.training import targets

model, tokenizer = load(MODEL, device=device, dtype="float32")
batch = {name: t.to(device) for name, t in next(data).items()}
with grad_stats.activation_gradients(model) as by_activation:
    (model(**batch).loss * targets(batch) / BATCH_TOKENS).backward()
by_weight = grad_stats.gradients_of(model)
print(
    f"{len(by_weight)} weights, {len(by_activation)} activations; {targets(batch)} tokens of {BATCH_TOKENS:,}"
)

# %% [markdown]
# **Predict:** which share of the gradients of *activations* becomes exactly zero in FP16?

# %%
dead = predict("Activation gradients that FP16 flushes to zero", ..., unit="%")

# %% [markdown]
# `overall` rounds all of them to FP16 and counts; zeros that were zeros before do not count. PyTorch's own cast is the witness.

# %%
from coursekit.formats.spec import BF16, E4M3, E5M2, FP16

flushed = grad_stats.overall(by_activation.values(), FP16)
numbers = torch.cat([g.flatten() for g in by_activation.values()])
numbers = numbers[numbers != 0]
compare(
    "share flushed",
    flushed.zero,
    (numbers.half() == 0).double().mean(),
    name="torch",
)
dead.reveal(round(100 * flushed.zero, 1))

# %% [markdown]
# A gradient that is zero teaches nothing. The picture shows the gradients by size over what FP16 does there; the hatched bars are the same gradients multiplied by a
# power of two. **Multiplying the loss** does exactly that: backward is linear, so the factor reaches every gradient.

# %% tags=["drifts"]
from classroom.drawing.style import show
from classroom.lectures.amp import figures

weights_and_activations = {
    "gradients of weights": torch.cat([g.flatten() for g in by_weight.values()]),
    "gradients of activations": numbers,
}
safe = grad_stats.largest_safe_scale(
    [*by_weight.values(), *by_activation.values()], FP16
)
saved = grad_stats.overall(by_activation.values(), FP16, scale=safe / 16).zero
title = f"FP16 loses {flushed.zero:.0%} of the activation gradients; scaled, {saved:.1%}"
show(
    figures.gradient_histogram(
        weights_and_activations, scale=safe / 16, title=title
    )
)

# %% [markdown]
# That was a batch of four million tokens. For one of 16,384, the gradients are 256 times as large, and it depends on the layer who survives. We multiply them by 256 and
# look at the eight layers that lose most.

# %% tags=["drifts"]
rows = grad_stats.by_layer(by_activation, FP16, scale=BATCH_TOKENS / 16384)
worst = sorted(rows, key=lambda row: -row.zero)[:8]
title = f"{worst[0].name} loses {worst[0].zero:.0%}, {worst[-1].name} {worst[-1].zero:.0%}"
show(figures.shares_by_layer(worst, title=title))

# %% [markdown]
# ## Static loss scaling
#
# Multiply the loss by $S$, run backward, divide the gradients by $S$ **in FP32**. How large may $S$ be? As large as the largest gradient allows: FP16 ends at 65,504. Powers of
# two cost no rounding at all, which we can check: scaled and unscaled, a gradient in FP32 comes back to the last bit.

# %% tags=["drifts"]
from coursekit.amp.unscale import unscale_and_check

scaled = [g * safe for g in by_weight.values()]
broken = unscale_and_check(scaled, safe)
print(f"largest safe scale 2^{math.log2(safe):.0f}, inf or NaN found: {broken}")
compare(
    "gradients",
    torch.cat([g.flatten() for g in scaled]),
    weights_and_activations["gradients of weights"],
    name="unscaled",
)

# %% [markdown]
# And one step further, at $2S$, the largest gradient overflows to infinity. An infinite gradient must never reach the optimizer, so `unscale_and_check` looks for it, and a step
# with one is **left out**. Static scaling has a weak side: the safe $S$ changes during training, by orders of magnitude.
#
# ## Dynamic loss scaling
#
# Nobody knows the best $S$, so let it find itself: double it after a long quiet time, halve it when a gradient overflows, and leave that step out. That is the whole rule.

# %%
from coursekit.amp.loss_scale import LossScale

show_source(LossScale)

# %% [markdown]
# Held against `torch.amp.GradScaler`: two thousand steps in which gradients are infinite or NaN at random, alone and in bursts. After each of them, both scales must be the
# same number. (A test of the course does ten thousand, with several settings.)

# %% tags=["nbval-check-output"]
import random

from coursekit.amp.grad_scaler import GradScaler

dice = random.Random(SEED)
pattern = [
    dice.choice((math.inf, math.nan)) if dice.random() < 0.05 else 1.0
    for _ in range(2000)
]


def trajectory(scaler):
    weight, scales = torch.zeros(1, requires_grad=True), []
    optimizer = torch.optim.SGD([weight], lr=1.0)
    for gradient in pattern:
        scaler.scale(torch.ones(()))
        weight.grad = torch.tensor([gradient])
        scaler.step(optimizer), scaler.update()
        scales.append(scaler.get_scale())
    return torch.tensor([*scales, weight.item()])


compare(
    "2,000 scales and the weight",
    trajectory(GradScaler(growth_interval=20)),
    trajectory(torch.amp.GradScaler("cpu", growth_interval=20)),
    name="torch.amp",
)

# %% [markdown]
# Now on the model: start far too high, and far too low. The scaler needs one lost step for each halving; growing is patient (PyTorch waits 2,000 good steps, here 3).

# %% tags=["drifts"]
scaling = PRECISION_RECIPES["FP16 autocast + scaling"]
settings = {
    "seed": SEED,
    "name": MODEL,
    "device": device,
    "size": 4,
    "growth_interval": 3,
}
runs = {
    "start at 2^40": train_with_precision(
        scaling, steps=min(steps, 16), init_scale=2.0**40, **settings
    ),
    "start at 2^24": train_with_precision(
        scaling, steps=min(steps, 16), init_scale=2.0**24, **settings
    ),
}
show(
    figures.scale_trajectory(
        runs,
        title=f"From too high, {runs['start at 2^40'].skipped} steps are lost on the way down",
    )
)

# %% [markdown]
# ## Clip after unscaling
#
# Clipping compares the norm of the gradients with a limit. With scaling, the gradients are $S$ times too large until they are unscaled. **Predict:** clip to norm 1 *before*
# unscaling with $S = 65{,}536$; what norm is left after the division, if the true norm was 0.5?

# %%
left = predict("Norm after clipping too early", ...)

# %% [markdown]
# The right order asks the scaler to unscale first: `scaler.unscale_(optimizer)`, then clip, then `scaler.step(optimizer)`, which knows that it has been done.


# %% tags=["nbval-check-output"]
def norm_left(clip_first):
    weight = torch.zeros(1, requires_grad=True)
    optimizer, scaler = (
        torch.optim.SGD([weight], lr=1.0),
        GradScaler(init_scale=65536.0),
    )
    scaler.scale(0.5 * weight.sum()).backward()
    if clip_first:
        torch.nn.utils.clip_grad_norm_([weight], 1.0)
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_([weight], 1.0)
    return weight.grad.norm().item()


left.reveal(norm_left(clip_first=True))
print(
    f"right order {norm_left(clip_first=False)}, wrong order {norm_left(clip_first=True):.3g}"
)

# %% [markdown]
# No error, no NaN: the model only learns very slowly. With Adam even that is hidden, until the scale changes.
#
# ## Autocast
#
# The other half of `torch.amp` never turns the model into FP16. The weights stay FP32, and **each operation** gets the dtype that suits it: products of matrices in 16
# bits, sums and losses in 32. Which operation belongs where is a table, one for each device.

# %% tags=["nbval-check-output"]
from coursekit.amp.autocast_policy import policy_of

for kind in ("linear", "matmul", "softmax", "layer_norm", "cross_entropy", "sum"):
    row = {name: policy_of(name).get(kind) for name in ("cpu", "cuda")}
    print(
        f"{kind:14}",
        ", ".join(f"{name}: {rule or 'as it comes'}" for name, rule in row.items()),
    )

# %% [markdown]
# Look at the two columns: **softmax is FP32 on CUDA and 16 bits on a CPU.** What you debug on a laptop is not what the card does. The defaults differ as well, and neither
# is chosen by what the hardware likes best:

# %% tags=["nbval-check-output"]
print({name: str(torch.get_autocast_dtype(name)) for name in ("cpu", "cuda")})

# %% [markdown]
# Ours does the same as PyTorch's? A recorder notes every operation that reaches a kernel, forward and backward, with the dtypes of what goes in and comes out. Run the
# embedded model under both, and compare the lists row by row, and the loss bit by bit.

# %%
from coursekit.amp.autocast import autocast
from coursekit.amp.recorder import Recorder


def record(region):
    model.zero_grad()
    with Recorder() as recorder, region:
        loss = model(**batch).loss
    with recorder, recorder.backward():
        loss.backward()
    return loss.item(), [str(row) for row in recorder.rows]


(our_loss, our_rows), (torch_loss, torch_rows) = (
    record(region)
    for region in (
        autocast(device, torch.bfloat16),
        torch.autocast(device, torch.bfloat16),
    )
)
print(f"operations forward and backward are the same: {our_rows == torch_rows}")
compare("loss", our_loss, torch_loss, name="torch")
assert our_rows == torch_rows

# %% [markdown]
# ## What mixed precision does not do
#
# It is often said that mixed precision halves the memory. Train one step by four recipes, then count the bytes of every tensor that stays from one step
# to the next. **Predict** the total under autocast, in bytes a parameter.

# %%
total = predict(
    "Bytes a parameter under FP16 autocast: weights, gradients, Adam", ...
)

# %% [markdown]
# The counts come from the tensors themselves, not from a formula.

# %% tags=["nbval-check-output"]
parameters = sum(p.numel() for p in model.parameters())
ledger = {}
for name in (
    "FP32",
    "FP16 autocast + scaling",
    "FP16 + master + scaling",
    "BF16 only",
):
    held = train_with_precision(
        PRECISION_RECIPES[name], seed=SEED, name=MODEL, device=device, steps=1, size=1
    ).nbytes
    ledger[name] = {kind: size / parameters for kind, size in held.items()}
print({name: sum(row.values()) for name, row in ledger.items()})
total.reveal(sum(ledger["FP16 autocast + scaling"].values()))

# %% [markdown]
# Autocast changes **nothing** of what stays: weights, gradients and both states of Adam are FP32. FP16 weights with masters are *more*. What shrinks are the activations that wait
# for backward, and the time. (Papers count 16 bytes for the recipe with masters: there the gradients stay in FP16. Here they are widened for the optimizer.)

# %%
show(
    figures.ledgers(
        ledger, title="Autocast saves no byte of what stays; masters cost two"
    )
)

# %% [markdown]
# And the activations? PyTorch tells which tensors it keeps for backward. Count their bytes once with and once without autocast, each storage once, the weights left out. The batch is repeated
# eight times, for activations grow with the batch and the 16-bit copies of the weights do not.

# %% tags=["drifts"]
from contextlib import nullcontext

large = {name: t.repeat(8, 1) for name, t in batch.items()}


def saved_bytes(region):
    ours, seen = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}

    def pack(tensor):
        seen[tensor.untyped_storage().data_ptr()] = (
            tensor.untyped_storage().nbytes()
        )
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        tensor_core(),
        region,
    ):
        loss = model(**large).loss
    return sum(size for place, size in seen.items() if place not in ours), loss


full, _ = saved_bytes(nullcontext())
half, _ = saved_bytes(torch.autocast(device, torch.bfloat16))
print(
    f"kept for backward: FP32 {full / 1e6:.1f} MB, autocast {half / 1e6:.1f} MB, {half / full:.0%} of it"
)

# %% [markdown]
# More than half, because norms and the loss keep FP32 copies, and the 16-bit copies of the weights count as well.
#
# ## The race
#
# Now all recipes on the same fine-tune, each with the same seeds, each a small share of a batch of four million tokens. One of them you know to fail at once. Which of the others
# will follow FP32? This takes the longest of all cells.

# %% tags=["drifts"]
from tqdm import tqdm

names = (
    "FP32",
    "BF16 only",
    "FP16 + master",
    "FP16 + master + scaling",
    "BF16 autocast",
)
race = {
    name: [
        train_with_precision(
            PRECISION_RECIPES[name], seed=seed, name=MODEL, device=device, steps=steps
        )
        for seed in seeds
    ]
    for name in tqdm(names, disable=None)
}
race["FP16 only"] = [
    train_with_precision(
        PRECISION_RECIPES["FP16 only"], seed=seed, name=MODEL, device=device, steps=3
    )
    for seed in seeds
]
ends = {
    name: sum(run.losses[-1] for run in several) / len(several)
    for name, several in race.items()
}
print({name: round(end, 2) for name, end in ends.items()})

# %% [markdown]
# The band runs from the lowest to the highest seed. FP16 with masters but without scaling computes everything, at full price, and learns nothing: its gradients are zero.

# %% tags=["drifts"]
title = "FP16 with masters and scaling, and BF16 under autocast, follow FP32"
show(figures.loss_curves(race, title=title))

# %% [markdown]
# A picture is no proof. The course asks for numbers: the cures may differ from FP32 by five per cent at the end, and what fails must have learned less than half.

# %%
fell = {name: race["FP32"][0].losses[0] - end for name, end in ends.items()}
if steps >= 20:
    assert all(
        abs(ends[n] / ends["FP32"] - 1) < 0.05
        for n in ("FP16 + master + scaling", "BF16 autocast")
    )
    assert all(fell[n] < fell["FP32"] / 2 for n in ("BF16 only", "FP16 + master"))
assert math.isnan(ends["FP16 only"])
print("the cures follow FP32, the others do not")

# %% [markdown]
# What did it cost? Seconds a step, on this machine. On a processor with fast BF16, autocast is faster than FP32 for large models; on this small one the casts cost about what the products save.
# FP16 is *rounded* here and not run, and so is BF16 where the processor has no units for it: their times say nothing about a GPU.

# %% tags=["volatile"]
for name in ("FP32", "BF16 autocast", "FP16 + master + scaling"):
    seconds = min(run.seconds / len(run.losses) for run in race[name])
    print(f"{name:24} {1000 * seconds:.0f} ms a step")

# %% [markdown]
# ## TF32: a switch, not a dtype
#
# Ampere and later cards can multiply FP32 matrices with ten bits of mantissa instead of 23. The tensors stay FP32; a switch decides. In PyTorch it is off for products of matrices. What would it change? Rounding
# the inputs to TF32 shows it.

# %% tags=["drifts"]
from coursekit.formats.spec import TF32
from coursekit.formats.tensor import round_to

a, b = (
    torch.randn(256, 256, generator=torch.Generator().manual_seed(SEED + k))
    for k in (0, 1)
)
exact = a.double() @ b.double()
for name, fmt in {"FP32": None, "TF32": TF32, "BF16": BF16}.items():
    x, y = (a, b) if fmt is None else (round_to(a, fmt), round_to(b, fmt))
    error = ((x @ y).double() - exact).norm() / exact.norm()
    print(f"{name}: relative error {error:.1e}")
print("precision of FP32 products now:", torch.get_float32_matmul_precision())

# %% [markdown]
# ## Outlook: FP8
#
# Eight bits have even less range, so one scale for the whole model is not enough: **each tensor** gets its own. The same activation gradients, in three formats, as they are, with one scale for all, and with the largest safe scale for every tensor.

# %% tags=["drifts"]
every = list(by_activation.values())
outlook = {}
for fmt in (FP16, E5M2, E4M3):
    common = grad_stats.largest_safe_scale(every, fmt)
    own = [g * grad_stats.largest_safe_scale([g], fmt) for g in every]
    outlook[fmt.name] = {
        "as they are": grad_stats.overall(every, fmt),
        "one scale": grad_stats.overall(every, fmt, scale=common),
        "a scale each": grad_stats.overall(own, fmt),
    }
show(
    figures.format_shares(
        outlook,
        title="Per-tensor scales make FP8 gradients possible; E5M2 keeps more than E4M3",
    )
)

# %% [markdown]
# ## In one line
#
# In practice a library wires all of this. `accelerate` takes the recipe as a word and wraps model, optimizer and backward. Its loss must be that of our autocast, on the same batch.

# %%
from accelerate import Accelerator

accelerator = Accelerator(mixed_precision="bf16", cpu=device == "cpu")
fresh, _ = load(MODEL, device=device, dtype="float32")
wrapped = accelerator.prepare(fresh)
with accelerator.autocast():
    their_loss = wrapped(**batch).loss
accelerator.backward(their_loss)
compare(
    "loss under accelerate",
    our_loss,
    their_loss.item(),
    name="accelerate",
    tolerance=1e-6,
)

# %% [markdown]
# ## Rules to take along

# %%
from classroom.notebook.show import takeaway

takeaway("Multiply in 16 bits; keep weights, optimizer, sums and the loss in 32.")
takeaway(
    "FP16 needs loss scaling because its range ends early; BF16 needs none, and needs masters all the more."
)
takeaway(
    "Autocast saves time and activations, not a byte of weights, gradients or optimizer."
)

# %% [markdown]
# ## What you can do now
#
# - You **broke** FP16 training in three ways: a dead epsilon, swallowed updates, dead gradients.
# - You **cured** it with master weights and loss scaling, and **saw** ours equal PyTorch's, scale by scale and operation by operation.
# - You **counted** what mixed precision holds in memory, and **raced** the recipes with seeds.
#
# ## Five quick questions
#
# <details><summary>1. A friend trains with BF16 autocast and a GradScaler. What do you say?</summary>
# The scaler has nothing to do: BF16 has the range of FP32. Leave it out.</details>
#
# <details><summary>2. Why does GradScaler refuse FP16 gradients?</summary>
# Dividing them by the scale would flush them to zero after all. The division has to happen in FP32.</details>
#
# <details><summary>3. The scale falls step after step and never recovers. What is wrong?</summary>
# Every gradient has an inf or NaN that no scale can cure: a bug or an overflow in the forward pass.</details>
#
# <details><summary>4. Your script uses autocast on CUDA without naming a dtype. Which one do you get on an H100?</summary>
# FP16. The default does not ask what the card does best; name BF16.</details>
#
# <details><summary>5. Why is the memory of a small batch hardly smaller under autocast?</summary>
# Weights, gradients and Adam stay FP32. Only activations shrink, and a small batch has few.</details>
#
# ## Where to read on
#
# - Micikevicius et al., *Mixed Precision Training*, ICLR 2018 (arXiv:1710.03740): master weights and loss scaling.
# - Kalamkar et al., *A Study of BFLOAT16 for Deep Learning Training*, 2019 (arXiv:1905.12322).
# - Micikevicius et al., *FP8 Formats for Deep Learning*, 2022 (arXiv:2209.05433).
# - PyTorch documentation, *Automatic Mixed Precision package*: the tables of operations, and the order of calls.
#
# Next: lecture 3, memory.

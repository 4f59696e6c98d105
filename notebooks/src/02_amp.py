# %% [markdown]
# # 2 · Mixed precision
#
# At the end of this lecture you can
#
# - say which three things break when a model is trained in 16 bits alone, and show each of them;
# - write the cures (master weights, static and dynamic loss scaling, autocast) and show that they equal PyTorch's;
# - choose between FP32, FP16 and BF16 for a GPU and a model, and say what mixed precision saves and what it does not.
#
# *About 75 minutes, less than 2 GB of memory, no GPU, no network.* On a CPU, FP16 is simulated by rounding, and so is BF16 where
# the processor has no units for it; on a GPU the same cells run both for real.

# %% tags=["parameters"]
PROFILE = "ci"
MODEL = "tiny"
SEED = 0
STEPS = None

# %% [markdown]
# The experiments fine-tune all weights of the course's own language model on the rewriting task of the Start page, by several
# recipes and with several seeds. `PROFILE` decides how long they run; `STEPS` overrides it.

# %%
import torch
from classroom import compare, load, predict, show, show_source, takeaway

device = "cuda" if PROFILE == "gpu" and torch.cuda.is_available() else "cpu"
steps = STEPS or {"ci": 28, "cpu": 60, "gpu": 120}[PROFILE]
seeds = range(SEED, SEED + {"ci": 3, "cpu": 3, "gpu": 5}[PROFILE])
print(f"{steps} steps, seeds {list(seeds)}, on {device}")

# %% [markdown]
# ## FP16 alone
#
# Half the bits, half the memory: why not turn the whole model into FP16 and train? One call does it. The optimizer is AdamW, with a
# learning rate that works in FP32. **Predict:** how many steps will it take until the loss is NaN?

# %%
survived = predict("Steps of plain FP16 before the loss is NaN", ...)

# %% [markdown]
# `train_with_precision` runs one recipe from a table. With this one all tensors are FP16: weights, gradients and the two states of Adam.

# %% tags=["nbval-check-output"]
import math

from classroom.lectures.amp import experiments

recipe = experiments.PRECISION_RECIPES["FP16 only"]
where = {"name": MODEL, "device": device}
plain = experiments.train_with_precision(recipe, SEED, steps=3, **where)
survived.reveal(sum(math.isfinite(loss) for loss in plain.losses))

# %% [markdown]
# One step: the first update already ruined the weights. Why? Adam divides by $\sqrt{v} + \epsilon$, where $v$ is a mean of *squared*
# gradients and $\epsilon = 10^{-8}$ prevents a division by zero. The next cell stores both numbers in FP16, for a gradient of 0.0001.

# %% tags=["nbval-check-output"]
gradient = torch.tensor(1e-4, dtype=torch.float16)
epsilon = torch.tensor(1e-8, dtype=torch.float16)
print(f"squared gradient {gradient**2:.1f}, epsilon {epsilon:.1f}")
print("update:", (gradient / (torch.sqrt(gradient**2) + epsilon)).item())

# %% [markdown]
# Both are below half of the smallest FP16 number, so both become zero and the update is infinite. The first rule follows: **the
# optimizer computes in FP32.**
#
# ## Swallowed updates
#
# BF16 has the range of FP32, so both numbers exist there. If we train in **BF16 alone**, with the same learning rate, no NaN appears.
# But BF16 has only eight significant bits, as lecture 1 showed. **Predict** which share of the weights will be *exactly* the same
# after all steps.

# %%
unmoved = predict("Share of weights that never moved in BF16", ..., unit="%")

# %% [markdown]
# `unmoved_share` trains a copy and counts. The learning rate, 0.00003, is that of many full fine-tunes; Adam moves a weight by about
# as much in each step.

# %% tags=["drifts"]
share = experiments.unmoved_share(SEED, **where)
show_source(experiments.unmoved_share)
unmoved.reveal(round(100 * share, 1))

# %% [markdown]
# An update below half the distance to the next BF16 number is rounded away every time, so the updates never add up. The cure is as
# old as mixed precision: keep **master weights** in FP32, let the optimizer step on those, and give the model a rounded copy. It is a
# short class.

# %%
from coursekit.amp.master_weights import MasterWeights

show_source(MasterWeights)

# %% [markdown]
# Do the masters behave as FP32 weights do? An FP32 weight that gets the *same* 16-bit gradients must end equal, to the last bit.
# PyTorch's AdamW steps on both.

# %% tags=["nbval-check-output"]
low = torch.randn(1000, generator=torch.Generator().manual_seed(SEED)).bfloat16().requires_grad_()
high = low.detach().float().requires_grad_()
masters = MasterWeights([low])
ours = torch.optim.AdamW(masters.masters, lr=3e-5)
theirs = torch.optim.AdamW([high], lr=3e-5)
for _ in range(50):
    low.grad = torch.randn(1000).bfloat16()
    high.grad = low.grad.float()
    masters.collect_grads()
    ours.step()
    theirs.step()
    masters.copy_back()
compare("masters after 50 steps", masters.masters[0].detach(), high.detach(), name="FP32")

# %% [markdown]
# ## Gradients that become zero
#
# Now FP16 with masters. Is that enough? Look at the gradients. We compute those of one batch in FP32, for the weights and for the
# *activations*. The loss of a large run is a mean over millions of tokens, and our batch is a small share of them: we divide by four
# million, the size of LLaMA's batches.

# %%
from coursekit.amp import grad_stats
from coursekit.training import targets

BATCH_TOKENS = experiments.BATCH_TOKENS
model, batch = experiments.model_and_batch(SEED, **where)
gradients = experiments.gradients(model, batch)
by_weight, by_activation = gradients.by_weight, gradients.by_activation
counts = f"{len(by_weight)} weights, {len(by_activation)} activations"
print(f"{counts}; {targets(batch)} tokens of {BATCH_TOKENS:,}")

# %% [markdown]
# **Predict:** which share of the gradients of *activations* becomes exactly zero in FP16?

# %%
dead = predict("Activation gradients that FP16 flushes to zero", ..., unit="%")

# %% [markdown]
# `overall` rounds all of them to FP16 and counts those that become zero; gradients that were zero before are left out. We compare
# with PyTorch's own cast.

# %%
from coursekit.formats.spec import BF16, E4M3, E5M2, FP16

flushed = grad_stats.overall(by_activation.values(), FP16)
numbers = gradients.kinds()["gradients of activations"]
by_torch = (numbers[numbers != 0].half() == 0).double().mean()
compare("share flushed", flushed.zero, by_torch, name="torch")
dead.reveal(round(100 * flushed.zero, 1))

# %% [markdown]
# A gradient that is zero teaches nothing. The picture shows the gradients by magnitude, over what FP16 does to them; the hatched
# bars are the same gradients multiplied by a power of two. **Multiplying the loss** has exactly this effect: backward is linear, so
# the factor reaches every gradient.

# %% tags=["drifts"]
from classroom.lectures.amp import figures

safe = gradients.safe_scale()
saved = grad_stats.overall(by_activation.values(), FP16, scale=safe / 16).zero
finding = f"FP16 loses {flushed.zero:.0%} of the activation gradients; scaled, {saved:.1%}"
show(figures.gradient_histogram(gradients.kinds(), scale=safe / 16), finding)

# %% [markdown]
# That was a batch of four million tokens. In a batch of 16,384 tokens the gradients are 256 times as large, and the share that is
# lost depends on the layer. We multiply the gradients by 256 and look at the eight layers that lose most.

# %% tags=["drifts"]
rows = grad_stats.by_layer(by_activation, FP16, scale=BATCH_TOKENS / 16384)
worst = sorted(rows, key=lambda row: -row.zero)[:8]
finding = f"{worst[0].name} loses {worst[0].zero:.0%}, {worst[-1].name} {worst[-1].zero:.0%}"
show(figures.shares_by_layer(worst), finding)

# %% [markdown]
# ## Static loss scaling
#
# Multiply the loss by $S$, run backward, divide the gradients by $S$ **in FP32**. How large may $S$ be? The largest gradient decides:
# FP16 ends at 65,504. A power of two causes no rounding, as the next cell checks: scaled and unscaled again, every FP32 gradient is
# the same to the last bit.

# %% tags=["drifts"]
from coursekit.amp.unscale import unscale_and_check

scaled = [g * safe for g in by_weight.values()]
broken = unscale_and_check(scaled, safe)
print(f"largest safe scale 2^{math.log2(safe):.0f}, inf or NaN found: {broken}")
unscaled = torch.cat([g.flatten() for g in scaled])
compare("gradients", unscaled, gradients.kinds()["gradients of weights"], name="unscaled")

# %% [markdown]
# At twice this $S$ the largest gradient overflows to infinity. An infinite gradient must never reach the optimizer, so `unscale_and_check`
# looks for one, and the optimizer **skips** that step. The weakness of static scaling: the safe $S$ changes during training, by orders
# of magnitude.
#
# ## Dynamic loss scaling
#
# The best $S$ is unknown, so we search for it during training: double it after many good steps in a row; when a gradient overflows,
# halve it and skip that step. That is the whole rule.

# %%
from coursekit.amp.loss_scale import LossScale

show_source(LossScale)

# %% [markdown]
# We compare with `torch.amp.GradScaler` over two thousand steps in which gradients are infinite or NaN at random, alone and in
# bursts. After each step both scales must be equal. (A test of the course does ten thousand steps, with several settings.)

# %% tags=["nbval-check-output"]
import random

from coursekit.amp.grad_scaler import GradScaler

dice = random.Random(SEED)
broken = (math.inf, math.nan)
pattern = [dice.choice(broken) if dice.random() < 0.05 else 1.0 for _ in range(2000)]


def trajectory(scaler):
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scales = []
    for gradient in pattern:
        scaler.scale(torch.ones(()))
        weight.grad = torch.tensor([gradient])
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    return torch.tensor([*scales, weight.item()])


ours = trajectory(GradScaler(growth_interval=20))
theirs = trajectory(torch.amp.GradScaler("cpu", growth_interval=20))
compare("2,000 scales and the weight", ours, theirs, name="torch.amp")

# %% [markdown]
# Now on the model: one run starts far too high, one far too low. Each halving costs one skipped step; growing takes patience (PyTorch
# waits for 2,000 good steps, we wait for 3).

# %% tags=["drifts"]
runs = experiments.scale_searches(min(steps, 16), SEED, **where)
lost = runs["start at 2^40"].skipped
show(figures.scale_trajectory(runs), f"Started too high, the scaler skips {lost} steps")

# %% [markdown]
# ## Clip after unscaling
#
# Clipping compares the norm of the gradients with a limit. With scaling, the gradients are $S$ times too large until they are
# unscaled. Suppose the true norm is 0.5, and you clip to norm 1 *before* unscaling with $S = 65{,}536$. **Predict:** what norm is left
# after the division?

# %%
left = predict("Norm after clipping too early", ...)

# %% [markdown]
# In the right order the scaler unscales first: `scaler.unscale_(optimizer)`, then clip, then `scaler.step(optimizer)`, which does not
# unscale a second time.

# %% tags=["nbval-check-output"]
right, wrong = (experiments.norm_after_clipping(early) for early in (False, True))
show_source(experiments.norm_after_clipping)
left.reveal(wrong)
print(f"right order {right}, wrong order {wrong:.3g}")

# %% [markdown]
# There is no error and no NaN: the model only learns very slowly. Adam hides even that, until the scale changes.
#
# ## Autocast
#
# The other half of `torch.amp` does not turn the model into FP16. The weights stay FP32, and **each operation** gets the dtype that
# suits it: products of matrices in 16 bits, sums and losses in 32. A table, one per device, says which operation gets which dtype.

# %% tags=["nbval-check-output"]
from coursekit.amp.autocast_policy import policy_of

for kind in ("linear", "matmul", "softmax", "layer_norm", "cross_entropy", "sum"):
    rules = {name: policy_of(name).get(kind) or "as its inputs" for name in ("cpu", "cuda")}
    print(f"{kind:14}", ", ".join(f"{name}: {rule}" for name, rule in rules.items()))

# %% [markdown]
# Look at the two columns: **softmax is FP32 on CUDA; on a CPU it stays in the 16 bits of its inputs.** What you debug on a laptop is not
# what the GPU does. The default dtypes differ too, and neither depends on what the hardware does best:

# %% tags=["nbval-check-output"]
print({name: str(torch.get_autocast_dtype(name)) for name in ("cpu", "cuda")})

# %% [markdown]
# Does our autocast do the same as PyTorch's? A recorder notes every operation that reaches a kernel, forward and backward, with the
# dtypes of its inputs and outputs. We run the course's model under both, and compare the lists row by row and the loss bit by bit.

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


our_loss, our_rows = record(autocast(device, torch.bfloat16))
torch_loss, torch_rows = record(torch.autocast(device, torch.bfloat16))
print(f"operations forward and backward are the same: {our_rows == torch_rows}")
compare("loss", our_loss, torch_loss, name="torch")
assert our_rows == torch_rows

# %% [markdown]
# ## What mixed precision does not do
#
# It is often said that mixed precision halves the memory. We train one step with each of four recipes, then count the bytes of every
# tensor that stays from one step to the next. **Predict** the total under autocast, in bytes per parameter.

# %%
total = predict("Bytes per parameter under FP16 autocast: weights, gradients, Adam", ...)

# %% [markdown]
# The counts come from the tensors themselves, not from a formula.

# %% tags=["nbval-check-output"]
ledgers = experiments.precision_ledgers(SEED, **where)
print({name: sum(row.values()) for name, row in ledgers.items()})
total.reveal(sum(ledgers["FP16 autocast + scaling"].values()))

# %% [markdown]
# Under autocast, what stays takes **as many bytes** as in FP32: weights, gradients and both states of Adam are FP32. FP16 weights with
# masters take *more*. Only the activations kept for backward shrink, and so does the time. (Papers count 16 bytes for the recipe with
# masters: there the gradients stay in FP16. Here they are converted to FP32 for the optimizer.)

# %%
show(figures.ledgers(ledgers), "Autocast saves no byte of what stays; masters cost two")

# %% [markdown]
# And the activations? PyTorch can tell which tensors it keeps for backward. We count their bytes with and without autocast, each
# storage once, without the weights. The batch is repeated eight times, because activations grow with the batch and the 16-bit copies
# of the weights do not.

# %% tags=["drifts"]
from contextlib import nullcontext

from coursekit.amp.tensor_core import tensor_core

large = {name: t.repeat(8, 1) for name, t in batch.items()}


def saved_bytes(region):
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    seen = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with hooks, tensor_core(), region:
        loss = model(**large).loss
    kept = sum(size for place, size in seen.items() if place not in weights)
    return kept, loss  # the loss keeps the graph alive


full, _ = saved_bytes(nullcontext())
half, _ = saved_bytes(torch.autocast(device, torch.bfloat16))
kept = f"FP32 {full / 1e6:.1f} MB, autocast {half / 1e6:.1f} MB, {half / full:.0%} of it"
print(f"kept for backward: {kept}")

# %% [markdown]
# More than half is left, because norms and the loss keep FP32 copies, and the 16-bit copies of the weights count as well.
#
# ## The race
#
# Now all recipes run the same fine-tune, with the same seeds, each batch a small share of four million tokens. One of them fails at
# once, as you saw. Which of the others will follow FP32? This cell takes longer than all others.

# %% tags=["drifts"]
race = experiments.race(seeds, steps, **where)
ends = {name: sum(run.losses[-1] for run in runs) / len(runs) for name, runs in race.items()}
print({name: round(end, 2) for name, end in ends.items()})

# %% [markdown]
# The band reaches from the lowest to the highest seed. FP16 with masters but without scaling does all the work and learns nothing:
# its gradients are zero.

# %% tags=["drifts"]
finding = "FP16 with masters and scaling, and BF16 under autocast, follow FP32"
show(figures.loss_curves(race), finding)

# %% [markdown]
# A picture is not a proof, so we test numbers: at the end the cures may differ from FP32 by five per cent, and the recipes that fail
# must have learned less than half as much as FP32.

# %%
fell = {name: race["FP32"][0].losses[0] - end for name, end in ends.items()}
if steps >= 20:
    cures = ("FP16 + master + scaling", "BF16 autocast")
    assert all(abs(ends[name] / ends["FP32"] - 1) < 0.05 for name in cures)
    assert all(fell[name] < fell["FP32"] / 2 for name in ("BF16 only", "FP16 + master"))
assert math.isnan(ends["FP16 only"])
print("the cures follow FP32, the others do not")

# %% [markdown]
# What did it cost? The next cell prints the time per step on this machine. On a processor with fast BF16, autocast is faster than FP32
# for large models; for this small one the casts cost about as much as the products save. FP16 is *simulated* by rounding here, and so
# is BF16 where the processor has no units for it: their times say nothing about a GPU.

# %% tags=["volatile"]
for name in ("FP32", "BF16 autocast", "FP16 + master + scaling"):
    seconds = min(run.seconds / len(run.losses) for run in race[name])
    print(f"{name:24} {1000 * seconds:.0f} ms per step")

# %% [markdown]
# ## TF32: a switch, not a dtype
#
# Ampere and later GPUs can multiply FP32 matrices with ten bits of mantissa instead of 23. The tensors stay FP32; a switch decides. In
# PyTorch it is off for products of matrices. What would it change? We round the inputs to TF32 to see.

# %% tags=["drifts"]
from coursekit.formats.spec import FP32, TF32
from coursekit.formats.tensor import round_to

seeded = [torch.Generator().manual_seed(SEED + k) for k in (0, 1)]
a, b = (torch.randn(256, 256, generator=generator) for generator in seeded)
exact = a.double() @ b.double()
for fmt in (FP32, TF32, BF16):
    product = round_to(a, fmt) @ round_to(b, fmt)
    error = (product.double() - exact).norm() / exact.norm()
    print(f"{fmt.name}: relative error {error:.1e}")
print("precision of FP32 products now:", torch.get_float32_matmul_precision())

# %% [markdown]
# ## Outlook: FP8
#
# Eight bits have even less range, so one scale for the whole model is not enough: **each tensor** gets its own. The figure shows the same
# activation gradients in three formats: unscaled, with one scale for all, and with the largest safe scale for each tensor.

# %% tags=["drifts"]
tensors = by_activation.values()
formats = (FP16, E5M2, E4M3)
outlook = {fmt.name: experiments.flushed_with_scales(tensors, fmt) for fmt in formats}
finding = "Per-tensor scales make FP8 gradients possible; E5M2 keeps more than E4M3"
show(figures.format_shares(outlook), finding)

# %% [markdown]
# ## In one line
#
# In practice a library sets all of this up. `accelerate` takes the recipe as a word and wraps model, optimizer and backward. Its loss
# must equal that of our autocast, on the same batch.

# %%
from accelerate import Accelerator

accelerator = Accelerator(mixed_precision="bf16", cpu=device == "cpu")
fresh, _ = load(MODEL, device=device, dtype="float32")
wrapped = accelerator.prepare(fresh)
with accelerator.autocast():
    their_loss = wrapped(**batch).loss
accelerator.backward(their_loss)
compare("loss under accelerate", our_loss, their_loss.item(), name="accelerate", tolerance=1e-6)

# %% [markdown]
# ## Rules to take home

# %%
takeaway("Multiply in 16 bits; keep weights, optimizer, sums and the loss in 32.")
takeaway(
    "FP16 needs loss scaling because its range ends early; BF16 does not, but it needs masters all the more."
)
takeaway("Autocast saves time and activations, but no byte of weights, gradients or optimizer.")

# %% [markdown]
# ## What you can do now
#
# - You **broke** 16-bit training in three ways: an epsilon of zero, swallowed updates, gradients of zero.
# - You **cured** it with master weights and loss scaling, and **saw** that ours equal PyTorch's, scale by scale and operation by
#   operation.
# - You **counted** what mixed precision holds in memory, and **compared** the recipes over several seeds.
#
# ## Five quick questions
#
# <details><summary>1. A friend trains with BF16 autocast and a GradScaler. What do you say?</summary>
# The scaler is not needed: BF16 has the range of FP32. Remove it.</details>
#
# <details><summary>2. Why does GradScaler refuse FP16 gradients?</summary>
# Dividing them by the scale in FP16 would flush them to zero again. The division has to happen in FP32.</details>
#
# <details><summary>3. The scale falls step after step and never recovers. What is wrong?</summary>
# Every step has an inf or NaN that no scale can cure: there is a bug or an overflow in the forward pass.</details>
#
# <details><summary>4. Your script uses autocast on CUDA and names no dtype. Which one do you get on an H100?</summary>
# FP16. The default does not depend on the GPU; ask for BF16 by name.</details>
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

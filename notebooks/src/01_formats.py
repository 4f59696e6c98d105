# %% [markdown]
# # 1 · Number formats
#
# At the end of this lecture you can
#
# - read a float bit by bit, and say from five small facts what any format can hold and how finely;
# - recognise the three silent ways in which low precision breaks training (overflow, underflow, swallowed updates),
#   and name a cure for each;
# - choose a format for weights, activations and gradients from a histogram, down to four bits with a shared scale.
#
# *About 75 minutes, less than 1 GB of memory, no GPU, no network.* A GPU runs the same cells with more samples.

# %% tags=["parameters"]
PROFILE = "ci"
SEED = 0

# %% [markdown]
# `PROFILE` sets how many samples the longer experiments take. The next cell computes the sizes from it, so the text
# stays true with every profile.

# %%
import torch
from classroom import compare, predict, show, show_source, takeaway

samples = {"ci": 1_000_000, "cpu": 10_000_000, "gpu": 100_000_000}[PROFILE]
device = "cuda" if PROFILE == "gpu" and torch.cuda.is_available() else "cpu"
generator = torch.Generator().manual_seed(SEED)
print(f"{samples:,} samples on {device}")

# %% [markdown]
# ## A sum that goes wrong
#
# A weight is 1. A thousand updates of 0.001 are added to it. On paper the weight becomes 2. In the Start notebook you saw
# the result in BF16; now predict **FP16**, which has the same sixteen bits but divides them differently. Write your
# number in place of the dots.

# %%
fp16_sum = predict("1 + 1,000 x 0.001, every sum rounded to FP16", ...)

# %% [markdown]
# `partial_sums` adds one number after the other and rounds to the format after every addition, as an accumulator of
# that format does. We run it in three formats and look at where each sum ends.

# %% tags=["nbval-check-output"]
from coursekit.formats import summation
from coursekit.formats.spec import BF16, FP16, FP32

updates = torch.full((1000,), 0.001)
sums = {f.name: summation.partial_sums(updates, f, start=1.0) for f in (FP32, FP16, BF16)}
ends = {name: values[-1].item() for name, values in sums.items()}
print(", ".join(f"{name} {end:.4f}" for name, end in ends.items()))
fp16_sum.reveal(ends["FP16"])

# %% [markdown]
# Three formats, three answers, no warning. Is that our code, or is it arithmetic? PyTorch decides: the same loop with
# its own 16-bit tensors must end at the same numbers.

# %% tags=["nbval-check-output"]
for name, dtype in {"FP16": torch.float16, "BF16": torch.bfloat16}.items():
    total = torch.tensor(1.0, dtype=dtype)
    for update in updates.to(dtype):
        total = total + update
    compare(f"sum in {name}", ends[name], total.item(), name="torch")

# %% [markdown]
# The picture shows *how* it goes wrong. BF16 never moves at all. FP16 moves by a slightly wrong step each time, always
# in the same direction, so its error grows with the number of steps.

# %%
from classroom.lectures.formats import figures

show(figures.running_sums(sums), f"BF16 stays at {ends['BF16']:.0f}, FP16 drifts")

# %% [markdown]
# ## What is in sixteen bits
#
# A float is three fields: one **sign** bit $s$, an **exponent** field $e$ of $E$ bits, a **mantissa** field $m$ of $M$ bits.
#
# $$ (-1)^{s} \times 2^{\,e - \mathrm{bias}} \times \left(1 + \frac{m}{2^M}\right) $$
#
# The leading 1 is not stored. Take a number apart and put it together again by hand.

# %% tags=["nbval-check-output"]
from coursekit.formats import scalar

code = scalar.encode(-6.5, FP16)
sign, exponent, mantissa = scalar.fields(code, FP16)
power = 2.0 ** (exponent - FP16.bias)
fraction = 1 + mantissa / 2**FP16.mantissa_bits
by_hand = (-1) ** sign * power * fraction
print(scalar.bit_string(code, FP16), "->", sign, exponent, mantissa, "->", by_hand)

# %% [markdown]
# Now play. In the **float explorer**, click a bit and watch the value; type 0.1 and see what is stored instead; step to
# the neighbours with the arrow keys. Find the largest FP16 number by clicking, then the smallest one above zero. The
# explorer's table shows the same value in every format.

# %%
from coursekit.widgets.float_explorer import FloatExplorer

FloatExplorer("FP16", 0.1)

# %% [markdown]
# Two values of the exponent field do not follow the formula. The **lowest** has no hidden 1: its codes are the *subnormal*
# numbers, which continue the grid evenly down to zero. The **highest** holds infinity and NaN, "not a number". Count how
# many codes each family takes.

# %% tags=["nbval-check-output"]
from collections import Counter


def family(code):
    _, exponent, mantissa = scalar.fields(code, FP16)
    if exponent == 0:
        return "subnormal" if mantissa else "zero"
    if exponent == 31:
        return "NaN" if mantissa else "infinity"
    return "normal"


print(dict(Counter(map(family, scalar.all_codes(FP16)))))

# %% [markdown]
# ## A format is a record
#
# Exponent bits, mantissa bits, bias, sign or no sign, and the use of the special codes: these five facts define a
# format. In `coursekit` a format is one line of a table. Everything else, from the largest number to the spacing at 1, follows.

# %% tags=["nbval-check-output"]
from coursekit.formats.spec import E2M1, E2M3, E3M2, E4M3, E5M2, TF32

print("format  E  M  largest      smallest    eps")
for f in (FP32, TF32, BF16, FP16, E5M2, E4M3, E3M2, E2M3, E2M1):
    limits = f"{f.max:<11g}  {f.min_subnormal:<10.3g}  {f.eps:.3g}"
    print(f"{f.name:6} {f.exponent_bits:2} {f.mantissa_bits:2}  {limits}")

# %% [markdown]
# Read the drawing by columns. BF16 and TF32 have the exponent bits of FP32, so they have its range. TF32 and FP16 have
# the same number of mantissa bits, so they have the same precision. TF32 exists only inside tensor cores: in memory it is FP32.

# %%
layouts = figures.layouts((FP32, TF32, BF16, FP16, E5M2, E4M3))
show(layouts, "Exponent bits: range. Mantissa bits: precision.")

# %% [markdown]
# You can define a format of your own in one line. Here is an 8-bit float that no chip has, with three exponent bits and
# four mantissa bits, and a few numbers rounded to it. Change the bits and run the cell again: how does the range change, and
# how does the error of 0.3?

# %% tags=["nbval-check-output"]
from coursekit.formats.spec import FloatSpec

mine = FloatSpec("E3M4", 3, 4, bias=3, specials="ieee", source="this notebook")
print("largest", mine.max, "| smallest", mine.min_subnormal)
print([scalar.round_to(x, mine) for x in (0.001, 0.3, 1.0, 3.14159, 20.0)])

# %% [markdown]
# ## One codec for every format
#
# `scalar` defines encode, decode and round, slowly and in bare Python. `tensor` does the same for whole tensors,
# without a branch. Its trick fits into three lines. Keep only the exponent bits of `x`. Make a number `c` so much larger
# that the bits which do not fit into FP16 fall off the end of `x + c`. Then subtract `c` again.

# %% tags=["nbval-check-output"]
x = torch.rand(samples, generator=generator) * 100 + 0.001
power_of_two = (x.view(torch.int32) & 0x7F800000).view(torch.float32)
c = power_of_two * 2.0 ** (23 - FP16.mantissa_bits)
compare("(x + c) - c", (x + c) - c, x.half().float(), name="torch")

# %% [markdown]
# The hardware's own addition did the rounding, ties included. `coursekit.formats.rounder` uses this trick and takes care of
# the ends of the range: subnormals, infinity, NaN, the sign of zero. Here is its core; the other rounding modes
# round `x` before they add `c`, so that the addition is exact.

# %%
from coursekit.formats import rounder

show_source(rounder.FloatRounder._add_c)

# %% [markdown]
# Why should you believe it? Because 16 bits have only 65,536 codes, so we can try all of them. PyTorch decodes every
# code, and so do we; then both encode the numbers again. `compare` counts mismatches and stops the notebook if it finds one.

# %% tags=["nbval-check-output"]
from coursekit.formats import tensor

codes = torch.arange(2**16)
for f, dtype in ((FP16, torch.float16), (BF16, torch.bfloat16)):
    theirs = codes.to(torch.int16).view(dtype)
    number = ~theirs.isnan()
    ours = tensor.encode(theirs, f)
    compare(f"{f.name} decoded", tensor.decode(codes, f), theirs.float(), name="torch")
    compare(f"{f.name} encoded", ours[number], codes[number], name="torch")

# %% [markdown]
# Rounding happens on the way from FP32 to a smaller format, so this direction gets the harder test: random bit patterns,
# which hit every exponent, infinity and NaN. For the small formats we compare with `ml_dtypes`, the library behind JAX's
# low-precision types.

# %% tags=["nbval-check-output"]
import ml_dtypes
import numpy as np

patterns = torch.randint(-(2**31), 2**31, (samples,), generator=generator)
x = patterns.to(torch.int32).view(torch.float32)
peers = {
    E5M2: ml_dtypes.float8_e5m2,
    E4M3: ml_dtypes.float8_e4m3fn,
    E3M2: ml_dtypes.float6_e3m2fn,
    E2M3: ml_dtypes.float6_e2m3fn,
    E2M1: ml_dtypes.float4_e2m1fn,
}
for f, dtype in peers.items():
    with np.errstate(invalid="ignore"):  # formats without NaN store it as zero
        theirs = x.numpy().astype(dtype).astype("float32")
    compare(f.name, tensor.round_to(x, f), theirs, name="ml_dtypes", bitwise=True)

# %% [markdown]
# ## How far a format reaches
#
# Each format covers a range of powers of two. Numbers beyond its right end become infinity (or NaN, or the largest number,
# see below); numbers beyond its left end become zero. The hatched part is subnormal: numbers there lose their digits one by
# one before they become zero.

# %%
ranges = figures.ranges((FP32, TF32, BF16, FP16, E5M2, E4M3, E3M2, E2M3, E2M1))
show(ranges, "BF16 reaches as far as FP32, FP16 does not")

# %% [markdown]
# **Predict.** Late in training, gradients are often tiny. What is the smallest number above zero that FP16 can hold? A power
# of ten is enough.

# %%
smallest = predict("Smallest FP16 number above zero", ...)

# %% [markdown]
# PyTorch's `nextafter` gives the next number above zero. FP16's range ends long before BF16's: the exponent bits decide.

# %% tags=["nbval-check-output"]
for f, dtype in ((FP16, torch.float16), (BF16, torch.bfloat16)):
    zero, one = torch.tensor([0.0, 1.0], dtype=dtype)
    theirs = torch.nextafter(zero, one).item()
    compare(f"smallest {f.name}", f.min_subnormal, theirs, name="torch")
smallest.reveal(FP16.min_subnormal)

# %% [markdown]
# What happens to a number near the end of the range? At the lower end it loses precision first: near the end of the
# subnormals one or two significant bits are left. At the upper end there is no such warning: one step past the largest number
# everything is infinite.

# %% tags=["nbval-check-output"]
for value in (1e-5, 1e-6, 1e-7, 5e-8, 2e-8, 65_504.0, 65_519.0, 65_520.0):
    stored = scalar.round_to(value, FP16)
    error = abs(stored - value) / value
    print(f"{value:>9g} -> {stored:<12g} relative error {error:.1%}")

# %% [markdown]
# An infinite value spreads. One in a row of scores turns the softmax into NaN, a NaN in one token's loss makes the mean
# loss NaN, and the next update makes every weight NaN. Three lines show it.

# %% tags=["nbval-check-output"]
scores = torch.tensor([60_000.0, 65_504.0, 65_520.0], dtype=torch.float16)
print("scores", scores.tolist())
print("infinity minus infinity", (scores[2] - scores[2]).item())
print("softmax", scores.softmax(0).tolist())

# %% [markdown]
# ## Overflow is a choice
#
# E4M3 ends at 448 and has no infinity. What should it do with 1,000? Two libraries give two answers: a cast in PyTorch
# **saturates**, which means that it gives the largest number; `ml_dtypes` gives NaN. Neither is wrong, but you have to know
# which convention you use. In our code it is an argument, `saturate`.

# %% tags=["nbval-check-output"]
big = torch.tensor([400.0, 464.0, 500.0, 1000.0])
by_torch = big.to(torch.float8_e4m3fn).float()
by_ml_dtypes = big.numpy().astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
print("torch", by_torch.tolist(), "| ml_dtypes", by_ml_dtypes.tolist())
compare("saturate=True", tensor.round_to(big, E4M3, saturate=True), by_torch, name="torch")
compare("saturate=False", tensor.round_to(big, E4M3), by_ml_dtypes, name="ml_dtypes")

# %% [markdown]
# ## How fine the grid is
#
# Between two powers of two a format has $2^M$ numbers, evenly spaced. At the next power of two the spacing doubles. So the
# grid gets coarser as the numbers grow. The distance to the next number is called an **ulp**, unit in the last place.
#
# **Predict.** What is the first whole number that FP16 cannot hold? Its largest number is 65,504.

# %%
first_gap = predict("First whole number that FP16 cannot hold", ...)

# %% [markdown]
# The answer is one past the power of two at which the spacing becomes 2: from there on only even numbers exist. That is why
# step counters and token ids are never kept in 16-bit floats.

# %% tags=["nbval-check-output"]
whole = torch.arange(1, 5000)
lost = whole[whole.half().long() != whole]
first_gap.reveal(lost[0])
fp16, bf16 = scalar.neighbours(2048, FP16), scalar.neighbours(256, BF16)
print("FP16 at 2048:", fp16, "| BF16 at 256:", bf16)

# %% [markdown]
# Drawn over all magnitudes, the spacing is a staircase. Where it is above 1, some whole numbers are missing. Compare BF16 and
# FP16: BF16's stairs continue far beyond the right edge, but each of them is eight times as high.

# %%
spacing = figures.spacing((FP32, FP16, BF16, E4M3))
show(spacing, "The grid doubles its step at every power of two")

# %% [markdown]
# Is the staircase right? NumPy's function `spacing` computes the same for FP16 and FP32. We compare at random numbers of every
# magnitude.

# %% tags=["nbval-check-output"]
points = np.exp2(np.random.default_rng(SEED).uniform(-14, 15, 2000))
for f, dtype in ((FP16, np.float16), (FP32, np.float32)):
    theirs = np.spacing(points.astype(dtype)).astype(float)
    ours = [scalar.ulp(float(p), f) for p in points.astype(dtype)]
    compare(f"ulp in {f.name}", ours, theirs, name="numpy")

# %% [markdown]
# Half an ulp divided by the number is the largest relative error: a sawtooth that stays between $2^{-M-1}$ and half of that,
# whatever the magnitude. This is the purpose of floating point: **the same relative precision everywhere**, down to the
# subnormals, where the curve climbs.

# %%
errors = figures.relative_error((FP16, BF16, E4M3))
show(errors, "The relative error is the same at every size")

# %% [markdown]
# ## Rounding
#
# A number between two grid points goes to the nearer one. If it lies exactly in the middle, a *tie*, it goes to the **even**
# one, whose last bit is 0. Rounding every tie up would push long sums upwards; we can measure by how much.

# %% tags=["nbval-check-output"]
from dataclasses import replace

from coursekit.formats.spec import INT8

ties = torch.arange(1, 2001) - 0.5
whole_numbers = replace(INT8, name="INT16", bits=16)
for name in ("nearest_even", "nearest_away", "toward_zero"):
    error = tensor.round_to(ties, whole_numbers, rounding=name) - ties
    print(f"{name:13} mean error {error.mean().item():+.3f}")

# %% [markdown]
# Nearest-even makes no error on average: half of the ties go up, half go down. The other two rules are wrong by half a step
# every time, always in the same direction. PyTorch's own `round` uses nearest-even too, as the next cell checks.

# %% tags=["nbval-check-output"]
compare("ties to even", tensor.round_to(ties, whole_numbers), ties.round(), name="torch")
by_torch = torch.tensor(1.0001).half().item()
compare("1.0001 in FP16", scalar.round_to(1.0001, FP16), by_torch, name="torch")

# %% [markdown]
# Remember the second line: **1.0001 in FP16 is exactly 1.0.** The next number is nearly a thousandth away, so adding a
# ten-thousandth to a weight of 1 does not change it, however often it is added.

# %%
takeaway("An update below half an ulp of the weight is lost, every time, without a warning.")

# %% [markdown]
# ## Three cures for swallowed updates
#
# **Cure one: a wider copy.** Keep the weight in FP32, add there, and round a copy for the computation. This copy in FP32 is
# the *master weight* of mixed precision, the subject of lecture 2. It costs four more bytes per parameter.
#
# **Cure two: Kahan's sum.** Keep the error of the last addition as a second number of the same format, and correct the next
# update by it. Small parts then accumulate until they count. Here is one step of it, in full.

# %%
show_source(summation._kahan_step)

# %% [markdown]
# Every operation in it is rounded to BF16, and still the sum is right. Compare it with the plain BF16 sum, which did not move,
# and with the exact result.

# %% tags=["nbval-check-output"]
kahan = summation.partial_sums(updates, BF16, start=1.0, kahan=True)
exact = 1.0 + updates.double().sum().item()
print(f"plain {ends['BF16']:.4f}, Kahan {kahan[-1].item():.4f}, exact {exact:.4f}")
assert abs(kahan[-1].item() - exact) < scalar.ulp(exact, BF16)

# %% [markdown]
# **Cure three: stochastic rounding.** Round up with a probability equal to the distance from the lower neighbour, in grid
# steps. An update of an eighth of a step then moves the weight once in eight times. A single rounding may err by more, but the
# *mean* is exact. Many runs at once show both.

# %% tags=["nbval-check-output"]
runs = updates.expand(200, -1)
chance = {"rounding": "stochastic", "generator": generator}
noisy = summation.partial_sums(runs, BF16, start=1.0, **chance)
mean, spread = noisy[:, -1].mean().item(), noisy[:, -1].std().item()
print(f"{len(noisy)} runs end at {mean:.2f} on average, spread {spread:.2f}")
assert abs(mean - exact) < 4 * spread / len(noisy) ** 0.5

# %% [markdown]
# The mean follows the exact sum; single runs wander around it. Nothing extra has to be stored, which is why chips for training
# offer this mode in hardware. The price is more noise per step than with rounding to nearest.

# %%
show(figures.stochastic(noisy, sums["BF16"]), "Stochastic rounding is right on average")

# %% [markdown]
# ## Where the sum is kept
#
# A matrix product is thousands of sums. **Predict:** 8,000 random numbers between 0 and 1 add up to about 4,000. They are
# stored in FP16 and added in an accumulator that is FP16 as well. Where does the sum end?

# %%
fp16_accumulator = predict("8,000 numbers of mean 0.5 in an FP16 accumulator", ...)

# %% [markdown]
# The same inputs go into two accumulators. At some point the FP16 grid has steps of 2 or more: an addend below 1 is then less
# than half a step, and is lost.

# %% tags=["nbval-check-output"]
from classroom.lectures.formats.experiments import accumulated

draws, partial = accumulated(SEED)
fp16 = partial["FP16 accumulator"]
totals = {"exact": draws.sum(), "FP16": fp16[-1], "FP32": partial["FP32 accumulator"][-1]}
print({name: round(total.item(), 1) for name, total in totals.items()})
fp16_accumulator.reveal(fp16[-1].item())

# %% [markdown]
# NumPy's `sum` adds FP16 arrays in pairs, which hides the effect; its `cumsum` adds one number after the other in FP16, as we
# did. So we compare with it, for all 8,000 partial sums.

# %% tags=["nbval-check-output"]
theirs = np.cumsum(draws.numpy().astype(np.float16), dtype=np.float16)
compare("partial sums in FP16", fp16, theirs.astype(float), name="numpy")

# %% [markdown]
# This is why tensor cores multiply FP16 numbers but add the products in FP32. "An FP16 matrix product" nearly always means:
# FP16 in, FP32 inside, FP16 out.

# %%
finding = f"An FP16 accumulator stops at {fp16[-1].item():,.0f}"
show(figures.accumulators(draws.cumsum(0), partial), finding)

# %% [markdown]
# ## Eight, six and four bits
#
# Small formats cannot afford to waste codes. E5M2 has infinities, as the larger formats do; E4M3 gives them up and keeps a
# single NaN per sign, and so gains the numbers from 256 to 448. FP6 and FP4 have neither: every code is a number.

# %% tags=["nbval-check-output"]
for f in (E5M2, E4M3, E3M2, E2M3, E2M1):
    values = tensor.all_values(f)
    nan, infinite = values.isnan().sum(), values.isinf().sum()
    print(f"{f.name}: {2**f.bits:3} codes, {nan} NaN, {infinite} infinite, largest {f.max:g}")

# %% [markdown]
# FP4 is so small that you can know all of it: sixteen codes, eight magnitudes. Each tick in the picture is a number that exists;
# there is nothing between the ticks. The large values of a block will fall into the last gap, from 4 to 6.

# %%
show(figures.all_numbers((E2M1, E2M3, E3M2)), "FP4 and FP6: every number there is")

# %% [markdown]
# ## One scale for a block
#
# A weight of 0.003 is 0 in FP4, whose smallest number above zero is 0.5. So a **block** of neighbours shares one **scale**:
# divide by it, store four bits, multiply when reading. In the *MX* formats 32 elements share a power of two (E8M0, eight exponent
# bits and nothing else). **NVFP4** has blocks of 16 elements, an E4M3 scale per block, and one FP32 scale for the whole tensor.

# %% tags=["nbval-check-output"]
from coursekit.formats.block import quantize
from coursekit.formats.spec import MXFP4, MXFP6_E2M3, MXFP8_E4M3, MXINT8, NVFP4

weights = torch.randn(1024, 1024, generator=generator) * 0.02
for b in (MXFP4, NVFP4, MXFP6_E2M3, MXFP8_E4M3):
    q = quantize(weights, b)
    share = q.nbytes / weights.nbytes
    print(f"{b.name:11} {b.bits_per_element:5} bits per element, {share:.1%} of FP32")

# %% [markdown]
# "Four-bit" weights take a little more than four bits, because each element has its share of the scale. The bytes follow
# exactly: elements times bits, plus one byte per scale. The computed and the counted bytes must agree.

# %% tags=["nbval-check-output"]
n = weights.numel()
q = quantize(weights, MXFP4)
compare("bytes of MXFP4", q.nbytes, n * 4 // 8 + n // 32, name="arithmetic")
compare("scales stored", q.scales.numel(), n // MXFP4.block_size, name="arithmetic")

# %% [markdown]
# What does it cost in quality? We measure **signal to noise** in decibels: each bit should gain about six. The picture holds a
# surprise: MXINT8, plain integers with a shared scale, beats MXFP8 on these numbers. Inside a block the scale has already taken
# care of the range, so mantissa bits help more than exponent bits.


# %%
def decibels(block_format):
    noise = quantize(weights, block_format).dequantize() - weights
    return 10 * (weights.var() / noise.square().mean()).log10().item()


blocks = (MXFP4, NVFP4, MXFP6_E2M3, MXFP8_E4M3, MXINT8)
rows = {b.name: (b.bits_per_element, decibels(b)) for b in blocks}
show(figures.signal_to_noise(rows), "With a shared scale, mantissa bits help more")

# %% [markdown]
# **INT8** by itself is an even grid: 256 whole numbers and one scale. Whether it or a float fits better depends on the data. A
# single outlier can decide: it sets the scale, and everything else is squeezed into the few numbers near zero. With blocks only the
# outlier's own block suffers.


# %% tags=["nbval-check-output"]
def in_int8(x):
    scale = x.abs().max() / INT8.max
    return tensor.round_to(x / scale, INT8) * scale


for outlier in (0.1, 1.0, 10.0):
    x = weights.clone()
    x[0, 0] = outlier
    rounded = (in_int8(x), quantize(x, MXINT8).dequantize())
    int8, mxint8 = ((y - x).std() / weights.std() for y in rounded)
    print(f"outlier {outlier:4}: error {int8:.1%} in INT8, {mxint8:.1%} in MXINT8")

# %% [markdown]
# The standard fixes the **block scale**: the largest power of two not above the largest magnitude, divided by the largest power of
# two of the element format. The largest elements may then be clipped. Other modes exist: a scale twice as large clips nothing, but
# makes every step twice as wide. The next cell compares all four, on normal numbers and on numbers with a heavy tail.

# %% tags=["nbval-check-output"]
from coursekit.formats.block import SCALE_MODES

heavy = weights * torch.randn(1024, 1024, generator=generator).exp()
for name, x in (("normal", weights), ("heavy tail", heavy)):
    modes = {mode: quantize(x, MXFP4, scale_mode=mode).dequantize() for mode in SCALE_MODES}
    print(name, {mode: f"{(y - x).norm() / x.norm():.1%}" for mode, y in modes.items()})

# %% [markdown]
# ## What a real network holds
#
# So far the numbers were random. Now we train a small network for a few seconds to guess the next letter of simple sentences,
# and collect all of its **weights**, **activations** and **gradients**. Where do they lie in the ranges of the formats? Which of the
# three is the hardest to store, do you think?

# %%
from classroom.lectures.formats.experiments import flushed, train_briefly

network = train_briefly(seed=SEED)
print({name: f"{values.numel():,} numbers" for name, values in network.items()})

# %% [markdown]
# The gradients are. They are spread over many more powers of two than weights and activations, and most of them are far smaller
# than 1. The lower half of the picture shows which formats can hold them.

# %%
histograms = figures.histograms(network, (FP32, BF16, FP16, E5M2, E4M3))
lost = flushed(network["gradients"], E4M3)
show(histograms, f"Gradients need range: E4M3 loses {lost:.0%} of them")

# %% [markdown]
# Now in numbers: the share of nonzero values that each format rounds to **zero**, for each of the three kinds. For FP16 we compare
# with PyTorch's cast.

# %% tags=["nbval-check-output"]
for kind, values in network.items():
    row = ", ".join(f"{f.name} {flushed(values, f):.2%}" for f in (BF16, FP16, E5M2, E4M3))
    print(f"{kind:11} flushed to zero: {row}")
nonzero = network["gradients"][network["gradients"] != 0]
by_torch = (nonzero.half() == 0).double().mean()
compare("share that FP16 flushes", flushed(nonzero, FP16), by_torch, name="torch")

# %% [markdown]
# The picture above explains the recipes of the next lectures. Weights and activations need *mantissa* bits: E4M3. Gradients need
# *exponent* bits: E5M2, or BF16. FP16 works if the loss is first multiplied by a large number, which shifts all gradients to the
# right: this is **loss scaling**, in lecture 2.
#
# ## Rules to take home

# %%
takeaway("Range comes from exponent bits, precision from mantissa bits.")
takeaway("Too large becomes infinite, too small becomes zero, too small a step is lost.")
takeaway("Add in a wider format than you store, and give small blocks their own scale.")

# %% [markdown]
# ## Exercises
#
# There are nine exercises in [exercises/01_formats.ipynb](../exercises/01_formats.ipynb), from rounding on a grid to a block of
# MXFP4. Each answer is checked at once against an oracle that is not our solution, and the check names typical mistakes.
#
# ## What you can do now
#
# - You **read** a float bit by bit and **derived** every limit of a format from five facts.
# - You **saw** overflow, underflow and swallowed updates, and **cured** the last in three ways.
# - You **chose** formats for weights, activations and gradients from a histogram, down to four bits with a shared scale.
#
# ## Five quick questions
#
# <details><summary>1. Why does FP16 need loss scaling while BF16 does not?</summary>
# BF16 has the exponent bits of FP32, so gradients that FP32 can hold do not underflow. FP16 has three fewer exponent bits.</details>
#
# <details><summary>2. Why do BF16 weights still need a wider copy?</summary>
# BF16 has eight significant bits: an update below half an ulp of the weight is lost. Its range does not help here.</details>
#
# <details><summary>3. Two libraries cast the same large number to E4M3 and disagree. Which one has a bug?</summary>
# Neither. One saturates, the other gives NaN. A program has to say which convention it uses.</details>
#
# <details><summary>4. Why does stochastic rounding help a sum although each single rounding is worse?</summary>
# Its errors have mean zero and cancel over many steps; rounding the same numbers to nearest makes errors of one sign.</details>
#
# <details><summary>5. Why does a "4-bit" format take more than four bits per element?</summary>
# Each block stores a scale. MXFP4 shares eight bits among 32 elements, NVFP4 among 16.</details>
#
# ## Where to read on
#
# - Goldberg, *What Every Computer Scientist Should Know About Floating-Point Arithmetic*, ACM Computing Surveys 1991: the classic text.
# - Micikevicius et al., *FP8 Formats for Deep Learning*, 2022 (arXiv:2209.05433): why E4M3 and E5M2.
# - Rouhani et al., *Microscaling Data Formats for Deep Learning*, 2023 (arXiv:2310.10537): the MX formats.
# - Gupta et al., *Deep Learning with Limited Numerical Precision*, 2015 (arXiv:1502.02551): stochastic rounding in training.
#
# Next: lecture 2, mixed precision.

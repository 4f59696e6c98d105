# %% [markdown]
# # 1 · Number formats
#
# At the end of this lecture you can
#
# - read a float bit by bit, and say from four small facts what any format can hold and how finely;
# - recognise the three quiet ways in which low precision breaks training: overflow, underflow and swallowed
#   updates, and name a cure for each;
# - choose a format for weights, activations and gradients from a histogram, down to four bits with a shared scale.
#
# *About 75 minutes, less than 1 GB of memory, no GPU, no network.* A GPU runs the same cells with more samples.

# %% tags=["parameters"]
PROFILE = "ci"
SEED = 0

# %% [markdown]
# `PROFILE` sets how many samples the longer experiments take. The sizes depend on it, so they stand in a cell of
# their own: whoever runs this notebook with another profile gets other sizes, and the same sentences stay true.

# %%
import torch

samples = {"ci": 1_000_000, "cpu": 10_000_000, "gpu": 100_000_000}[PROFILE]
device = "cuda" if PROFILE == "gpu" and torch.cuda.is_available() else "cpu"
generator = torch.Generator().manual_seed(SEED)
print(f"{samples:,} samples on {device}")

# %% [markdown]
# ## A sum that goes wrong
#
# A weight is 1. A thousand updates arrive, each of 0.001. On paper the weight becomes 2. In the Start notebook you saw
# what BF16 makes of it; now predict **FP16**, which has the same sixteen bits but spends them differently. Write your
# number in place of the dots.

# %%
from classroom.notebook.predict import predict

fp16_sum = predict("1 + 1,000 x 0.001, every sum rounded to FP16", ...)

# %% [markdown]
# `partial_sums` adds one number after the other and rounds to the format after every addition, as an accumulator of
# that format does. We run it in three formats at once and look at where each of them ends.

# %% tags=["nbval-check-output"]
from coursekit.formats import summation
from coursekit.formats.spec import BF16, FP16, FP32

updates, trio = torch.full((1000,), 0.001), (FP32, FP16, BF16)
sums = {f.name: summation.partial_sums(updates, f, start=1.0) for f in trio}
ends = {name: values[-1].item() for name, values in sums.items()}
print(", ".join(f"{name} {end:.4f}" for name, end in ends.items()))
fp16_sum.reveal(ends["FP16"])

# %% [markdown]
# Three formats, three answers, no warning. Is that our code, or is it arithmetic? PyTorch decides: the same loop with
# its own 16-bit tensors must end at the same numbers.

# %% tags=["nbval-check-output"]
from classroom.notebook.show import compare

for name, dtype in {"FP16": torch.float16, "BF16": torch.bfloat16}.items():
    total = torch.tensor(1.0, dtype=dtype)
    for update in updates.to(dtype):
        total = total + update
    compare(f"sum in {name}", ends[name], total.item(), name="torch")

# %% [markdown]
# The picture shows *how* it goes wrong. BF16 never moves at all. FP16 moves by a slightly wrong step each time, always
# in the same direction, so its error grows with the number of steps.

# %%
from classroom.drawing.style import show
from classroom.lectures.formats import figures

show(
    figures.running_sums(
        sums, title=f"BF16 stays at {ends['BF16']:.0f}, FP16 drifts"
    )
)

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
power, fraction = (
    2.0 ** (exponent - FP16.bias),
    1 + mantissa / 2**FP16.mantissa_bits,
)
by_hand = (-1) ** sign * power * fraction
print(scalar.bit_string(code, FP16), "->", sign, exponent, mantissa, "->", by_hand)

# %% [markdown]
# Now play. In the **float explorer** click a bit and watch the value; type 0.1 and see what is stored instead; step to
# the neighbours with the arrow keys. Find the largest FP16 number by clicking. Find the smallest one above zero. Then read the table:
# the same value in every format.

# %%
from coursekit.widgets.float_explorer import FloatExplorer

FloatExplorer("FP16", 0.1)

# %% [markdown]
# Two exponent fields do not follow the formula. The **lowest** has no hidden 1: those are the *subnormal* numbers, which
# carry the grid evenly down to zero. The **highest** holds infinity and NaN, "not a number". Count how many codes each family takes.

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
# Exponent bits, mantissa bits, bias, what is done with the special codes, and whether there is a sign: that is all a
# format is. In `coursekit` it is one line of a table. Everything else, from the largest number to the spacing at 1, follows.

# %% tags=["nbval-check-output"]
from coursekit.formats.spec import E2M1, E2M3, E3M2, E4M3, E5M2, TF32

print("format  E  M  largest      smallest    eps")
for f in (FP32, TF32, BF16, FP16, E5M2, E4M3, E3M2, E2M3, E2M1):
    limits = f"{f.max:<11g}  {f.min_subnormal:<10.3g}  {f.eps:.3g}"
    print(f"{f.name:6} {f.exponent_bits:2} {f.mantissa_bits:2}  {limits}")

# %% [markdown]
# Read the drawing by columns. BF16 and TF32 have the exponent of FP32, hence its range. TF32 and FP16 have the same
# mantissa, hence the same precision. TF32 exists only inside tensor cores: in memory it is FP32.

# %%
layouts = (FP32, TF32, BF16, FP16, E5M2, E4M3)
show(
    figures.layouts(
        layouts, title="Exponent bits: range. Mantissa bits: precision."
    )
)

# %% [markdown]
# A format of your own is one line, too. Here is an 8-bit float that nobody sells, with three exponent bits and four mantissa bits, and
# a few numbers rounded to it. Change the bits and run it again: what happens to the range, what to the error of 0.3?

# %% tags=["nbval-check-output"]
from coursekit.formats.spec import FloatSpec

mine = FloatSpec("E3M4", 3, 4, bias=3, specials="ieee", source="this notebook")
print("largest", mine.max, "| smallest", mine.min_subnormal)
print([scalar.round_to(x, mine) for x in (0.001, 0.3, 1.0, 3.14159, 20.0)])

# %% [markdown]
# ## One codec for every format
#
# `scalar` defines what encode, decode and round mean, slowly and in bare Python. `tensor` does the same for whole tensors,
# without a branch. Its trick fits into three lines. Keep only the exponent bits of `x`, make a number `c` so much larger that the
# bits which do not fit into FP16 fall off the end of `x + c`, and take `c` away again.

# %% tags=["nbval-check-output"]
x = torch.rand(samples, generator=generator) * 100 + 0.001
power_of_two = (x.view(torch.int32) & 0x7F800000).view(torch.float32)
c = power_of_two * 2.0 ** (23 - FP16.mantissa_bits)
compare("(x + c) - c", (x + c) - c, x.half().float(), name="torch")

# %% [markdown]
# The hardware's own addition has done the rounding, ties and all. `coursekit.formats.rounder` is this, with care for the ends of the
# range: subnormals, infinity, NaN, the sign of zero. Here is its heart; the other rounding modes cut `x` themselves before they add.

# %%
from classroom.notebook.show import show_source
from coursekit.formats import rounder

show_source(rounder.FloatRounder._add_c)

# %% [markdown]
# Why should you believe it? Because 16 bits have only 65,536 codes, so all of them can be tried. PyTorch decodes every
# code, and so do we; then both encode the numbers back. `compare` counts mismatches and refuses to go on if it finds one.

# %% tags=["nbval-check-output"]
from coursekit.formats import tensor

codes = torch.arange(2**16)
for f, dtype in ((FP16, torch.float16), (BF16, torch.bfloat16)):
    theirs = codes.to(torch.int16).view(dtype)
    number = ~theirs.isnan()
    compare(
        f"{f.name} decoded", tensor.decode(codes, f), theirs.float(), name="torch"
    )
    compare(
        f"{f.name} encoded",
        tensor.encode(theirs, f)[number],
        codes[number],
        name="torch",
    )

# %% [markdown]
# The way back from FP32 is where rounding happens, so it gets the harder test: random bit patterns, which hit every exponent, infinity and NaN
# alike. The peer for the small formats is `ml_dtypes`, the library behind JAX's low-precision types.

# %% tags=["nbval-check-output"]
import ml_dtypes
import numpy as np

patterns = torch.randint(-(2**31), 2**31, (samples,), generator=generator)
x = patterns.to(torch.int32).view(torch.float32)
peers = (
    "float8_e5m2",
    "float8_e4m3fn",
    "float6_e3m2fn",
    "float6_e2m3fn",
    "float4_e2m1fn",
)
for f, name in zip((E5M2, E4M3, E3M2, E2M3, E2M1), peers, strict=True):
    with np.errstate(invalid="ignore"):  # the formats without NaN make zero of it
        theirs = x.numpy().astype(getattr(ml_dtypes, name)).astype("float32")
    compare(f.name, tensor.round_to(x, f), theirs, name="ml_dtypes", bitwise=True)

# %% [markdown]
# ## How far a format reaches
#
# Each format covers a stretch of powers of two. Beyond its right end comes infinity (or NaN, or the largest number, see
# below); beyond its left end comes zero. The hatched part is subnormal: numbers there lose their digits one by one before they vanish.

# %%
reach = (FP32, TF32, BF16, FP16, E5M2, E4M3, E3M2, E2M3, E2M1)
show(figures.ranges(reach, title="BF16 reaches as far as FP32, FP16 does not"))

# %% [markdown]
# **Predict.** A gradient of a late training step is often tiny. What is the smallest number above zero that FP16 can hold? A power
# of ten will do.

# %%
smallest = predict("Smallest FP16 number above zero", ...)

# %% [markdown]
# PyTorch's `nextafter` walks one number up from zero. FP16 is at the end of its range long before BF16 is: the exponent bits decide.

# %% tags=["nbval-check-output"]
for f, dtype in ((FP16, torch.float16), (BF16, torch.bfloat16)):
    zero, one = torch.tensor([0.0, 1.0], dtype=dtype)
    theirs = torch.nextafter(zero, one).item()
    compare(f"smallest {f.name}", f.min_subnormal, theirs, name="torch")
smallest.reveal(FP16.min_subnormal)

# %% [markdown]
# What becomes of a number on its way out of range? Going down, precision fades first: near the end of the subnormals one or two
# significant bits are left. Going up there is no such warning: one step past the largest number everything is infinite.

# %% tags=["nbval-check-output"]
for value in (1e-5, 1e-6, 1e-7, 5e-8, 2e-8, 65_504.0, 65_519.0, 65_520.0):
    stored = scalar.round_to(value, FP16)
    error = abs(stored - value) / value
    print(f"{value:>9g} -> {stored:<12g} relative error {error:.1%}")

# %% [markdown]
# And infinity does not stay alone. One infinite value in a row of scores turns a softmax into NaN, a NaN in one
# token's loss makes the mean loss NaN, and the next update makes every weight NaN. Three lines are enough to see it.

# %% tags=["nbval-check-output"]
scores = torch.tensor([60_000.0, 65_504.0, 65_520.0], dtype=torch.float16)
print("scores", scores.tolist())
print("infinity minus infinity", (scores[2] - scores[2]).item())
print("softmax", scores.softmax(0).tolist())

# %% [markdown]
# ## Overflow is a choice
#
# What should FP8 do with 1,000, when E4M3 ends at 448 and has no infinity? Two libraries, two answers: a cast in PyTorch **saturates**, it gives the largest
# number; `ml_dtypes` gives NaN. Neither is wrong; a convention that you do not know is. So ours is an argument, `saturate`.

# %% tags=["nbval-check-output"]
big = torch.tensor([400.0, 464.0, 500.0, 1000.0])
by_torch = big.to(torch.float8_e4m3fn).float()
by_ml_dtypes = big.numpy().astype(ml_dtypes.float8_e4m3fn).astype(np.float32)
print("torch", by_torch.tolist(), "| ml_dtypes", by_ml_dtypes.tolist())
compare(
    "saturate=True",
    tensor.round_to(big, E4M3, saturate=True),
    by_torch,
    name="torch",
)
compare(
    "saturate=False", tensor.round_to(big, E4M3), by_ml_dtypes, name="ml_dtypes"
)

# %% [markdown]
# ## How fine the grid is
#
# Between two powers of two a format has $2^M$ numbers, evenly spaced. At the next power of two the spacing doubles. So the ruler gets coarser as
# the numbers grow. The distance to the next number is called an **ulp**, unit in the last place.
#
# **Predict.** What is the first whole number that FP16 cannot hold? Its largest number is 65,504.

# %%
first_gap = predict("First whole number that FP16 cannot hold", ...)

# %% [markdown]
# The answer is one past the power of two at which the spacing becomes 2: from there on only even numbers exist. That is why step
# counters and token ids are never kept in 16-bit floats.

# %% tags=["nbval-check-output"]
whole = torch.arange(1, 5000)
lost = whole[whole.half().long() != whole]
first_gap.reveal(lost[0])
print(
    "FP16 at 2048:",
    scalar.neighbours(2048, FP16),
    "| BF16 at 256:",
    scalar.neighbours(256, BF16),
)

# %% [markdown]
# Drawn over all magnitudes, the spacing is a staircase. Where it crosses 1, whole numbers begin to fall through. Compare BF16 and FP16:
# BF16's stairs go on far beyond the right edge, but each of them lies eight times higher.

# %%
show(
    figures.spacing(
        (FP32, FP16, BF16, E4M3),
        title="The grid doubles its step at every power of two",
    )
)

# %% [markdown]
# Is the staircase right? NumPy has a function for it, `spacing`, for its own two formats. We ask it at random numbers of every size.

# %% tags=["nbval-check-output"]
points = np.exp2(np.random.default_rng(SEED).uniform(-14, 15, 2000))
for f, dtype in ((FP16, np.float16), (FP32, np.float32)):
    theirs = np.spacing(points.astype(dtype)).astype(float)
    ours = [scalar.ulp(float(p), f) for p in points.astype(dtype)]
    compare(f"ulp in {f.name}", ours, theirs, name="numpy")

# %% [markdown]
# Divide half an ulp by the number and you have the largest relative error: a sawtooth that stays between $2^{-M-1}$ and half of that, whatever the magnitude.
# That is the point of a floating point: **the same relative precision everywhere**, until the subnormals, where the curve climbs.

# %%
show(
    figures.relative_error(
        (FP16, BF16, E4M3), title="The relative error is the same at every size"
    )
)

# %% [markdown]
# ## Rounding
#
# A number between two grid points goes to the nearer one. If it lies exactly in the middle, a *tie*, it goes to the **even** one, the
# one whose last bit is 0. Rounding ties always up would push every long sum upwards; we can measure by how much.

# %% tags=["nbval-check-output"]
from dataclasses import replace

from coursekit.formats.spec import INT8

ties = torch.arange(1, 2001) - 0.5
whole_numbers = replace(INT8, name="INT16", bits=16)
for name in ("nearest_even", "nearest_away", "toward_zero"):
    error = tensor.round_to(ties, whole_numbers, rounding=name) - ties
    print(f"{name:13} mean error {error.mean().item():+.3f}")

# %% [markdown]
# Nearest-even makes no error on average: half of the ties go up, half go down. The other two are wrong by half a step every time,
# and always in the same direction. PyTorch's own `round` follows the same rule, which we check on the spot.

# %% tags=["nbval-check-output"]
compare(
    "ties to even", tensor.round_to(ties, whole_numbers), ties.round(), name="torch"
)
compare(
    "1.0001 in FP16",
    scalar.round_to(1.0001, FP16),
    torch.tensor(1.0001).half().item(),
    name="torch",
)

# %% [markdown]
# The second line is a fact to remember: **1.0001 in FP16 is exactly 1.0.** The next number up is nearly a thousandth away, so a weight of 1
# cannot grow by a ten-thousandth, however often it is told to.

# %%
from classroom.notebook.show import takeaway

takeaway(
    "An update below half an ulp of the weight is lost, every time, without a warning."
)

# %% [markdown]
# ## Three cures for swallowed updates
#
# **Cure one: a wider copy.** Keep the weight in FP32, add there, round a copy for the computation. This is the *master weight* of mixed
# precision, the subject of lecture 2. It costs four more bytes per parameter.
#
# **Cure two: Kahan's sum.** Keep a second number of the same format: what the last addition lost. It is added to the next update, so small parts
# pile up until they count. Here is one step of it, in full.

# %%
show_source(summation._kahan_step)

# %% [markdown]
# Every operation in it is rounded to BF16, and still the sum arrives. Compare it with the plain BF16 sum, which did not move, and with
# the exact result.

# %% tags=["nbval-check-output"]
kahan = summation.partial_sums(updates, BF16, start=1.0, kahan=True)
exact = 1.0 + updates.double().sum().item()
print(f"plain {ends['BF16']:.4f}, Kahan {kahan[-1].item():.4f}, exact {exact:.4f}")
assert abs(kahan[-1].item() - exact) < scalar.ulp(exact, BF16)

# %% [markdown]
# **Cure three: stochastic rounding.** Round up with a probability equal to the distance from the lower neighbour. An update of an eighth of a step then
# moves the weight once in eight times. Every single rounding is coarser, but the *mean* is exact. Many runs at once show both.

# %% tags=["nbval-check-output"]
runs = updates.expand(200, -1)
chance = {"rounding": "stochastic", "generator": generator}
noisy = summation.partial_sums(runs, BF16, start=1.0, **chance)
mean, spread = noisy[:, -1].mean().item(), noisy[:, -1].std().item()
print(f"{len(noisy)} runs end at {mean:.2f} on average, spread {spread:.2f}")
assert abs(mean - exact) < 4 * spread / len(noisy) ** 0.5

# %% [markdown]
# The mean line lies on the exact one; single runs wander around it. Nothing extra is stored, which is why chips for training offer this
# mode in hardware. The wandering is the price: more noise per step than nearest rounding has.

# %%
show(
    figures.stochastic(
        noisy, sums["BF16"], title="Stochastic rounding is right on average"
    )
)

# %% [markdown]
# ## Where the sum is kept
#
# A matrix product is thousands of sums. **Predict:** 8,000 random numbers between 0 and 1 add up to about 4,000. They are stored in FP16, and added in an
# accumulator that is FP16 as well. Where does the sum end?

# %%
fp16_accumulator = predict("8,000 numbers of mean 0.5 in an FP16 accumulator", ...)

# %% [markdown]
# The same inputs, two accumulators. At some point the FP16 grid has steps of 2 or more: an addend below 1 is then at most half a step, and is lost.

# %% tags=["nbval-check-output"]
draws = (
    torch.rand(8000, generator=torch.Generator().manual_seed(SEED)).half().double()
)
fp16, fp32 = (summation.partial_sums(draws, f) for f in (FP16, FP32))
totals = {"exact": draws.sum(), "FP16": fp16[-1], "FP32": fp32[-1]}
print({name: round(total.item(), 1) for name, total in totals.items()})
fp16_accumulator.reveal(fp16[-1].item())

# %% [markdown]
# NumPy adds FP16 arrays in pairs, which hides the effect; its `cumsum` adds one after the other in FP16, just as we did. So it can be our
# witness, for all 8,000 partial sums.

# %% tags=["nbval-check-output"]
theirs = np.cumsum(draws.numpy().astype(np.float16), dtype=np.float16)
compare("partial sums in FP16", fp16, theirs.astype(float), name="numpy")

# %% [markdown]
# This is why tensor cores multiply FP16 numbers but add them in FP32. When somebody says "an FP16 matrix product", they nearly always
# mean: FP16 in, FP32 inside, FP16 out.

# %%
show(
    figures.accumulators(
        draws.cumsum(0),
        {"FP16 accumulator": fp16, "FP32 accumulator": fp32},
        title=f"An FP16 accumulator sticks at {fp16[-1].item():,.0f}",
    )
)

# %% [markdown]
# ## Eight, six and four bits
#
# Small formats cannot afford to waste codes. E5M2 keeps infinities like its big brothers; E4M3 gives them up and keeps a single NaN per sign, which buys it the
# numbers from 256 to 448. FP6 and FP4 have neither: every code is a number.

# %% tags=["nbval-check-output"]
for f in (E5M2, E4M3, E3M2, E2M3, E2M1):
    values = tensor.all_values(f)
    nan, infinite = values.isnan().sum(), values.isinf().sum()
    print(
        f"{f.name}: {2**f.bits:3} codes, {nan} NaN, {infinite} infinite, largest {f.max:g}"
    )

# %% [markdown]
# FP4 is so small that you can know all of it. Sixteen codes, eight magnitudes. Each tick in the picture is a number that exists; between them
# there is nothing. The last gap, from 4 to 6, is where the large values of a block will fall.

# %%
show(
    figures.all_numbers(
        (E2M1, E2M3, E3M2), title="FP4 and FP6: every number there is"
    )
)

# %% [markdown]
# ## One scale for a block
#
# A weight of 0.003 in FP4 is 0: its smallest number is 0.5. So a **block** of neighbours shares one **scale**: divide by it, store four bits, multiply
# when reading. In the *MX* formats 32 elements share a power of two (E8M0, eight exponent bits and nothing else). **NVFP4** takes 16 elements, an E4M3
# scale, and one FP32 scale for the whole tensor.

# %% tags=["nbval-check-output"]
from coursekit.formats.block import quantize
from coursekit.formats.spec import MXFP4, MXFP6_E2M3, MXFP8_E4M3, MXINT8, NVFP4

weights = torch.randn(1024, 1024, generator=generator) * 0.02
for b in (MXFP4, NVFP4, MXFP6_E2M3, MXFP8_E4M3):
    q = quantize(weights, b)
    share = q.nbytes / weights.nbytes
    print(
        f"{b.name:11} {b.bits_per_element:5} bits an element, {share:.1%} of FP32"
    )

# %% [markdown]
# "Four-bit" weights take a little more than four bits, because the scale is shared out. The bytes follow exactly: elements times bits, plus one byte
# for each scale. Computed and counted must agree, to the byte.

# %% tags=["nbval-check-output"]
n = weights.numel()
q = quantize(weights, MXFP4)
compare("bytes of MXFP4", q.nbytes, n * 4 // 8 + n // 32, name="arithmetic")
compare("scales stored", q.scales.numel(), n // MXFP4.block_size, name="arithmetic")

# %% [markdown]
# What does it cost in quality? **Signal to noise** in decibels: each bit should buy about six. The picture holds a surprise: MXINT8, plain integers under a shared
# scale, beats MXFP8 on these numbers. Inside a block the scale has already taken care of the range, so mantissa bits pay more than exponent bits.


# %%
def decibels(block_format):
    noise = quantize(weights, block_format).dequantize() - weights
    return 10 * (weights.var() / noise.square().mean()).log10().item()


blocks = (MXFP4, NVFP4, MXFP6_E2M3, MXFP8_E4M3, MXINT8)
rows = {b.name: (b.bits_per_element, decibels(b)) for b in blocks}
show(
    figures.signal_to_noise(
        rows, title="Under a shared scale, mantissa bits pay more"
    )
)

# %% [markdown]
# **INT8** by itself is a ruler with even marks: 256 whole numbers and one scale. Whether that or a float fits better depends on the data. One outlier decides:
# it sets the scale, and everything else is squeezed into the few marks near zero. Blocks keep the damage local.


# %% tags=["nbval-check-output"]
def in_int8(x):
    scale = x.abs().max() / INT8.max
    return tensor.round_to(x / scale, INT8) * scale


for outlier in (0.1, 1.0, 10.0):
    x = weights.clone()
    x[0, 0] = outlier
    errors = [
        (y - x).std() / weights.std()
        for y in (in_int8(x), quantize(x, MXINT8).dequantize())
    ]
    print(
        "outlier {:4}: error {:.1%} in INT8, {:.1%} in MXINT8".format(
            outlier, *errors
        )
    )

# %% [markdown]
# The standard does not leave the choice of the **block scale** to taste: the power of two below the largest magnitude, which may clip it. Other modes exist, because a
# scale one step larger clips nothing but makes every step twice as wide. All four against each other, on normal numbers and on a heavy tail:

# %% tags=["nbval-check-output"]
from coursekit.formats.block import SCALE_MODES

heavy = weights * torch.randn(1024, 1024, generator=generator).exp()
for name, x in (("normal", weights), ("heavy tail", heavy)):
    modes = {
        mode: quantize(x, MXFP4, scale_mode=mode).dequantize()
        for mode in SCALE_MODES
    }
    print(
        name,
        {mode: f"{(y - x).norm() / x.norm():.1%}" for mode, y in modes.items()},
    )

# %% [markdown]
# ## What a real network holds
#
# Enough of random numbers. We train a small network, a few seconds, to guess the next letter of simple sentences, and collect all of its **weights**, **activations** and
# **gradients**. Where do they lie on the ranges of the formats? Which of the three is the hardest to store, do you think?

# %%
from classroom.lectures.formats.experiments import flushed, train_briefly

network = train_briefly(seed=SEED)
print({name: f"{values.numel():,} numbers" for name, values in network.items()})

# %% [markdown]
# The gradients are. They are spread over many more powers of two than weights and activations, and most of them are far smaller than 1. The lower half of the
# picture shows which formats can hold them.

# %%
over = (FP32, BF16, FP16, E5M2, E4M3)
loss = flushed(network["gradients"], E4M3)
show(
    figures.histograms(
        network, over, title=f"Gradients need range: E4M3 loses {loss:.0%} of them"
    )
)

# %% [markdown]
# Now in numbers: the share of nonzero values that each format rounds to **zero**, for each of the three kinds. PyTorch's casts are asked as a witness for FP16.

# %% tags=["nbval-check-output"]
for kind, values in network.items():
    row = ", ".join(
        f"{f.name} {flushed(values, f):.2%}" for f in (BF16, FP16, E5M2, E4M3)
    )
    print(f"{kind:11} flushed to zero: {row}")
nonzero = network["gradients"][network["gradients"] != 0]
by_torch = (nonzero.half() == 0).double().mean()
compare("share that FP16 flushes", flushed(nonzero, FP16), by_torch, name="torch")

# %% [markdown]
# This one picture explains the recipes of the coming lectures. Weights and activations want *mantissa* bits: E4M3. Gradients want *exponent* bits: E5M2, or BF16.
# FP16 can be saved by multiplying the loss with a large number first, which shifts all gradients to the right: **loss scaling**, in lecture 2.
#
# ## Rules to take along

# %%
takeaway("Range comes from exponent bits, precision from mantissa bits.")
takeaway(
    "Too large becomes infinite, too small becomes zero, too small a step is lost."
)
takeaway(
    "Add in a wider format than you store, and give small blocks their own scale."
)

# %% [markdown]
# ## Exercises
#
# Nine exercises wait in [exercises/01_formats.ipynb](../exercises/01_formats.ipynb), from rounding on a grid to a block of MXFP4. Each is checked on the spot against an oracle that is
# not our solution, and typical mistakes are told by name.
#
# ## What you can do now
#
# - You **read** a float bit by bit and **derived** every limit of a format from four facts.
# - You **saw** overflow, underflow and swallowed updates happen, and **cured** the last one in three ways.
# - You **chose** formats for weights, activations and gradients from a histogram, down to four bits with a shared scale.
#
# ## Five quick questions
#
# <details><summary>1. Why does BF16 need no loss scaling and FP16 does?</summary>
# BF16 has the exponent bits of FP32, so gradients that FP32 can hold do not underflow. FP16 has three exponent bits fewer.</details>
#
# <details><summary>2. Why do BF16 weights still need a wider copy?</summary>
# Eight significant bits: an update below half an ulp of the weight is lost. Range does not help there.</details>
#
# <details><summary>3. Two libraries cast the same large number to E4M3 and disagree. Which one has a bug?</summary>
# Neither. One saturates, the other gives NaN. The convention has to be stated.</details>
#
# <details><summary>4. Why does stochastic rounding help a sum although each rounding is worse?</summary>
# Its errors have mean zero and cancel over many steps; the errors of nearest rounding on the same numbers all have the same sign.</details>
#
# <details><summary>5. Why is a "4-bit" format larger than four bits an element?</summary>
# Each block stores a scale. MXFP4 shares eight bits among 32 elements, NVFP4 among 16.</details>
#
# ## Where to read on
#
# - Goldberg, *What Every Computer Scientist Should Know About Floating-Point Arithmetic*, ACM Computing Surveys 1991: the classic.
# - Micikevicius et al., *FP8 Formats for Deep Learning*, 2022 (arXiv:2209.05433): why E4M3 and E5M2.
# - Rouhani et al., *Microscaling Data Formats for Deep Learning*, 2023 (arXiv:2310.10537): the MX formats.
# - Gupta et al., *Deep Learning with Limited Numerical Precision*, 2015 (arXiv:1502.02551): stochastic rounding in training.
#
# Next: lecture 2, mixed precision.

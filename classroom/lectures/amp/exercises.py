"""The exercises of lecture 2, easy to hard: `check.share_flushed(share_flushed)` answers with a verdict.

The truth comes from numpy's and ml_dtypes' casts, from exact fractions, from torch.amp.GradScaler and torch.autocast,
and from counting the bytes of real tensors after a real step of torch's AdamW. A mistake does one thing wrong and
everything else right, so the right way can be read here too: look here after you have tried.
"""

from __future__ import annotations

import math
import random
from fractions import Fraction

import ml_dtypes
import numpy as np
import torch
from torch.nn import functional as F
from torch.nn.utils import clip_grad_norm_

from classroom.checking.answers import Close, Exact
from classroom.checking.exercise import Case, Exercise

FP16_MAX = 65504

# ---------------------------------------------------------------- share_flushed

share_flushed = Exercise(
    "share_flushed",
    "Which gradients become zero?",
    minutes=10,
    answer=Close(1e-4, 1e-6),  # FP32 means differ in the last digits
    hints=(
        "Zeros were zero before: look only at the nonzero gradients. If there are none, the share is 0.0.",
        "Multiply by the scale *in FP32*, then cast: `(gradients * scale).half()`. What is zero now?",
        "`g = gradients[gradients != 0]`, then `((g * scale).half() == 0).float().mean().item()`.",
    ),
    praise="This number warns you before a run in FP16 loses its gradients.",
)


@share_flushed.truth
def _():
    """Gradients over many powers of two, some of them zero, at four scales; numpy casts."""
    generator = np.random.default_rng(0)
    for scale in (1.0, 1024.0, 65536.0, 2.0**-6):
        x = (generator.normal(size=400) * 2.0 ** generator.integers(-40, -5, 400)).astype(np.float32)
        x[::7] = 0.0
        flushed = (x[x != 0] * np.float32(scale)).astype(np.float16) == 0
        words = f"share_flushed(400 gradients, scale={scale:g})"
        yield Case((torch.from_numpy(x), scale), float(flushed.mean()), words)
    yield Case((torch.zeros(3), 2.0), 0.0, "share_flushed(three zeros, scale=2)")


def _share(zero) -> float:
    return zero.float().mean().item() if len(zero) else 0.0


@share_flushed.mistake("the smallest normal number as the limit")
def _(gradients, scale):
    """Below 6.1e-5 FP16 still has subnormal numbers, down to 6e-8. Only what is below half of that becomes zero."""
    return _share((gradients[gradients != 0] * scale).abs() < 2.0**-14)


@share_flushed.mistake("zeros counted")
def _(gradients, scale):
    """A gradient that was zero before is not lost in FP16. Leave the zeros out of both counts."""
    return _share((gradients * scale).half() == 0)


@share_flushed.mistake("the scale forgotten")
def _(gradients, scale):
    """These are the shares without scaling. Multiply by the scale before the cast."""
    return _share(gradients[gradients != 0].half() == 0)


@share_flushed.mistake("scaled after the cast")
def _(gradients, scale):
    """After the cast it is too late: zero times anything is zero. Multiply first, in FP32."""
    return _share(gradients.half().float() * scale == 0)


# ---------------------------------------------------------------- largest_safe_scale

largest_safe_scale = Exercise(
    "largest_safe_scale",
    "The largest safe scale",
    minutes=10,
    hints=(
        "Only the gradient of the largest *magnitude* matters; its sign does not.",
        "S times the largest may be at most 65,504. How many doublings fit between the two?",
        "`2.0 ** math.floor(math.log2(65504 / max(abs(g) for g in gradients)))`.",
    ),
    praise="A power of two changes the exponents and not a single digit.",
)


@largest_safe_scale.truth
def _():
    """One power of two after the other is tried, in exact fractions."""
    lists = (
        [1e-4, -3e-3],
        [0.5],
        [-2.0, 1.0],
        [65504.0],
        [-65504.0, 1.0],
        [1e-7, 2e-8],
        [0.99, -0.7],
        [3e4, -4e4],
    )
    for gradients in lists:
        largest = max(abs(Fraction(g)) for g in gradients)
        k = -20
        while largest * Fraction(2) ** (k + 1) <= FP16_MAX:
            k += 1
        yield Case((gradients,), 2.0**k)


def _largest(gradients) -> float:
    return max(abs(g) for g in gradients)


@largest_safe_scale.mistake("rounded up")
def _(gradients):
    """The next power of two *above* the limit makes the largest gradient overflow. Round the exponent down."""
    return 2.0 ** math.ceil(math.log2(FP16_MAX / _largest(gradients)))


@largest_safe_scale.mistake("rounded to the nearest")
def _(gradients):
    """The nearest power of two is too large half of the time. Round the exponent down."""
    return 2.0 ** round(math.log2(FP16_MAX / _largest(gradients)))


@largest_safe_scale.mistake("65,536 as the limit")
def _(gradients):
    """65,536 is 2^16, but the largest FP16 number is 65,504: what reaches 65,536 overflows."""
    return 2.0 ** math.floor(math.log2(65536 / _largest(gradients)))


@largest_safe_scale.mistake("the sign kept")
def _(gradients):
    """The largest number need not have the largest magnitude: -4 overflows before 3 does. Take `abs` first."""
    return 2.0 ** math.floor(math.log2(FP16_MAX / max(*gradients, 1e-9)))


# ---------------------------------------------------------------- bytes_held

bytes_held = Exercise(
    "bytes_held",
    "Bytes that stay",
    minutes=10,
    hints=(
        "Four groups stay from step to step: weights, gradients, master weights, and two states of Adam.",
        "Under autocast all tensors that stay are FP32. With masters, the gradients that Adam reads and its states "
        "belong to the FP32 masters.",
        "Bytes per parameter: fp32 4+4+8, autocast the same, bf16 only 2+2+4, masters 2+4+4+8.",
    ),
    praise="Mixed precision saves time and activations, not these bytes.",
)


@bytes_held.truth
def _():
    """Counted: the bytes of the tensors that exist after one step of torch's AdamW."""
    for recipe in ("fp32", "autocast", "bf16 only", "fp16 with masters"):
        for features in (7, 64):
            yield Case((features * (features + 1), recipe), _bytes_after_a_step(features, recipe))


def _bytes_after_a_step(features: int, recipe: str) -> int:
    stored = {"bf16 only": torch.bfloat16, "fp16 with masters": torch.float16}.get(recipe, torch.float32)
    layer = torch.nn.Linear(features, features).to(stored)
    weights = list(layer.parameters())
    masters = [p.detach().float().requires_grad_() for p in weights] if "masters" in recipe else []
    trained = masters or weights
    if recipe == "autocast":
        with torch.autocast("cpu", torch.bfloat16):
            loss = layer(torch.ones(1, features)).float().sum()
        loss.backward()
    else:
        for p in trained:
            p.grad = torch.ones_like(p)
    optimizer = torch.optim.AdamW(trained)
    optimizer.step()
    # `step` counts are single numbers, not states per parameter
    states = [t for state in optimizer.state.values() for t in state.values() if t.dim()]
    held = [*weights, *masters, *states, *(p.grad for p in trained)]
    return sum(t.numel() * t.element_size() for t in held)


#                 recipe, right bytes per parameter
PER_PARAMETER = {"fp32": 16, "autocast": 16, "bf16 only": 8, "fp16 with masters": 18}


@bytes_held.mistake("autocast halves the weights")
def _(parameters, recipe):
    """Autocast casts for each operation; the weights, gradients and Adam's states that stay are FP32."""
    return parameters * (PER_PARAMETER | {"autocast": 12})[recipe]


@bytes_held.mistake("autocast halves the weights")
def _(parameters, recipe):
    """Autocast casts for each operation; the weights that stay are FP32, like gradients and Adam's states."""
    return parameters * (PER_PARAMETER | {"autocast": 14})[recipe]


@bytes_held.mistake("masters forgotten")
def _(parameters, recipe):
    """FP16 weights *and* FP32 masters exist: 4 more bytes per parameter."""
    return parameters * (PER_PARAMETER | {"fp16 with masters": 14})[recipe]


@bytes_held.mistake("16-bit gradients beside masters")
def _(parameters, recipe):
    """The optimizer reads the masters' gradients, which are FP32. (Papers that keep FP16 ones count 16 bytes.)"""
    return parameters * (PER_PARAMETER | {"fp16 with masters": 16})[recipe]


@bytes_held.mistake("one state of Adam")
def _(parameters, recipe):
    """Adam keeps two numbers per parameter: a mean of gradients and a mean of their squares."""
    return parameters * {"fp32": 12, "autocast": 12, "bf16 only": 6, "fp16 with masters": 14}[recipe]


# ---------------------------------------------------------------- bits_of_result

bits_of_result = Exercise(
    "bits_of_result",
    "Which operation runs in which dtype?",
    minutes=10,
    hints=(
        "Three rules: matrix products go to 16 bits; some losses go to 32; the rest keeps the dtype of its input.",
        "On a CPU, softmax, layer_norm, exp and sum keep the dtype of their input. That is what differs from CUDA.",
        '16 for "linear" and "matmul", 32 for "mse_loss", otherwise `input_bits`.',
    ),
    praise="On CUDA four of these are different.",
)

OPERATIONS = ("linear", "matmul", "softmax", "layer_norm", "exp", "sum", "mse_loss")
MATRIX_PRODUCTS = ("linear", "matmul")


@bits_of_result.truth
def _():
    """torch.autocast on this CPU is asked, for inputs of 32 and of 16 bits."""
    for operation in OPERATIONS:
        for bits in (32, 16):
            yield Case((operation, bits), _bits_under_autocast(operation, bits))


def _bits_under_autocast(operation: str, input_bits: int) -> int:
    x = torch.ones(4, 4, dtype=torch.float32 if input_bits == 32 else torch.bfloat16)
    run = {
        "linear": lambda: F.linear(x, x),
        "matmul": lambda: x @ x,
        "softmax": lambda: F.softmax(x, dim=-1),
        "layer_norm": lambda: F.layer_norm(x, (4,)),
        "exp": x.exp,
        "sum": x.sum,
        "mse_loss": lambda: F.mse_loss(x, x),
    }[operation]
    with torch.autocast("cpu", torch.bfloat16):
        return 8 * run().element_size()


@bits_of_result.mistake("the rules of CUDA")
def _(operation, input_bits):
    """On CUDA softmax, layer_norm, exp and sum go to 32 bits. This is a CPU: they keep the dtype of their input."""
    return 16 if operation in MATRIX_PRODUCTS else 32


@bits_of_result.mistake("everything in 16 bits")
def _(operation, input_bits):
    """Autocast does not cast everything: only matrix products go to 16 bits by themselves."""
    return 16


@bits_of_result.mistake("losses keep their dtype")
def _(operation, input_bits):
    """mse_loss is in the table of 32 bits, even for inputs of 16: sums of squares overflow early."""
    return 16 if operation in MATRIX_PRODUCTS else input_bits


# ---------------------------------------------------------------- scale_trajectory

scale_trajectory = Exercise(
    "scale_trajectory",
    "Write the dynamic scaler",
    minutes=20,
    hints=(
        "Two numbers are the whole state: the scale, and the count of good steps in a row since it last changed.",
        "A broken step halves the scale and sets the count to zero. A good one adds one to the count.",
        "When the count reaches `growth_interval`: double the scale, and start counting from zero again.",
    ),
    praise="This is the rule of torch.amp.GradScaler, scale for scale.",
)


@scale_trajectory.truth
def _():
    """Patterns of broken steps, driven through torch.amp.GradScaler."""
    dice = random.Random(0)
    patterns = [
        ([False] * 7, 2),
        ([True, False, False, False], 3),
        ([False, False, True, False, False, False, True, True], 3),
        *(([dice.random() < 0.2 for _ in range(60)], interval) for interval in (1, 2, 4, 7)),
    ]
    for broken, interval in patterns:
        words = f"scale_trajectory({len(broken)} steps, {interval})"
        yield Case((broken, interval), _scales_of_torch(broken, interval), words)


def _scales_of_torch(broken: list[bool], interval: int) -> list[float]:
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler = torch.amp.GradScaler("cpu", growth_interval=interval)
    scales = []
    for bad in broken:
        scaler.scale(torch.ones(()))
        weight.grad = torch.tensor([math.inf if bad else 1.0])
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    return scales


def _scales(broken, growth_interval, reset_on_overflow=True, reset_on_growth=True, late=0) -> list[float]:
    """scale_trajectory with one wrong part."""
    scale, good, scales = 65536.0, 0, []
    for bad in broken:
        if bad:
            scale = scale / 2
            good = 0 if reset_on_overflow else good
        else:
            good += 1
            if good >= growth_interval + late:
                scale = scale * 2
                good = 0 if reset_on_growth else good
        scales.append(scale)
    return scales


@scale_trajectory.mistake("the count survives an overflow")
def _(broken, growth_interval):
    """Good steps must come *in a row*: a broken one sets the count to zero."""
    return _scales(broken, growth_interval, reset_on_overflow=False)


@scale_trajectory.mistake("the count survives growth")
def _(broken, growth_interval):
    """After doubling, counting starts from zero again; otherwise the scale doubles at every step."""
    return _scales(broken, growth_interval, reset_on_growth=False)


@scale_trajectory.mistake("one step late")
def _(broken, growth_interval):
    """The scale grows when the count *reaches* the interval, not when it passes it."""
    return _scales(broken, growth_interval, late=1)


@scale_trajectory.mistake("the scale before the step")
def _(broken, growth_interval):
    """Note the scale after each step: the first entry already includes what happened in step one."""
    return [65536.0, *_scales(broken, growth_interval)][:-1]


# ---------------------------------------------------------------- training_step

training_step = Exercise(
    "training_step",
    "Fix the loop that clips before unscaling",
    minutes=15,
    answer=Close(1e-4, 1e-6),
    takes=5,
    hints=(
        "Until they are unscaled, gradients are S times too large: any limit on their norm cuts them all.",
        "`scaler.unscale_(optimizer)` divides them now; `scaler.step(optimizer)` then knows that it is done.",
        "scale and backward, `unscale_`, clip, `scaler.step(optimizer)`, `scaler.update()`, in this order.",
    ),
    praise="Scale, backward, unscale, clip, step, update.",
)


@training_step.probe
def weights_after_five_steps(step, seed: int, limit: float) -> list[float]:
    """The weights of a small network after five steps with torch's scaler; one of the losses is infinite."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    for number in range(5):
        loss = model(torch.randn(8, 3)).square().mean() * (math.inf if number == 2 else 4.0)
        optimizer.zero_grad()
        step(scaler, optimizer, model, loss, limit)
    return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()


@training_step.truth
def _():
    """The same five steps without any scaling: the broken step is left out, the others are clipped."""
    for seed, limit in ((0, 0.1), (1, 0.5), (2, 100.0)):
        words = f"five steps of network {seed}, norm at most {limit:g}"
        yield Case((seed, limit), weights_after_five_steps(_without_scaler, seed, limit), words)


def _without_scaler(scaler, optimizer, model, loss, limit):
    if loss.isfinite():
        loss.backward()
        clip_grad_norm_(model.parameters(), limit)
        optimizer.step()


@training_step.mistake("clipped before unscaling")
def _(scaler, optimizer, model, loss, limit):
    """There the norm is S times too large, so the limit cuts nearly everything away. Unscale first."""
    scaler.scale(loss).backward()
    clip_grad_norm_(model.parameters(), limit)
    scaler.step(optimizer)
    scaler.update()


@training_step.mistake("not clipped, or clipped after the step")
def _(scaler, optimizer, model, loss, limit):
    """What happens to gradients after `scaler.step` no longer matters: clip between unscaling and the step."""
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    clip_grad_norm_(model.parameters(), limit)


@training_step.mistake("the optimizer stepped by itself")
def _(scaler, optimizer, model, loss, limit):
    """`optimizer.step()` does not look for infinite gradients. `scaler.step(optimizer)` leaves a broken step out."""
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    clip_grad_norm_(model.parameters(), limit)
    optimizer.step()
    scaler.update()


# ---------------------------------------------------------------- with_master


class Bf16Number(Exact):
    """Exactly that BF16 number. The number of a mistake is recognised by four digits, however it was summed."""

    def alike(self, mistaken, got) -> bool:
        return Close(1e-4).right(mistaken, got)


with_master = Exercise(
    "with_master",
    "A weight with a master",
    minutes=15,
    answer=Bf16Number(),
    hints=(
        "The master lives in FP32 and receives every update. The BF16 copy is only read: nothing is added to it.",
        "Start: `master = torch.tensor(weight, dtype=torch.float32)`. Never assign the rounded weight back to it.",
        "Add all updates to the master in FP32, and cast once at the end: `master.bfloat16().item()`.",
    ),
    praise="The model sees the rounding, the sum never does.",
)


@with_master.truth
def _():
    """Summed by numpy in FP32, one after the other, and cast once by ml_dtypes."""
    runs = (
        (1.0, [0.001] * 1000),
        (1.0, [-1e-4] * 2000),
        (100.0, [0.1, -0.3] * 200),
        (0.5, [0.25, 0.25]),
        (2.0, []),
    )
    for weight, updates in runs:
        total = np.float32(weight)
        for update in updates:
            total = np.float32(total + np.float32(update))
        words = f"with_master({weight:g}, {len(updates)} updates)"
        yield Case((weight, updates), float(total.astype(ml_dtypes.bfloat16)), words)


@with_master.mistake("rounded after every update")
def _(weight, updates):
    """The master itself goes through BF16 at every step, so small updates are lost as before. Round a copy."""
    rounded = torch.tensor(weight, dtype=torch.bfloat16)
    for update in updates:
        rounded = (rounded.float() + update).bfloat16()
    return rounded.item()


@with_master.mistake("never rounded")
def _(weight, updates):
    """You return the master. The model computes with its BF16 copy: cast it at the end."""
    master = torch.tensor(weight)
    for update in updates:
        master += update
    return master.item()


EXERCISES = (
    share_flushed,
    largest_safe_scale,
    bytes_held,
    bits_of_result,
    scale_trajectory,
    training_step,
    with_master,
)

"""The typical mistakes of lecture 2's exercises: small wrong programs, beside the words that name what went wrong.

Each does one thing wrong and everything else right, so the right way can be read here too: look here after you have
tried.
"""

from __future__ import annotations

import math

from classroom.checking.check import Mistake


def _share(gradients, scale, threshold=None, drop_zeros=True):
    g = gradients[gradients != 0] if drop_zeros else gradients
    if not len(g):
        return 0.0
    scaled = g * scale
    dead = (scaled.half() == 0) if threshold is None else scaled.abs() < threshold
    return dead.float().mean().item()


FLUSHED = (
    Mistake(
        "the smallest normal number as the limit",
        "Below 6.1e-5 FP16 goes on with subnormal numbers, down to 6e-8. Only what is below half of that dies.",
        lambda gradients, scale: _share(gradients, scale, threshold=2.0**-14),
    ),
    Mistake(
        "zeros counted",
        "A gradient that was zero before is not killed by FP16. Leave the zeros out of both counts.",
        lambda gradients, scale: _share(gradients, scale, drop_zeros=False),
    ),
    Mistake(
        "the scale forgotten",
        "These are the shares without scaling. Multiply by the scale before the cast.",
        lambda gradients, scale: _share(gradients, 1.0),
    ),
    Mistake(
        "scaled after the cast",
        "Cast first and the dead stay dead: zero times anything is zero. Multiply first, in FP32.",
        lambda gradients, scale: _share(gradients.half().float(), scale, drop_zeros=False),
    ),
)


def _safe(gradients, rounding=math.floor, size=lambda g: max(map(abs, g))):
    return 2.0 ** rounding(math.log2(65504 / size(gradients)))


SAFE = (
    Mistake(
        "rounded up",
        "The next power of two *above* the limit makes the largest gradient overflow. Round the exponent down.",
        lambda gradients: _safe(gradients, math.ceil),
    ),
    Mistake(
        "rounded to the nearest",
        "Half of the time the nearest power of two is too large. Round the exponent down.",
        lambda gradients: _safe(gradients, round),
    ),
    Mistake(
        "the sign kept",
        "The largest number is not the one of largest size: -4 overflows before 3 does. Take `abs` first.",
        lambda gradients: _safe(gradients, size=lambda g: max(max(g), 1e-9)),
    ),
    Mistake(
        "no power of two",
        "65,504 divided by the largest fits, but multiplying by it rounds the digits. Take the power of two below.",
        lambda gradients: 65504 / max(map(abs, gradients)),
    ),
)

PER_PARAMETER = {"fp32": 16, "autocast": 16, "bf16 only": 8, "fp16 with masters": 18}
BYTES = (
    Mistake(
        "autocast halves the weights",
        "Autocast casts for each operation; the weights, gradients and Adam's states that stay are FP32.",
        lambda n, recipe: n * (12 if recipe == "autocast" else PER_PARAMETER[recipe]),
    ),
    Mistake(
        "everything in 16 bits",
        "With autocast the tensors that stay are FP32: count 4 bytes for each number.",
        lambda n, recipe: n * (8 if recipe == "autocast" else PER_PARAMETER[recipe]),
    ),
    Mistake(
        "masters forgotten",
        "FP16 weights *and* FP32 masters are there: 4 bytes more a parameter.",
        lambda n, recipe: n * (14 if "masters" in recipe else PER_PARAMETER[recipe]),
    ),
    Mistake(
        "16-bit gradients beside masters",
        "The optimizer reads the masters' gradients, which are FP32. (Papers that keep FP16 ones count 16 bytes.)",
        lambda n, recipe: n * (16 if "masters" in recipe else PER_PARAMETER[recipe]),
    ),
    Mistake(
        "one state of Adam",
        "Adam keeps two numbers for each parameter: a mean of gradients and a mean of their squares.",
        lambda n, recipe: n * {"fp32": 12, "autocast": 12, "bf16 only": 6, "fp16 with masters": 14}[recipe],
    ),
)

LOWER = ("linear", "matmul")
BITS = (
    Mistake(
        "the rules of CUDA",
        "On CUDA softmax, layer_norm, exp and sum go to 32 bits. This is a CPU: they run as their input comes.",
        lambda op, bits: 16 if op in LOWER else 32,
    ),
    Mistake(
        "everything in 16 bits",
        "Autocast is no switch for all: only products of matrices go down by themselves.",
        lambda op, bits: 16,
    ),
    Mistake(
        "losses as they come",
        "mse_loss stands in the table of 32 bits, even for inputs of 16: sums of squares overflow early.",
        lambda op, bits: 16 if op in LOWER else bits,
    ),
)


def _trajectory(broken, growth_interval, reset_on_inf=True, reset_on_growth=True, late=0):
    scale, good, scales = 65536.0, 0, []
    for bad in broken:
        if bad:
            scale, good = scale / 2, 0 if reset_on_inf else good
        else:
            good += 1
            if good >= growth_interval + late:
                scale, good = scale * 2, 0 if reset_on_growth else good
        scales.append(scale)
    return scales


def _before_the_step(broken, growth_interval):
    scales = [65536.0, *_trajectory(broken, growth_interval)]
    return scales[:-1]


TRAJECTORY = (
    Mistake(
        "the counter survives an overflow",
        "Good steps must come *in a row*: a broken one sets the counter to zero.",
        lambda broken, growth_interval: _trajectory(broken, growth_interval, reset_on_inf=False),
    ),
    Mistake(
        "the counter survives growth",
        "After doubling, counting starts from zero again; otherwise the scale doubles at every step.",
        lambda broken, growth_interval: _trajectory(broken, growth_interval, reset_on_growth=False),
    ),
    Mistake(
        "one step late",
        "The scale grows when the counter *reaches* the interval, not when it passes it.",
        lambda broken, growth_interval: _trajectory(broken, growth_interval, late=1),
    ),
    Mistake(
        "the scale before the step",
        "Note the scale after each step: the first entry already knows what happened in step one.",
        _before_the_step,
    ),
)


def _clip_first(scaler, optimizer, model, loss, limit):
    from torch.nn.utils import clip_grad_norm_

    scaler.scale(loss).backward()
    clip_grad_norm_(model.parameters(), limit)
    scaler.step(optimizer)
    scaler.update()


def _no_clipping(scaler, optimizer, model, loss, limit):
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()


def _clip_after(scaler, optimizer, model, loss, limit):
    from torch.nn.utils import clip_grad_norm_

    _no_clipping(scaler, optimizer, model, loss, limit)
    clip_grad_norm_(model.parameters(), limit)


def _around_the_scaler(scaler, optimizer, model, loss, limit):
    from torch.nn.utils import clip_grad_norm_

    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    clip_grad_norm_(model.parameters(), limit)
    optimizer.step()
    scaler.update()


STEP = (
    Mistake(
        "clipped before unscaling",
        "The norm is S times too large there, so the limit cuts nearly everything away. Unscale first.",
        _clip_first,
    ),
    Mistake(
        "not clipped, or clipped after the step",
        "What happens to gradients after `scaler.step` no longer matters: clip between unscaling and the step.",
        _clip_after,
    ),
    Mistake(
        "the optimizer stepped by itself",
        "`optimizer.step()` does not know of infinite gradients. `scaler.step(optimizer)` leaves a broken step out.",
        _around_the_scaler,
    ),
)


def _rounded_each_time(weight, updates):
    import torch

    w = torch.tensor(weight, dtype=torch.bfloat16)
    for update in updates:
        w = (w.float() + update).bfloat16()
    return w.item()


def _not_rounded(weight, updates):
    import torch

    master = torch.tensor(weight)
    for update in updates:
        master += update
    return master.item()


MASTER = (
    Mistake(
        "rounded after every update",
        "The master itself went through BF16 at every step, so small updates are lost as before. Round a copy.",
        _rounded_each_time,
    ),
    Mistake(
        "never rounded",
        "You return the master. The model computes with its BF16 copy: cast it at the end.",
        _not_rounded,
    ),
)

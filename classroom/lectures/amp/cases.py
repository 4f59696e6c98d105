"""The cases of lecture 2's exercises and their right answers, none of them from the code that the exercises train.

The truth comes from numpy's and ml_dtypes' casts, from exact fractions, from torch.amp.GradScaler and torch.autocast,
and from counting the bytes of real tensors after a real step of torch's AdamW.
"""

from __future__ import annotations

import math
import random
from fractions import Fraction
from functools import cache

from classroom.checking.answers import plain
from classroom.checking.check import Case


@cache
def share_flushed() -> list[Case]:
    """Gradients over many binades, some of them zero, at four scales; numpy casts."""
    import numpy as np
    import torch

    generator = np.random.default_rng(0)
    cases = []
    for scale in (1.0, 1024.0, 65536.0, 2.0**-6):
        x = (generator.normal(size=400) * 2.0 ** generator.integers(-40, -5, 400)).astype(np.float32)
        x[::7] = 0.0
        counted = x[x != 0]
        dead = (counted * np.float32(scale)).astype(np.float16) == 0
        words = f"share_flushed(400 gradients, scale={scale:g})"
        cases.append(Case((torch.from_numpy(x), scale), float(dead.mean()), words))
    nothing = "share_flushed(three zeros, scale=2)"
    return [*cases, Case((torch.zeros(3), 2.0), 0.0, nothing)]


@cache
def largest_safe_scale() -> list[Case]:
    """Found by trying one power of two after the other in exact fractions."""
    lists = [
        [1e-4, -3e-3],
        [0.5],
        [-2.0, 1.0],
        [65504.0],
        [-65504.0, 1.0],
        [1e-7, 2e-8],
        [0.99, -0.7],
        [3e4, -4e4],
    ]
    return [Case((gradients,), _by_trying(gradients)) for gradients in lists]


def _by_trying(gradients) -> float:
    largest = max(abs(Fraction(g)) for g in gradients)
    k = -20
    while largest * Fraction(2) ** (k + 1) <= 65504:
        k += 1
    return 2.0**k


@cache
def bytes_held() -> list[Case]:
    """Counted: the bytes of the tensors that are there after one step of torch's AdamW."""
    return [
        Case((features * (features + 1), recipe), _counted(features, recipe))
        for recipe in ("fp32", "autocast", "bf16 only", "fp16 with masters")
        for features in (7, 64)
    ]


def _counted(features: int, recipe: str) -> int:
    import torch

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
    states = [t for state in optimizer.state.values() for t in state.values() if t.dim()]
    held = [*weights, *masters, *states, *(p.grad for p in trained)]
    return sum(t.numel() * t.element_size() for t in held)


OPERATIONS = ("linear", "matmul", "softmax", "layer_norm", "exp", "sum", "mse_loss")


@cache
def bits_of_result() -> list[Case]:
    """torch.autocast on this CPU is asked, for inputs of 32 and of 16 bits."""
    return [Case((operation, bits), _bits(operation, bits)) for operation in OPERATIONS for bits in (32, 16)]


def _bits(operation: str, input_bits: int) -> int:
    import torch
    from torch.nn import functional as F

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


@cache
def scale_trajectory() -> list[Case]:
    """Patterns of broken steps, driven through torch.amp.GradScaler."""
    dice = random.Random(0)
    patterns = [
        ([False] * 7, 2),
        ([True, False, False, False], 3),
        ([False, False, True, False, False, False, True, True], 3),
        *(([dice.random() < 0.2 for _ in range(60)], interval) for interval in (1, 2, 4, 7)),
    ]
    return [
        Case((broken, every), _by_torch(broken, every), f"scale_trajectory({len(broken)} steps, {every})")
        for broken, every in patterns
    ]


def _by_torch(broken: list[bool], interval: int) -> list[float]:
    import torch

    weight, scales = torch.zeros(1, requires_grad=True), []
    optimizer = torch.optim.SGD([weight], lr=1.0)
    scaler = torch.amp.GradScaler("cpu", growth_interval=interval)
    for bad in broken:
        scaler.scale(torch.ones(()))
        weight.grad = torch.tensor([math.inf if bad else 1.0])
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    return scales


def weights_after(step, seed: int, limit: float) -> list[float]:
    """Five steps of a small network with torch's scaler; one of its losses is infinite. The weights at the end."""
    import torch

    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    for number in range(5):
        loss = model(torch.randn(8, 3)).square().mean() * (math.inf if number == 2 else 4.0)
        optimizer.zero_grad()
        step(scaler, optimizer, model, loss, limit)
    return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()


@cache
def training_step() -> list[Case]:
    """The same five steps by hand, without any scaling: the broken step left out, the others clipped."""
    return [
        Case(
            (seed, limit),
            _without_scaler(seed, limit),
            f"five steps of network {seed}, norm at most {limit:g}",
        )
        for seed, limit in ((0, 0.1), (1, 0.5), (2, 100.0))
    ]


def _without_scaler(seed: int, limit: float) -> list[float]:
    import torch

    def step(scaler, optimizer, model, loss, limit):
        if loss.isfinite():
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
            optimizer.step()

    return weights_after(step, seed, limit)


def close(expected, got) -> bool:
    """Numbers, or lists of them, that agree to a few digits: FP32 sums and means round differently. NaN equals NaN."""
    expected, got = plain(expected), plain(got)
    if isinstance(expected, list):
        same_length = isinstance(got, (list, tuple)) and len(got) == len(expected)
        return same_length and all(close(a, b) for a, b in zip(expected, got, strict=True))
    if not isinstance(got, (int, float)) or isinstance(got, bool):
        return False
    return math.isclose(expected, got, rel_tol=1e-4, abs_tol=1e-6) or (
        math.isnan(expected) and math.isnan(got)
    )


@cache
def with_master() -> list[Case]:
    """Summed by numpy in FP32, one after the other, and cast once by ml_dtypes."""
    runs = [
        (1.0, [0.001] * 1000),
        (1.0, [-1e-4] * 2000),
        (100.0, [0.1, -0.3] * 200),
        (0.5, [0.25, 0.25]),
        (2.0, []),
    ]
    return [
        Case(
            (weight, updates), _by_numpy(weight, updates), f"with_master({weight:g}, {len(updates)} updates)"
        )
        for weight, updates in runs
    ]


def _by_numpy(weight: float, updates: list[float]) -> float:
    import ml_dtypes
    import numpy as np

    total = np.float32(weight)
    for update in updates:
        total = np.float32(total + np.float32(update))
    return float(total.astype(ml_dtypes.bfloat16))

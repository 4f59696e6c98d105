"""Measure what a number format does to gradients: the share it flushes to zero, makes subnormal, or lets overflow.

    >>> from coursekit.formats.spec import FP16
    >>> gradient = torch.tensor([1e-9, 1e-6, 1e-3, 0.0])
    >>> shares(gradient, FP16).zero, shares(gradient, FP16, scale=65536.0).zero     # the second with loss scaling
    (0.3333333333333333, 0.0)

`by_layer(gradients_of(model), FP16)` gives a row per parameter. Autograd does not keep gradients of *activations*. They
are the smallest of all, since each belongs to one token, and every gradient of a weight is made from them:
`activation_gradients` collects them while backward runs. Left out: the error of what stays normal.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from coursekit.formats.scalar import finfo
from coursekit.formats.spec import FloatSpec
from coursekit.formats.tensor import round_to


@dataclass(frozen=True)
class Shares:
    """Shares of the numbers that are neither zero nor inf nor NaN, by what the format makes of them.

    zero       becomes zero
    subnormal  stays, with fewer digits than the format has
    overflow   becomes inf or NaN (a format that has neither clips instead, which is not counted)
    """

    name: str
    numbers: int
    zero: float
    subnormal: float
    overflow: float

    def __str__(self) -> str:
        return (
            f"{self.name:46} {self.numbers:9,} numbers: {self.zero:7.2%} zero, "
            f"{self.subnormal:7.2%} subnormal, {self.overflow:7.2%} overflow"
        )


def shares(x: Tensor, fmt: FloatSpec, scale: float = 1.0, name: str = "") -> Shares:
    """What happens to `x * scale` when it is rounded to `fmt`, to nearest even.

    x  any shape and float dtype. The product is taken in float64, so that the format rounds and not the scaling.
       Without any nonzero number all shares are 0.0.
    """
    x = x.detach().flatten().double() * scale
    x = x[(x != 0) & x.isfinite()]  # a zero is not lost by rounding
    rounded = round_to(x, fmt)
    smallest = finfo(fmt).min_normal  # below it digits are lost one by one

    def share(mask: Tensor) -> float:
        return mask.double().mean().item() if len(x) else 0.0

    return Shares(
        name,
        len(x),
        zero=share(rounded == 0),
        subnormal=share((rounded != 0) & (rounded.abs() < smallest)),
        overflow=share(~rounded.isfinite()),
    )


def by_layer(tensors: Mapping[str, Tensor], fmt: FloatSpec, scale: float = 1.0) -> list[Shares]:
    """`shares` of each tensor, in the order given."""
    return [shares(tensor, fmt, scale, name) for name, tensor in tensors.items()]


def overall(tensors: Iterable[Tensor], fmt: FloatSpec, scale: float = 1.0) -> Shares:
    """`shares` of the numbers of all tensors (any shapes) together."""
    return shares(torch.cat([t.detach().flatten().float() for t in tensors]), fmt, scale, "all")


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    """{name: gradient in the parameter's shape}, without parameters that have none."""
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def largest_safe_scale(tensors: Iterable[Tensor], fmt: FloatSpec) -> float:
    """The largest power of two by which all numbers (of any shapes) can be multiplied without overflow.

    1.0 if all are zero. Inf and NaN are ignored, since no scale helps them. Numbers just above the format's largest
    would still round down to it; here the largest is the limit.
    """
    finite = (t.detach()[t.isfinite()].abs() for t in tensors)
    largest = max((t.max().item() for t in finite if len(t)), default=0.0)
    if largest == 0.0:
        return 1.0
    _, exponent = math.frexp(finfo(fmt).max / largest)  # 2^(exponent - 1) <= quotient < 2^exponent
    return math.ldexp(1.0, exponent - 1)


def exponents(x: Tensor) -> tuple[Tensor, Tensor]:
    """How many numbers lie in each binade: (k [n], count [n]), int64, for 2^k <= |x| < 2^(k+1). Zeros are ignored."""
    x = x.detach().flatten().float()
    exponent = torch.frexp(x[(x != 0) & x.isfinite()]).exponent.long() - 1  # frexp: 1/2 <= fraction < 1
    return torch.unique(exponent, return_counts=True)


@contextmanager
def activation_gradients(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """{name of a module without children: gradient of the loss by its output}, filled while backward runs within.

    A module that is called again (shared layers, micro-batches) has a key for each call: "act", "act#2" and so on.
    All hooks are gone afterwards, whatever happens.
    """
    found: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()
    handles = []

    def keep(key, grad):
        found[key] = grad.detach().clone()  # autograd may reuse the memory

    def listen(name, module, inputs, output):
        if isinstance(output, Tensor) and output.requires_grad:
            calls[name] += 1
            key = name if calls[name] == 1 else f"{name}#{calls[name]}"
            handles.append(output.register_hook(partial(keep, key)))

    leaves = [(name, module) for name, module in model.named_modules() if not any(module.children())]
    handles += [module.register_forward_hook(partial(listen, name)) for name, module in leaves]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()

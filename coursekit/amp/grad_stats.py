"""What a number format does to gradients: the share it flushes to zero, keeps coarsely, or lets overflow; by layer.

    shares(weight.grad, FP16)                  # as it is
    shares(weight.grad, FP16, scale=65536.0)   # as it would be with loss scaling
    by_layer(gradients_of(model), FP16)        # a row for each parameter

Gradients of *activations* are not kept by autograd. They are the smallest of all, since each belongs to one token, and
every gradient of a weight is made from them: `activation_gradients` listens in while backward runs.
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
    """Of the numbers that are neither zero nor inf nor NaN: the share that the format treats in each way.

    zero       becomes zero
    subnormal  stays, with fewer digits than the format has
    overflow   becomes inf or NaN (a format that has neither clips instead, which counts nowhere)
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
    """What becomes of `x * scale` when it is rounded to `fmt`, to nearest even.

    x  any shape and float dtype. The product is taken in float64, so that it is the format that rounds and not the
       scaling. Without any nonzero number all shares are 0.0.
    """
    x = x.detach().flatten().double() * scale
    x = x[(x != 0) & x.isfinite()]
    rounded = round_to(x, fmt)
    smallest = finfo(fmt).min_normal

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
    """`shares` of all numbers together."""
    return shares(torch.cat([t.detach().flatten().float() for t in tensors]), fmt, scale, "all")


def gradients_of(model: nn.Module) -> dict[str, Tensor]:
    """{name of the parameter: its gradient}, without parameters that have none."""
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def largest_safe_scale(tensors: Iterable[Tensor], fmt: FloatSpec) -> float:
    """The largest power of two by which the largest of all numbers can be multiplied without overflow.

    1.0 if all are zero. Inf and NaN are left out, since no scale helps them. Numbers just above the format's largest
    still round down to it; the limit is kept here.
    """
    finite = (t.detach()[t.isfinite()].abs() for t in tensors)
    largest = max((t.max().item() for t in finite if len(t)), default=0.0)
    if largest == 0.0:
        return 1.0
    _, exponent = math.frexp(finfo(fmt).max / largest)  # 2^(exponent - 1) <= quotient < 2^exponent
    return math.ldexp(1.0, exponent - 1)


def exponents(x: Tensor) -> tuple[Tensor, Tensor]:
    """How many numbers lie in each binade: (k, count), int64 each, for 2^k <= |x| < 2^(k+1). Zeros are left out."""
    x = x.detach().flatten().float()
    exponent = torch.frexp(x[(x != 0) & x.isfinite()]).exponent.long() - 1
    return torch.unique(exponent, return_counts=True)


@contextmanager
def activation_gradients(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """{name of a module without children: gradient of the loss by its output}, filled while backward runs inside.

    A module that is called again (shared layers, micro-batches) has a key for each call: "act", "act#2" and so on.
    All hooks are gone afterwards, whatever happens.
    """
    found: dict[str, Tensor] = {}
    calls: Counter[str] = Counter()
    handles = []

    def listen(name, module, inputs, output):
        if isinstance(output, Tensor) and output.requires_grad:
            calls[name] += 1
            key = name if calls[name] == 1 else f"{name}#{calls[name]}"
            handles.append(output.register_hook(lambda grad: found.__setitem__(key, grad.detach().clone())))

    leaves = [(name, module) for name, module in model.named_modules() if not any(module.children())]
    handles += [module.register_forward_hook(partial(listen, name)) for name, module in leaves]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()

"""AdamW moves every parameter by about lr per step, in the direction that its gradients agree on.

    exp_avg    <- beta1 exp_avg + (1 - beta1) g         direction of the gradient, averaged over ~10 steps
    exp_avg_sq <- beta2 exp_avg_sq + (1 - beta2) g^2    size of the gradient, averaged over ~1000 steps
    p          <- p - lr weight_decay p - lr (exp_avg / (1 - beta1^t)) / (sqrt(exp_avg_sq / (1 - beta2^t)) + eps)

These are two numbers per parameter, 8 bytes in float32: half of all bytes if weights and gradients are float32 too. The
other modules of this package use fewer bytes or keep them elsewhere; they change how a state is stored and share the
rest.

How far can one step go? m = exp_avg averages gradients and v = exp_avg_sq averages their squares, so m cannot be large
where v is small (Cauchy-Schwarz), and |m| / sqrt(v) <= 7.27 for the usual betas: `largest_update`.

Unlike torch.optim.AdamW: one way to compute instead of three (no foreach, no fused kernel), no amsgrad, maximize,
capturable, complex numbers, nor a tensor for lr.

Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019, algorithm 2 (arXiv:1711.05101).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from coursekit.optim.per_parameter import PerParameter, check_range


class AdamW(PerParameter):
    """Arguments as in torch.optim.AdamW; both states have the shape and the dtype of their parameter.

    Raises ValueError for a negative lr, eps or weight_decay and for betas outside [0, 1).
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        **options: Any,
    ):
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, **options}
        )

    def check(self, group: dict) -> None:
        check_range(group, ("lr", "eps", "weight_decay"))
        if len(group["betas"]) != 2 or not all(0 <= beta < 1 for beta in group["betas"]):
            raise ValueError(f"expected two betas in [0, 1), got {group['betas']!r}. (0.9, 0.999) is usual.")

    def new_state(self, p: Tensor, group: dict) -> dict[str, Tensor]:
        return {name: torch.zeros_like(p, requires_grad=False) for name in ("exp_avg", "exp_avg_sq")}

    def update(self, p: Tensor, grad: Tensor, state: dict, group: dict) -> None:
        adamw_(p, grad, state["exp_avg"], state["exp_avg_sq"], state["step"], group)


def adamw_(p: Tensor, grad: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, step: int, group: dict) -> None:
    """One step in place; all tensors [...] of one shape, `step` counted from 1."""
    beta1, beta2 = group["betas"]
    p.mul_(1 - group["lr"] * group["weight_decay"])  # decoupled: the decay does not pass through the moments
    exp_avg.lerp_(grad, 1 - beta1)
    exp_avg_sq.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
    denominator = exp_avg_sq.sqrt().div_(math.sqrt(1 - beta2**step)).add_(group["eps"])
    p.addcdiv_(exp_avg, denominator, value=-group["lr"] / (1 - beta1**step))


def largest_update(step: int, betas: tuple[float, float]) -> float:
    """The most that AdamW can move a parameter in one step, without decay, in units of lr.

    >>> [round(largest_update(step, (0.9, 0.999)), 2) for step in (1, 10, 10_000)]
    [1.0, 1.04, 7.27]

    That is the supremum over all gradients of |m| / sqrt(v), with the bias corrections. m is the sum of (1 - beta1)
    beta1^k g_k and v that of (1 - beta2) beta2^k g_k^2, so by Cauchy-Schwarz m^2 is at most v times the sum over the
    steps k of (1 - beta1)^2 / (1 - beta2) (beta1^2 / beta2)^k.
    Infinite if m remembers gradients that v has forgotten: beta2 = 0 < beta1.
    """
    beta1, beta2 = betas
    try:
        ratio = beta1**2 / beta2 if beta1 else 0.0
        terms = step if ratio == 1 else (1 - ratio**step) / (1 - ratio)  # 1 + ratio + ratio^2 + ...
    except (ZeroDivisionError, OverflowError):
        return math.inf if step > 1 else 1.0
    reach = (1 - beta1) * math.sqrt(terms / (1 - beta2))
    return reach * math.sqrt(1 - beta2**step) / (1 - beta1**step)

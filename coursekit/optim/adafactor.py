"""Adafactor stores an m x n matrix of squared gradients as m row means and n column means.

    R <- beta2_t R + (1 - beta2_t) mean over columns of G^2        [.., m, 1]
    C <- beta2_t C + (1 - beta2_t) mean over rows of G^2           [.., 1, n]        beta2_t = 1 - t^-0.8
    V = R C / mean(R)                                              [.., m, n], never stored
    U = G / sqrt(V),   U <- U / max(1, rms(U) / d)
    X <- X - weight_decay lr X - max(eps2, rms(X)) min(lr, 1 / sqrt(t)) U

R C / mean(R) is the matrix of rank one that is nearest to the averaged G^2 in the I-divergence (section 3), and exact
if G^2 has rank one. For a 4096 x 4096 matrix it stores 32,768 bytes; AdamW stores 134 MB. Vectors keep all their
squares. There is no first moment; instead the step is bounded (d), scaled to the size of the weights
(scale_parameter) and becomes smaller over time (relative_step).

Unlike transformers' Adafactor: eps1 bounds V from below and is not added to G^2, which differs only for gradients near
1e-15; weight decay is lr times the weight as in torch. Left out: beta1, warmup_init, maximize, foreach.

Source: Shazeer and Stern, Adafactor: Adaptive Learning Rates with Sublinear Memory Cost, ICML 2018, algorithms 4
and 5 (arXiv:1804.04235).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from coursekit.optim.per_parameter import PerParameter, check_range


class Adafactor(PerParameter):
    """Defaults of torch.optim.Adafactor.

    lr               upper limit of the relative step; without relative_step: the step itself
    beta2_decay      exponent of t in 1 - beta2_t, below 0
    eps              (lower limit of sqrt(V), None: the machine epsilon of the dtype; lower limit of the weights' scale)
    d                largest root mean square of an update in units of the step
    scale_parameter  multiply the step by the root mean square of the weights
    relative_step    the step decreases like 1 / sqrt(t) once that is below lr

    Raises ValueError for options out of range.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        scale_parameter: bool = True,
        relative_step: bool = True,
    ):
        options = {"lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d, "weight_decay": weight_decay}
        switches = {"scale_parameter": scale_parameter, "relative_step": relative_step}
        super().__init__(params, {**options, **switches})

    def check(self, group: dict) -> None:
        check_range(group, ("lr", "weight_decay"))
        eps1, eps2 = group["eps"]
        check_range({"eps[0]": eps1 or 0.0, "eps[1]": eps2}, ("eps[0]", "eps[1]"))
        if not group["beta2_decay"] <= 0:
            raise ValueError(
                f"expected beta2_decay to be at most 0, got {group['beta2_decay']!r}. -0.8 is usual."
            )
        if not group["d"] >= 1:
            raise ValueError(f"expected d to be at least 1, got {group['d']!r}. 1 is usual.")

    def new_state(self, p: Tensor, group: dict) -> dict[str, Tensor]:
        return {name: p.new_zeros(shape) for name, shape in state_shapes(p.shape).items()}

    def update(self, p: Tensor, grad: Tensor, state: dict, group: dict) -> None:
        t = state["step"]
        eps1, eps2 = group["eps"]
        if eps1 is None:
            eps1 = torch.finfo(p.dtype).eps
        step = min(group["lr"], t**-0.5) if group["relative_step"] else group["lr"]
        scale = max(eps2, rms(p)) if group["scale_parameter"] else 1.0  # eps2: weights of 0 must move too
        p.mul_(1 - group["lr"] * group["weight_decay"])
        variance = second_moment(grad, state, t ** group["beta2_decay"], eps1)
        update = variance.clamp_(min=eps1**2).rsqrt_().mul_(grad)  # U, in the memory of V
        p.add_(update, alpha=-step * scale / max(1.0, rms(update) / group["d"]))


def second_moment(grad: Tensor, state: dict, weight: float, eps1: float) -> Tensor:
    """V [.., m, n] after grad [.., m, n] entered R and C with `weight` = 1 - beta2_t; of a vector [n] its own V."""
    square = grad.square()
    if "variance" in state:
        return state["variance"].lerp_(square, weight).clone()  # the caller overwrites what it gets
    row_var = state["row_var"].lerp_(square.mean(-1, keepdim=True), weight)
    col_var = state["col_var"].lerp_(square.mean(-2, keepdim=True), weight)
    return (row_var * col_var).div_(row_var.mean(-2, keepdim=True).clamp_(min=eps1))


def rms(x: Tensor) -> float:  # [...]
    """Root mean square of all elements."""
    return float(x.norm()) / x.numel() ** 0.5


def state_shapes(shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Shapes of what is stored per parameter: means along each of the last two dimensions; of a vector everything.

    >>> state_shapes((4096, 1024)), state_shapes((4096,))
    ({'row_var': (4096, 1), 'col_var': (1, 1024)}, {'variance': (4096,)})
    """
    shape = tuple(shape)
    if len(shape) < 2:
        return {"variance": shape}
    return {"row_var": (*shape[:-1], 1), "col_var": (*shape[:-2], 1, shape[-1])}

"""Walk over the parameters that have a gradient and step each with its own state: what every optimizer here shares.

A subclass says what it stores (`new_state`), what a step does (`update`) and which options make sense (`check`).

Unlike torch.optim's own: one parameter after the other, without foreach and fused kernels; dense real tensors only.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from coursekit.memory.measure import held_bytes, optimizer_tensors


class PerParameter(Optimizer):
    """An optimizer without a rule. A parameter without a gradient does not change, not even by weight decay."""

    def add_param_group(self, param_group: dict) -> None:
        """Also called by __init__ for each group; raises what check() does."""
        super().add_param_group(param_group)
        self.check(self.param_groups[-1])

    def check(self, group: dict) -> None:
        """Raise ValueError for the first option of a group that is out of range."""

    def new_state(self, p: Tensor, group: dict) -> dict[str, Tensor]:
        """The state of p [...] before its first step: {name: tensor}."""
        raise NotImplementedError

    def update(self, p: Tensor, grad: Tensor, state: dict, group: dict) -> None:
        """Step p [...] by grad [...] and its state in place; state["step"] counts from 1."""
        raise NotImplementedError

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Step every parameter that has a gradient; returns the closure's result if there is one.

        Raises ValueError for a sparse gradient; parameters before it have been stepped then.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():  # the closure calls backward()
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._step_one(p, dense_grad(p), group)
        return loss

    def _step_one(self, p: Tensor, grad: Tensor, group: dict) -> None:
        state = self.state[p]
        if not state:
            state.update(step=0, **self.new_state(p, group))
        state["step"] += 1
        self.update(p, grad, state, group)

    def load_state_dict(self, state_dict: dict) -> None:
        """Continue where state_dict() was taken, bit for bit.

        States keep the dtype they were saved in: torch's method would turn 8-bit codes into the parameter's dtype.
        """
        super().load_state_dict({"state": {}, "param_groups": state_dict["param_groups"]})  # the options only
        for saved, group in zip(state_dict["param_groups"], self.param_groups, strict=True):
            for key, p in zip(saved["params"], group["params"], strict=True):
                if key in state_dict["state"]:
                    self.state[p] = self.restored(p, state_dict["state"][key], group)

    def restored(self, p: Tensor, saved: dict, group: dict) -> dict:
        """A copy of the saved state of p, stored where this optimizer keeps it."""
        return {k: v.to(p.device, copy=True) if isinstance(v, Tensor) else v for k, v in saved.items()}


def dense_grad(p: Tensor) -> Tensor:
    """The gradient of p, in its shape [...]. Raises ValueError if it is sparse."""
    if p.grad.layout != torch.strided:
        raise ValueError(
            f"expected a dense gradient, got one in {p.grad.layout}. "
            "Make the embedding with sparse=False, or give it to torch.optim.SparseAdam."
        )
    return p.grad


def check_range(group: dict, names: tuple[str, ...]) -> None:
    """Raises ValueError for the first of these options that is negative, infinite or NaN."""
    for name in names:
        if not 0 <= group[name] < math.inf:
            raise ValueError(f"expected {name} to be at least 0 and finite, got {group[name]!r}.")


def state_bytes(optimizer: Optimizer) -> int:
    """Bytes of all tensors in an optimizer's state, wherever they are stored."""
    return held_bytes(optimizer_tensors(optimizer))

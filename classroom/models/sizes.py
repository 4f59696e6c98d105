"""Bytes that a model and its training hold, counted on the tensors themselves.

Not the memory of the process, which is mostly libraries for a small model, and not the activations, which come and go
in every step (lecture 3).
"""

from __future__ import annotations

from collections.abc import Iterable

from coursekit.training import Training


def training_bytes(run: Training) -> dict[str, int]:
    """What stays from step to step: weights, gradients, and the moments of Adam. After at least one step."""
    parameters = [p for group in run.optimizer.param_groups for p in group["params"]]
    states = [value for state in run.optimizer.state.values() for value in state.values()]
    moments = [
        value for value in states if value.dim()
    ]  # the count of steps is a state as well, four bytes a tensor
    return {
        "weights": stored_bytes(run.model),
        "gradients": tensor_bytes(p.grad for p in parameters),
        "Adam": tensor_bytes(moments),
    }


def stored_bytes(model) -> int:
    """Of all weights: parameters, and the scales of 4-bit layers, which are no parameters."""
    total = tensor_bytes(model.parameters())
    states = (getattr(p, "quant_state", None) for p in model.parameters())
    return total + sum(_state_bytes(state) for state in states if state is not None)


def _state_bytes(state) -> int:
    """Of bitsandbytes' QuantState: block scales; with double quantisation also their scales and their mean."""
    second = state.state2.absmax if state.nested else None
    return tensor_bytes(t for t in (state.absmax, state.offset, second) if t is not None)


def tensor_bytes(tensors: Iterable) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)

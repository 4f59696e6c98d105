"""Count the bytes that a model and its training hold, on the tensors themselves.

Not the memory of the process, which is mostly libraries for a small model, and not the activations, which come and go
in every step (lecture 3). Unlike coursekit.memory.measure.held_bytes, this leaves out the tables of levels that
bitsandbytes keeps beside each 4-bit layer: they are the format's, not the model's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from coursekit.memory.measure import optimizer_tensors
from coursekit.training import Training


def training_bytes(run: Training) -> dict[str, int]:
    """What stays from step to step: weights, gradients, and the moments of Adam. After at least one step."""
    parameters = [p for group in run.optimizer.param_groups for p in group["params"]]
    # Adam's count of steps is a state as well, a tensor without dimensions of four bytes per parameter tensor.
    moments = (state for state in optimizer_tensors(run.optimizer) if getattr(state, "ndim", 0))
    return {
        "weights": stored_bytes(run.model),
        "gradients": tensor_bytes(p.grad for p in parameters),
        "Adam": tensor_bytes(moments),
    }


def stored_bytes(model) -> int:
    """Bytes of all weights: parameters, and the scales of 4-bit layers, which are not parameters."""
    return sum(p.nbytes + tensor_bytes(scales(p)) for p in model.parameters())


def scales(parameter) -> Iterator:
    """What bitsandbytes' QuantState holds beside the 4-bit codes of a weight: float32 or uint8 [blocks] scales of the
    blocks; with double quantisation also float32 [blocks / 256] scales of these, and float32 [] their mean."""
    state = getattr(parameter, "quant_state", None)
    if state is None:
        return
    second = state.state2.absmax if state.nested else None
    yield from (tensor for tensor in (state.absmax, state.offset, second) if tensor is not None)


def tensor_bytes(tensors: Iterable) -> int:
    """Bytes of the numbers in these tensors; a tensor that is named twice counts twice."""
    return sum(tensor.nbytes for tensor in tensors)

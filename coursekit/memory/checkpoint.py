"""Gradient checkpointing by hand: keep the input of a block, free the rest, and compute it again in backward.

>>> block, x = torch.nn.Linear(8, 8), torch.ones(2, 8)
>>> y = checkpoint(block, x)             # the same values and gradients; the graph holds x and nothing else
>>> torch.equal(y, block(x)), y.grad_fn.name()
(True, 'RecomputeBackward')

It trades time for memory: for one more forward pass it keeps the inputs of all blocks and the activations of one block,
instead of the activations of all blocks. With one block per layer that is Chen et al. 2016 (section 3), the choice of
`transformers`.

What it leaves out, and torch.utils.checkpoint has: arguments that are not tensors, stopping the recomputation at the
last tensor that is needed, and blocks that are spread over several devices.
"""

from __future__ import annotations

from contextlib import contextmanager

import torch


class Recompute(torch.autograd.Function):
    """One node of the graph that stands for a whole block."""

    @staticmethod
    def forward(ctx, block, x, *parameters):
        ctx.block = block
        ctx.random_state = random_state(x.device)  # dropout must fall on the same elements again
        ctx.save_for_backward(x)
        return block(x)  # a Function's forward builds no graph: nothing inside is saved

    @staticmethod
    def backward(ctx, grad_y):
        (x,) = ctx.saved_tensors
        x = x.detach().requires_grad_(ctx.needs_input_grad[1])
        parameters = trained(ctx.block)
        wanted = [t for t in (x, *parameters) if t.requires_grad]
        # autograd runs a Function's backward without a graph, but this one needs the block's
        with torch.enable_grad(), same_random_numbers(ctx.random_state):
            y = ctx.block(x)
        # a parameter that the block did not use has no gradient, and that is not an error
        found = iter(torch.autograd.grad(y, wanted, grad_y, allow_unused=True))
        grad_x = next(found) if x.requires_grad else None
        return None, grad_x, *found


def checkpoint(block: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Compute block(x) with a graph that holds x alone.

    block   a module that maps one tensor to one tensor
    x       any shape, floating point

    Gradients of x and of the block's trained parameters are those without checkpointing. Raises TypeError if block is
    not a module (its parameters could not be found) or x is not a floating-point tensor.
    """
    if not isinstance(block, torch.nn.Module):
        raise TypeError(
            f"block must be an nn.Module, so that its parameters are known; got {type(block).__name__}."
        )
    if not (isinstance(x, torch.Tensor) and x.is_floating_point()):
        raise TypeError(f"x must be a floating-point tensor; got {getattr(x, 'dtype', type(x).__name__)}.")
    return Recompute.apply(block, x, *trained(block))


def trained(block: torch.nn.Module) -> list[torch.nn.Parameter]:
    return [p for p in block.parameters() if p.requires_grad]


def random_state(device: torch.device | str = "cpu") -> dict[torch.device, torch.Tensor]:
    """The states of the generators that a block may draw from: the CPU's, and the one of its GPU."""
    device = torch.device(device)
    states = {torch.device("cpu"): torch.get_rng_state()}
    if device.type != "cpu":
        states[device] = torch.get_device_module(device).get_rng_state(device)
    return states


@contextmanager
def same_random_numbers(states: dict[torch.device, torch.Tensor]):
    """Set the generators to earlier states within the block, and restore them afterwards."""
    now = {device: random_state(device)[device] for device in states}
    try:
        set_random_state(states)
        yield
    finally:
        set_random_state(now)


def set_random_state(states: dict[torch.device, torch.Tensor]) -> None:
    for device, state in states.items():
        if device.type == "cpu":
            torch.set_rng_state(state)
        else:
            torch.get_device_module(device).set_rng_state(state, device)

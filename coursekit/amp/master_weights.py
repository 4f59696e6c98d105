"""FP32 copies of 16-bit weights, which the optimizer steps on: an update too small for 16 bits is not lost.

    masters = MasterWeights(model.parameters())          # the model has 16 bits
    optimizer = torch.optim.AdamW(masters.masters, lr=1e-5)
    loss.backward()
    masters.collect_grads()                              # 16-bit gradients, widened, become the masters' gradients
    optimizer.step()
    masters.copy_back()                                  # the model gets the masters, rounded

The rounding of copy_back() is not carried on: the next update is added to the master and not to what the model got. A
thousand updates that are each too small to see therefore show up when their sum is large enough.

What torch.amp does instead: it keeps the weights themselves in FP32 and casts them for each operation.

Source: Micikevicius et al., Mixed Precision Training, ICLR 2018, section 3.1 (arXiv:1710.03740).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class MasterWeights:
    """FP32 masters of the trainable parameters, in their order; `masters[i]` belongs to `parameters[i]`.

    Parameters in FP32 or FP64 are their own masters: nothing is copied. Raises ValueError if nothing is trainable.
    """

    def __init__(self, parameters: Iterable[Tensor]):
        self.parameters = [p for p in parameters if p.requires_grad]
        if not self.parameters:
            raise ValueError(
                "expected trainable parameters, got none. Set requires_grad=True on what is to be trained."
            )
        self.masters = [_master_of(p) for p in self.parameters]

    def collect_grads(self) -> None:
        """Move every gradient to its master, in FP32, and free the 16-bit one. A missing gradient stays missing.

        Once a step, after its last backward(): what a master had before is replaced, not added to.
        """
        for parameter, master in self._copied():
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None

    @torch.no_grad()
    def copy_back(self) -> None:
        """Give the model its masters, rounded to its dtype."""
        for parameter, master in self._copied():
            parameter.copy_(master)

    def zero_grad(self) -> None:
        """Forget all gradients, of the model and of the masters."""
        for tensor in (*self.parameters, *self.masters):
            tensor.grad = None

    def state_dict(self) -> dict[str, list[Tensor]]:
        """The masters. Save them with the optimizer: the model's own weights have lost the digits below 16 bits."""
        return {"masters": [master.detach().clone() for master in self.masters]}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, list[Tensor]]) -> None:
        """Continue with saved masters; the model follows. Raises ValueError if shapes differ; then nothing changed."""
        saved = state_dict["masters"]
        expected, came = [[tuple(t.shape) for t in tensors] for tensors in (self.masters, saved)]
        if expected != came:
            raise ValueError(
                f"expected masters of shapes {expected}, got {came}. Load them for the model they were saved from."
            )
        for master, tensor in zip(self.masters, saved, strict=True):
            master.copy_(tensor)
        self.copy_back()

    def _copied(self) -> list[tuple[Tensor, Tensor]]:
        return [(p, m) for p, m in zip(self.parameters, self.masters, strict=True) if m is not p]


def _master_of(parameter: Tensor) -> Tensor:
    if torch.finfo(parameter.dtype).bits >= 32:
        return parameter
    return parameter.detach().float().requires_grad_()

"""Keep FP32 copies of 16-bit weights for the optimizer to step on: an update too small for 16 bits is not lost.

    masters = MasterWeights(model.parameters())          # the model has 16 bits
    optimizer = torch.optim.AdamW(masters.masters, lr=1e-5)
    loss.backward()
    masters.collect_grads()                              # 16-bit gradients, widened, become the masters' gradients
    optimizer.step()
    masters.copy_back()                                  # the model gets the masters, rounded

The rounding of copy_back() does not accumulate: the next update is added to the master, not to the model's rounded
weight. So a thousand updates that are each too small for 16 bits show up when their sum is large enough.

Unlike this, torch.amp keeps the weights themselves in FP32 and casts them for each operation. Left out: scaling the
loss (`grad_scaler`).

Source: Micikevicius et al., Mixed Precision Training, ICLR 2018, section 3.1 (arXiv:1710.03740).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class MasterWeights:
    """FP32 masters of the trainable parameters, in their order; `masters[i]` belongs to `parameters[i]`.

    Parameters in FP32 or FP64 are their own masters: nothing is copied. A master has the shape of its parameter.
    Raises ValueError if nothing is trainable.
    """

    def __init__(self, parameters: Iterable[Tensor]):
        self.parameters = [p for p in parameters if p.requires_grad]
        if not self.parameters:
            raise ValueError(
                "expected trainable parameters, got none. Set requires_grad=True on those to be trained."
            )
        self.masters = [_master_of(p) for p in self.parameters]

    def collect_grads(self) -> None:
        """Move every gradient to its master, in FP32, and free the 16-bit one. A missing gradient stays missing.

        Call it once per step, after the last backward(): it replaces the master's gradient and does not add to it.
        """
        for parameter, master in self._copied():
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None  # 2 bytes per parameter, free again

    @torch.no_grad()
    def copy_back(self) -> None:
        """Copy the masters into the model, rounded to its dtype."""
        for parameter, master in self._copied():
            parameter.copy_(master)

    def zero_grad(self) -> None:
        """Free all gradients, those of the model and of the masters."""
        for tensor in (*self.parameters, *self.masters):
            tensor.grad = None

    def state_dict(self) -> dict[str, list[Tensor]]:
        """Copies of the masters. Save them with the optimizer: the model's weights have lost the lower digits."""
        return {"masters": [master.detach().clone() for master in self.masters]}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, list[Tensor]]) -> None:
        """Continue with saved masters and copy them into the model. Raises ValueError, and changes nothing, if shapes
        differ."""
        saved = state_dict["masters"]
        expected = [tuple(t.shape) for t in self.masters]
        came = [tuple(t.shape) for t in saved]
        if expected != came:
            raise ValueError(
                f"expected masters of shapes {expected}, got {came}. Load them for the model they were saved from."
            )
        for master, tensor in zip(self.masters, saved, strict=True):
            master.copy_(tensor)  # in place: the optimizer holds these very tensors
        self.copy_back()

    def _copied(self) -> list[tuple[Tensor, Tensor]]:
        return [(p, m) for p, m in zip(self.parameters, self.masters, strict=True) if m is not p]


def _master_of(parameter: Tensor) -> Tensor:
    if torch.finfo(parameter.dtype).bits >= 32:
        return parameter  # the optimizer steps on it directly
    return parameter.detach().float().requires_grad_()

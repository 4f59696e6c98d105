"""Find the lines that make Python wait for the GPU, and how often per step.

A GPU works through a queue; Python runs ahead and fills it. `loss.item()` asks for a number that is not computed yet,
so Python waits until the queue is empty, and then the GPU waits for Python. Once in a hundred steps this costs nothing;
in every step and layer it can cost half the speed.

    with SyncCounter() as watch:
        for _ in range(10):
            train_step()
    for sync in watch.per_step(10):
        print(sync)                             # train.py:12  item  1 per step

`SyncCounter` is a TorchFunctionMode: it sees what Python asks of a tensor, so it finds the same lines on a laptop
without a GPU, where they cost little. With a GPU only its tensors count; on a CPU all do, except the step counts that
torch.optim keeps there on purpose. `sync_operations` counts the same in a profile, below Python. There a `.tolist()` or
`.numpy()` of a CPU tensor leaves no trace, since nothing has to be fetched, and an optimizer's step counts do.

Left out: how long a wait takes. On a GPU torch has a detector of its own: `torch.cuda.set_sync_debug_mode("warn")`.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

VALUES = {"item", "tolist", "numpy", "cpu", "equal", "allclose", "__contains__", "__repr__", "__format__"}
CONVERSIONS = {"__bool__", "__int__", "__float__", "__index__", "__array__"}
# Calls whose result has a size that depends on the values.
SHAPES = {"nonzero", "argwhere", "masked_select", "unique", "unique_consecutive"}
WAITS = VALUES | CONVERSIONS | SHAPES
MASKS = {"__getitem__", "__setitem__"}  # these too, if the index is a mask of booleans
OWN = os.path.dirname(os.path.abspath(__file__))
TORCH = os.path.dirname(os.path.abspath(torch.__file__))
OPTIMIZERS = os.path.join(TORCH, "optim")


@dataclass(frozen=True)
class Sync:
    """A line of a program and the call there that waits."""

    file: str
    line: int
    call: str
    count: float  # in all, or per step

    def __str__(self) -> str:
        return f"{os.path.basename(self.file)}:{self.line}  {self.call}  {self.count:g} per step"


class SyncCounter(TorchFunctionMode):
    """Counts, by source line, the calls in the block that would wait for the device.

    device  "cuda": only tensors on a GPU; "cpu": all tensors. Default: "cuda" if there is a GPU

    A print counts once, whatever it asks for inside. A wait inside torch counts at the line that called torch; a wait
    inside another library counts at the library's own line.
    """

    def __init__(self, device: str | None = None):
        super().__init__()
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.counts: Counter[tuple[str, int, str]] = Counter()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        if self._waits(name, args, kwargs):
            frame = sys._getframe(1)
            if not frame.f_code.co_filename.startswith(OPTIMIZERS):  # its step counts live on the CPU
                self.counts[(*_place(frame), name)] += 1
        return function(*args, **kwargs)

    def _waits(self, name: str, args: tuple, kwargs: dict) -> bool:
        if name in MASKS:
            masks = [t for t in tree_leaves(args[1]) if isinstance(t, Tensor) and t.dtype == torch.bool]
            return any(map(self._here, masks))
        if name == "where":
            # With one argument it is nonzero.
            return len(args) + len(kwargs) == 1 and self._any_here(args, kwargs)
        if name == "to":
            return not kwargs.get("non_blocking") and self._here(args[0]) and self._to_cpu(args, kwargs)
        return name in WAITS and self._any_here(args, kwargs)

    def _to_cpu(self, args: tuple, kwargs: dict) -> bool:
        """Whether x.to(...) copies to the CPU. On a laptop x.to(model.device) does and on a GPU it would not, so there
        only the word "cpu" counts."""
        kinds = str if self.device == "cpu" else (str, torch.device)
        places = (*args[1:2], kwargs.get("device"))
        return any(str(place) == "cpu" for place in places if isinstance(place, kinds))

    def _any_here(self, args: tuple, kwargs: dict) -> bool:
        return any(self._here(t) for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor))

    def _here(self, tensor: Tensor) -> bool:
        return self.device == "cpu" or tensor.device.type == self.device

    def per_step(self, steps: int = 1) -> list[Sync]:
        """One row per line and call, the most frequent first."""
        return [Sync(*key, count / steps) for key, count in self.counts.most_common()]

    def total(self) -> int:
        """How many calls would have waited in all."""
        return sum(self.counts.values())


def _place(frame) -> tuple[str, int]:
    """(file, line) of the innermost frame that is neither torch's nor ours."""
    while frame.f_back and frame.f_code.co_filename.startswith((TORCH, OWN)):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


FETCHES = ("aten::_local_scalar_dense", "aten::nonzero", "Memcpy DtoH", "cudaStreamSynchronize")


def sync_operations(profile) -> dict[str, int]:
    """How often the operations in a torch.profiler.profile fetched from the device or waited for it, by name."""
    names = (event.name for event in profile.events() if event.name.startswith(FETCHES))
    return dict(Counter(name.split(" (")[0] for name in names))  # "Memcpy DtoH (Device -> Pageable)"

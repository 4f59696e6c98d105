"""Record which operation ran in which dtype: everything that reached a kernel, forward and backward.

    with Recorder() as recorder:
        loss = model(x)
        with recorder.backward():
            loss.backward()
    print(recorder.summary())

It is a TorchDispatchMode, which sits below autograd and below autocast: it sees the operations that really
ran, including casts (aten._to_copy) and those of backward, whatever put them there. So it can check
torch.autocast and coursekit.amp.autocast in the same way. Left out: times (throughput.profiling).

Source: PyTorch documentation, torch.utils._python_dispatch.TorchDispatchMode.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CAST = "_to_copy"


@dataclass(frozen=True)
class Row:
    """One operation that ran.

    op       its name in aten, such as "addmm" or "_to_copy"
    inputs   dtypes of the tensors among its arguments, in their order
    outputs  dtypes of the tensors that it returned
    phase    "forward" or "backward"
    """

    op: str
    inputs: tuple[torch.dtype, ...]
    outputs: tuple[torch.dtype, ...]
    phase: str = "forward"

    def __str__(self) -> str:
        return f"{self.phase:8} {self.op:36} {_names(self.inputs)} -> {_names(self.outputs)}"


class Recorder(TorchDispatchMode):
    """Records every operation that runs within, in the order of execution.

    floating_only  leave out operations without any floating tensor

    >>> with Recorder() as recorder:
    ...     y = torch.ones(2, 2).bfloat16() @ torch.ones(2, 2).bfloat16()
    >>> [row.op for row in recorder.rows]
    ['ones', '_to_copy', 'ones', '_to_copy', 'mm']
    >>> recorder.casts()
    2
    """

    def __init__(self, *, floating_only: bool = True):
        super().__init__()
        self.rows: list[Row] = []
        self._floating_only = floating_only
        self._phase = "forward"

    @contextmanager
    def backward(self) -> Iterator[None]:
        """Record what runs inside the `with` block as backward."""
        before = self._phase
        self._phase = "backward"
        try:
            yield
        finally:
            self._phase = before

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        out = func(*args, **kwargs)  # first: an operation that raises did not run
        row = Row(func.overloadpacket.__name__, _dtypes((args, kwargs)), _dtypes(out), self._phase)
        if not self._floating_only or any(d.is_floating_point for d in row.inputs + row.outputs):
            self.rows.append(row)
        return out

    def casts(self) -> int:
        """How many operations changed a floating dtype into another."""
        return sum(row.op == CAST and row.inputs != row.outputs for row in self.rows)

    def summary(self) -> str:
        """A table of (phase, operation, dtypes, how often), in the order of first execution."""
        counts = Counter(self.rows)  # keeps the order of insertion
        header = f"{'phase':8} {'op':36} dtypes"
        return "\n".join([header, *(f"{row}  x{n}" for row, n in counts.items())])


def _dtypes(values: Any) -> tuple[torch.dtype, ...]:
    """The dtypes of all tensors in a nest of lists, tuples and dicts."""
    return tuple(leaf.dtype for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def _names(dtypes: tuple[torch.dtype, ...]) -> str:
    """Dtypes without "torch.", or "-" for none."""
    return ", ".join(str(d).removeprefix("torch.") for d in dtypes) or "-"

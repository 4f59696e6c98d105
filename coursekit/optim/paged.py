"""AdamW whose states are stored in host memory or in a file, and are copied to the parameter's device page by page.

    optimizer = PagedAdamW(model.parameters(), budget_bytes=64 * 2**20)           # states in host memory
    optimizer = PagedAdamW(model.parameters(), folder="/scratch")                 # states in memory-mapped files

A step goes through each parameter in pages: copy both states of a page to the device, step it, copy them back. The
device holds three pages for a model of any size: two states and a temporary. The price is the transfer in both
directions: 16 bytes per parameter and step, 1.3 s for 2 billion parameters over PCIe 4.0 x16 (25 GB/s).

bitsandbytes' paged optimizers do the same out of sight. They allocate the states by cudaMallocManaged (unified memory):
one address for both sides, and the driver moves pages of 4 KiB to 2 MiB when one side touches them. While the GPU has
room the states stay there; when activations need the room, the states are moved to the host and come back in step(), as
a swap file does for a process. So they cost nothing until memory is short, and then no line of code shows where the
time went. On a CPU they are ordinary (0.50 warns). Here the states are always on the host, and every copy is a line.

Left out: overlapping copies with arithmetic (two sets of pages and a second stream), 8-bit pages, and stepping on the
host, as ZeRO-Offload does: it moves 16-bit gradients there and 16-bit weights back, 4 bytes per parameter, not 16.

Source: Dettmers et al., QLoRA, NeurIPS 2023, section 3, "Paged Optimizers" (arXiv:2305.14314); NVIDIA CUDA C++
Programming Guide, Unified Memory Programming.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from coursekit.optim.adamw import AdamW, adamw_

STATES = ("exp_avg", "exp_avg_sq")
BUFFERS = len(STATES) + 1  # and the denominator in adamw_
VECTOR = 64  # pages begin at multiples of it, so each number meets the same vector instructions as in one long loop


class PagedAdamW(AdamW):
    """AdamW, equal bit for bit.

    budget_bytes  what the optimizer may hold on a parameter's device at any time during step()
    folder        where to put memory-mapped files; None: host memory, pinned for parameters on a GPU. A file loses
                  its name when it is made (except on Windows), so its space is freed together with the optimizer.

    Raises ValueError as AdamW, and for a budget below one page of 64 elements.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        budget_bytes: int = 64 * 2**20,
        folder: str | os.PathLike | None = None,
    ):
        place = None if folder is None else os.fspath(folder)
        super().__init__(params, lr, betas, eps, weight_decay, budget_bytes=budget_bytes, folder=place)

    def check(self, group: dict) -> None:
        super().check(group)
        for p in group["params"]:
            self._page_elements(p)

    def new_state(self, p: Tensor, group: dict) -> dict[str, Tensor]:
        # Not the group's folder: load_state_dict() may have taken that from another machine.
        folder = self.defaults["folder"]
        if folder is None or p.numel() == 0:
            return {name: torch.zeros(p.shape, dtype=p.dtype, pin_memory=p.is_cuda) for name in STATES}
        return {name: mapped(p.shape, p.dtype, folder) for name in STATES}

    def update(self, p: Tensor, grad: Tensor, state: dict, group: dict) -> None:
        elements = self._page_elements(p)
        flat = p.reshape(-1)
        stored = [state[name].view(-1).split(elements) for name in STATES]
        buffers = [torch.empty(min(elements, p.numel()), dtype=p.dtype, device=p.device) for _ in STATES]
        pages_of_all = zip(flat.split(elements), grad.reshape(-1).split(elements), *stored, strict=True)
        for p_page, grad_page, *there in pages_of_all:
            here = [buffer[: len(p_page)] for buffer in buffers]
            for page, home in zip(here, there, strict=True):
                page.copy_(home, non_blocking=True)
            adamw_(p_page, grad_page, *here, state["step"], group)
            for page, home in zip(here, there, strict=True):
                home.copy_(page)  # this one waits: the next reader of the state may be on the host
        if not p.is_contiguous():  # flat is a copy then
            p.copy_(flat.view(p.shape))

    def restored(self, p: Tensor, saved: dict, group: dict) -> dict:
        state = self.new_state(p, group)
        for name in STATES:
            state[name].copy_(saved[name])
        return {"step": saved["step"], **state}

    def _page_elements(self, p: Tensor) -> int:
        return page_elements(self.defaults["budget_bytes"], p.element_size())


def page_elements(budget_bytes: int, element_size: int) -> int:
    """Elements per page, so that all its buffers fit the budget. Raises ValueError if no page is that small."""
    vectors = budget_bytes // (BUFFERS * element_size * VECTOR)
    if vectors < 1:
        raise ValueError(
            f"expected budget_bytes of at least {BUFFERS * element_size * VECTOR}, {BUFFERS} buffers of {VECTOR} "
            f"elements, got {budget_bytes!r}. Some megabytes keep the copies fast."
        )
    return vectors * VECTOR


def mapped(shape: torch.Size, dtype: torch.dtype, folder: str) -> Tensor:
    """Zeros [shape] in a new memory-mapped file. Raises OSError if the folder cannot be written."""
    handle, name = tempfile.mkstemp(suffix=".state", dir=folder)
    os.close(handle)
    tensor = torch.from_file(name, shared=True, size=shape.numel(), dtype=dtype)  # a new file reads as zeros
    with contextlib.suppress(PermissionError):  # Windows keeps the name of a mapped file
        Path(name).unlink()
    return tensor.view(shape)

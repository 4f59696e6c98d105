"""Compute 16-bit products by rounding: what a tensor core does to a product, on a processor that has none.

A tensor core multiplies 16-bit numbers, adds the products up in FP32 and rounds the sum once, at the end. Few CPUs have
such instructions for FP16, and most laptops have none for BF16; without them one product of two matrices takes seconds.
This mode computes every product of matrices in such a format in FP32, forward and backward, and rounds the
result. Everything else stays in 16 bits: weights, activations and gradients overflow and underflow as on a GPU.

    with tensor_core():
        loss = model.half()(x)
        loss.backward()

On a CPU, FP16 products are always rounded this way; BF16 products if the processor has no units for them. CUDA tensors
pass unchanged, since a GPU runs the real product. What it leaves out: attention, which torch's fused kernel computes
with FP32 sums on every CPU, and convolutions, which language models do not have.

Source: Micikevicius et al., Mixed Precision Training, ICLR 2018, section 3.3 (arXiv:1710.03740).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from coursekit.processor import bf16_units

aten = torch.ops.aten
PRODUCTS = {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default}


class tensor_core(TorchDispatchMode):
    """A region in which products of 16-bit matrices on the CPU are computed in FP32 and rounded once.

    dtypes   whose products are rounded; default: FP16, and BF16 if this processor has no units for it

    It sits below autograd, so backward's products are caught as well, if backward runs in the region.

    >>> row, column = torch.full((1, 4), 32768.0).half(), torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]).half()
    >>> with tensor_core():
    ...     row @ column  # the sum passes 65,504 on its way, in FP32
    tensor([[0.]], dtype=torch.float16)
    """

    def __init__(self, dtypes: Iterable[torch.dtype] | None = None):
        super().__init__()
        self.dtypes = frozenset(rounded_dtypes() if dtypes is None else dtypes)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        x = args[-1] if args else None  # of every product the last argument is a factor
        if operation not in PRODUCTS or x.dtype not in self.dtypes or x.device.type != "cpu":
            return operation(*args, **kwargs)
        return operation(*(_widened(a) for a in args), **kwargs).to(x.dtype)  # the one rounding


def rounded_dtypes() -> tuple[torch.dtype, ...]:
    """The 16-bit formats whose products this processor does not run at speed."""
    return (torch.float16,) if bf16_units() else (torch.float16, torch.bfloat16)


def _widened(argument):
    return argument.float() if isinstance(argument, Tensor) else argument  # numbers such as beta and alpha

"""FP16 by rounding: what a tensor core does to a product, on a processor that has none.

A tensor core multiplies 16-bit numbers, adds the products up in FP32 and rounds the sum once, at the end. Few CPUs have
such instructions for FP16; without them one product of two matrices takes seconds. This mode takes every product of
FP16 matrices, forward and backward, computes it in FP32 and rounds the result. The rest stays a real FP16 tensor:
weights, activations and gradients have 16 bits and overflow and underflow as on a GPU.

    with tensor_core():
        loss = model.half()(x)
        loss.backward()

On a GPU nothing is left to do: products of CUDA tensors pass untouched. What it leaves out: attention, which torch's
fused kernel computes with FP32 sums on every CPU, and convolutions, of which a language model has none.

Source: Micikevicius et al., Mixed Precision Training, ICLR 2018, section 3.3 (arXiv:1710.03740).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
PRODUCTS = {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default}


class tensor_core(TorchDispatchMode):
    """A region in which products of FP16 matrices on the CPU are computed in FP32 and rounded once.

    It sits below autograd, so backward's products are caught as well, if backward runs in the region.

    >>> row, column = torch.full((1, 4), 32768.0).half(), torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]).half()
    >>> with tensor_core():
    ...     row @ column  # the sum passes 65,504 on its way, in FP32
    tensor([[0.]], dtype=torch.float16)
    """

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if operation not in PRODUCTS or not _is_half_on_cpu(args[-1]):
            return operation(*args, **kwargs)
        return operation(*(_widened(a) for a in args), **kwargs).half()


def _is_half_on_cpu(x: Tensor) -> bool:
    return x.dtype == torch.float16 and x.device.type == "cpu"


def _widened(argument):
    return argument.float() if isinstance(argument, Tensor) else argument

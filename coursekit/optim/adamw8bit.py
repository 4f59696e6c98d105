"""AdamW that stores both states in 8 bits each: 2.03 bytes per parameter instead of 8.

A step dequantises one piece of 180,224 parameters to float32, steps it as AdamW does and stores it again in block-wise
codes (coursekit.quantization.blockwise), so that only one piece exists in float32 at a time. Small tensors keep float32
states: biases and norms have few bytes and a large effect.

Two things go wrong with 8 bits; here is what they are, and what is done:

exp_avg_sq = 0
    The signed code reaches down to 5.5e-7 of a block's largest exp_avg, the unsigned one to 3.2e-7 of its largest
    *square*, that is, to 5.7e-4 of its largest gradient. Between the two, m is stored and v is not, and
    m / (sqrt(0) + eps) moves a weight by hundreds of lr. So only 0 becomes 0 here; a positive v gets a positive value.
exp_avg_sq stuck
    A step changes v by 0.1 % of g^2 - v. Values of the code lie at least 0.7 % of their size apart, so rounding to the
    nearest undoes the change every time: v stays small while m grows. A step of 12 lr was seen in bitsandbytes where
    AdamW takes 4.6. Here every update is clipped to what AdamW could have made: adamw.largest_update, at most 7.27 lr
    for the usual betas. The v itself stays stuck.

Unlike bitsandbytes' AdamW8bit: both of these, and codes that are exactly the nearest, on a CPU too. Left out: a fused
kernel for GPUs, stochastic rounding (it frees a stuck v, and adds noise that costs more elsewhere), percentile
clipping, the 32-bit rule for embeddings.

Source: Dettmers et al., 8-bit Optimizers via Block-wise Quantization, ICLR 2022, sections 2 and 3 (arXiv:2110.02861).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from coursekit.optim.adamw import AdamW, adamw_, largest_update
from coursekit.quantization.blockwise import BLOCKSIZE, DTYPES, Codec, Scratch, blocks, piece_elements, pieces
from coursekit.quantization.nearest import dynamic_code


class AdamW8bit(AdamW):
    """As AdamW, with states uint8 in the shape of the parameter and their absmax float32 [blocks].

    blocksize      parameters that share one absmax
    min_8bit_size  tensors with fewer elements keep float32 states

    Parameters in float32, float16 or bfloat16; the arithmetic is in float32. A NaN or an infinity in a gradient spoils
    its whole block, at the latest in the next step. Raises ValueError as AdamW and for a blocksize below 1.
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        blocksize: int = BLOCKSIZE,
        min_8bit_size: int = 4096,
    ):
        super().__init__(
            params, lr, betas, eps, weight_decay, blocksize=blocksize, min_8bit_size=min_8bit_size
        )

    def check(self, group: dict) -> None:
        super().check(group)
        blocks(0, group["blocksize"])  # raises for a bad one

    def new_state(self, p: Tensor, group: dict) -> dict[str, Tensor]:
        if p.dtype not in DTYPES:
            raise TypeError(f"expected parameters in float32, float16 or bfloat16, got {p.dtype}. Use AdamW.")
        names = ("exp_avg", "exp_avg_sq")
        if p.numel() < group["min_8bit_size"]:
            return {name: torch.zeros(p.shape, dtype=torch.float32, device=p.device) for name in names}
        state = {}
        for name in names:  # absmax = 0 makes the number of every code a 0
            state[name] = torch.zeros(p.shape, dtype=torch.uint8, device=p.device)
            state[f"{name}_absmax"] = torch.zeros(blocks(p.numel(), group["blocksize"]), device=p.device)
        return state

    def update(self, p: Tensor, grad: Tensor, state: dict, group: dict) -> None:
        if state["exp_avg"].dtype == torch.float32:  # a small tensor
            p32 = p.float()
            adamw_(p32, grad.float(), state["exp_avg"], state["exp_avg_sq"], state["step"], group)
            p.copy_(p32)
            return
        flat, flat_grad = p.reshape(-1), grad.reshape(-1)
        flat_state = {name: tensor.view(-1) for name, tensor in state.items() if name != "step"}
        workspace = self._workspace(p.device, group["blocksize"])
        for part, block, length in pieces(p.numel(), group["blocksize"], p.device):
            places = {
                "exp_avg": part,
                "exp_avg_sq": part,
                "exp_avg_absmax": block,
                "exp_avg_sq_absmax": block,
            }
            piece = {name: flat_state[name][place] for name, place in places.items()}
            p32 = flat[part].view(-1, length).float()
            workspace.step_(p32, flat_grad[part].view(-1, length).float(), piece, state["step"], group)
            if p.dtype != torch.float32:
                flat[part].copy_(p32.view(-1))
        if not p.is_contiguous():  # then flat is a copy
            p.copy_(flat.view(p.shape))

    def _workspace(self, device: torch.device, blocksize: int) -> Workspace:
        kept = self.__dict__.setdefault("_workspaces", {})  # torch's copies of an optimizer leave it out
        if (device, blocksize) not in kept:
            kept[device, blocksize] = Workspace(piece_elements(blocksize, device), device)
        return kept[device, blocksize]


class Workspace:
    """Buffers and codecs for one piece: 5 numbers of 4 bytes per element, 3.6 MB on a CPU for a model of any size."""

    def __init__(self, elements: int, device: torch.device):
        self.scratch = Scratch(elements, device)
        self.exp_avg, self.exp_avg_sq = (torch.empty(elements, device=device) for _ in range(2))
        self.signed = Codec(*dynamic_code(True, device), self.scratch)
        self.unsigned = Codec(
            *dynamic_code(False, device, keep_positive=True), self.scratch, nonnegative=True
        )

    def step_(self, p: Tensor, grad: Tensor, state: dict[str, Tensor], step: int, group: dict) -> None:
        """p, grad float32 [b, blocksize]; state: the codes [b * blocksize] and absmax [b] of both."""
        exp_avg, exp_avg_sq = (x[: p.numel()].view(p.shape) for x in (self.exp_avg, self.exp_avg_sq))
        # Multiplying the few absmax by beta decays all numbers of a block: two passes over the piece are saved.
        beta1, beta2 = group["betas"]
        self.signed.dequantize_(state["exp_avg"], state["exp_avg_absmax"], exp_avg, beta1)
        self.unsigned.dequantize_(state["exp_avg_sq"], state["exp_avg_sq_absmax"], exp_avg_sq, beta2)
        self._bounded_adamw_(p, grad, exp_avg, exp_avg_sq, step, group)
        self.signed.quantize_(exp_avg, state["exp_avg"], state["exp_avg_absmax"])
        self.unsigned.quantize_(exp_avg_sq, state["exp_avg_sq"], state["exp_avg_sq_absmax"])

    def _bounded_adamw_(self, p, grad, exp_avg, exp_avg_sq, step: int, group: dict) -> None:
        """adamw.adamw_ on states that have decayed, without allocating memory, and no update beyond largest_update."""
        beta1, beta2 = group["betas"]
        lr = group["lr"]
        # sqrt(v / c) + eps is (sqrt(v) + eps sqrt(c)) / sqrt(c): one number for the whole tensor saves a pass over it
        root = math.sqrt(1 - beta2**step)
        rate = lr * root / (1 - beta1**step)
        limit = lr * largest_update(step, group["betas"]) / rate if rate else math.inf
        p.mul_(1 - lr * group["weight_decay"])
        exp_avg.add_(grad, alpha=1 - beta1)
        exp_avg_sq.addcmul_(grad, grad, value=1 - beta2)
        update = self.scratch.y[: p.numel()].view(p.shape)
        torch.sqrt(exp_avg_sq, out=update).add_(group["eps"] * root)
        torch.div(exp_avg, update, out=update).clamp_(-limit, limit)
        p.add_(update, alpha=-rate)

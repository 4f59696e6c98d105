"""Quantise to eight bits per number: a code of 256 values, and one scale per block of 256 numbers.

    >>> codes, absmax = quantize(torch.tensor([0.1, -2.0, 0.0]))        # uint8 in the shape of x, float32 [blocks]
    >>> codes, absmax, dequantize(codes, absmax)
    (tensor([173,   0, 127], dtype=torch.uint8), tensor([2.]), tensor([ 0.1016, -1.9859,  0.0000]))

Each block is divided by its largest magnitude, absmax, and every quotient in [-1, 1] becomes the number of the nearest
value (`nearest`). An outlier costs precision in its own block only. Memory: 1 + 4/256 bytes per number.

Unlike bitsandbytes' kernel for CPUs (0.50.2), which takes the value that a table of cells names: there 0 comes back as
2e-5 absmax. Of normally distributed numbers 0.15 % get a neighbour of their code; of numbers spread evenly over eight
decades, half do. Its CUDA kernel searches, and finds the nearest value.
Left out: a fused kernel for GPUs (these operations run there one by one), stochastic rounding.

Source: Dettmers et al., 8-bit Optimizers via Block-wise Quantization, ICLR 2022, section 2.1 (arXiv:2110.02861).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from coursekit.quantization.nearest import carry_table, dynamic_code, midpoints

BLOCKSIZE = 256
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
PIECE = 11 << 14  # elements at a time on a CPU: five buffers of 4 bytes per element stay in 4 MB of cache
PIECE_ON_GPU = 1 << 20  # there small pieces would only cost launches
SMALLEST = 2.0**-149  # the smallest float32 above 0: divisor of a block of zeros


class Scratch:
    """Buffers for pieces of up to `elements` numbers; several codecs can share them."""

    def __init__(self, elements: int, device: torch.device):
        self.y = torch.empty(elements, device=device)
        self.key = torch.empty_like(self.y, dtype=torch.int32)
        self.found = torch.empty_like(self.y, dtype=torch.int32)

    def __getitem__(self, elements: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.y[:elements], self.key[:elements], self.found[:elements]


class Codec:
    """Converts pieces of whole blocks to codes and back; code and table as from nearest.dynamic_code().

    nonnegative  the caller never quantises a number below 0, which saves two passes over the piece
    """

    def __init__(self, code: Tensor, table: Tensor, scratch: Scratch, nonnegative: bool = False):
        self.code, self.table, self.scratch, self.nonnegative = code, table, scratch, nonnegative

    def quantize_(self, x: Tensor, codes: Tensor, absmax: Tensor) -> None:
        """codes [b * blocksize], absmax [b] <- x [b, blocksize]. NaN or infinity in x gets into absmax; no error."""
        x = x.float()
        y, key, found = self.scratch[x.numel()]
        y, bits = y.view(x.shape), y.view(torch.int32)
        sizes = x if self.nonnegative else torch.abs(x, out=y)
        # The largest of positive numbers has the largest bits, and integers need no check for NaN.
        torch.amax(sizes.view(torch.int32), 1, out=absmax.view(torch.int32))
        torch.div(x, absmax.clamp(min=SMALLEST)[:, None], out=y)
        if not self.nonnegative:
            bits.abs_()  # as nearest.ordered(y), in place
        torch.bitwise_right_shift(bits, 16, out=key)  # from here on as nearest.nearest_by_table, in place
        key.clamp_(min=0)  # the bits of -0 have no absolute value and stay negative: to the cell of 0
        torch.index_select(self.table, 0, key, out=found)
        codes.copy_(bits.add_(found).bitwise_right_shift_(16))

    def dequantize_(self, codes: Tensor, absmax: Tensor, out: Tensor, factor: float = 1.0) -> None:
        """out [b, blocksize] float32 <- code[codes] * (factor * absmax of the block)."""
        index = self.scratch[codes.numel()][1].copy_(codes)
        torch.index_select(self.code, 0, index, out=out.view(-1))
        out.mul_((absmax if factor == 1 else factor * absmax)[:, None])


def quantize(x: Tensor, code: Tensor | None = None, blocksize: int = BLOCKSIZE) -> tuple[Tensor, Tensor]:
    """(codes uint8 [...], absmax float32 [blocks]) of x [...]: to the nearest value of `code`, ties to the lower one.

    x     float32, float16 or bfloat16, of any shape and strides; blocks follow each other in row-major order
    code  float32 [2 to 256] ascending; default: the signed dynamic map. Without negative values, negatives become 0

    A block of zeros has absmax 0. Raises TypeError for another dtype; ValueError for NaN or infinity, a blocksize below
    1, a code that does not ascend or is too fine (nearest.carry_table).
    """
    if not isinstance(x, Tensor) or x.dtype not in DTYPES:
        raise TypeError(
            f"expected a tensor of float32, float16 or bfloat16, got {getattr(x, 'dtype', type(x).__name__)}. "
            "Convert first, for example x.float()."
        )
    codes = torch.empty(x.shape, dtype=torch.uint8, device=x.device)
    absmax = torch.empty(blocks(x.numel(), blocksize), device=x.device)
    codec = _codec(code, x, blocksize)
    flat, flat_codes = x.detach().reshape(-1), codes.view(-1)
    for part, block, length in pieces(x.numel(), blocksize, x.device):
        codec.quantize_(flat[part].view(-1, length), flat_codes[part], absmax[block])
    if not absmax.isfinite().all():
        raise ValueError(
            f"expected finite numbers, got NaN or infinity in block {int(absmax.isfinite().int().argmin())} of "
            f"{len(absmax)}. It would spoil the whole block; find out where it comes from."
        )
    return codes, absmax


def dequantize(
    codes: Tensor,
    absmax: Tensor,
    code: Tensor | None = None,
    blocksize: int = BLOCKSIZE,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """code[codes [...]] * absmax of the block: [...], computed in float32, rounded to dtype.

    Raises TypeError for codes that are not uint8, ValueError unless there is one absmax per block.
    """
    if not isinstance(codes, Tensor) or codes.dtype != torch.uint8:
        raise TypeError(
            f"expected codes in uint8, got {getattr(codes, 'dtype', type(codes).__name__)}. Use quantize()."
        )
    if absmax.shape != (blocks(codes.numel(), blocksize),):
        raise ValueError(
            f"expected {blocks(codes.numel(), blocksize)} absmax for {codes.numel()} codes in blocks of {blocksize}, "
            f"got {list(absmax.shape)}. Use the blocksize of quantize()."
        )
    out = torch.empty(codes.shape, device=codes.device)
    codec = _codec(code, codes, blocksize)
    flat, flat_out = codes.reshape(-1), out.view(-1)
    for part, block, length in pieces(codes.numel(), blocksize, codes.device):
        codec.dequantize_(flat[part], absmax[block], flat_out[part].view(-1, length))
    return out.to(dtype)


def blocks(elements: int, blocksize: int = BLOCKSIZE) -> int:
    """Number of blocks; a shorter last one counts too. Raises ValueError for a blocksize below 1."""
    if not isinstance(blocksize, int) or blocksize < 1:
        raise ValueError(f"expected a blocksize of at least 1, got {blocksize!r}. 256 is usual.")
    return -(elements // -blocksize)  # rounded up


def quantized_bytes(elements: int, blocksize: int = BLOCKSIZE) -> int:
    """Bytes of codes and absmax: 1 per number and 4 per block."""
    return elements + 4 * blocks(elements, blocksize)


def pieces(elements: int, blocksize: int, device: torch.device) -> Iterator[tuple[slice, slice, int]]:
    """(slice of elements, slice of blocks, length of a block): whole blocks, then the shorter block if there is one."""
    stride, whole = piece_elements(blocksize, device), elements - elements % blocksize
    for start in range(0, whole, stride):
        stop = min(start + stride, whole)
        yield slice(start, stop), slice(start // blocksize, stop // blocksize), blocksize
    if whole < elements:
        yield slice(whole, elements), slice(whole // blocksize, None), elements - whole


def piece_elements(blocksize: int, device: torch.device) -> int:
    """Elements of the longest piece: whole blocks, at least one."""
    return max((PIECE if device.type == "cpu" else PIECE_ON_GPU) // blocksize, 1) * blocksize


def _codec(code: Tensor | None, x: Tensor, blocksize: int) -> Codec:
    scratch = Scratch(min(x.numel(), piece_elements(blocksize, x.device)), x.device)
    if code is None:
        return Codec(*dynamic_code(True, x.device), scratch)
    is_list = code.dtype == torch.float32 and code.ndim == 1 and 2 <= len(code) <= 256
    if not (is_list and (code.diff() > 0).all()):
        raise ValueError(
            "expected a code of 2 to 256 float32 in strictly ascending order, "
            f"got {list(code.shape)} {code.dtype}. Sort its values and drop duplicates."
        )
    return Codec(code.to(x.device), carry_table(midpoints(code.cpu())).to(x.device), scratch)

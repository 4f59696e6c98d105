"""Block formats: a few elements in a row share one scale. MXFP8, MXFP6, MXFP4, MXINT8 and NVFP4.

Small elements have no room for range, so range moves into the scale: value = element * scale. What differs is how the
scale follows from amax, the largest magnitude in the block. In the MX formats the scale is a power of two (E8M0), and
a mode says which one. With emax the exponent of the element's largest number (8 for E4M3, whose largest is 448):

    floor   2^floor(log2 amax) / 2^emax             the standard's rule; amax may end up to 2x above the largest element
    ceil    2^ceil(log2 amax) / 2^emax              nothing is clipped much, one bit of range is often wasted
    even    as floor, amax rounded to the element's mantissa first: 1.99 counts as 2
    rceil   2^ceil(log2(amax / largest element))    the smallest scale that clips nothing

NVFP4 has E4M3 scales, which have too little range for a whole tensor, so one FP32 scale per tensor moves the largest
block scale to E4M3's largest number: value = element * (block scale * tensor scale).

Held bit for bit against torchao 0.18 (scales and codes; MXINT8 against gfloat), with these differences, on purpose:

    scale 2^-127     here x is divided by it; torchao divides by 2^-126 (and not at all in rceil), so that blocks of
                     amax < 2^(emax - 126) come back halved (or as zero)
    rceil            exact here, as in NVIDIA's instruction cvt.rp; torchao's float32 log2 misses a step for an amax
                     a few ulps above a power of two times the largest element
    NaN in a block   the scale is NaN, so all of the block is NaN; the codes in it mean nothing and are not compared

Unlike `tensor`, blocks run along the last dimension only, and codes are kept one per byte for reading.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from coursekit.formats import tensor
from coursekit.formats.spec import BF16, FP32, BlockSpec, FloatSpec

SCALE_MODES = ("floor", "ceil", "even", "rceil")


@dataclass(frozen=True)
class BlockTensor:
    """A quantised tensor.

    codes         uint8 [*shape] one element code per byte
    scales        uint8 [*shape[:-1], shape[-1] / block_size] codes of the block scales
    tensor_scale  float32 [] in NVFP4, else None
    """

    codes: Tensor
    scales: Tensor
    tensor_scale: Tensor | None
    spec: BlockSpec
    shape: torch.Size

    @property
    def nbytes(self) -> int:
        """Bytes when stored: elements packed without gaps (two FP4 codes or 4/3 FP6 codes a byte), plus scales."""
        elements = math.ceil(self.codes.numel() * self.spec.element.bits / 8)
        return (
            elements + self.scales.numel() * self.spec.scale.bits // 8 + 4 * (self.tensor_scale is not None)
        )

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """[*shape] the numbers; multiplied in float32, then rounded to `dtype`."""
        elements = tensor.decode(self.codes, self.spec.element)
        scales = tensor.decode(self.scales, self.spec.scale)
        if self.tensor_scale is not None:
            scales = scales * self.tensor_scale
        blocks = elements.unflatten(-1, (-1, self.spec.block_size)) * scales.unsqueeze(-1)
        return blocks.flatten(-2).to(dtype)


def quantize(
    x: Tensor,
    spec: BlockSpec,
    *,
    scale_mode: str = "floor",
    rounding: str = "nearest_even",
    tensor_scale: Tensor | float | None = None,
    generator: torch.Generator | None = None,
) -> BlockTensor:
    """x in the block format, its last dimension cut into blocks of spec.block_size.

    scale_mode    see the top of the module; NVFP4 has one rule and does not read it
    rounding      of the elements, as in tensor.encode; elements beyond the largest are clipped to it (saturated)
    tensor_scale  NVFP4 only; default: finite amax of x / (largest element * largest scale), or 1 for all zeros

    A block of zeros gets the smallest scale. Infinity is clipped like any large number, but makes its block's scale
    so large that an MX block gives infinity back. NaN makes its whole block NaN.

    Raises ValueError if the last dimension does not divide into blocks, TypeError as tensor.encode.
    """
    _check(x, spec, scale_mode, tensor_scale)
    x = x.detach()
    x = x if x.dtype == torch.float64 else x.float()
    if spec.tensor_scale:
        tensor_scale = (
            _tensor_scale(x, spec) if tensor_scale is None else torch.as_tensor(tensor_scale).float()
        )
    codes = torch.empty(x.shape, dtype=torch.uint8, device=x.device)
    scales = torch.empty(*x.shape[:-1], x.shape[-1] // spec.block_size, dtype=torch.uint8, device=x.device)
    for block, code, scale in _pieces(x, codes, scales, spec.block_size):
        if spec.tensor_scale:
            scaled = _nvfp4_scaled(block, scale, tensor_scale, spec)
        else:
            scaled = _mx_scaled(block, scale, spec, scale_mode)
        code.copy_(tensor.encode(scaled, spec.element, rounding=rounding, saturate=True, generator=generator))
    return BlockTensor(codes, scales, tensor_scale, spec, x.shape)


def mx_scale_codes(amax: Tensor, spec: BlockSpec, scale_mode: str) -> Tensor:
    """E8M0 codes of the scales of blocks with these amax (float32 or float64, any shape): a rounding, in every mode."""
    element = spec.element
    emax = math.frexp(element.max)[1] - 1
    if scale_mode == "rceil":
        ratio = amax / element.max
    else:
        if scale_mode == "even":
            mantissa_bits = element.mantissa_bits if isinstance(element, FloatSpec) else element.bits - 2
            amax = tensor.round_to(amax, replace(BF16, mantissa_bits=mantissa_bits), rounding="nearest_away")
        amax = amax.double()
        ratio = torch.where(amax.isinf(), 2.0**128, amax) * 2.0**-emax  # float32's exponent field of infinity
    ratio = ratio.clamp(min=spec.scale.min_normal / 2)  # E8M0 has no zero
    rounding = "up" if scale_mode in ("ceil", "rceil") else "down"
    return tensor.encode(ratio, spec.scale, rounding=rounding, saturate=True)


def _mx_scaled(blocks: Tensor, scale_codes: Tensor, spec: BlockSpec, scale_mode: str) -> Tensor:
    """Blocks [n, block_size] divided by their power-of-two scales, whose codes are written to scale_codes [n]."""
    scale_codes.copy_(mx_scale_codes(blocks.abs().amax(-1), spec, scale_mode))
    return blocks / tensor.decode(scale_codes, spec.scale, blocks.dtype).unsqueeze(-1)


def _nvfp4_scaled(blocks: Tensor, scale_codes: Tensor, tensor_scale: Tensor, spec: BlockSpec) -> Tensor:
    """Blocks [n, block_size] over their scales, whose codes are written to scale_codes [n]."""
    ratio = blocks.abs().amax(-1) / spec.element.max / tensor_scale
    ratio = ratio.clamp(spec.scale.min_normal, spec.scale.max)  # subnormal scales would be too coarse
    scale_codes.copy_(tensor.encode(ratio, spec.scale))
    # x * ((1 / t) / s) and not x / (s t): the order of torchao and of its CUDA kernel, to the last bit
    factor = (1.0 / tensor_scale) / tensor.decode(scale_codes, spec.scale, blocks.dtype)
    return blocks * factor.unsqueeze(-1)


def _tensor_scale(x: Tensor, spec: BlockSpec) -> Tensor:
    """float32 []: brings the largest block scale to the scale format's largest number; never subnormal."""
    finite = torch.where(x.isfinite(), x, 0.0)
    amax = finite.abs().amax().float() if x.numel() else torch.zeros((), device=x.device)
    scale = amax / (spec.element.max * spec.scale.max)
    return torch.where(amax > 0, scale.clamp(min=FP32.min_normal), 1.0)


def _pieces(x: Tensor, codes: Tensor, scales: Tensor, block_size: int):
    """Pieces of whole blocks that fit a CPU's cache: x [n, block_size], codes [n, block_size], scales [n]."""
    n = max(tensor.PIECE // block_size, 1) if x.device.type == "cpu" else max(scales.numel(), 1)
    blocks, block_codes = x.reshape(-1, block_size), codes.view(-1, block_size)
    return zip(blocks.split(n), block_codes.split(n), scales.view(-1).split(n), strict=True)


def _check(x: Tensor, spec: BlockSpec, scale_mode: str, tensor_scale: Tensor | float | None) -> None:
    if not isinstance(spec, BlockSpec):
        raise TypeError(
            f"expected a BlockSpec such as spec.MXFP4, got {type(spec).__name__}. Single formats are in formats.tensor."
        )
    tensor.check_input(x)
    if scale_mode not in SCALE_MODES:
        raise ValueError(f"scale_mode must be one of {', '.join(SCALE_MODES)}; got {scale_mode!r}.")
    if tensor_scale is not None and not spec.tensor_scale:
        raise ValueError(f"{spec.name} has no tensor scale, got {tensor_scale}. Leave it out, or use NVFP4.")
    if x.ndim == 0 or x.shape[-1] % spec.block_size:
        raise ValueError(
            f"{spec.name} cuts the last dimension into blocks of {spec.block_size}; got the shape {tuple(x.shape)}. "
            "Pad it with zeros (torch.nn.functional.pad), which change no scale, and cut them off afterwards."
        )

"""Quantise to block formats, in which a few elements share one scale: MXFP8, MXFP6, MXFP4, MXINT8 and NVFP4.

    >>> from coursekit.formats.spec import MXFP4
    >>> small = quantize(torch.linspace(-1, 1, 32), MXFP4)
    >>> small.nbytes, small.dequantize()[:3]
    (17, tensor([-1.0000, -1.0000, -0.7500]))

Small elements have no room for range, so the scale provides it: value = element * scale. The formats differ in how
the scale follows from amax, the largest magnitude in the block. In the MX formats the scale is a power of two
(E8M0), and a mode says which one. With emax the exponent of the element's largest number (8 for E4M3, whose
largest is 448):

    floor   2^floor(log2 amax) / 2^emax             the standard's rule; amax may be clipped
    ceil    2^ceil(log2 amax) / 2^emax              clips less; often wastes a bit of range
    even    as floor, after rounding amax to the element's mantissa: 1.99 counts as 2
    rceil   2^ceil(log2(amax / largest element))    the smallest scale that clips nothing

NVFP4 has E4M3 scales, which have too little range for a whole tensor, so one FP32 scale per tensor moves
the largest block scale to E4M3's largest number: value = element * (block scale * tensor scale).

The tests compare it bit for bit with torchao 0.18 (scales and codes; MXINT8 with gfloat). It differs on purpose here:

    scale 2^-127     here x is divided by it; torchao divides by 2^-126 (and not at all in rceil), so that its
                     blocks with amax < 2^(emax - 126) come back halved (or as zero)
    rceil            exact here, as in NVIDIA's instruction cvt.rp; torchao's float32 log2 can miss a step for
                     an amax up to some 60 ulps above a power of two times the largest element
    NaN in a block   the scale is NaN, so the whole block is NaN; its codes have no meaning

Unlike `tensor`, blocks run along the last dimension only, and codes are kept one per byte for reading.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
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
        """Bytes when stored: elements packed without gaps (two FP4 codes per byte), plus the scales."""
        elements = math.ceil(self.codes.numel() * self.spec.element.bits / 8)
        scales = self.scales.numel() * self.spec.scale.bits // 8
        if self.tensor_scale is not None:
            scales += 4
        return elements + scales

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
    """x [..., n] in the block format, its last dimension cut into blocks of spec.block_size.

    scale_mode    see the top of the module; NVFP4 has one rule and ignores it
    rounding      of the elements, as in tensor.encode; those beyond the largest are clipped to it
    tensor_scale  NVFP4 only; default: largest finite amax of a block / (largest element * largest scale),
                  or 1 if all are zero

    A block of zeros gets the smallest scale. Infinity is clipped like any large number, but makes its
    block's scale so large that an MX block returns infinity. NaN makes its whole block NaN.

    Raises ValueError if the last dimension is not a multiple of the block size, TypeError as tensor.encode.
    """
    _check(x, spec, scale_mode, tensor_scale)
    x = x.detach()
    x = x if x.dtype == torch.float64 else x.float()  # 16-bit numbers times a factor would round twice
    amax = _amax(x, spec.block_size)
    if spec.tensor_scale:
        if tensor_scale is None:
            tensor_scale = _tensor_scale(amax, spec)
        tensor_scale = torch.as_tensor(tensor_scale).float()
        scales, factors = _nvfp4_scales(amax, spec, tensor_scale)
    else:
        scales = mx_scale_codes(amax, spec, scale_mode)
        factors = 1.0 / tensor.decode(scales, spec.scale, x.dtype)  # exact: powers of two
    codes = torch.empty(x.shape, dtype=torch.uint8, device=x.device)
    scaled = (
        ((blocks * factor.unsqueeze(-1)).view(-1), out.view(-1))
        for blocks, out, factor in _pieces(x, codes, factors, spec.block_size)
    )
    tensor.encode_pieces(scaled, x, spec.element, rounding, True, generator)
    return BlockTensor(codes, scales, tensor_scale, spec, x.shape)


def mx_scale_codes(amax: Tensor, spec: BlockSpec, scale_mode: str) -> Tensor:
    """E8M0 codes uint8 [...] of the scales for amax [...] in float32 or float64: every mode is a rounding to E8M0."""
    element = spec.element
    smallest = spec.scale.min_normal  # for blocks of zeros: E8M0 has no zero
    if scale_mode == "rceil":
        ratio = (amax / element.max).clamp(min=smallest)
        return tensor.encode(ratio, spec.scale, rounding="up", saturate=True)
    if scale_mode == "even":
        mantissa_bits = element.mantissa_bits if isinstance(element, FloatSpec) else element.bits - 2
        amax = tensor.round_to(amax, replace(BF16, mantissa_bits=mantissa_bits))
    rounding = "up" if scale_mode == "ceil" else "down"
    codes = tensor.encode(amax.clamp(min=smallest), spec.scale, rounding=rounding)
    # To divide by 2^emax is to subtract emax from the code. Infinity and overflow have 255, as if it were 2^128.
    emax = math.frexp(element.max)[1] - 1
    scales = (codes.short() - emax).clamp(0, spec.scale.max_code).to(torch.uint8)
    return torch.where(amax.isnan(), spec.scale.nan_code, scales)


def _nvfp4_scales(amax: Tensor, spec: BlockSpec, tensor_scale: Tensor) -> tuple[Tensor, Tensor]:
    """(codes of the block scales, factors that bring x into the elements' range), both in the shape of amax."""
    ratio = amax / spec.element.max / tensor_scale
    scales = tensor.encode(ratio.clamp(spec.scale.min_normal, spec.scale.max), spec.scale)
    # x * ((1 / t) / s) and not x / (s t): the order of torchao and of its CUDA kernel, to the last bit
    return scales, (1.0 / tensor_scale) / tensor.decode(scales, spec.scale, amax.dtype)


def _tensor_scale(amax: Tensor, spec: BlockSpec) -> Tensor:
    """float32 []: brings the largest block scale to the largest E4M3 number; never subnormal."""
    finite = torch.where(amax.isfinite(), amax, 0.0)  # one infinity must not flush all other blocks
    largest = finite.amax().float() if amax.numel() else torch.zeros((), device=amax.device)
    scale = largest / (spec.element.max * spec.scale.max)
    return torch.where(largest > 0, scale.clamp(min=FP32.min_normal), 1.0)


def _amax(x: Tensor, block_size: int) -> Tensor:
    """[*shape[:-1], shape[-1] / block_size] largest magnitude in each block, NaN if it holds a NaN."""
    amax = torch.empty(*x.shape[:-1], x.shape[-1] // block_size, dtype=x.dtype, device=x.device)
    for blocks, _, out in _pieces(x, x, amax, block_size):
        torch.amax(blocks.abs(), -1, out=out)  # amax of a block with NaN is NaN
    return amax


def _pieces(
    x: Tensor, codes: Tensor, scales: Tensor, block_size: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Pieces of whole blocks that fit a CPU's cache: x and codes [n, block_size], scales [n]."""
    whole = x.device.type != "cpu" or torch.compiler.is_compiling()
    n = max(scales.numel(), 1) if whole else max(tensor.PIECE // block_size, 1)
    blocks, block_codes = x.reshape(-1, block_size), codes.reshape(-1, block_size)
    return zip(blocks.split(n), block_codes.split(n), scales.view(-1).split(n), strict=True)


def _check(x: Tensor, spec: BlockSpec, scale_mode: str, tensor_scale: Tensor | float | None) -> None:
    if not isinstance(spec, BlockSpec):
        raise TypeError(
            f"expected a BlockSpec such as spec.MXFP4, got {type(spec).__name__}. "
            "Formats of single numbers are in formats.tensor."
        )
    tensor.check_input(x)
    if scale_mode not in SCALE_MODES:
        raise ValueError(f"scale_mode must be one of {', '.join(SCALE_MODES)}; got {scale_mode!r}.")
    if tensor_scale is not None and not spec.tensor_scale:
        raise ValueError(f"{spec.name} has no tensor scale, got {tensor_scale}. Leave it out, or use NVFP4.")
    if x.ndim == 0 or x.shape[-1] % spec.block_size:
        raise ValueError(
            f"{spec.name} cuts the last dimension into blocks of {spec.block_size}, got shape {tuple(x.shape)}. "
            "Pad it with zeros (torch.nn.functional.pad), which change no scale, and cut them off afterwards."
        )

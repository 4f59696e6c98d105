"""Blocks that share a scale: torchao's codes and scales, gfloat's numbers, and the rules at the edges."""

import gfloat
import gfloat.formats
import numpy as np
import pytest
import torch

from coursekit.formats import tensor
from coursekit.formats.block import SCALE_MODES, BlockTensor, mx_scale_codes, quantize
from coursekit.formats.spec import (
    BLOCKS,
    FP16,
    MXFP4,
    MXFP6_E2M3,
    MXFP6_E3M2,
    MXFP8_E4M3,
    MXFP8_E5M2,
    MXINT8,
    NVFP4,
)

TORCHAO_ELEMENTS = {
    MXFP8_E4M3: torch.float8_e4m3fn,
    MXFP8_E5M2: torch.float8_e5m2,
    MXFP6_E3M2: "fp6_e3m2",
    MXFP6_E2M3: "fp6_e2m3",
    MXFP4: torch.float4_e2m1fn_x2,
}
GFLOAT = {
    MXFP8_E4M3: gfloat.formats.format_info_mxfp8_e4m3,
    MXFP8_E5M2: gfloat.formats.format_info_mxfp8_e5m2,
    MXFP6_E3M2: gfloat.formats.format_info_mxfp6_e3m2,
    MXFP6_E2M3: gfloat.formats.format_info_mxfp6_e2m3,
    MXFP4: gfloat.formats.format_info_mxfp4_e2m1,
    MXINT8: gfloat.formats.format_info_mxint8,
}


def name(value):
    return value.name


def blocks():
    """float32 [n, 32]: of every size, from every bit pattern, and special ones."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(2000, 32, generator=generator)
    sizes = torch.exp2(torch.randint(-120, 120, (2000, 1), generator=generator).float())
    bits = torch.randint(-(2**31), 2**31, (4000, 32), generator=generator).to(torch.int32).view(torch.float32)
    powers = torch.exp2(torch.arange(-100.0, 100.0)).unsqueeze(-1) * torch.linspace(0, 1, 32)
    special = torch.zeros(6, 32)
    special[1, 3], special[2, 4], special[2, 5] = torch.inf, -torch.inf, 3.0
    special[3], special[4], special[5, 0] = torch.finfo(torch.float32).max, -0.0, 1e-45
    bits = bits[bits.isfinite().all(-1)]
    return torch.cat([normal, normal * sizes, bits, powers, -powers, special])


def torchao_mx(x, spec, mode):
    """(scale codes, element codes) of torchao."""
    from torchao.prototype.mx_formats.kernels import unpack_uint4
    from torchao.prototype.mx_formats.mx_tensor import ScaleCalculationMode, to_mx

    scales, codes = to_mx(x, TORCHAO_ELEMENTS[spec], 32, ScaleCalculationMode[mode.upper()])
    codes = unpack_uint4(codes) if spec is MXFP4 else codes.view(torch.uint8)
    return scales.view(torch.uint8), codes


@pytest.mark.parametrize("mode", SCALE_MODES)
@pytest.mark.parametrize("spec", TORCHAO_ELEMENTS, ids=name)
def test_codes_equal_torchao(spec, mode):
    """Scales and codes, bit for bit. Blocks of scale 2^-127 that are not zero differ on purpose: next test."""
    x = blocks()
    scales, codes = torchao_mx(x, spec, mode)
    ours = quantize(x, spec, scale_mode=mode)
    assert torch.equal(ours.scales, scales)
    comparable = (ours.scales[:, 0] > 0) | (x.abs().amax(-1) < 2.0**-140)
    assert comparable.sum() > len(x) * 0.9
    assert torch.equal(ours.codes[comparable], codes[comparable])


@pytest.mark.parametrize("spec", TORCHAO_ELEMENTS, ids=name)
def test_numbers_equal_torchao(spec):
    from torchao.prototype.mx_formats.mx_tensor import MXTensor

    x = torch.randn(64, 128)
    theirs = MXTensor.to_mx(x, TORCHAO_ELEMENTS[spec], 32).dequantize(torch.float32)
    assert torch.equal(quantize(x, spec).dequantize(), theirs)
    assert torch.equal(
        quantize(x.bfloat16(), spec).dequantize(), quantize(x.bfloat16().float(), spec).dequantize()
    )


@pytest.mark.parametrize("spec", GFLOAT, ids=name)
def test_numbers_equal_gfloat(spec):
    """The standard's own rule (floor), MXINT8 too, and the tiny blocks where torchao's scale is not what it stores."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(40, 32, generator=generator)
    x *= torch.exp2(torch.randint(-140, 100, (40, 1), generator=generator).float())
    x[0], x[1] = 0.0, -0.0
    ours = quantize(x, spec).dequantize(torch.float64)
    for row, expected in zip(x.double().numpy(), ours.numpy(), strict=True):
        theirs = gfloat.quantize_block(GFLOAT[spec], row, gfloat.compute_scale_amax)
        assert np.array_equal(expected, theirs.astype(np.float32).astype(np.float64))


@pytest.mark.parametrize("mode", SCALE_MODES)
def test_tiny_blocks_come_back(mode):
    """Scale 2^-127: values near 2^-124 survive. (torchao halves them, or flushes them to zero in rceil.)"""
    x = torch.linspace(-1, 1, 32).mul(2.0**-124)
    ours = quantize(x, MXFP8_E4M3, scale_mode=mode).dequantize()
    assert torch.allclose(ours, x, rtol=2.0**-4, atol=2.0**-137)


@pytest.mark.parametrize("spec", [MXFP8_E4M3, MXFP4], ids=name)
def test_rceil_never_clips_and_is_smallest(spec):
    """amax / scale <= the largest element < 2 amax / scale, for amax just beside every critical value."""
    edge = spec.element.max * torch.exp2(torch.arange(-90.0, 100.0))
    steps = torch.arange(-4, 5, dtype=torch.int32)
    amax = (edge.view(torch.int32).unsqueeze(-1) + steps).view(torch.float32).flatten()
    scale = tensor.decode(mx_scale_codes(amax, spec, "rceil"), spec.scale, torch.float64)
    ratio = amax.double() / scale
    assert (ratio <= spec.element.max * (1 + 2.0**-23)).all()  # the division by 448 is one of float32
    assert (2 * ratio > spec.element.max).all()


def nvfp4_blocks():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, 64, generator=generator)
    x *= torch.exp2(torch.randint(-12, 12, (256, 1), generator=generator).float())
    x[0], x[1, 3], x[2, :16] = 0.0, 4000.0, 1e-30
    return x


def nvfp4_midpoints():
    """Blocks whose elements lie, up to a rounding, half way between two E2M1 numbers times their scales."""
    x = nvfp4_blocks()
    x[0] = x[1] = 1.0
    quantized = quantize(x, NVFP4)
    scales = tensor.decode(quantized.scales, NVFP4.scale) * quantized.tensor_scale
    middles = torch.tensor([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0]).repeat(256, 4, 3)[
        ..., :16
    ] * scales.unsqueeze(-1)
    middles[..., 0] = x.view(256, 4, 16).abs().amax(-1)  # keeps the scale of the block
    return middles.flatten(1)


@pytest.mark.parametrize("make", [nvfp4_blocks, nvfp4_midpoints])
@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-30])
def test_nvfp4_equals_torchao(make, scale):
    """Codes, scales, tensor scale and numbers, bit for bit."""
    from torchao.prototype.mx_formats.kernels import unpack_uint4
    from torchao.prototype.mx_formats.nvfp4_tensor import (
        NVFP4Tensor,
        nvfp4_quantize,
        per_tensor_amax_to_scale,
    )

    x = make() * scale
    tensor_scale = per_tensor_amax_to_scale(x.abs().amax())
    scales, codes = nvfp4_quantize(x, 16, tensor_scale)
    ours = quantize(x, NVFP4)
    assert torch.equal(ours.tensor_scale, tensor_scale)
    assert torch.equal(ours.scales, scales.view(torch.uint8)) and torch.equal(ours.codes, unpack_uint4(codes))
    assert torch.equal(ours.dequantize(), NVFP4Tensor.to_nvfp4(x, 16, tensor_scale).dequantize(torch.float32))


def test_nvfp4_with_a_given_scale_equals_torchao():
    from torchao.prototype.mx_formats.kernels import unpack_uint4
    from torchao.prototype.mx_formats.nvfp4_tensor import nvfp4_quantize

    x, given = nvfp4_blocks(), torch.tensor(0.01)
    x[5, 5], x[6, 6] = torch.inf, -torch.inf
    scales, codes = nvfp4_quantize(x, 16, given)
    ours = quantize(x, NVFP4, tensor_scale=0.01)
    assert torch.equal(ours.scales, scales.view(torch.uint8)) and torch.equal(ours.codes, unpack_uint4(codes))


def test_bytes_equal_torchao():
    """What torchao stores for the same tensors, FP4 packed. (Its FP6 takes a byte a code, ours 3/4.)"""
    from torchao.prototype.mx_formats.mx_tensor import MXTensor

    x = torch.randn(64, 128)
    for spec in (MXFP8_E4M3, MXFP8_E5M2, MXFP4):
        theirs = MXTensor.to_mx(x, TORCHAO_ELEMENTS[spec], 32)
        assert quantize(x, spec).nbytes == theirs.qdata.nbytes + theirs.scale.nbytes
    assert quantize(x, MXFP6_E2M3).nbytes == 64 * 128 * 6 // 8 + 64 * 4
    assert quantize(x, NVFP4).nbytes == 64 * 128 // 2 + 64 * 8 + 4


# ---- the edges ----


@pytest.mark.parametrize("spec", BLOCKS, ids=name)
def test_zeros_stay_zero(spec):
    x = torch.zeros(3, 64)
    x[1] = -0.0
    quantized = quantize(x, spec)
    assert (quantized.dequantize() == 0).all()
    assert (quantized.scales == (8 if spec is NVFP4 else 0)).all()


@pytest.mark.parametrize("spec", BLOCKS, ids=name)
def test_nan_stays_in_its_block(spec):
    x = torch.randn(2, 64)
    x[0, 5] = torch.nan
    values = quantize(x, spec).dequantize()
    assert values[0, : spec.block_size].isnan().all()
    assert not values[0, spec.block_size :].isnan().any() and not values[1].isnan().any()


@pytest.mark.parametrize("spec", BLOCKS, ids=name)
def test_infinity_stays_in_its_block(spec):
    x = torch.randn(2, 64)
    x[0, 5] = -torch.inf
    values = quantize(x, spec).dequantize()
    assert values[0, 5] == values.min() and not values.isnan().any()
    if spec is not NVFP4:  # whose scales end at 448
        assert values[0, 5] == -torch.inf
    assert values[1].isfinite().all()


@pytest.mark.parametrize("spec", BLOCKS, ids=name)
@pytest.mark.parametrize("shape", [(64,), (2, 3, 96), (0, 32), (4, 0)])
def test_any_shape(spec, shape):
    x = torch.randn(shape)
    quantized = quantize(x, spec)
    assert quantized.shape == quantized.codes.shape == quantized.dequantize().shape == shape
    assert quantized.scales.shape == (*shape[:-1], shape[-1] // spec.block_size)
    flat = quantize(x.flatten(), spec, tensor_scale=quantized.tensor_scale)
    assert torch.equal(flat.codes, quantized.codes.flatten())


def test_not_contiguous_and_other_types():
    x = torch.randn(64, 96).t()
    for spec in (MXFP4, NVFP4):
        assert torch.equal(quantize(x, spec).codes, quantize(x.contiguous(), spec).codes)
        assert torch.equal(quantize(x.double(), spec).codes, quantize(x, spec).codes)
        assert torch.equal(quantize(x.half(), spec).codes, quantize(x.half().float(), spec).codes)
    assert quantize(torch.arange(64), MXINT8).dequantize().dtype == torch.float32
    assert quantize(x, MXFP4).dequantize(torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("spec", BLOCKS, ids=name)
def test_error_is_at_most_half_a_step(spec):
    """Every value that is not clipped lies within half an element's spacing (at amax: the widest) of its own."""
    x = torch.randn(200, 64)
    quantized = quantize(x, spec, scale_mode="rceil")
    widest = (
        spec.element.ulp
        if spec is MXINT8
        else 2.0 ** (spec.element.max_exponent - spec.element.mantissa_bits)
    )
    scales = tensor.decode(quantized.scales, spec.scale) * (
        1 if quantized.tensor_scale is None else quantized.tensor_scale
    )
    step = (scales * widest).repeat_interleave(spec.block_size, -1)
    slack = 1.13 if spec is NVFP4 else 1.0001  # NVFP4 rounds its scale too, and may clip by 2^-4
    assert ((quantized.dequantize() - x).abs() <= step / 2 * slack).all()


def test_stochastic_rounding_keeps_the_mean():
    """The mean of 4,000 quantisations lies within 5 standard errors of x, element by element."""
    x = torch.linspace(-1, 1, 32)
    many = x.expand(4000, 32)
    generator = torch.Generator().manual_seed(0)
    values = quantize(
        many, MXFP4, scale_mode="rceil", rounding="stochastic", generator=generator
    ).dequantize()
    error = (values.mean(0) - x).abs()
    assert (error <= 5 * values.std(0) / 4000**0.5 + 1e-6).all()


def test_errors_say_what_to_do():
    x = torch.randn(2, 33)
    with pytest.raises(ValueError, match=r"got shape \(2, 33\). Pad it"):
        quantize(x, MXFP4)
    with pytest.raises(ValueError, match="last dimension"):
        quantize(torch.tensor(1.0), MXFP4)
    with pytest.raises(TypeError, match="expected a BlockSpec"):
        quantize(torch.randn(32), FP16)
    with pytest.raises(ValueError, match="scale_mode must be one of"):
        quantize(torch.randn(32), MXFP4, scale_mode="round")
    with pytest.raises(ValueError, match="has no tensor scale"):
        quantize(torch.randn(32), MXFP4, tensor_scale=1.0)
    with pytest.raises(TypeError, match="complex"):
        quantize(torch.randn(32).to(torch.complex64), MXFP4)
    with pytest.raises(AttributeError):
        quantize(torch.randn(32), MXFP4).codes = None
    assert isinstance(quantize(torch.randn(32), MXFP4), BlockTensor)

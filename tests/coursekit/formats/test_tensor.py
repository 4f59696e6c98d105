"""Whole tensors: equal to torch's own types, to ml_dtypes, and to the scalar definition."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.formats import scalar, tensor
from coursekit.formats.spec import (
    BF16,
    E2M1,
    E4M3,
    E4M3FNUZ,
    E5M2,
    E5M2FNUZ,
    E8M0,
    FLOATS,
    FP16,
    FP32,
    INT4,
    INT8,
    INTS,
    MXFP4,
    MXINT8_ELEMENT,
    TF32,
    UINT8,
    FloatSpec,
)

FORMATS = [*FLOATS, *INTS]
DETERMINISTIC = [rounding for rounding in scalar.ROUNDINGS if rounding != "stochastic"]
TORCH_TYPES = {
    FP16: torch.float16,
    BF16: torch.bfloat16,
    E5M2: torch.float8_e5m2,
    E4M3: torch.float8_e4m3fn,
    E4M3FNUZ: torch.float8_e4m3fnuz,
    E5M2FNUZ: torch.float8_e5m2fnuz,
    E8M0: torch.float8_e8m0fnu,
}


def name(value):
    return getattr(value, "name", None)


def bits_equal(a, b):
    """Same numbers, -0 apart from 0, every NaN like every other."""
    a, b = a.double(), b.double()
    both_nan = a.isnan() & b.isnan()
    return bool((both_nan | (a.view(torch.int64) == b.view(torch.int64))).all())


def torch_codes(values, dtype):
    codes = values.to(dtype).view(torch.uint8 if dtype.itemsize == 1 else torch.int16).int()
    return codes if dtype.itemsize == 1 else codes & 0xFFFF


def all_codes(fmt):
    return torch.arange(1 << fmt.bits, dtype=torch.int32)


# ---- against torch ----


@pytest.mark.parametrize("fmt", TORCH_TYPES, ids=name)
def test_values_equal_torch(fmt):
    """Every code decodes to the number that torch's own type holds."""
    dtype = TORCH_TYPES[fmt]
    storage = torch.uint8 if dtype.itemsize == 1 else torch.int16
    theirs = all_codes(fmt).to(storage).view(dtype).float()
    assert bits_equal(tensor.decode(all_codes(fmt), fmt), theirs)
    assert bits_equal(tensor.all_values(fmt), theirs)


@pytest.mark.parametrize("fmt", [FP16, BF16], ids=name)
def test_codes_equal_torch(fmt):
    """All 65,536 codes there and back; then the middle between each two numbers, and just beside it."""
    values = tensor.decode(all_codes(fmt), fmt)
    number = ~values.isnan()
    assert torch.equal(tensor.encode(values, fmt)[number], all_codes(fmt)[number])
    assert tensor.decode(tensor.encode(values, fmt), fmt)[~number].isnan().all()
    finite = values[values.isfinite()].double().unique()
    middle = ((finite[1:] + finite[:-1]) / 2).float()
    for x in (middle, middle.nextafter(torch.tensor(torch.inf)), middle.nextafter(torch.tensor(-torch.inf))):
        assert torch.equal(tensor.encode(x, fmt), torch_codes(x, TORCH_TYPES[fmt]))
        assert bits_equal(tensor.round_to(x, fmt), x.to(TORCH_TYPES[fmt]).float())


@pytest.mark.parametrize(("fmt", "saturate"), [(E4M3, True), (E5M2, False)], ids=name)
def test_float8_equals_torch(fmt, saturate, patterns):
    """torch clips E4M3 to 448 and lets E5M2 overflow to infinity; only for infinite input does E4M3 differ."""
    x = torch.from_numpy(patterns)
    x = x[x.isfinite()]
    assert torch.equal(tensor.encode(x, fmt, saturate=saturate).int(), torch_codes(x, TORCH_TYPES[fmt]))
    assert bits_equal(tensor.round_to(x, fmt, saturate=saturate), x.to(TORCH_TYPES[fmt]).float())


# ---- against ml_dtypes ----


def test_values_equal_ml_dtypes(peer):
    assert bits_equal(tensor.decode(all_codes(peer.fmt), peer.fmt), torch.from_numpy(peer.values))


def test_codes_equal_ml_dtypes(peer):
    """Every code back to itself; every midpoint and the float32 on either side of it; the special values."""
    x = peer.critical()
    x = x[peer.agrees(x)]
    expected = torch.from_numpy(peer.encode(x).astype(np.int64))
    assert torch.equal(tensor.encode(torch.from_numpy(x), peer.fmt).long(), expected)
    assert bits_equal(tensor.round_to(torch.from_numpy(x), peer.fmt), tensor.decode(expected, peer.fmt))


def test_random_patterns_equal_ml_dtypes(peer, patterns):
    """A million random float32, NaN with their signs included. This long, small formats go through the lookup."""
    x = patterns[peer.agrees(patterns)]
    if peer.fmt is FP16:  # numpy keeps NaN's payload, here it is dropped
        x = x[~np.isnan(x)]
    expected = torch.from_numpy(peer.encode(x).astype(np.int64))
    assert torch.equal(tensor.encode(torch.from_numpy(x), peer.fmt).long(), expected)
    assert bits_equal(tensor.round_to(torch.from_numpy(x), peer.fmt), tensor.decode(expected, peer.fmt))


def test_midpoints_catch_wrong_ties(peer):
    """The inputs above are sharp: ties away, or rounding to float16 first, would fail them."""
    x = peer.critical()
    expected = torch.from_numpy(peer.encode(x).astype(np.int64))
    if peer.fmt.mantissa_bits:
        wrong = tensor.encode(torch.from_numpy(x), peer.fmt, rounding="nearest_away")
        assert (wrong.long() != expected).sum() >= len(peer.numbers) // 4
    if peer.fmt is not FP16:
        twice = tensor.encode(torch.from_numpy(x).half(), peer.fmt)
        assert (twice.long() != expected).any()


# ---- other independent truths ----


def test_tf32_equals_integer_rounding(patterns):
    """TF32 is float32 with 13 bits less: add half of the last kept bit (less one if it is even), cut."""
    x = patterns[~np.isnan(patterns)]
    bits = x.view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0xFFF + ((bits >> 13) & 1)) >> 13).astype(np.int64)
    assert torch.equal(tensor.encode(torch.from_numpy(x), TF32).long(), torch.from_numpy(rounded))
    assert (
        tensor.decode(torch.from_numpy(rounded), TF32, torch.float64).float().view(torch.int32) & 0x1FFF == 0
    ).all()


def test_fp32_equals_numpy():
    """float64 to float32, as numpy's cast does it: random values of every size, and halves of the last place."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(100_000) * 2.0 ** rng.integers(-160, 135, 100_000)
    singles = x[np.abs(x) < 2.0**127].astype(np.float32)
    x = np.concatenate([x, singles.astype(np.float64) + np.spacing(singles).astype(np.float64) / 2])
    with np.errstate(over="ignore"):
        expected = x.astype(np.float32)
    assert np.array_equal(tensor.round_to(torch.from_numpy(x), FP32).numpy(), expected.astype(np.float64))
    assert np.array_equal(
        tensor.encode(torch.from_numpy(x), FP32).numpy(), expected.view(np.uint32).astype(np.int64)
    )


@pytest.mark.parametrize("fmt", [fmt for fmt in INTS if fmt is not MXINT8_ELEMENT], ids=name)
def test_integers_equal_numpy(fmt):
    x = torch.cat(
        [torch.linspace(-300, 300, 4801), torch.tensor([math.inf, -math.inf, 1e30, -1e30, 0.49999997])]
    )
    expected = np.clip(np.rint(x.numpy()), fmt.min, fmt.max)
    assert torch.equal(tensor.round_to(x, fmt), torch.from_numpy(expected + 0.0))
    codes = expected.astype(np.int64) & ((1 << fmt.bits) - 1)
    assert torch.equal(tensor.encode(x, fmt).long(), torch.from_numpy(codes))


# ---- against the definition ----


def inputs(fmt):
    """float64: numbers of the format and what lies between and beyond them."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(0, 1 << fmt.bits, (120,), generator=generator)
    values = tensor.decode(codes, fmt, torch.float64)
    values = values[values.isfinite()]
    nudged = values * (1 + torch.rand(values.shape, generator=generator, dtype=torch.float64) * 0.4 - 0.2)
    middle = torch.tensor([(v + scalar.ulp(v, fmt) / 2) for v in values.tolist()], dtype=torch.float64)
    beside = [middle.nextafter(torch.tensor(end, dtype=torch.float64)) for end in (torch.inf, -torch.inf)]
    ends = torch.tensor([1.0, 1.02, 1.1, 3.0, -1.02, -3.0], dtype=torch.float64) * fmt.max
    special = torch.tensor(
        [0.0, -0.0, math.inf, -math.inf, math.nan, 1e300, 5e-324, -5e-324], dtype=torch.float64
    )
    return torch.cat([values, nudged, middle, *beside, ends, special, -special])


@pytest.mark.parametrize("rounding", DETERMINISTIC)
@pytest.mark.parametrize("fmt", FORMATS, ids=name)
def test_equal_to_scalar(fmt, rounding):
    """Any format, any mode, saturating or not, float64 or float32: the code and the value of the definition."""
    for dtype in (torch.float64, torch.float32):
        x = inputs(fmt).to(dtype)
        for saturate in (False, True):
            how = {"rounding": rounding, "saturate": saturate}
            codes = [scalar.encode(v, fmt, **how) for v in x.double().tolist()]
            assert tensor.encode(x, fmt, **how).tolist() == codes
            values = torch.tensor([scalar.decode(code, fmt) for code in codes], dtype=torch.float64)
            assert bits_equal(tensor.round_to(x, fmt, **how), values)


@pytest.mark.parametrize("fmt", [fmt for fmt in FORMATS if fmt.bits <= 19], ids=name)
def test_all_values_equal_scalar(fmt):
    assert bits_equal(tensor.all_values(fmt), torch.tensor(scalar.all_values(fmt), dtype=torch.float64))


@given(
    exponent_bits=st.integers(1, 8),
    mantissa_bits=st.integers(0, 12),
    shift=st.integers(-3, 3),
    specials=st.sampled_from(["ieee", "fn", "fnuz", "finite"]),
    signed=st.booleans(),
    x=st.lists(st.floats(width=32), min_size=1, max_size=8),
    rounding=st.sampled_from(DETERMINISTIC),
    saturate=st.booleans(),
)
@settings(max_examples=250, deadline=None)
def test_any_format_equals_scalar(
    exponent_bits, mantissa_bits, shift, specials, signed, x, rounding, saturate
):
    """Formats that nobody has built: the arithmetic knows no special case for the ones that somebody has."""
    bias = 2 ** (exponent_bits - 1) - 1 + shift
    try:
        fmt = FloatSpec("any", exponent_bits, mantissa_bits, bias, specials, "a test", signed=signed)
    except ValueError:  # no such format
        return
    if fmt.min_exponent - mantissa_bits > 0:
        return
    how = {"rounding": rounding, "saturate": saturate}
    codes = [scalar.encode(v, fmt, **how) for v in x]
    assert tensor.encode(torch.tensor(x), fmt, **how).tolist() == codes
    values = torch.tensor([scalar.decode(code, fmt) for code in codes], dtype=torch.float64)
    assert bits_equal(tensor.round_to(torch.tensor(x).double(), fmt, **how), values)


# ---- once, not twice ----


def test_float64_is_rounded_once():
    """Just above a midpoint: a detour over float32 would land on it and tie to even."""
    trap = torch.tensor([1 + 2.0**-4 + 2.0**-40, -(1 + 2.0**-4 + 2.0**-40)], dtype=torch.float64)
    assert tensor.round_to(trap, E4M3).tolist() == [1.125, -1.125]
    assert tensor.round_to(trap.float(), E4M3).tolist() == [1.0, -1.0]


def test_int64_is_rounded_once():
    """2^60 + half a place of BF16 + 1 has 61 bits: as float64 it would be the midpoint itself."""
    trap = 2**60 + 2**52 + 1
    assert tensor.encode(torch.tensor(trap), BF16).item() == scalar.encode(trap, BF16)
    assert tensor.encode(torch.tensor(float(trap), dtype=torch.float64), BF16).item() != scalar.encode(
        trap, BF16
    )
    extremes = [2**63 - 1, -(2**63), 2**53 + 1, -(2**53) - 1, -trap, trap - 1, trap - 2, 0, -1]
    for rounding in DETERMINISTIC:
        ours = tensor.encode(torch.tensor(extremes), FP32, rounding=rounding)
        assert ours.tolist() == [scalar.encode(v, FP32, rounding=rounding) for v in extremes]


# ---- shapes, types, regimes ----


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (7,), (2, 3, 5)])
@pytest.mark.parametrize("fmt", [E4M3, E2M1, E8M0, BF16, INT8], ids=name)
def test_any_shape(fmt, shape):
    x = torch.randn(shape).abs() + 0.1
    codes, values = tensor.encode(x, fmt), tensor.round_to(x, fmt)
    assert codes.shape == values.shape == tensor.decode(codes, fmt).shape == shape
    assert bits_equal(values, tensor.decode(codes, fmt))


def test_not_contiguous():
    x = torch.randn(64, 33).t()[::2]
    assert torch.equal(tensor.encode(x, E4M3), tensor.encode(x.contiguous(), E4M3))
    assert torch.equal(tensor.round_to(x, E4M3), tensor.round_to(x.contiguous(), E4M3))
    codes = tensor.encode(x, E4M3).t()
    assert torch.equal(tensor.decode(codes, E4M3), tensor.decode(codes.contiguous(), E4M3))
    out = torch.zeros(64, 40)[:, :33].t()[::2]
    assert tensor.round_to(x, E4M3, out=out) is out
    assert torch.equal(out, tensor.round_to(x, E4M3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_float_types_keep_their_type(dtype):
    x = (torch.randn(100) * 100).to(dtype)
    values = tensor.round_to(x, E5M2)
    assert values.dtype == dtype
    assert torch.equal(values.double(), tensor.round_to(x.double(), E5M2))


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64])
def test_integer_input(dtype):
    """Taken exactly; the values come as float32."""
    x = torch.tensor([0, 1, 17, 100, 127, -128 if dtype.is_signed else 200], dtype=dtype)
    assert tensor.round_to(x, E4M3).dtype == torch.float32
    assert tensor.encode(x, E4M3).tolist() == [scalar.encode(v, E4M3) for v in x.tolist()]
    assert tensor.round_to(x, UINT8).tolist() == [scalar.round_to(v, UINT8) for v in x.tolist()]


def test_code_types():
    assert [tensor.encode(torch.ones(1), fmt).dtype for fmt in (INT4, E4M3, FP16, TF32, FP32)] == [
        torch.uint8, torch.uint8, torch.int32, torch.int32, torch.int64,
    ]  # fmt: skip


def test_out_may_be_the_input():
    x = torch.randn(100_000)
    expected = tensor.round_to(x, FP16)
    assert tensor.round_to(x, FP16, out=x) is x
    assert torch.equal(x, expected)


def test_results_are_detached():
    x = torch.randn(5, requires_grad=True)
    assert not tensor.round_to(x, FP16).requires_grad
    straight_through = x + (tensor.round_to(x, FP16) - x).detach()
    straight_through.sum().backward()
    assert x.grad.tolist() == [1] * 5


@pytest.mark.parametrize("n", [tensor.PIECE - 1, tensor.PIECE, 2 * tensor.PIECE + 1])
def test_pieces_join(n):
    """A long tensor gives what its parts give."""
    x = torch.randn(n)
    for function in (tensor.encode, tensor.round_to):
        assert torch.equal(function(x, BF16), torch.cat([function(part, BF16) for part in x.split(1000)]))


@pytest.mark.parametrize("fmt", [E4M3, E2M1, BF16, E8M0, INT8], ids=name)
def test_traces_without_a_graph_break(fmt):
    """torch.compile takes the whole function as one graph (traced here; no C++ compiler needed), same bits."""
    x = torch.randn(1000).abs() * 10

    @torch.compile(fullgraph=True, backend="aot_eager")
    def both(x):
        return tensor.encode(x, fmt), tensor.round_to(x, fmt)

    codes, values = both(x)
    assert torch.equal(codes, tensor.encode(x, fmt)) and torch.equal(values, tensor.round_to(x, fmt))


@pytest.mark.gpu
@pytest.mark.parametrize("fmt", FORMATS, ids=name)
def test_gpu_equals_cpu(fmt):
    x = inputs(fmt)
    for rounding in DETERMINISTIC:
        codes = tensor.encode(x, fmt, rounding=rounding)
        assert torch.equal(tensor.encode(x.cuda(), fmt, rounding=rounding).cpu(), codes)
        values = tensor.round_to(x.cuda(), fmt, rounding=rounding).cpu()
        assert bits_equal(values, tensor.decode(codes, fmt, torch.float64))


# ---- stochastic rounding ----


@pytest.mark.parametrize("fmt", [E4M3, BF16, E2M1, INT8, E8M0], ids=name)
def test_stochastic_rounding_keeps_the_mean(fmt):
    """Only the two neighbours, the upper with probability distance / gap: within 5 standard deviations of n draws."""
    n = 40_000
    for value in (1.03, 1.4, 1.9921, 3.3):
        low, high = (scalar.round_to(value, fmt, rounding=r) for r in ("down", "up"))
        draws = tensor.round_to(
            torch.full((n,), value), fmt, rounding="stochastic", generator=torch.Generator().manual_seed(1)
        )
        assert set(draws.tolist()) <= {low, high}
        p = (float(np.float32(value)) - low) / (high - low)
        assert abs((draws == high).double().mean() - p) <= 5 * math.sqrt(p * (1 - p) / n)


def test_stochastic_rounding_of_numbers_changes_nothing():
    values = tensor.all_values(E4M3)
    assert bits_equal(tensor.round_to(values, E4M3, rounding="stochastic"), values)


def test_stochastic_rounding_follows_the_generator():
    x = torch.randn(1000)
    a, b, c = (
        tensor.encode(x, E4M3, rounding="stochastic", generator=torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )
    assert torch.equal(a, b) and not torch.equal(a, c)


# ---- refusals ----


@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64, torch.uint64])
def test_only_real_numbers(dtype):
    for function in (tensor.encode, tensor.round_to):
        with pytest.raises(TypeError, match=f"got {dtype}"):
            function(torch.zeros(3, dtype=dtype), FP16)


def test_errors_say_what_to_do():
    x = torch.ones(3)
    with pytest.raises(TypeError, match=r"torch\.as_tensor"):
        tensor.encode([1.0], FP16)
    with pytest.raises(TypeError, match="get_format"):
        tensor.encode(x, "FP16")
    with pytest.raises(TypeError, match="block formats"):
        tensor.round_to(x, MXFP4)
    with pytest.raises(ValueError, match="rounding must be one of"):
        tensor.round_to(x, FP16, rounding="even")
    with pytest.raises(ValueError, match="out must be"):
        tensor.round_to(x, FP16, out=torch.empty(4))
    with pytest.raises(ValueError, match="out must be"):
        tensor.round_to(x, FP16, out=torch.empty(3, dtype=torch.float16))
    with pytest.raises(ValueError, match="codes of E2M1 lie in 0 to 15, got 3 to 16"):
        tensor.decode(torch.tensor([3, 16]), E2M1)
    with pytest.raises(ValueError, match=r"view\(torch\.uint8\)"):
        tensor.decode(torch.tensor([-1], dtype=torch.int8), E4M3)
    with pytest.raises(TypeError, match="expected codes"):
        tensor.decode(torch.tensor([1.0]), E4M3)
    with pytest.raises(ValueError, match="too many to list"):
        tensor.all_values(FP32)
    with pytest.raises(ValueError, match="too wide"):
        tensor.encode(x, FloatSpec("FP64", 11, 52, 1023, "ieee", "IEEE 754-2019"))

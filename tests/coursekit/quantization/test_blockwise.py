"""Block-wise 8-bit codes: exhaustively the nearest, and how far bitsandbytes' CPU kernel is from that."""

import pytest
import torch
from bitsandbytes import functional as theirs
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.quantization import blockwise
from coursekit.quantization.blockwise import dequantize, quantize, quantized_bytes
from coursekit.quantization.nearest import dynamic_map

GENERATOR = torch.Generator().manual_seed(0)
STREAMS = {
    "normal": torch.randn(1 << 15, generator=GENERATOR),
    "log-uniform": 10 ** (torch.rand(1 << 15, generator=GENERATOR) * -8),
    "outliers": torch.randn(1 << 15, generator=GENERATOR) ** 9,
    "subnormal": torch.randn(1 << 15, generator=GENERATOR) * 2.0**-140,
    "largest": torch.randn(1 << 15, generator=GENERATOR).clamp(-1, 1) * torch.finfo(torch.float32).max,
}


def brute_force(x, code, blocksize):
    """The definition: divide each block by its absmax, take the first of the nearest values."""
    codes, scales = [], []
    for block in x.float().reshape(-1).split(blocksize):
        absmax = block.abs().max()
        y = block / absmax if absmax > 0 else block
        codes.append((y.double()[:, None] - code.double()).abs().argmin(1))
        scales.append(absmax)
    return torch.cat(codes).byte().view(x.shape), torch.stack(scales)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("stream", STREAMS)
def test_codes_equal_nearest(stream, signed):
    """0 mismatches with the exhaustive search."""
    x, code = STREAMS[stream], dynamic_map(signed)
    codes, absmax = quantize(x, code)
    expected, scales = brute_force(x, code, 256)
    assert torch.equal(codes, expected) and torch.equal(absmax, scales)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("blocksize", [1, 7, 64, 256, 4096, 100_000])
@pytest.mark.parametrize("shape", [(1,), (255,), (3, 257), (2, 5, 1000), ()])
def test_any_shape_blocksize_and_dtype(shape, blocksize, dtype):
    x = torch.randn(shape, generator=GENERATOR).to(dtype)
    codes, absmax = quantize(x, blocksize=blocksize)
    expected, scales = brute_force(x, dynamic_map(), blocksize)
    assert torch.equal(codes, expected) and torch.equal(absmax, scales)
    back = dequantize(codes, absmax, blocksize=blocksize, dtype=dtype)
    block = torch.arange(x.numel()) // blocksize
    values = dynamic_map()[expected.view(-1).long()] * scales[block]
    assert back.dtype == dtype and torch.equal(back, values.view(shape).to(dtype))


@settings(max_examples=60, deadline=None)
@given(
    numbers=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=60),
    blocksize=st.integers(1, 20),
)
def test_any_finite_numbers(numbers, blocksize):
    x = torch.tensor(numbers)
    codes, absmax = quantize(x, blocksize=blocksize)
    expected, scales = brute_force(x, dynamic_map(), blocksize)
    assert torch.equal(codes, expected) and torch.equal(absmax, scales)


def test_pieces_do_not_show(monkeypatch):
    """The same result whatever the size of a piece."""
    x = torch.randn(5000)
    whole = quantize(x)
    monkeypatch.setattr(blockwise, "PIECE", 512)
    assert all(map(torch.equal, quantize(x), whole))
    assert torch.equal(dequantize(*whole), dequantize(*quantize(x)))


def test_agreement_with_bitsandbytes_on_a_cpu():
    """absmax equal; at least 99.8 % of N(0,1) codes equal, and where they differ ours is nearer.

    Its CPU kernel (0.50.2) takes the value that a table of 2^16 cells names, and the cell decides, not the number:
    what lies beyond a midpoint in the same cell gets the wrong neighbour. Its CUDA kernel searches, as ours does.
    """
    x, code = torch.randn(1 << 20, generator=GENERATOR), dynamic_map()
    ours, absmax = quantize(x)
    other, state = theirs.quantize_blockwise(x, code=code, blocksize=256)
    assert torch.equal(absmax, state.absmax)
    differ = ours != other
    assert 0 < differ.float().mean() < 0.002
    y = (x.view(-1, 256) / absmax[:, None]).view(-1)[differ].double()
    distance, distance_other = ((y - code[codes[differ].long()].double()).abs() for codes in (ours, other))
    assert (distance <= distance_other).all()


def test_half_of_bitsandbytes_codes_are_not_the_nearest_where_numbers_spread_over_decades():
    """On a CPU, for numbers evenly spread over eight decades."""
    x = torch.randn(1 << 18, generator=GENERATOR) * 10 ** (-8 * torch.rand(1 << 18, generator=GENERATOR))
    other, _ = theirs.quantize_blockwise(x, code=dynamic_map(), blocksize=256)
    assert 0.4 < (quantize(x)[0] != other).float().mean() < 0.6


def test_bitsandbytes_gives_zero_a_value_on_a_cpu():
    """Why the optimizer needs the exact search: a momentum of 0 comes back from the peer as 2e-5 of the largest."""
    x = torch.zeros(256)
    x[0] = 1.0
    codes, state = theirs.quantize_blockwise(x, code=dynamic_map(), blocksize=256)
    assert 1e-5 < theirs.dequantize_blockwise(codes, state)[1] < 1e-4
    assert dequantize(*quantize(x))[1] == 0


def test_dequantize_equals_bitsandbytes():
    """The same codes give the same numbers, bit for bit."""
    x = torch.randn(64, 1000, generator=GENERATOR)
    codes, absmax = quantize(x)
    other = theirs.dequantize_blockwise(codes, absmax=absmax, code=dynamic_map(), blocksize=256)
    assert torch.equal(dequantize(codes, absmax), other)


def test_zeros_empty_and_strides():
    """Blocks of zeros have absmax 0 and stay 0; nothing becomes nothing; a transposed view is read in its own order."""
    x = torch.zeros(600)
    x[:256] = 1.0
    codes, absmax = quantize(x)
    assert absmax.tolist() == [1, 0, 0] and torch.equal(dequantize(codes, absmax), x)
    codes, absmax = quantize(torch.empty(0, 3))
    assert codes.shape == (0, 3) and absmax.shape == (0,) and dequantize(codes, absmax).shape == (0, 3)
    x = torch.randn(70, 30, requires_grad=True)
    assert all(map(torch.equal, quantize(x.t()), quantize(x.detach().t().contiguous())))


def test_error_is_at_most_half_a_step():
    """Each number comes back within half the widest step of the code (0.007) of its block's absmax."""
    x = torch.randn(100, 256, generator=GENERATOR)
    codes, absmax = quantize(x)
    half_step = dynamic_map().diff().max() / 2
    assert ((dequantize(codes, absmax) - x).abs() <= half_step * 1.0001 * absmax[:, None]).all()


def test_bytes_are_what_the_tensors_take():
    for elements, blocksize in ((0, 256), (1, 256), (4096, 256), (5000, 64)):
        stored = quantize(torch.ones(elements), blocksize=blocksize)
        assert quantized_bytes(elements, blocksize) == sum(tensor.nbytes for tensor in stored)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_nan_and_infinity_are_refused(bad):
    x = torch.ones(1000)
    x[600] = bad
    with pytest.raises(ValueError, match="NaN or infinity in block 2 of 4"):
        quantize(x)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda: quantize(torch.ones(3, dtype=torch.float64)), TypeError, r"float64.*x\.float"),
        (lambda: quantize([1.0]), TypeError, "got list"),
        (lambda: quantize(torch.ones(3), blocksize=0), ValueError, "at least 1, got 0"),
        (lambda: quantize(torch.ones(3), blocksize=2.5), ValueError, "at least 1, got 2.5"),
        (lambda: quantize(torch.ones(3), torch.tensor([1.0, 0.0])), ValueError, "ascending"),
        (lambda: quantize(torch.ones(3), torch.linspace(-1, 1, 300)), ValueError, "2 to 256"),
        (lambda: dequantize(torch.ones(3), torch.ones(1)), TypeError, "uint8, got torch.float32"),
        (
            lambda: dequantize(*quantize(torch.ones(300)), blocksize=64),
            ValueError,
            r"expected 5 absmax.*\[2\]",
        ),
    ],
)
def test_bad_input_gets_a_sentence(call, error, says):
    with pytest.raises(error, match=says):
        call()

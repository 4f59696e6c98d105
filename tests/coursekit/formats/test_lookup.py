"""The table of keys: equal to the arithmetic, wherever it is used; and used only where keys decide."""

import numpy as np
import pytest
import torch

from coursekit.formats import lookup, tensor
from coursekit.formats.spec import BF16, E2M1, E3M4, E4M3, E8M0, FLOATS, FP16, INT4, FloatSpec

SMALL = [fmt for fmt in FLOATS if fmt.mantissa_bits <= 5]
FIVE = FloatSpec("E5M5", 5, 5, 15, "ieee", "a test: the most mantissa bits that keys can serve")


@pytest.fixture(scope="module")
def long():
    """Random patterns; and every 16-bit head with a tail of zeros, of one, of one half, and less one."""
    rng = np.random.default_rng(0)
    heads = np.arange(1 << 16, dtype=np.uint32) << 16
    random = rng.integers(0, 1 << 32, 1 << 17, dtype=np.uint32)
    bits = np.concatenate([heads, heads + 1, heads - 1, heads + 0x8000, random]).astype(np.uint32)
    return torch.from_numpy(bits.view(np.int32)).view(torch.float32)


@pytest.mark.parametrize("saturate", [False, True])
@pytest.mark.parametrize("fmt", [*SMALL, FIVE], ids=lambda fmt: fmt.name)
def test_equal_to_arithmetic(fmt, saturate, long):
    """In every deterministic mode; the parts are too short for the table, the whole is not."""
    for rounding in ("nearest_even", "nearest_away", "toward_zero", "up", "down"):
        assert lookup.applies(long, fmt, rounding)
        parts = long.split((4 << lookup.key_bits(fmt)) - 1)
        assert not lookup.applies(parts[0], fmt, rounding)
        expected = torch.cat(
            [tensor.encode(part, fmt, rounding=rounding, saturate=saturate) for part in parts]
        )
        assert torch.equal(tensor.encode(long, fmt, rounding=rounding, saturate=saturate), expected)


def test_where_keys_would_not_do(long):
    """Too many mantissa bits, integers, float64, chance: these go through the arithmetic."""
    assert lookup.applies(long, E8M0, "nearest_even") and lookup.applies(long, E3M4, "up")
    for fmt in (FP16, BF16, INT4):
        assert not lookup.applies(long, fmt, "nearest_even")
    assert not lookup.applies(long.double(), E4M3, "nearest_even")
    assert not lookup.applies(long, E2M1, "stochastic")


def test_every_bit_of_a_key_is_needed(long):
    """A format of six mantissa bits through the keys of five comes out wrong: no key has a bit too many."""
    six = FloatSpec("E4M6", 4, 6, 7, "fn", "a test")
    table = tensor.encode(lookup.key_values(FIVE, long.device), six)
    out = torch.empty(long.shape, dtype=table.dtype)
    lookup.look_up(table, long, out, torch.empty(long.shape, dtype=torch.int32))
    assert (out != tensor.encode(long, six)).any()

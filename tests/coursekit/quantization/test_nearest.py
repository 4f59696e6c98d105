"""The dynamic map against bitsandbytes, the lookup against the search that it replaces."""

import pytest
import torch
from bitsandbytes.functional import create_dynamic_map

from coursekit.quantization.nearest import (
    carry_table,
    dynamic_code,
    dynamic_map,
    midpoints,
    nearest_by_search,
    nearest_by_table,
    ordered,
)

CODES = {
    "signed dynamic": dynamic_map(True),
    "unsigned dynamic": dynamic_map(False),
    "linear": torch.linspace(-1, 1, 255),
    "four values": torch.tensor([-1.0, -0.3, 0.2, 1.0]),
}


def neighbours(boundaries):
    """The float32 around each boundary: three below, three above, and the boundary if it is one."""
    y = boundaries.float()
    around, below, above = [y], y, y
    for _ in range(3):
        below, above = (torch.nextafter(z, torch.tensor(end)) for z, end in ((below, -1.0), (above, 1.0)))
        around += [below, above]
    return torch.cat(around)


@pytest.mark.parametrize("signed", [True, False])
def test_dynamic_map_equals_bitsandbytes(signed):
    """Bit for bit, the order included."""
    assert torch.equal(dynamic_map(signed).view(torch.int32), create_dynamic_map(signed).view(torch.int32))


def test_ordered_bits_grow_with_the_number():
    """Within each sign, over every exponent."""
    y = torch.cat([torch.tensor([0.0]), 2.0 ** torch.arange(-149.0, 1)]) * 1.0
    assert (ordered(y).diff() > 0).all() and (ordered(-y[1:].flip(0)).diff() > 0).all()
    assert ordered(torch.tensor([-0.0])) == 0 and ordered(torch.tensor([-1.0])) > ordered(torch.tensor([1.0]))


def equal_numbers(y, code):
    return torch.equal(nearest_by_table(y, carry_table(midpoints(code))).long(), nearest_by_search(y, code))


@pytest.mark.parametrize("name", CODES)
def test_search_finds_the_least_distance(name):
    """The definition itself, against all distances: at each boundary, three float32 on either side, and at the ends."""
    code = CODES[name]
    extremes = torch.tensor([0.0, -0.0, 1.0, -1.0, 2.0**-149, -(2.0**-149), 1e-39, -1e-39])
    y = torch.cat([neighbours(midpoints(code)), extremes]).clamp(-1, 1)
    assert torch.equal(nearest_by_search(y, code), (y.double()[:, None] - code.double()).abs().argmin(1))
    assert equal_numbers(y, code)


@pytest.mark.parametrize("name", CODES)
def test_table_equals_search_on_every_number(name):
    """Both grow with the number within a cell, so equality at both ends of every cell, and on both sides of every
    boundary, is equality on every float32 from -1 to 1."""
    code = CODES[name]
    key = torch.arange(0x3F80) << 16
    ends = torch.cat([key, key + 0xFFFF]).int().view(torch.float32)
    y = torch.cat([ends, -ends, neighbours(midpoints(code)).clamp(-1, 1), torch.tensor([1.0, -1.0])])
    assert equal_numbers(y, code)


@pytest.mark.parametrize("name", CODES)
def test_table_equals_search_within_every_cell(name):
    """Every key, with random bits below it: the argument above, tried."""
    bits = (torch.arange(0x3F80) << 16) + torch.randint(1 << 16, (0x3F80,))
    y = bits.int().view(torch.float32)
    assert equal_numbers(torch.cat([y, -y]), CODES[name])


def test_keep_positive_spares_only_zero():
    """Every positive number gets a positive value, 0 stays 0, and above the first value nothing changes."""
    code, table = dynamic_code(False, torch.device("cpu"), keep_positive=True)
    y = torch.cat([torch.tensor([0.0, 2.0**-149]), torch.logspace(-44, 0, 500), torch.ones(1)]).clamp(max=1)
    numbers, plain = nearest_by_table(y, table), nearest_by_search(y, code)
    assert numbers[0] == 0 and (numbers[1:] >= 1).all()
    assert torch.equal(numbers[y >= code[1]], plain[y >= code[1]])


def test_a_code_too_fine_is_refused():
    """Two boundaries in one cell cannot be told apart by one carry."""
    with pytest.raises(ValueError, match=r"closer ones near 0\.5"):
        carry_table(midpoints(torch.tensor([0.0, 0.5, 0.501, 0.502, 1.0])))

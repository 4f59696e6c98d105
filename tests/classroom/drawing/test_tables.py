"""Tables of the deck: the numbers as people write them, facts that are known from elsewhere."""

import pytest

from classroom.drawing import tables
from coursekit.formats.spec import BF16, E4M3, E5M2, FP16, FP32, MXFP4, NVFP4


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (65504.0, "65,504"), (1.0, "1"), (0.0, "0"), (0.0078125, "0.00781"), (-448.0, "-448"),
        (5.960464477539063e-08, "5.96 × 10⁻⁸"), (3.4028234663852886e38, "3.40 × 10³⁸"), (2e6, "2.00 × 10⁶"),
    ],
)  # fmt: skip
def test_numbers_as_people_write_them(value, written):
    assert tables.sci(value) == written


def cells(markdown, row):
    return [cell.strip(" *") for cell in markdown.splitlines()[row].strip("|").split("|")]


def test_format_table_has_torchs_numbers():
    """Each figure equals torch.finfo, rounded to three digits."""
    import torch

    table = tables.format_table((FP32, FP16, BF16))
    for row, dtype in enumerate((torch.float32, torch.float16, torch.bfloat16), start=2):
        info = torch.finfo(dtype)
        assert cells(table, row)[2:4] == [tables.sci(info.max), tables.sci(info.tiny)]
        assert cells(table, row)[5] == tables.sci(info.eps)


def test_fp8_table_counts_the_nans():
    """OFP8 1.0: E4M3 has one NaN per sign and no infinity, E5M2 three and infinity."""
    table = tables.fp8_table(E4M3, E5M2)
    assert cells(table, 2) == ["E4M3", "448", "0.00195", "0.125", "no", "2"]
    assert cells(table, 3) == ["E5M2", "57,344", "1.53 × 10⁻⁵", "0.25", "yes", "6"]


def test_block_table_shares_out_the_scale():
    table = tables.block_table((MXFP4, NVFP4))
    assert [cells(table, row)[-1] for row in (2, 3)] == ["4.25", "4.5"]


def test_what_became_zero_stands_out():
    table = tables.rounding_table([1e-9], {"FP16": [0.0], "BF16": [1e-9]})
    assert 'class="gone"' in cells(table, 2)[1] and cells(table, 2)[2] == "1.00 × 10⁻⁹"


def test_bits_have_a_name_for_those_who_do_not_see_them():
    html = tables.bits_html(0xC680, FP16)
    assert 'aria-label="FP16: sign 1, exponent 10001, mantissa 1010000000"' in html
    assert html.count('class="bit"') == 16


def test_every_card_has_an_entry_for_every_column():
    lines = tables.hardware_table().splitlines()
    assert {line.count("|") for line in lines} == {7}

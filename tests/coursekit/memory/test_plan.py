"""A plan is data: its defaults, its table, and the rule for k-bit preparation."""

from dataclasses import fields

import pytest

from coursekit.memory.plan import Plan


def test_every_field_has_its_row():
    """The table of the docstring names all fields, and no others."""
    rows = [line for line in Plan.__doc__.splitlines()[2:] if line[4:5].strip()]
    named = [name for row in rows for name in row[4:24].replace(",", " ").split()]
    assert named == [field.name for field in fields(Plan)]


@pytest.mark.parametrize(
    ("quantization", "asked", "prepared"),
    [(None, None, False), ("nf4", None, True), ("nf4", False, False), ("nf4", True, True)],
)
def test_preparation_goes_with_quantisation_unless_told(quantization, asked, prepared):
    assert Plan("tiny", quantization=quantization, kbit_preparation=asked).prepared == prepared

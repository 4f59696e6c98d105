"""The still picture and the lines of text say what the number is, for every format and kind of value."""

import math
from xml.etree import ElementTree

import pytest

from coursekit.formats.scalar import encode
from coursekit.formats.spec import E4M3, E8M0, FLOATS, FP16, FP32
from coursekit.widgets import float_picture

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("value", [0.1, -0.0, 1e-300, math.inf, math.nan])
@pytest.mark.parametrize("fmt", FLOATS, ids=lambda fmt: fmt.name)
def test_every_picture_is_whole(fmt, value):
    """Well-formed; one box a bit; nothing reaches over the edge; described for those who cannot see it."""
    root = ElementTree.fromstring(float_picture.svg(value, encode(value, fmt), fmt))
    boxes = [rect for rect in root.iter(f"{SVG}rect") if rect.get("class") != "panel"]
    assert len(boxes) == fmt.bits
    assert all(float(r.get("x")) + float(r.get("width")) <= float_picture.WIDTH - 10 for r in boxes)
    assert fmt.name in root.find(f"{SVG}title").text
    # 13 px text is under 8 px a character wide
    longest = max(len("".join(t.itertext())) for t in root.iter(f"{SVG}text") if t.get("class") == "soft")
    assert longest * 7.9 < float_picture.WIDTH - 2 * float_picture.MARGIN


@pytest.mark.parametrize(
    ("fmt", "code", "kind"),
    [
        (FP16, 0x0000, "zero"), (FP16, 0x8000, "zero"), (FP16, 0x03FF, "subnormal"), (FP16, 0x0400, "normal"),
        (FP16, 0x7C00, "infinity"), (FP16, 0x7C01, "NaN"), (E4M3, 0x7E, "normal"), (E4M3, 0x7F, "NaN"),
        (E8M0, 0x00, "normal"), (FP32, 0x00000001, "subnormal"),
    ],
)  # fmt: skip
def test_kinds(fmt, code, kind):
    assert float_picture.kind(code, fmt) == kind


def test_errors_in_words_and_numbers():
    """0.1 in FP16 is 0.0999755859375; the ulp there is 2^-14."""
    assert float_picture.error(0.1, 0x2E66, FP16) == "-2.441e-05 (-0.0244 %, 0.4 ulp)"
    assert float_picture.error(0.5, 0x3800, FP16) == "none"
    assert float_picture.error(70000.0, 0x7C00, FP16) == "not finite"
    assert float_picture.error(0.0, 0x0001, FP16) == "5.96e-08"

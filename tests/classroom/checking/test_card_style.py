"""Text has enough contrast in both palettes, and no colour comes from elsewhere."""

import re
from itertools import product

import pytest

from classroom.checking.card_style import PALETTES, STYLE


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_the_yardstick_of_contrast():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # the grey that just fails


GROUNDS = ("panel", "code")
TEXTS = tuple(name for name in PALETTES["light"] if name not in (*GROUNDS, "line"))


@pytest.mark.parametrize(("theme", "text", "ground"), list(product(PALETTES, TEXTS, GROUNDS)))
def test_text_has_contrast(theme, text, ground):
    assert contrast(PALETTES[theme][text], PALETTES[theme][ground]) >= 4.5


def test_style_uses_only_colours_of_the_palettes():
    """No colour outside the palettes, and none of a palette unknown to the other."""
    known = {colour for palette in PALETTES.values() for colour in palette.values()}
    assert set(re.findall(r"#[0-9a-f]{6}\b", STYLE)) == known
    assert set(PALETTES["light"]) == set(PALETTES["dark"])
    assert set(re.findall(r"var\(--ck-(\w+)\)", STYLE)) <= {*PALETTES["light"], "accent"}

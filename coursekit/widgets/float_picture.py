"""Draw one number of one format: a still SVG picture, and lines of text.

    >>> from coursekit.formats.spec import FP16
    >>> describe(0.1, 0x2E66, FP16)[:35]
    '0.1 in FP16: bits 0 01011 100110011'

Readers see this where the float explorer cannot run. The picture follows the reader's light or dark setting by
itself, names each field under its bits and gives it a texture: nothing is said by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from coursekit.formats.scalar import bit_string, decode, encode, fields, neighbours, ulp
from coursekit.formats.spec import FloatSpec

WIDTH, HEIGHT, MARGIN = 720, 200, 16  # px
FIELDS = ("sign", "exponent", "mantissa")

STYLE = """\
text { font: 15px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: #1b1f24; }
.panel { fill: #ffffff; stroke: #d5dae0; }
.soft { fill: #545b64; font-size: 13px; } .big { font-size: 19px; font-weight: 600; } .up { font-size: 11px; }
.sign { --tone: #d55e00; } .exponent { --tone: #56b4e9; } .mantissa { --tone: #009e73; }
rect.bit { stroke: var(--tone); stroke-width: 1.5; fill: none; } rect.one { fill: var(--tone); }
text.one { fill: #0d1014; font-weight: 700; } text.bit { text-anchor: middle; } .end { text-anchor: end; }
line { stroke: var(--tone); stroke-width: 5; }
line.exponent { stroke-dasharray: 8 3; } line.mantissa { stroke-dasharray: 3 4; }
@media (prefers-color-scheme: dark) {
  text { fill: #e8eaed; } .panel { fill: #191c20; stroke: #3b424a; } .soft { fill: #a9b1ba; }
  .sign { --tone: #e8833a; } .mantissa { --tone: #1fb88a; }
}"""


def kind(code: int, fmt: FloatSpec) -> str:
    """The kind of number: "normal", "subnormal", "zero", "infinity" or "NaN"."""
    value = decode(code, fmt)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinity"
    if value == 0:
        return "zero"
    return "normal" if abs(value) >= fmt.min_normal else "subnormal"


def hex_code(code: int, fmt: FloatSpec) -> str:
    return f"0x{code:0{-(-fmt.bits // 4)}X}"


def error(value: float, code: int, fmt: FloatSpec) -> str:
    """Stored minus asked for, absolute, in percent of the value and in ulps; in words if that is not a number.

    >>> from coursekit.formats.spec import FP16
    >>> error(0.1, 0x2E66, FP16)
    '-2.441e-05 (-0.0244 %, 0.4 ulp)'
    """
    stored = decode(code, fmt)
    if stored == value or (math.isnan(stored) and math.isnan(value)):
        return "none"
    difference = stored - value
    if not math.isfinite(difference):
        return "not finite"
    if value == 0:
        return f"{difference:.4g}"
    ulps = abs(difference) / ulp(stored, fmt)
    return f"{difference:.4g} ({100 * difference / abs(value):+.3g} %, {ulps:.3g} ulp)"


def lines(value: float, code: int, fmt: FloatSpec, formats: Iterable[FloatSpec], saturate: bool) -> str:
    """The number in `fmt`, then the same value in every one of `formats`, as a table of plain text."""
    head = [
        f"{value!r} in {fmt.name}: {bit_string(code, fmt)}  code {hex_code(code, fmt)}  {kind(code, fmt)}",
        f"stored {decode(code, fmt)!r}  error {error(value, code, fmt)}",
        f"{_between(code, fmt)}",
        "",
        f"{'format':<12} {'stored':<24} code",
    ]
    codes = [(other, encode(value, other, saturate=saturate)) for other in formats]
    rows = [f"{other.name:<12} {decode(c, other)!r:<24} {hex_code(c, other)}" for other, c in codes]
    return "\n".join(head + rows)


def describe(value: float, code: int, fmt: FloatSpec) -> str:
    """The picture in one sentence, for its alt text."""
    return (
        f"{value!r} in {fmt.name}: bits {bit_string(code, fmt)} (sign, exponent, mantissa), "
        f"code {hex_code(code, fmt)}, stored as {decode(code, fmt)!r}, {kind(code, fmt)}, "
        f"error {error(value, code, fmt)}."
    )


def svg(value: float, code: int, fmt: FloatSpec) -> str:
    """The bits in boxes, the formula with its numbers, the stored value and its neighbours, as SVG."""
    end = WIDTH - MARGIN
    body = [
        f'<rect class="panel" x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10"/>',
        _text(MARGIN, 30, f"{value!r} in {fmt.name}"),
        _text(end, 30, hex_code(code, fmt), "end"),
        *_boxes(code, fmt),
        _text(MARGIN, 130, _formula(code, fmt)),
        _text(MARGIN, 158, f"= {decode(code, fmt)!r}", "big"),
        _text(end, 158, kind(code, fmt), "end"),
        _text(MARGIN, 182, f"error {error(value, code, fmt)}; {_between(code, fmt)}", "soft"),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img"><title>{describe(value, code, fmt)}</title>'
        f"<style>{STYLE}</style>{''.join(body)}</svg>"
    )


def _text(x: float, y: float, content: str, style: str = "") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y}">{content}</text>'


def _boxes(code: int, fmt: FloatSpec) -> list[str]:
    """The fields of the code side by side."""
    numbers = dict(zip(FIELDS, fields(code, fmt), strict=True))
    bits_of = dict(zip(FIELDS, (fmt.signed, fmt.exponent_bits, fmt.mantissa_bits), strict=True))
    names = [name for name in FIELDS if bits_of[name]]
    gap = 10
    width = min(36, (WIDTH - 2 * MARGIN - gap * (len(names) - 1)) / fmt.bits)
    x, out = MARGIN, []
    for name, bits in zip(names, bit_string(code, fmt).split(), strict=True):
        out += _field(name, bits, numbers[name], x, width)
        x += len(bits) * width + gap
    return out


def _field(name: str, bits: str, number: int, x: float, width: float) -> list[str]:
    """Boxes with the bits of one field from x on; under them its texture, its name and its number."""
    out = []
    for i, bit in enumerate(bits):
        style = f"bit {name} one" if bit == "1" else f"bit {name}"
        box = f'x="{x + i * width + 1:.1f}" y="44" width="{width - 3:.1f}" height="34" rx="4"'
        out += [f'<rect class="{style}" {box}/>', _text(x + (i + 0.5) * width - 0.5, 66, bit, style)]
    total = len(bits) * width
    # The longest label that fits, at about 8 px per letter.
    label = next(t for t in (f"{name} {number}", name, name[0]) if len(t) * 8 < total or len(t) == 1)
    line = f'<line class="{name}" x1="{x + 1:.1f}" x2="{x + total - 2:.1f}" y1="85" y2="85"/>'
    return [*out, line, _text(x + 1, 103, label, "soft")]


def _formula(code: int, fmt: FloatSpec) -> str:
    sign, exponent, mantissa = fields(code, fmt)
    what = kind(code, fmt)
    if what in ("infinity", "NaN"):
        return f"a code kept for {what}"
    normal = exponent > 0 or not fmt.subnormals
    power = f"2{_up(f'{exponent}−{fmt.bias}' if normal else f'1−{fmt.bias}')}"
    parts = [f"(−1){_up(sign)}"] * fmt.signed + [power]
    if fmt.mantissa_bits:
        parts.append(f"({int(normal)} + {mantissa}/{2**fmt.mantissa_bits})")
    return " × ".join(parts)


def _up(text: object) -> str:
    return f'<tspan dy="-5" class="up">{text}</tspan><tspan dy="5">​</tspan>'


def _between(code: int, fmt: FloatSpec) -> str:
    value = decode(code, fmt)
    if math.isnan(value):
        return "NaN has no neighbours"
    below, above = (("none" if v is None else f"{v:.9g}") for v in neighbours(value, fmt))
    return f"next below {below}, above {above}"

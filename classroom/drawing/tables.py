"""Write the tables and bit strips of the slides, as Markdown and as HTML for the slide theme."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from coursekit.formats import scalar
from coursekit.formats.spec import BlockSpec, FloatSpec

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
YES, NO = "✓", "–"
ZERO = '<span class="gone">0</span>'
# Matrix units that compute in the format. Sources: NVIDIA Transformer Engine, "Datatype and hardware support
# matrix"; NVIDIA CUTLASS documentation, tensor core types; AMD ROCm, "Data types and precision support".
HARDWARE = (
    # card                      FP16   BF16   FP8          FP4 blocks       INT8
    ("V100 (Volta)", YES, NO, NO, NO, NO),
    ("T4 (Turing)", YES, NO, NO, NO, YES),
    ("A100 (Ampere)", YES, YES, NO, NO, YES),
    ("L4, RTX 40 (Ada)", YES, YES, YES, NO, YES),
    ("H100 (Hopper)", YES, YES, YES, NO, YES),
    ("B200 (Blackwell)", YES, YES, f"{YES} and MXFP8", "NVFP4, MXFP4", YES),
    ("MI300X (CDNA 3)", YES, YES, f"{YES} FNUZ", NO, YES),
    ("MI355X (CDNA 4)", YES, YES, f"{YES} and MXFP8", "MXFP4, MXFP6", YES),
)


def sci(value: float, digits: int = 3) -> str:
    """Write a number as people do: 5.96 × 10⁻⁸, or plain where no power of ten is needed.

    >>> sci(5.9604644775390625e-08)
    '5.96 × 10⁻⁸'
    >>> sci(65504)
    '65,504'
    """
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:,.0f}" if value == int(value) else f"{value:.{digits}g}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa} × 10{str(int(exponent)).translate(SUPERSCRIPT)}"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Write a Markdown table, the first column left-aligned, the others right-aligned."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def bits_html(code: int, fmt: FloatSpec) -> str:
    """Write the bits of a code as coloured boxes, field by field, with the names of the fields."""
    sign, exponent, mantissa = scalar.bit_string(code, fmt).split(" ")
    parts = (("s", "sign", sign), ("e", "exponent", exponent), ("m", "mantissa", mantissa))
    fields = "".join(_field(letter, name, bits) for letter, name, bits in parts)
    label = f"{fmt.name}: sign {sign}, exponent {exponent}, mantissa {mantissa}"
    return f'<div class="bits" role="img" aria-label="{label}">{fields}</div>'


def _field(letter: str, name: str, bits: str) -> str:
    boxes = "".join(f'<span class="bit">{bit}</span>' for bit in bits)
    return f'<div class="field {letter}"><div class="row">{boxes}</div><span>{name}</span></div>'


def format_table(formats: Sequence[FloatSpec]) -> str:
    """A row per format: bits, largest, smallest normal and smallest number, distance from 1 to the next number."""
    head = ("format", "bits", "largest", "smallest normal", "smallest", "step at one")
    rows = [
        (f"**{f.name}**", f.bits, sci(f.max), sci(f.min_normal), sci(f.min_subnormal), sci(f.eps))
        for f in formats
    ]
    return markdown_table(head, rows)


def rounding_table(values: Sequence[float], kept: Mapping[str, Sequence[float]]) -> str:
    """A row per value, a column per format: what the format stores; zeros are marked."""
    rows = [(sci(float(v)), *(_kept(column[k]) for column in kept.values())) for k, v in enumerate(values)]
    return markdown_table(("value", *kept), rows)


def _kept(value: float) -> str:
    return ZERO if value == 0 else sci(value)


def fp8_table(*formats: FloatSpec) -> str:
    """A row per format: its limits, whether it has infinity, and how many codes are NaN."""
    head = ("", "largest", "smallest", "step at one", "infinity", "codes that are NaN")
    return markdown_table(head, [_fp8_row(f) for f in formats])


def _fp8_row(f: FloatSpec) -> tuple[object, ...]:
    infinity = "no" if f.inf_code is None else "yes"
    nans = sum(math.isnan(value) for value in scalar.all_values(f))
    return f"**{f.name}**", sci(f.max), sci(f.min_subnormal), f"{f.eps:g}", infinity, nans


def block_table(blocks: Sequence[BlockSpec]) -> str:
    """A row per block format: element, elements per block, scale, bits per element with the scale."""
    head = ("", "element", "block", "scale", "bits per element")
    return markdown_table(head, [_block_row(b) for b in blocks])


def _block_row(b: BlockSpec) -> tuple[str, ...]:
    element, scale = (f"{part.name}, {part.bits} bits" for part in (b.element, b.scale))
    return f"**{b.name}**", element, str(b.block_size), scale, f"**{b.bits_per_element:g}**"


def hardware_table() -> str:
    """A row per GPU of HARDWARE: the formats in which its matrix units compute."""
    return markdown_table(("", "FP16", "BF16", "FP8", "4-bit and 6-bit blocks", "INT8"), HARDWARE)

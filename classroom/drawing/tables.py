"""Tables and bit strips of the deck of lecture 1, as Markdown and as HTML for the slide theme."""

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
    """A number as people write it: 5.96 × 10⁻⁸; plain where no power of ten is needed.

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
    """A Markdown table, first column left, the others right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def bits_html(code: int, fmt: FloatSpec) -> str:
    """The bits of a code as coloured boxes, field by field, with names."""
    sign, exponent, mantissa = scalar.bit_string(code, fmt).split(" ")
    parts = (("s", "sign", sign), ("e", "exponent", exponent), ("m", "mantissa", mantissa))
    fields = "".join(_field(letter, name, bits) for letter, name, bits in parts)
    label = f"{fmt.name}: sign {sign}, exponent {exponent}, mantissa {mantissa}"
    return f'<div class="bits" role="img" aria-label="{label}">{fields}</div>'


def _field(letter: str, name: str, bits: str) -> str:
    boxes = "".join(f'<span class="bit">{bit}</span>' for bit in bits)
    return f'<div class="field {letter}"><div class="row">{boxes}</div><span>{name}</span></div>'


def format_table(formats: Sequence[FloatSpec]) -> str:
    head = ("format", "bits", "largest", "smallest normal", "smallest", "step at one")
    rows = [
        (f"**{f.name}**", f.bits, sci(f.max), sci(f.min_normal), sci(f.min_subnormal), sci(f.eps))
        for f in formats
    ]
    return markdown_table(head, rows)


def rounding_table(values: Sequence[float], kept: Mapping[str, Sequence[float]]) -> str:
    """A row per value, a column per format: what is left of it; zeros stand out."""
    rows = [
        (sci(float(v)), *(ZERO if column[k] == 0 else sci(column[k]) for column in kept.values()))
        for k, v in enumerate(values)
    ]
    return markdown_table(("value", *kept), rows)


def fp8_table(*formats: FloatSpec) -> str:
    head = ("", "largest", "smallest", "step at one", "infinity", "codes that are NaN")
    rows = [
        (
            f"**{f.name}**",
            sci(f.max),
            sci(f.min_subnormal),
            f"{f.eps:g}",
            "no" if f.inf_code is None else "yes",
            _nans(f),
        )
        for f in formats
    ]
    return markdown_table(head, rows)


def _nans(fmt: FloatSpec) -> int:
    return sum(math.isnan(value) for value in scalar.all_values(fmt))


def block_table(blocks: Sequence[BlockSpec]) -> str:
    head = ("", "element", "block", "scale", "bits per element")
    return markdown_table(head, [_block_row(b) for b in blocks])


def _block_row(b: BlockSpec) -> tuple[str, ...]:
    element, scale = (f"{part.name}, {part.bits} bits" for part in (b.element, b.scale))
    return f"**{b.name}**", element, str(b.block_size), scale, f"**{b.bits_per_element:g}**"


def hardware_table() -> str:
    return markdown_table(("", "FP16", "BF16", "FP8", "4-bit and 6-bit blocks", "INT8"), HARDWARE)

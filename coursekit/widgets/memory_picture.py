"""The memory of a training step as a still: an SVG picture, and a table of plain text.

Readers see it where the memory explorer cannot run. The picture follows the reader's light or dark setting; each
category has a colour, a texture and a name.
"""

from __future__ import annotations

from html import escape

from coursekit.memory.cards import Card
from coursekit.memory.fit import breaking_term
from coursekit.memory.planner import CATEGORIES, PHASES, Estimate
from coursekit.units import GB, KB, MB

WIDTH, LEFT, RIGHT = 760, 136, 84  # px: names of the phases stand left of the bars, their sums right of them
BAR, PITCH, TOP = 26, 36, 84
# category: (fill on light, fill on dark, texture); the figures of lecture 3 have the same colours
LOOKS = {
    "weights": ("#0072b2", "#3f9fd8", ""),
    "gathered weights": ("#56b4e9", "#8ccdf2", "M0 8L8 0"),
    "master weights": ("#56b4e9", "#8ccdf2", "M0 0L8 8"),
    "optimizer states": ("#009e73", "#1fb88a", "M2 2h2v2h-2z"),
    "gradients": ("#e69f00", "#e69f00", "M4 0V8"),
    "activations": ("#d55e00", "#e8833a", "M0 8L8 0M0 0L8 8"),
    "temporary": ("#cc79a7", "#d992ba", "M0 4H8"),
    "inputs": ("#7a828c", "#a9b1ba", "M0 4H8M4 0V8"),
}
STYLE = """\
text { font: 14px system-ui, 'DejaVu Sans', sans-serif; fill: #1b1f24; } .bold { font-weight: 600; font-size: 16px; }
.panel { fill: #ffffff; stroke: #d5dae0; } .soft { fill: #545b64; font-size: 13px; } .end { text-anchor: end; }
.track { fill: #f4f6f8; } .card { stroke: #1b1f24; stroke-width: 2.5; stroke-dasharray: 7 4; }
.texture { stroke: #0d1014; stroke-width: 1; stroke-opacity: .45; fill: none; }
@media (prefers-color-scheme: dark) {
  text { fill: #e8eaed; } .panel { fill: #191c20; stroke: #3b424a; } .soft { fill: #a9b1ba; }
  .track { fill: #23272d; } .card { stroke: #e8eaed; }
}"""


def size(nbytes: int) -> str:
    """Three digits and a unit; 1 GB is 10^9 bytes.

    >>> [size(n) for n in (0, 16_060_000_000, 734_000_000, 999_999, 12)]
    ['–', '16.1 GB', '734 MB', '1.00 MB', '12 B']
    """
    if not nbytes:
        return "–"
    units = ((GB, "GB"), (MB, "MB"), (KB, "kB"), (1, "B"))
    unit, name = next((u, n) for u, n in units if nbytes >= 0.9995 * u)  # 999,999 rounds to 1.00 MB
    if unit == 1:
        return f"{nbytes:,} B"
    value = nbytes / unit
    places = 0
    if value < 9.995:
        places = 2
    elif value < 99.95:
        places = 1
    return f"{value:,.{places}f} {name}"


def shown(found: Estimate) -> list[str]:
    """The categories that have bytes in some phase."""
    return [name for name in CATEGORIES if any(found.phases[phase][name] for phase in PHASES)]


def verdict(found: Estimate, card: Card) -> str:
    """Whether the step fits the card, by how much, and what breaks it."""
    spare = card.bytes - found.peak_bytes
    if spare >= 0:
        return f"fits {name_of(card)}, {size(spare)} to spare"
    return f"{size(-spare)} too much for {name_of(card)}: {breaking_term(found, card.bytes)}"


def name_of(card: Card) -> str:
    """The card's name with its memory, which is said once.

    >>> name_of(Card("RTX 4090", 24)), name_of(Card("a card of 20 GB", 20))
    ('RTX 4090 (24 GB)', 'a card of 20 GB')
    """
    memory = f"{card.memory_gb:g} GB"
    return card.name if memory in card.name else f"{card.name} ({memory})"


def lines(title: str, found: Estimate, card: Card) -> str:
    """The numbers of the picture as a plain-text table."""
    heads = ["", *PHASES]
    rows = [[name, *(size(found.phases[phase][name]) for phase in PHASES)] for name in shown(found)]
    rows.append(["sum", *(size(found.peaks[phase]) for phase in PHASES)])
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    table = []
    for name, *cells in [heads, *rows]:
        aligned = [cell.rjust(width + 2) for cell, width in zip(cells, widths[1:], strict=True)]
        table.append(name.ljust(widths[0]) + "".join(aligned))
    peak = f"peak {size(found.peak_bytes)}, {found.peak_phase}; {verdict(found, card)}"
    return "\n".join([title, peak, "", *table])


def describe(title: str, found: Estimate, card: Card) -> str:
    """The picture in one sentence, for its alt text."""
    sums = ", ".join(f"{phase} {size(found.peaks[phase])}" for phase in PHASES)
    parts = ", ".join(f"{name} {size(n)}" for name, n in found.at_peak.items() if n)
    words = verdict(found, card)
    return f"{title}: {sums}. At the peak: {parts}. {words[0].upper()}{words[1:]}."


def svg(title: str, found: Estimate, card: Card) -> str:
    """A bar for each phase, stacked by category, a dashed line where the card's memory ends, and a legend."""
    names = shown(found)
    foot = TOP + PITCH * len(PHASES)
    height = foot + 34 + 24 * -(-len(names) // 4)
    scale = (WIDTH - LEFT - RIGHT) / max(found.peak_bytes, card.bytes)  # px per byte
    body = [
        f'<rect class="panel" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="10"/>',
        _text(16, 28, title, "bold"),
        _text(16, 52, f"peak {size(found.peak_bytes)}, {found.peak_phase}; {verdict(found, card)}"),
        *(part for row, phase in enumerate(PHASES) for part in _bar(found, phase, TOP + PITCH * row, scale)),
        *_card_line(card, LEFT + card.bytes * scale, foot),
        *(part for i, name in enumerate(names) for part in _key(name, i, foot + 32)),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img"><title>{escape(describe(title, found, card))}</title><style>{STYLE}{_fills()}</style>'
        f"<defs>{''.join(map(_pattern, CATEGORIES))}</defs>{''.join(body)}</svg>"
    )


def _fills() -> str:
    light = "".join(f".{_id(name)} {{ fill: {look[0]}; }}" for name, look in LOOKS.items())
    dark = "".join(f".{_id(name)} {{ fill: {look[1]}; }}" for name, look in LOOKS.items())
    return f"{light}@media (prefers-color-scheme: dark) {{ {dark} }}"


def _id(name: str) -> str:
    return "mx-" + name.replace(" ", "-")


def _pattern(name: str) -> str:
    return (  # its fill is a class, so that it follows light and dark
        f'<pattern id="{_id(name)}" width="8" height="8" patternUnits="userSpaceOnUse">'
        f'<rect class="{_id(name)}" width="8" height="8"/><path class="texture" d="{LOOKS[name][2]}"/></pattern>'
    )


def _text(x: float, y: float, content: str, style: str = "") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y}">{escape(content)}</text>'


def _bar(found: Estimate, phase: str, y: int, scale: float) -> list[str]:
    """The stack of one phase from y on, its name before it and its sum behind the track."""
    out = [
        _text(LEFT - 10, y + 18, phase, "end soft"),
        f'<rect class="track" x="{LEFT}" y="{y}" width="{WIDTH - LEFT - RIGHT}" height="{BAR}"/>',
        _text(WIDTH - 12, y + 18, size(found.peaks[phase]), "end"),
    ]
    x = float(LEFT)
    for name, nbytes in found.phases[phase].items():
        if nbytes:
            box = f'x="{x:.2f}" y="{y}" width="{nbytes * scale:.2f}" height="{BAR}"'
            out.append(f'<rect {box} fill="url(#{_id(name)})"/>')
        x += nbytes * scale
    return out


def _card_line(card: Card, x: float, foot: int) -> list[str]:
    style = "end soft" if x > WIDTH / 2 else "soft"
    line = f'<path class="card" d="M{x:.1f} {TOP - 12}V{foot}"/>'
    return [line, _text(x - 6 if style.startswith("end") else x + 6, TOP - 6, name_of(card), style)]


def _key(name: str, index: int, top: int) -> list[str]:
    x, y = 16 + 184 * (index % 4), top + 24 * (index // 4)
    return [
        f'<rect x="{x}" y="{y - 13}" width="22" height="16" fill="url(#{_id(name)})"/>',
        _text(x + 30, y, name, "soft"),
    ]

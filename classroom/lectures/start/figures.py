"""Draw the figure of the Start page: what a fine-tune holds in memory, in full or with an adapter."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from classroom.drawing.style import HATCHES, OKABE_ITO, PANEL, canvas, styled

COLOURS = [OKABE_ITO[name] for name in ("blue", "orange", "green")]
MB = 10**6


@styled
def memory_bars(methods: Mapping[str, Mapping[str, int]]) -> Figure:
    """Draw one stacked bar per method, {method: {what: bytes}}, with the sum at its end."""
    figure, ax = canvas(height=0.6)
    left = dict.fromkeys(methods, 0.0)
    parts = list(next(iter(methods.values())))
    for part, colour, hatch in zip(parts, COLOURS, HATCHES, strict=False):
        sizes = [held[part] / MB for held in methods.values()]
        look = {"color": colour, "hatch": hatch, "edgecolor": PANEL, "label": part}
        ax.barh(list(methods), sizes, left=list(left.values()), height=0.5, **look)
        left = {method: left[method] + size for method, size in zip(methods, sizes, strict=True)}
    for row, total in enumerate(left.values()):
        ax.text(total, row, f"  {total:.1f} MB", va="center")
    longest = max(left.values())
    ax.set(xlabel="MB (10^6 bytes) held from step to step", xlim=(0, 1.2 * longest))  # room for the sum
    ax.invert_yaxis()
    ax.grid(axis="y", visible=False)
    ax.legend(loc="lower right")
    words = "; ".join(f"{method}: {total:.1f} MB" for method, total in left.items())
    figure.set_label(f"Bytes held while training, {', '.join(parts)}. {words}.")
    return figure

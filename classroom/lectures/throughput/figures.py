"""Draw the figures of lecture 4, for its notebook and its deck.

Every function takes what `coursekit.throughput` measured or computed and returns a matplotlib Figure whose label is its
alt text. In a notebook the second argument of `show` says the finding; on a slide the slide's own title does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from classroom.drawing.style import HATCHES, INK, MARKERS, OKABE_ITO, PANEL, SOFT, canvas, styled
from coursekit.throughput.batching import Waste
from coursekit.throughput.flame import Frame, pruned
from coursekit.throughput.flops import Flops
from coursekit.throughput.meter import Timing
from coursekit.throughput.roofline import Point, Roof

COLOURS = [OKABE_ITO[name] for name in ("blue", "vermillion", "green", "purple", "orange", "sky")]


@styled
def waste_bars(wastes: Mapping[str, Waste]) -> Figure:
    """One bar per way of batching: slots that hold text, and slots that hold padding."""
    figure, ax = canvas(height=0.4 + 0.14 * len(wastes))
    places = np.arange(len(wastes))[::-1]
    text = np.array([w.tokens for w in wastes.values()])
    padding = np.array([w.slots - w.tokens for w in wastes.values()])
    _bars(ax, places, text, 0, OKABE_ITO["blue"], "", "text")
    _bars(ax, places, padding, text, OKABE_ITO["vermillion"], "///", "padding")
    for place, w in zip(places, wastes.values(), strict=True):
        ax.text(w.slots, place, f" {w.share:.1%} padding", va="center")
    ax.set_yticks(places, list(wastes))
    ax.set(xlabel="slots computed", xlim=(0, 1.28 * max(w.slots for w in wastes.values())))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.0 + 0.5 / len(wastes)), ncols=2)
    words = ", ".join(f"{name} {w.share:.1%}" for name, w in wastes.items())
    figure.set_label(f"Slots that hold text and padding. Share of padding: {words}.")
    return figure


def _bars(ax, places, widths, left, colour: str, hatch: str, label: str) -> None:
    ax.barh(places, widths, left=left, color=colour, alpha=0.6, hatch=hatch, edgecolor=colour, label=label)


@styled
def packed_row(lengths: Sequence[int], capacity: int) -> Figure:
    """One packed row, and what each of its tokens may see: one block per text, filled below the diagonal."""
    figure, (above, ax) = canvas(2, 1, height=1.45, height_ratios=(1, 7))
    above.set_anchor("C")
    starts = np.concatenate([[0], np.cumsum(lengths)])
    for number, (start, length) in enumerate(zip(starts, lengths, strict=False)):
        colour, hatch = COLOURS[number % len(COLOURS)], HATCHES[number % len(HATCHES)]
        style = {"facecolor": colour, "edgecolor": colour, "alpha": 0.6, "hatch": hatch}
        above.barh(0, length, left=start, height=1, **style)
        _text_in_box(above, start + length / 2, 0, f"text {number + 1}")
        steps = np.arange(length + 1)
        ax.fill_between(start + steps, start + steps, start + length, step="post", **style)
    above.barh(0, capacity - starts[-1], left=starts[-1], height=1, fill=False, edgecolor=SOFT, linestyle=":")
    above.set(xlim=(0, capacity), yticks=[], xticks=[])
    above.set_title("the row, dotted: padding", loc="left", fontsize="medium", weight="normal")
    ax.set(
        xlim=(0, capacity), ylim=(capacity, 0), xlabel="token that is looked at", ylabel="token that looks"
    )
    for end in starts[1:]:
        ax.axhline(end, color=SOFT, linewidth=0.6, linestyle=":")
        ax.axvline(end, color=SOFT, linewidth=0.6, linestyle=":")
    seen = sum(n * (n + 1) // 2 for n in lengths)
    allowed = capacity * (capacity + 1) // 2
    figure.set_label(
        f"A packed row of {len(lengths)} texts with {', '.join(map(str, lengths))} tokens in {capacity} slots, and "
        f"its mask: one triangle per text on the diagonal, {seen} of {allowed} pairs that a plain "
        "causal mask allows."
    )
    return figure


def _text_in_box(ax, x: float, y: float, words: str) -> None:
    box = {"facecolor": PANEL, "edgecolor": "none", "pad": 1.2, "alpha": 0.85}
    ax.text(x, y, words, ha="center", va="center", fontsize="small", bbox=box)


@styled
def roofline(roof: Roof, points: Sequence[Point]) -> Figure:
    """FLOP/s over FLOPs per byte, both logarithmic: the roof, and where operations are below it."""
    figure, ax = canvas(height=1.3)
    intensities = [roof.ridge, *(p.intensity for p in points)]
    x = np.geomspace(min(intensities) / 4, 4 * max(intensities), 200)
    ax.loglog(x, [roof.attainable(i) / 1e9 for i in x], color=INK, linestyle="-", label="roof")
    ax.axvline(roof.ridge, color=SOFT, linestyle=":", linewidth=1)
    ax.text(roof.ridge, 0.04, " ridge", color=SOFT, fontsize="small", transform=ax.get_xaxis_transform())
    for number, point in enumerate(points):
        bound = "memory" if point.bound == "memory" else "arithmetic"
        ax.plot(
            [point.intensity], [point.flops_per_second / 1e9], linestyle="", marker=MARKERS[number % len(MARKERS)],
            color=COLOURS[number % len(COLOURS)],
            label=f"{point.name}: {point.share:.0%} of the roof, bound by {bound}",
        )  # fmt: skip
    ax.set(xlabel="intensity, FLOPs per byte", ylabel="GFLOP/s")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, fontsize="small")
    words = "; ".join(
        f"{p.name} at {p.intensity:.3g} FLOPs per byte reaches {p.flops_per_second / 1e9:.3g} GFLOP/s"
        for p in points
    )
    figure.set_label(
        f"Roofline: peak {roof.peak_flops / 1e9:.3g} GFLOP/s, memory {roof.bytes_per_second / 1e9:.3g} GB/s, ridge at "
        f"{roof.ridge:.3g} FLOPs per byte. {words}."
    )
    return figure


@styled
def flame_graph(root: Frame, share: float = 0.01, deepest: int = 14) -> Figure:
    """One box per frame, as wide as its time, on the box that called it; those below `share` of all are left out."""
    boxes = [row for row in pruned(root, share).walk() if row[1] <= deepest]
    depth = max(level for _, level, _ in boxes)
    figure, ax = canvas(height=0.3 + 0.1 * (depth + 1))
    for frame, level, start in boxes:
        colour = COLOURS[level % len(COLOURS)]
        leaf = level > 0 and not frame.children
        ax.barh(
            level, frame.seconds * 1e3, left=start * 1e3, height=0.94, color=colour, alpha=0.35, edgecolor=colour,
            hatch=HATCHES[1] if leaf else "",
        )  # fmt: skip
        _fitted(ax, frame, level, start, root.seconds)
    ax.set(
        xlim=(0, root.seconds * 1e3),
        ylim=(-0.6, depth + 0.6),
        yticks=[],
        xlabel="ms, in the order of the first call",
    )
    ax.grid(False)
    leaves = sorted((f for f, _, _ in root.walk()), key=lambda f: -f.own_seconds)[:3]
    words = ", ".join(f"{f.name} {f.own_seconds / root.seconds:.0%}" for f in leaves)
    figure.set_label(
        f"Flame graph of {root.seconds * 1e3:.3g} ms, {len(boxes)} frames in {depth + 1} levels. Most time of their "
        f"own: {words}."
    )
    return figure


def _fitted(ax, frame: Frame, level: int, start: float, whole: float) -> None:
    """Write the name, cut to what the box holds: about 100 letters across the picture."""
    letters = int(100 * frame.seconds / whole)
    name = frame.name.split("/")[-1]
    words = name if len(name) <= letters else f"{name[: letters - 1]}…"
    if letters >= 4:
        middle = (start + frame.seconds / 2) * 1e3
        ax.text(middle, level, words, ha="center", va="center", fontsize="x-small", clip_on=True)


@styled
def speed_bars(timings: Mapping[str, Timing], tokens: float | None = None) -> Figure:
    """One bar per contestant, with its quartiles: tokens per second with `tokens` per round, else milliseconds."""
    figure, ax = canvas(height=0.4 + 0.13 * len(timings))
    places = np.arange(len(timings))[::-1]
    unit = "tokens per second" if tokens else "ms"
    medians = []
    for number, (place, timing) in enumerate(zip(places, timings.values(), strict=True)):
        seconds = np.percentile(timing.seconds, [25, 50, 75])
        low, median, high = sorted(tokens / seconds if tokens else 1e3 * seconds)
        colour, hatch = COLOURS[number % len(COLOURS)], HATCHES[number % len(HATCHES)]
        ax.barh(place, median, color=colour, alpha=0.6, hatch=hatch, edgecolor=colour)
        ax.plot([low, high], [place, place], color=INK, linestyle="-")
        ax.text(high, place, f"  {median:,.0f}" if tokens else f"  {median:,.3g}", va="center")
        medians.append(median)
    ax.set_yticks(places, list(timings))
    ax.set(xlabel=unit if tokens else "ms per round", xlim=(0, 1.25 * max(medians)))
    words = ", ".join(f"{name} {value:,.4g}" for name, value in zip(timings, medians, strict=True))
    figure.set_label(f"Medians in {unit}, with quartiles: {words}.")
    return figure


@styled
def flops_bars(counts: Mapping[str, Flops]) -> Figure:
    """One bar per way of training: GFLOPs of a step by part, and within it forward, backward, recomputed by hatch."""
    figure, ax = canvas(height=0.5 + 0.14 * len(counts))
    phases = (("forward", ""), ("backward", "///"), ("recompute", "xxx"))
    names = [part.name for part in next(iter(counts.values())).parts]
    places, left = np.arange(len(counts))[::-1], np.zeros(len(counts))
    for name, colour in zip(names, COLOURS, strict=False):
        for phase, hatch in phases:
            widths = np.array([getattr(flops[name], phase) / 1e9 for flops in counts.values()])
            if widths.any():
                _bars(ax, places, widths, left, colour, hatch, f"{name}, {phase}")
            left += widths
    ax.set_yticks(places, list(counts))
    ax.set(xlabel="GFLOPs of a step")
    ax.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=3, fontsize="small")
    words = ", ".join(f"{name} {flops.total / 1e9:.4g}" for name, flops in counts.items())
    figure.set_label(f"GFLOPs of a training step by part and phase: {words}.")
    return figure


@styled
def launch_timeline(queues: Mapping[bool, tuple[Sequence[tuple], Sequence[tuple]]]) -> Figure:
    """Boxes of Python and of the GPU over time; a colour is a step.

    queues  whether the loss is read after every step -> (boxes of Python, boxes of the GPU), a box: start, width, step
    """
    figure, axes = canvas(len(queues), 1, height=0.95, sharex=True)
    for ax, (read_loss, (python, gpu)) in zip(axes, queues.items(), strict=True):
        for place, boxes in ((1, python), (0, gpu)):
            for start, width, step in boxes:
                colour = COLOURS[step % len(COLOURS)]
                ax.barh(place, width, left=start, color=colour, alpha=0.5, edgecolor=INK, linewidth=1)
        ax.set_yticks([1, 0], ["Python", "GPU"])
        words = "the loss is read after every step" if read_loss else "the loss is not read"
        ax.set_title(words, fontsize="medium")
        ax.grid(False)
    axes[-1].set_xlabel("time in units of one launch; a colour is a step")
    figure.set_label(
        "Two timelines of Python and a GPU. Above, the loss is not read, and Python prepares the next batch while the "
        "GPU works. Below, Python waits for the loss after every step, and the GPU then waits for Python."
    )
    return figure

"""Draw the figures of lecture 1, for its notebook and its deck. Tables and bit strips: `classroom.drawing.tables`.

    show(spacing((FP32, FP16)), "The grid doubles its step at every power of two")

Every function takes formats or numbers and returns a matplotlib Figure; its label is the alt text of the notebook. On a
slide, `preset="slide"` makes the type large, the slide's own title says the finding, and the deck writes the alt text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from classroom.drawing.style import MARKERS, OKABE_ITO, canvas, styled
from classroom.drawing.tables import sci
from coursekit.formats import scalar
from coursekit.formats.spec import BlockSpec, FloatSpec, IntSpec

BLUE, SKY, GREEN = OKABE_ITO["blue"], OKABE_ITO["sky"], OKABE_ITO["green"]
ORANGE, VERMILLION, PURPLE = OKABE_ITO["orange"], OKABE_ITO["vermillion"], OKABE_ITO["purple"]
LINES = {"FP32": (BLUE, "-"), "FP16": (GREEN, "--"), "BF16": (VERMILLION, "-."), "E4M3": (PURPLE, ":")}


def _bare(ax) -> None:
    """Remove everything but the horizontal axis: the vertical one has no meaning here."""
    ax.yaxis.set_visible(False)
    ax.grid(False)
    for side in ("left", "right", "top"):
        ax.spines[side].set_visible(False)


@styled
def running_sums(sums: Mapping[str, Sequence[float]]) -> Figure:
    """Plot one line per format against the number of additions, named at its end."""
    figure, ax = canvas()
    curves = {name: np.asarray(values, dtype=float) for name, values in sums.items()}
    for name, curve in curves.items():
        colour, dash = LINES[name]
        ax.plot(curve, color=colour, linestyle=dash)
        side = "top" if name == "FP16" else "bottom"  # FP16 ends just below FP32
        ax.text(1.02 * len(curve), curve[-1], f"{name}: {curve[-1]:.4f}", color=colour, va=side)
    low = min(curve.min() for curve in curves.values())
    high = max(curve.max() for curve in curves.values())
    margin = high - low
    ax.set(xlabel="additions", ylabel="running sum", xlim=(0, 1.27 * len(curve)))
    ax.set_ylim(low - 0.05 * margin, high + 0.12 * margin)  # above: room for the name of the highest line
    ends = ", ".join(f"{name} ends at {curve[-1]:.4f}" for name, curve in curves.items())
    figure.set_label(f"Running sums over {len(curve):,} additions: {ends}.")
    return figure


@styled
def landmarks(fmt: FloatSpec) -> Figure:
    """Draw the positive half of a format, from zero to infinity, on a logarithmic axis."""
    figure, ax = canvas(height=0.78)
    edges = [fmt.min_subnormal / 64, fmt.min_subnormal / 2, fmt.min_normal, fmt.max, fmt.max * 64]
    kinds = (
        ("rounds\nto 0", PURPLE, "///"),
        ("subnormal", ORANGE, "..."),
        ("normal", GREEN, ""),
        ("inf", VERMILLION, "xxx"),
    )
    for (kind, colour, hatch), left, right in zip(kinds, edges, edges[1:], strict=False):
        look = {"color": colour, "alpha": 0.28, "hatch": hatch, "edgecolor": colour}
        ax.barh(0, right - left, left=left, height=0.8, **look)
        middle = math.sqrt(left * right)  # of a logarithmic axis
        ax.text(middle, 0.62, kind, ha="center", va="center", color=colour, weight="bold")
    marks = {"smallest": fmt.min_subnormal, "smallest normal": fmt.min_normal, "one": 1.0, "largest": fmt.max}
    for name, value in marks.items():
        ax.vlines(value, -0.5, 0.4, color=BLUE, linewidth=3)
        ax.text(value, -0.56, f"{name}\n{sci(value)}", ha="center", va="top", color=BLUE)
    ax.set(xscale="log", ylim=(-1.3, 0.9), xlim=(edges[0], edges[-1]), xlabel=f"value in {fmt.name}")
    _bare(ax)
    return figure


@styled
def near_zero(fmt: FloatSpec) -> Figure:
    """Draw the numbers next to zero, with and without subnormals."""
    figure, ax = canvas(height=0.78)
    values = np.array(sorted(v for v in scalar.all_values(fmt) if 0 <= v <= 4 * fmt.min_normal))
    without = values[(values == 0) | (values >= fmt.min_normal)]
    rows = ((1, values, GREEN, "with subnormals"), (0, without, VERMILLION, "without"))
    for y, ticks, colour, label in rows:
        ax.vlines(ticks, y - 0.26, y + 0.26, color=colour, linewidth=3)
        ax.text(-0.12 * fmt.min_normal, y, label, ha="right", va="center", color=colour, weight="bold")
    ax.axvspan(0, fmt.min_normal, color=SKY, alpha=0.16)
    ax.text(fmt.min_normal / 2, 1.5, "subnormal", ha="center", color=BLUE)
    ax.text(fmt.min_normal * 2.5, 1.5, "normal", ha="center", color=BLUE)
    powers = [0, *(fmt.min_normal * k for k in (1, 2, 4))]
    names = ["0", *(f"$2^{{{int(math.log2(p))}}}$" for p in powers[1:])]
    ax.set(ylim=(-0.5, 1.8), xlabel=f"value in {fmt.name}")
    ax.set_xlim(-1.15 * fmt.min_normal, 4.1 * fmt.min_normal)
    ax.set_xticks(powers, names)
    _bare(ax)
    return figure


@styled
def spacing(formats: Sequence[FloatSpec]) -> Figure:
    """Plot one ulp against the value, both logarithmic, between 2^-30 and 2^24: a staircase per format."""
    figure, ax = canvas()
    for fmt in formats:
        colour, dash = LINES[fmt.name]
        low = max(fmt.min_subnormal, 2.0**-30)
        high = min(fmt.max, 2.0**24)
        values = [2.0**k for k in range(round(math.log2(low)), round(math.log2(high)) + 1)]
        ulps = [scalar.ulp(v, fmt) for v in values]
        ax.step(values, ulps, where="post", color=colour, linestyle=dash)
        align = {"ha": "left", "va": "center"}
        if fmt.name == "E4M3":  # its end lies on the lines of other formats
            align = {"ha": "right", "va": "bottom"}
        ax.annotate(f" {fmt.name}", (values[-1], ulps[-1]), color=colour, weight="bold", **align)
    ax.axhline(1, color=SKY, linewidth=1.2)
    ax.text(2.0**-29, 1.4, "above: not every whole number", color=BLUE, va="bottom")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    ax.set(xlabel="number", ylabel="distance to the next", xlim=(2.0**-30, 2.0**31))
    names = ", ".join(fmt.name for fmt in sorted(formats, key=lambda fmt: fmt.eps))
    figure.set_label(
        "Distance between neighbours against the number, both logarithmic: parallel staircases, from the finest to "
        f"the coarsest {names}."
    )
    return figure


@styled
def layouts(formats: Sequence[FloatSpec]) -> Figure:
    """Draw a row of boxes per format, one box per bit, aligned at the border of exponent and mantissa."""
    longest = max(f.bits for f in formats)
    figure, ax = canvas(height=0.16 * len(formats) + 0.07)
    pivot = max(f.exponent_bits for f in formats)
    for row, fmt in enumerate(formats):
        start = pivot - fmt.exponent_bits
        _boxes(ax, -1.25, row, 1, VERMILLION)
        _boxes(ax, start, row, fmt.exponent_bits, BLUE)
        _boxes(ax, pivot + 0.25, row, fmt.mantissa_bits, GREEN)
        ax.text(-1.7, row, fmt.name, ha="right", va="center", weight="bold")
        bits = f"{fmt.exponent_bits} + {fmt.mantissa_bits}"
        ax.text(pivot + fmt.mantissa_bits + 0.7, row, bits, va="center")
    ax.text(-0.75, -0.72, "sign", ha="center", va="center", color=VERMILLION)
    ax.text(pivot / 2, -0.72, "exponent", ha="center", va="center", color=BLUE)
    ax.text(pivot + 2, -0.72, "mantissa", ha="left", va="center", color=GREEN)
    ax.set(xlim=(-5, max(longest + 2.5, 20)), ylim=(len(formats) - 0.45, -1.05))
    ax.axis("off")
    bits = "; ".join(f"{f.name} {f.exponent_bits} exponent, {f.mantissa_bits} mantissa" for f in formats)
    figure.set_label(f"Bit fields of {len(formats)} formats, each with a sign bit. Bits: {bits}.")
    return figure


def _boxes(
    ax, left: float, row: float, count: int, colour: str, width: float = 0.86, height: float = 0.72
) -> None:
    """Draw `count` boxes in a row, from `left` on, one unit apart."""
    for k in range(count):
        box = FancyBboxPatch(
            (left + k + 0.07, row - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=to_rgba(colour, 0.3), edgecolor=colour, linewidth=1.4,
        )  # fmt: skip
        ax.add_patch(box)


@styled
def ties(drift: Mapping[str, float]) -> Figure:
    """Draw where the ties between whole numbers go (left) and the mean error of two rules over many ties (right).

    drift  {rule: mean error}, "half up" first
    """
    figure, (line, bars) = canvas(columns=2, width_ratios=(3, 2))
    line.hlines(0, 0.7, 4.3, color=BLUE, linewidth=1.4)
    for n in range(1, 5):
        if n % 2 == 0:
            line.plot(n, 0, "o", markersize=17, color=GREEN)
            line.text(n, -0.16, f"{n}\neven", ha="center", va="top", color=GREEN)
        else:
            line.plot(n, 0, "o", markersize=11, color=SKY)
            line.text(n, -0.16, f"{n}\nodd", ha="center", va="top")
    for tie in (1.5, 2.5, 3.5):
        _arrow(line, tie, round(tie))
        line.plot(tie, 0, "|", markersize=22, color=VERMILLION, markeredgewidth=2.4)
        line.text(tie, 0.3, f"{tie}", ha="center", color=VERMILLION, weight="bold")
    line.set(xlim=(0.6, 4.4), ylim=(-0.75, 0.75))
    line.axis("off")
    bars.bar(list(drift), list(drift.values()), color=[VERMILLION, GREEN], width=0.55, hatch=["//", ""])
    for k, value in enumerate(drift.values()):
        bars.text(k, value + 0.02, f"{value:+.2f}", ha="center", va="bottom")
    bars.set(ylabel="mean error", ylim=(0, 1.24 * max(drift.values())))  # room for the number above the bar
    return figure


def _arrow(ax, start: float, end: float) -> None:
    """Draw a bent arrow above the line, from a tie to the number it goes to."""
    radius = 0.6 if end < start else -0.6  # so that both bend upwards
    bend = f"arc3,rad={radius}"
    look = {"arrowstyle": "-|>", "color": VERMILLION, "linewidth": 2.4, "connectionstyle": bend}
    ax.annotate("", (end, 0.08), (start, 0.08), arrowprops=look)


@styled
def stochastic(runs: Sequence[Sequence[float]], nearest: Sequence[float], shown: int = 20) -> Figure:
    """Plot running sums with stochastic rounding (the first `shown` runs, the mean of all) and the one to nearest.

    runs     running sums of each run, [runs, additions]
    nearest  the running sums rounded to nearest, [additions]
    """
    figure, ax = canvas()
    stack = np.stack([np.asarray(run, dtype=float) for run in runs])
    for run in stack[:shown]:
        ax.plot(run, color=SKY, linestyle="-", linewidth=1.0, alpha=0.75)
    mean = stack.mean(0)
    additions = len(mean)
    ax.plot(np.arange(additions), mean, color=BLUE, linestyle="-")
    ax.plot(np.asarray(nearest), color=VERMILLION, linestyle="-.")
    name = f"stochastic,\nmean of {len(stack)} runs"
    ax.text(1.01 * additions, mean[-1], name, color=BLUE, va="center")
    ax.text(1.01 * additions, float(nearest[-1]), "to nearest", color=VERMILLION, va="center")
    ax.set(xlabel="additions", ylabel="running sum", xlim=(0, 1.3 * additions))
    figure.set_label(
        f"Running sums with stochastic rounding scatter around a straight line; the mean of {len(stack)} runs ends at "
        f"{mean[-1]:.2f}. The sum rounded to nearest ends at {float(nearest[-1]):.2f}."
    )
    return figure


@styled
def accumulators(exact: Sequence[float], sums: Mapping[str, Sequence[float]]) -> Figure:
    """Plot the partial sums of the same numbers in two accumulators; `exact` are the exact partial sums."""
    figure, ax = canvas()
    exact = np.asarray(exact)
    every = slice(None, None, max(1, len(exact) // 400))  # 400 points are enough for the eye
    steps = np.arange(len(exact))[every]
    looks = ((VERMILLION, "-."), (BLUE, "-"))
    for (name, values), (colour, dash) in zip(sums.items(), looks, strict=True):
        values = np.asarray(values)[-len(exact) :][every]
        ax.plot(steps, values, color=colour, linestyle=dash)
        ax.text(1.01 * len(exact), values[-1], name, color=colour, va="center")
    ax.set(xlabel="addends", ylabel="running sum", xlim=(0, 1.36 * len(exact)))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    ends = ", ".join(f"{name} {float(values[-1]):,.0f}" for name, values in sums.items())
    figure.set_label(f"Running sums of {len(exact):,} numbers. They end at: exact {exact[-1]:,.0f}, {ends}.")
    return figure


@styled
def all_numbers(formats: Sequence[FloatSpec]) -> Figure:
    """Draw every number of a few small formats as a tick, each format scaled by its largest number."""
    figure, ax = canvas()
    for row, fmt in enumerate(formats):
        values = sorted(set(scalar.all_values(fmt)))
        colour = (BLUE, GREEN, VERMILLION)[row % 3]
        ax.vlines(np.array(values) / fmt.max, row - 0.27, row + 0.27, color=colour, linewidth=2.2)
        ax.text(-1.06, row, fmt.name, ha="right", va="center", weight="bold")
        ax.text(1.06, row, f"{len(values)} numbers\nup to {fmt.max:g}", va="center")
    ax.set(xlim=(-1.4, 1.55), ylim=(len(formats) - 0.5, -0.5), xlabel="value / largest value")
    ax.set_xticks([-1, -0.5, 0, 0.5, 1])
    _bare(ax)
    counts = ", ".join(f"{f.name} {len(set(scalar.all_values(f)))} up to {f.max:g}" for f in formats)
    figure.set_label(f"All numbers of small formats as ticks on a line, denser near zero: {counts}.")
    return figure


@styled
def block_layout(blocks: Sequence[BlockSpec]) -> Figure:
    """Draw a row per block format: its elements, and the scale that they share."""
    figure, ax = canvas(height=0.27 * len(blocks))
    for row, spec in enumerate(blocks):
        _boxes(ax, 0, row, spec.block_size, BLUE, height=0.56)
        _boxes(ax, spec.block_size + 0.8, row, 1, VERMILLION, width=3.2, height=0.56)
        ax.text(spec.block_size + 2.5, row, spec.scale.name, ha="center", va="center", color=VERMILLION)
        ax.text(-0.5, row, spec.name, ha="right", va="center", weight="bold")
    ax.text(0, -0.62, "elements of four bits", color=BLUE, va="center")
    ax.text(blocks[0].block_size + 0.8, -0.62, "shared scale", color=VERMILLION, va="center")
    ax.set(xlim=(-5, blocks[0].block_size + 6.5), ylim=(len(blocks) - 0.55, -0.95))
    ax.axis("off")
    return figure


@styled
def error_bars(errors: Mapping[str, float]) -> Figure:
    """Draw relative errors as bars, in the order of the mapping, with the value at the end of each bar."""
    figure, ax = canvas()
    colours = [BLUE, BLUE, GREEN, VERMILLION, ORANGE][: len(errors)]
    ax.barh(list(errors), list(errors.values()), color=colours, height=0.62)
    for row, error in enumerate(errors.values()):
        ax.text(error, row, f" {error:.1%}", va="center")
    ax.invert_yaxis()
    ax.xaxis.set_major_formatter("{x:.0%}")
    ax.set(xlabel="root mean square error / standard deviation", xlim=(0, 1.15 * max(errors.values())))
    ax.grid(False, axis="y")
    return figure


@styled
def grids(even: IntSpec, floating: FloatSpec) -> Figure:
    """Draw the positive numbers of an integer and of a float format, both scaled to a largest number of one."""
    figure, ax = canvas(height=0.7)
    for row, (fmt, colour) in enumerate(((even, BLUE), (floating, VERMILLION))):
        values = np.array(sorted({v for v in scalar.all_values(fmt) if v >= 0})) / fmt.max
        ax.vlines(values, row - 0.3, row + 0.3, color=colour, linewidth=1.5)
        ax.text(-0.02, row, fmt.name, ha="right", va="center", weight="bold", color=colour)
    ax.set(xlim=(-0.12, 1.02), ylim=(1.5, -0.5), xlabel="value / largest value")
    _bare(ax)
    return figure


@styled
def histograms(samples: Mapping[str, Sequence[float]], formats: Sequence[FloatSpec]) -> Figure:
    """Plot histograms of the magnitudes of three kinds of numbers, above the ranges of formats (subnormals paler)."""
    figure, (top, bottom) = canvas(rows=2, sharex=True, height_ratios=(3, 2))
    edges = np.arange(-34.5, 20.5)  # log2 of the magnitude; a bin is centred on a power of two
    highest = 0.0
    looks = ((BLUE, "-", "right"), (GREEN, "--", "left"), (VERMILLION, "-.", "center"))
    for (name, values), (colour, dash, side) in zip(samples.items(), looks, strict=True):
        size = np.abs(np.asarray(values, dtype=float))
        counts, _ = np.histogram(np.log2(size[size > 0]), edges)
        share = counts / counts.sum()
        top.stairs(share, edges, color=colour, linestyle=dash, linewidth=2.6)
        peak = edges[share.argmax()] + 0.5
        top.text(peak, share.max() + 0.006, name, ha=side, va="bottom", color=colour, weight="bold")
        highest = max(highest, share.max())
    top.set(ylabel="share", ylim=(0, 1.2 * highest))  # room for the name above the highest peak
    for row, fmt in enumerate(formats):
        low, normal, high = (math.log2(v) for v in (fmt.min_subnormal, fmt.min_normal, fmt.max))
        bottom.barh(row, normal - low, left=low, height=0.6, color=BLUE, alpha=0.25)
        bottom.barh(row, high - normal, left=normal, height=0.6, color=BLUE, alpha=0.7)
    bottom.set_yticks(range(len(formats)), [f.name for f in formats])
    bottom.set(xlim=(edges[0], edges[-1]), ylim=(len(formats) - 0.5, -0.5), xlabel="size of the number")
    bottom.xaxis.set_major_formatter(lambda x, _: f"$2^{{{x:.0f}}}$")
    bottom.grid(False, axis="y")
    middles = ", ".join(f"{name} {_median_size(values):.0e}" for name, values in samples.items())
    figure.set_label(
        f"Histograms of magnitudes above the ranges of {', '.join(f.name for f in formats)}. Medians: {middles}."
    )
    return figure


def _median_size(values: Sequence[float]) -> float:
    """The median magnitude of the values that are not zero."""
    size = np.abs(np.asarray(values, dtype=float))
    return float(np.median(size[size > 0]))


@styled
def ranges(formats: Sequence[FloatSpec]) -> Figure:
    """Draw the range of each format as a bar: normal numbers solid, subnormal ones hatched."""
    figure, ax = canvas(height=0.13 * len(formats) + 0.35)
    lows, highs = [], []
    for row, fmt in enumerate(formats):
        low, normal, high = (math.log2(v) for v in (fmt.min_subnormal, fmt.min_normal, fmt.max))
        lows.append(low)
        highs.append(high)
        ax.barh(row, high - normal, left=normal, height=0.6, color=BLUE, alpha=0.7)
        ax.barh(row, normal - low, left=low, height=0.6, color=SKY, alpha=0.4, hatch="///", edgecolor=BLUE)
        ax.text(high + 3, row, sci(fmt.max), va="center")
        ax.text(low - 3, row, sci(fmt.min_subnormal), va="center", ha="right")
    ax.set_yticks(range(len(formats)), [fmt.name for fmt in formats])
    width = max(highs) - min(lows)
    ax.set_xlim(min(lows) - 0.24 * width, max(highs) + 0.17 * width)  # room for the numbers at the ends
    ax.set(ylim=(len(formats) - 0.4, -0.6), xlabel="magnitude (hatched: subnormal)")
    ax.xaxis.set_major_formatter(lambda x, _: f"$2^{{{x:.0f}}}$")
    ax.grid(False, axis="y")
    reach = "; ".join(f"{f.name} from {f.min_subnormal:.3g} to {f.max:.3g}" for f in formats)
    figure.set_label(f"Range of {len(formats)} formats as bars over powers of two: {reach}.")
    return figure


@styled
def relative_error(formats: Sequence[FloatSpec], low: float = -12, high: float = 10) -> Figure:
    """Plot the largest relative rounding error, half an ulp / number, against numbers from 2^low to 2^high."""
    figure, ax = canvas()
    values = 2.0 ** np.linspace(low, high, 1500)
    for fmt in formats:
        colour, dash = LINES[fmt.name]
        inside = values[values <= fmt.max]
        errors = [min(scalar.ulp(float(v), fmt) / 2 / v, 1.0) for v in inside]
        ax.plot(inside, errors, color=colour, linestyle=dash, label=fmt.name)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(_percent)
    ax.set(xlabel="magnitude of the number", ylabel="largest relative error")
    ax.legend(ncols=len(formats), loc="upper right")
    peaks = ", ".join(f"{f.name} {f.eps / 2:.2%}" for f in formats)
    figure.set_label(
        f"Largest relative rounding error against magnitude: flat sawtooth lines with peaks at {peaks}; below a "
        "format's smallest normal number its line climbs to 100 %."
    )
    return figure


def _percent(share: float, _tick: int) -> str:
    """Write a share as percent, with the digits that its size needs."""
    if share < 0.01:
        return f"{share:.2%}"
    return f"{share:.0%}"


@styled
def signal_to_noise(rows: Mapping[str, tuple[float, float]]) -> Figure:
    """Plot a labelled point per format; rows are {name: (bits per element, signal to quantisation noise in dB)}."""
    figure, ax = canvas()
    for (name, (bits, decibels)), marker in zip(rows.items(), MARKERS * 2, strict=False):
        ax.plot(bits, decibels, marker=marker, linestyle="none", color=BLUE)
        ax.annotate(name, (bits, decibels), xytext=(9, -3), textcoords="offset points")
    ax.set(xlabel="bits per element, scale included", ylabel="signal to noise, dB (more is better)")
    ax.margins(x=0.22, y=0.12)
    points = ", ".join(f"{name} {bits:g} bits {decibels:.1f} dB" for name, (bits, decibels) in rows.items())
    figure.set_label(f"Signal to quantisation noise against bits per element: {points}.")
    return figure

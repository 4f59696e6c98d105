"""The figures of lecture 1, for its notebook and its deck. Bit strips and tables are in `tables`.

Every function takes formats or numbers and returns a matplotlib Figure whose label is its alt text. In a notebook
`title=` says the finding; on a slide the slide's own title does, and `preset="slide"` makes the type large.
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
    """Leave only the horizontal axis: the vertical one has no meaning here."""
    ax.yaxis.set_visible(False)
    ax.grid(False)
    for side in ("left", "right", "top"):
        ax.spines[side].set_visible(False)


@styled
def running_sums(sums: Mapping[str, Sequence[float]]) -> Figure:
    """One line per format over the number of steps, named at its end."""
    figure, ax = canvas()
    for name, values in sums.items():
        colour, dash = LINES[name]
        ax.plot(np.asarray(values), color=colour, linestyle=dash)
        side = "top" if name == "FP16" else "bottom"  # FP16 ends just below FP32
        ax.text(
            1.02 * len(values), float(values[-1]), f"{name}: {float(values[-1]):.4f}", color=colour, va=side
        )
    ax.set(xlabel="additions", ylabel="running sum", xlim=(0, 1.27 * len(values)), ylim=(0.95, 2.12))
    ends = ", ".join(f"{name} ends at {float(values[-1]):.4f}" for name, values in sums.items())
    figure.set_label(f"Running sums over {len(values):,} additions: {ends}.")
    return figure


@styled
def landmarks(fmt: FloatSpec) -> Figure:
    """The positive half of a format from zero to infinity on a logarithmic axis."""
    figure, ax = canvas(height=0.78)
    edges = [fmt.min_subnormal / 64, fmt.min_subnormal / 2, fmt.min_normal, fmt.max, fmt.max * 64]
    kinds = (
        ("rounds\nto 0", PURPLE, "///"),
        ("subnormal", ORANGE, "..."),
        ("normal", GREEN, ""),
        ("inf", VERMILLION, "xxx"),
    )
    for (kind, colour, hatch), left, right in zip(kinds, edges, edges[1:], strict=False):
        ax.barh(
            0, right - left, left=left, height=0.8, color=colour, alpha=0.28, hatch=hatch, edgecolor=colour
        )
        ax.text(math.sqrt(left * right), 0.62, kind, ha="center", va="center", color=colour, weight="bold")
    marks = {"smallest": fmt.min_subnormal, "smallest normal": fmt.min_normal, "one": 1.0, "largest": fmt.max}
    for name, value in marks.items():
        ax.vlines(value, -0.5, 0.4, color=BLUE, linewidth=3)
        ax.text(value, -0.56, f"{name}\n{sci(value)}", ha="center", va="top", color=BLUE)
    ax.set(xscale="log", ylim=(-1.3, 0.9), xlim=(edges[0], edges[-1]), xlabel=f"value in {fmt.name}")
    _bare(ax)
    return figure


@styled
def near_zero(fmt: FloatSpec) -> Figure:
    """The numbers next to zero, with and without subnormals."""
    figure, ax = canvas(height=0.78)
    values = np.array(sorted(v for v in scalar.all_values(fmt) if 0 <= v <= 4 * fmt.min_normal))
    without = values[(values == 0) | (values >= fmt.min_normal)]
    for y, ticks, colour, label in (
        (1, values, GREEN, "with subnormals"),
        (0, without, VERMILLION, "without"),
    ):
        ax.vlines(ticks, y - 0.26, y + 0.26, color=colour, linewidth=3)
        ax.text(-0.12 * fmt.min_normal, y, label, ha="right", va="center", color=colour, weight="bold")
    ax.axvspan(0, fmt.min_normal, color=SKY, alpha=0.16)
    ax.text(fmt.min_normal / 2, 1.5, "subnormal", ha="center", color=BLUE)
    ax.text(fmt.min_normal * 2.5, 1.5, "normal", ha="center", color=BLUE)
    powers = [0, *(fmt.min_normal * k for k in (1, 2, 4))]
    names = ["0", *(f"$2^{{{int(math.log2(p))}}}$" for p in powers[1:])]
    ax.set(
        xlim=(-1.15 * fmt.min_normal, 4.1 * fmt.min_normal), ylim=(-0.5, 1.8), xlabel=f"value in {fmt.name}"
    )
    ax.set_xticks(powers, names)
    _bare(ax)
    return figure


@styled
def spacing(formats: Sequence[FloatSpec]) -> Figure:
    """One ulp against the value, both logarithmic: a staircase per format."""
    figure, ax = canvas()
    for fmt in formats:
        colour, dash = LINES[fmt.name]
        low, high = max(fmt.min_subnormal, 2.0**-30), min(fmt.max, 2.0**24)
        values = [2.0**k for k in range(round(math.log2(low)), round(math.log2(high)) + 1)]
        ax.step(values, [scalar.ulp(v, fmt) for v in values], where="post", color=colour, linestyle=dash)
        end, above = (
            (values[-1], scalar.ulp(values[-1], fmt)),
            fmt.name == "E4M3",
        )  # its end lies on others' lines
        align = {"ha": "right", "va": "bottom"} if above else {"ha": "left", "va": "center"}
        ax.annotate(f" {fmt.name}", end, color=colour, weight="bold", **align)
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
    """A row of boxes per format, one box per bit, aligned at the border of exponent and mantissa."""
    longest = max(f.bits for f in formats)
    figure, ax = canvas(height=0.16 * len(formats) + 0.07)
    pivot = max(f.exponent_bits for f in formats)
    for row, fmt in enumerate(formats):
        start = pivot - fmt.exponent_bits
        _boxes(ax, -1.25, row, 1, VERMILLION)
        _boxes(ax, start, row, fmt.exponent_bits, BLUE)
        _boxes(ax, pivot + 0.25, row, fmt.mantissa_bits, GREEN)
        ax.text(-1.7, row, fmt.name, ha="right", va="center", weight="bold")
        ax.text(
            pivot + fmt.mantissa_bits + 0.7, row, f"{fmt.exponent_bits} + {fmt.mantissa_bits}", va="center"
        )
    for x, name, colour in (
        (-0.75, "sign", VERMILLION),
        (pivot / 2, "exponent", BLUE),
        (pivot + 2, "mantissa", GREEN),
    ):
        ax.text(x, -0.72, name, ha="center" if x < pivot else "left", va="center", color=colour)
    ax.set(xlim=(-5, max(longest + 2.5, 20)), ylim=(len(formats) - 0.45, -1.05))
    ax.axis("off")
    bits = "; ".join(f"{f.name} {f.exponent_bits} exponent, {f.mantissa_bits} mantissa" for f in formats)
    figure.set_label(f"Bit fields of {len(formats)} formats, each with a sign bit. Bits: {bits}.")
    return figure


def _boxes(
    ax, left: float, row: float, count: int, colour: str, width: float = 0.86, height: float = 0.72
) -> None:
    for k in range(count):
        box = FancyBboxPatch(
            (left + k + 0.07, row - height / 2), width, height, boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=to_rgba(colour, 0.3), edgecolor=colour, linewidth=1.4,
        )  # fmt: skip
        ax.add_patch(box)


@styled
def ties(drift: Mapping[str, float]) -> Figure:
    """Left: where the ties between whole numbers go. Right: mean error of the two rules over many ties."""
    figure, (line, bars) = canvas(columns=2, width_ratios=(3, 2))
    line.hlines(0, 0.7, 4.3, color=BLUE, linewidth=1.4)
    for n in range(1, 5):
        even = n % 2 == 0
        line.plot(n, 0, "o", markersize=17 if even else 11, color=GREEN if even else SKY)
        line.text(
            n,
            -0.16,
            f"{n}\n{'even' if even else 'odd'}",
            ha="center",
            va="top",
            color=GREEN if even else None,
        )
    for tie in (1.5, 2.5, 3.5):
        _arrow(line, tie, round(tie))
        line.plot(tie, 0, "|", markersize=22, color=VERMILLION, markeredgewidth=2.4)
        line.text(tie, 0.3, f"{tie}", ha="center", color=VERMILLION, weight="bold")
    line.set(xlim=(0.6, 4.4), ylim=(-0.75, 0.75))
    line.axis("off")
    bars.bar(list(drift), list(drift.values()), color=[VERMILLION, GREEN], width=0.55, hatch=["//", ""])
    for k, value in enumerate(drift.values()):
        bars.text(k, value + 0.02, f"{value:+.2f}", ha="center", va="bottom")
    bars.set(ylabel="mean error", ylim=(0, 0.62))
    return figure


def _arrow(ax, start: float, end: float) -> None:
    """A bent arrow above the line, from a tie to the number it goes to."""
    bend = f"arc3,rad={0.6 if end < start else -0.6}"
    look = {"arrowstyle": "-|>", "color": VERMILLION, "linewidth": 2.4, "connectionstyle": bend}
    ax.annotate("", (end, 0.08), (start, 0.08), arrowprops=look)


@styled
def stochastic(runs: Sequence[Sequence[float]], nearest: Sequence[float], shown: int = 20) -> Figure:
    """Running sums with stochastic rounding, the first `shown` of them and the mean of all, and the nearest one."""
    figure, ax = canvas()
    stack = np.stack([np.asarray(run, dtype=float) for run in runs])
    for run in stack[:shown]:
        ax.plot(run, color=SKY, linestyle="-", linewidth=1.0, alpha=0.75)
    steps = np.arange(stack.shape[1])
    ax.plot(steps, stack.mean(0), color=BLUE, linestyle="-")
    ax.plot(np.asarray(nearest), color=VERMILLION, linestyle="-.")
    ax.text(
        1.01 * len(steps),
        stack.mean(0)[-1],
        f"stochastic,\nmean of {len(stack)} runs",
        color=BLUE,
        va="center",
    )
    ax.text(1.01 * len(steps), float(nearest[-1]), "to nearest", color=VERMILLION, va="center")
    ax.set(xlabel="additions", ylabel="running sum", xlim=(0, 1.3 * len(steps)))
    figure.set_label(
        f"Running sums with stochastic rounding scatter around a straight line; the mean of {len(stack)} runs ends at "
        f"{stack.mean(0)[-1]:.2f}. The sum rounded to nearest ends at {float(nearest[-1]):.2f}."
    )
    return figure


@styled
def accumulators(exact: Sequence[float], sums: Mapping[str, Sequence[float]]) -> Figure:
    """The same inputs added into accumulators of different formats."""
    figure, ax = canvas()
    exact = np.asarray(exact)
    every = slice(None, None, max(1, len(exact) // 400))
    steps = np.arange(len(exact))[every]
    for (name, values), (colour, dash) in zip(sums.items(), ((VERMILLION, "-."), (BLUE, "-")), strict=True):
        values = np.asarray(values)[-len(exact) :][every]
        ax.plot(steps, values, color=colour, linestyle=dash)
        ax.text(1.01 * len(exact), values[-1], name, color=colour, va="center")
    ax.set(xlabel="addends", ylabel="running sum", xlim=(0, 1.36 * len(exact)))
    ends = ", ".join(f"{name} {float(values[-1]):,.0f}" for name, values in sums.items())
    figure.set_label(f"Running sums of {len(exact):,} numbers. They end at: exact {exact[-1]:,.0f}, {ends}.")
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.yaxis.set_major_formatter("{x:,.0f}")
    return figure


@styled
def all_numbers(formats: Sequence[FloatSpec]) -> Figure:
    """Every number of a few small formats as ticks, each on the scale of its own largest number."""
    figure, axes = canvas()
    for row, fmt in enumerate(formats):
        values = sorted(set(scalar.all_values(fmt)))
        axes.vlines(
            np.array(values) / fmt.max,
            row - 0.27,
            row + 0.27,
            color=(BLUE, GREEN, VERMILLION)[row % 3],
            linewidth=2.2,
        )
        axes.text(-1.06, row, fmt.name, ha="right", va="center", weight="bold")
        axes.text(1.06, row, f"{len(values)} numbers\nup to {fmt.max:g}", va="center")
    axes.set(xlim=(-1.4, 1.55), ylim=(len(formats) - 0.5, -0.5), xlabel="value / largest value")
    axes.set_xticks([-1, -0.5, 0, 0.5, 1])
    _bare(axes)
    counts = ", ".join(f"{f.name} {len(set(scalar.all_values(f)))} up to {f.max:g}" for f in formats)
    figure.set_label(f"All numbers of small formats as ticks on a line, denser near zero: {counts}.")
    return figure


@styled
def block_layout(blocks: Sequence[BlockSpec]) -> Figure:
    """A row per block format: its elements, and the scale that they share."""
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
    """Relative errors as bars, shortest name first on the axis, the value written at each bar."""
    figure, ax = canvas()
    names = list(errors)
    ax.barh(
        names,
        [errors[n] for n in names],
        color=[BLUE, BLUE, GREEN, VERMILLION, ORANGE][: len(names)],
        height=0.62,
    )
    for row, name in enumerate(names):
        ax.text(errors[name], row, f" {errors[name]:.1%}", va="center")
    ax.invert_yaxis()
    ax.xaxis.set_major_formatter("{x:.0%}")
    ax.set(xlabel="root mean square error / standard deviation", xlim=(0, 1.15 * max(errors.values())))
    ax.grid(False, axis="y")
    return figure


@styled
def grids(even: IntSpec, floating: FloatSpec) -> Figure:
    """The positive numbers of an integer and of a float format of the same width on one scale."""
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
    """How large the numbers of a network are, over what each format can hold (subnormals paler)."""
    figure, (top, bottom) = canvas(rows=2, sharex=True, height_ratios=(3, 2))
    edges = np.arange(-34.5, 20.5)
    looks = ((BLUE, "-", "right"), (GREEN, "--", "left"), (VERMILLION, "-.", "center"))
    for (name, values), (colour, dash, side) in zip(samples.items(), looks, strict=True):
        size = np.abs(np.asarray(values, dtype=float))
        counts, _ = np.histogram(np.log2(size[size > 0]), edges)
        share = counts / counts.sum()
        top.stairs(share, edges, color=colour, linestyle=dash, linewidth=2.6)
        peak = edges[share.argmax()] + 0.5
        top.text(peak, share.max() + 0.006, name, ha=side, va="bottom", color=colour, weight="bold")
    top.set(ylabel="share", ylim=(0, 0.36))
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
    size = np.abs(np.asarray(values, dtype=float))
    return float(np.median(size[size > 0]))


@styled
def ranges(formats: Sequence[FloatSpec]) -> Figure:
    """What each format reaches: normal numbers solid, subnormal ones hatched."""
    figure, ax = canvas(height=0.13 * len(formats) + 0.35)
    for row, fmt in enumerate(formats):
        low, normal, high = (math.log2(v) for v in (fmt.min_subnormal, fmt.min_normal, fmt.max))
        ax.barh(row, high - normal, left=normal, height=0.6, color=BLUE, alpha=0.7)
        ax.barh(row, normal - low, left=low, height=0.6, color=SKY, alpha=0.4, hatch="///", edgecolor=BLUE)
        ax.text(high + 3, row, sci(fmt.max), va="center")
        ax.text(low - 3, row, sci(fmt.min_subnormal), va="center", ha="right")
    ax.set_yticks(range(len(formats)), [fmt.name for fmt in formats])
    ax.set(xlim=(-215, 175), ylim=(len(formats) - 0.4, -0.6), xlabel="magnitude (hatched: subnormal)")
    reach = "; ".join(f"{f.name} from {f.min_subnormal:.3g} to {f.max:.3g}" for f in formats)
    figure.set_label(f"Range of {len(formats)} formats as bars over powers of two: {reach}.")
    ax.xaxis.set_major_formatter(lambda x, _: f"$2^{{{x:.0f}}}$")
    ax.grid(False, axis="y")
    return figure


@styled
def relative_error(formats: Sequence[FloatSpec], low: float = -12, high: float = 10) -> Figure:
    """Largest relative rounding error against the magnitude: half an ulp, divided by the number."""
    figure, ax = canvas()
    values = 2.0 ** np.linspace(low, high, 1500)
    for fmt in formats:
        colour, dash = LINES[fmt.name]
        inside = values[values <= fmt.max]
        errors = [min(scalar.ulp(float(v), fmt) / 2 / v, 1.0) for v in inside]
        ax.plot(inside, errors, color=colour, linestyle=dash, label=fmt.name)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(lambda y, _: f"{y:.2%}" if y < 0.01 else f"{y:.0%}")
    ax.set(xlabel="magnitude of the number", ylabel="largest relative error")
    ax.legend(ncols=len(formats), loc="upper right")
    peaks = ", ".join(f"{f.name} {f.eps / 2:.2%}" for f in formats)
    figure.set_label(
        f"Largest relative rounding error against magnitude: flat sawtooth lines with peaks at {peaks}, rising to "
        "100 % where a format's subnormal numbers begin."
    )
    return figure


@styled
def signal_to_noise(rows: Mapping[str, tuple[float, float]]) -> Figure:
    """{name: (bits per element, signal to quantisation noise in dB)} as labelled points."""
    figure, ax = canvas()
    for (name, (bits, decibels)), marker in zip(rows.items(), MARKERS * 2, strict=False):
        ax.plot(bits, decibels, marker=marker, linestyle="none", color=BLUE)
        ax.annotate(name, (bits, decibels), xytext=(9, -3), textcoords="offset points")
    ax.set(xlabel="bits per element, scale included", ylabel="signal to noise, dB (more is better)")
    ax.margins(x=0.22, y=0.12)
    points = ", ".join(f"{name} {bits:g} bits {decibels:.1f} dB" for name, (bits, decibels) in rows.items())
    figure.set_label(f"Signal to quantisation noise against bits per element: {points}.")
    return figure

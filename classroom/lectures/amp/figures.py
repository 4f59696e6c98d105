"""Draw the figures of lecture 2, for its notebook and its deck.

    show(loss_curves(runs), "The cures follow FP32")

Every function takes what `experiments` or `coursekit.amp` measured and returns a matplotlib Figure whose label is its
alt text. On a slide, `preset="slide"` makes the type large, and the slide's own title says the finding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from classroom.drawing.style import HATCHES, LINES, OKABE_ITO, PANEL, canvas, styled
from classroom.drawing.training import smooth
from classroom.lectures.amp.experiments import PrecisionRun
from coursekit.amp.grad_stats import Shares, exponents
from coursekit.formats.spec import FP16, FloatSpec

COLOURS = [OKABE_ITO[name] for name in ("blue", "vermillion", "green", "purple", "orange", "ink", "sky")]
KINDS = (  # what a format does to a number: (name in Shares, words, colour, hatch)
    ("zero", "becomes zero", OKABE_ITO["purple"], "///"),
    ("subnormal", "subnormal: fewer digits", OKABE_ITO["orange"], "..."),
    ("overflow", "overflows", OKABE_ITO["vermillion"], "xxx"),
)


@styled
def loss_curves(runs: Mapping[str, Sequence[PrecisionRun]], window: int = 5) -> Figure:
    """Plot the mean of the seeds and a band from the lowest to the highest; a cross where a run became NaN.

    runs    {recipe: its runs, one per seed}
    window  steps over which every loss is averaged
    """
    figure, ax = canvas(height=1.05)
    words = []
    for number, (name, several) in enumerate(runs.items()):
        colour = COLOURS[number % len(COLOURS)]
        dash = LINES[number % len(LINES)]
        losses = np.array([run.losses for run in several], dtype=float)  # [seeds, steps]
        if np.isnan(losses).any():
            words.append(f"{name} is NaN after step {_died(ax, losses, colour, name)}")
            continue
        curves = np.array([smooth(row, window) for row in losses])
        steps = np.arange(1, curves.shape[1] + 1)
        ax.fill_between(steps, curves.min(0), curves.max(0), color=colour, alpha=0.18, linewidth=0)
        ax.plot(steps, curves.mean(0), color=colour, linestyle=dash, label=name)
        words.append(f"{name} ends at {curves.mean(0)[-1]:.2f}")
    ax.set(xlabel="step", ylabel=f"loss, mean of {window} steps", ylim=(0, None), xlim=(0, None))
    ax.legend(loc="lower left")
    seeds = len(next(iter(runs.values())))
    figure.set_label(
        f"Loss against step, averaged over {window} steps, mean and range of {seeds} seeds: {'; '.join(words)}."
    )
    return figure


def _died(ax, losses: np.ndarray, colour: str, name: str) -> int:
    """Mark the last step that is finite with every seed, and return its number."""
    last = int(np.isfinite(losses).all(axis=0).sum())
    loss = losses[:, last - 1].mean()
    ax.plot([last], [loss], marker="X", color=colour, linestyle="", label=f"{name}: NaN")
    return last


@styled
def gradient_histogram(kinds: Mapping[str, object], fmt: FloatSpec = FP16, scale: float = 1.0) -> Figure:
    """Draw the share of gradients in each binade, over what the format does there: one row per kind.

    kinds  {what: gradients of any shape}; zeros are left out
    scale  a power of two: the gradients multiplied by it are drawn as well, hatched
    """
    figure, axes = canvas(len(kinds), 1, height=0.5 + 0.36 * len(kinds), sharex=True, squeeze=False)
    shift = round(math.log2(scale))
    lowest, highest = math.log2(fmt.min_subnormal), math.log2(fmt.max)
    for ax, (name, x), colour in zip(axes[:, 0], kinds.items(), COLOURS, strict=False):
        k, count = (t.cpu().numpy() for t in exponents(x))
        percent = 100 * count / count.sum()
        ax.bar(k, percent, width=0.85, color=colour, alpha=0.85, label="unscaled")
        if shift:
            ax.bar(
                k + shift, percent, width=0.85, fill=False, edgecolor=OKABE_ITO["green"], hatch="///",
                linewidth=0.8, label=f"times $2^{{{shift}}}$",
            )  # fmt: skip
        _zones(ax, fmt)
        ax.set(ylabel="% of them", ylim=(0, 1.3 * percent.max()))
        ax.set_title(name, loc="right", fontsize="medium")
        ax.legend(loc="upper left")
    axes[-1, 0].set_xlabel("k of the binade: the gradient lies between $2^k$ and $2^{k+1}$")
    axes[-1, 0].set_xlim(lowest - 22, highest + 8)  # what lies further left is zero for certain
    scaled = f", unscaled and times 2 to the power of {shift}" if shift else ""
    figure.set_label(f"Histograms of {' and '.join(kinds)} by binade over the ranges of {fmt.name}{scaled}.")
    return figure


def _zones(ax, fmt: FloatSpec) -> None:
    """Shade the binades in which the format gives zero, subnormal numbers, normal numbers, infinity."""
    dies = math.log2(fmt.min_subnormal) - 1  # half of the smallest number rounds to zero
    normal = math.log2(fmt.min_normal)
    overflows = math.floor(math.log2(fmt.max)) + 1
    edges = [-60, dies, normal, overflows, 40]
    tones = (OKABE_ITO["purple"], OKABE_ITO["orange"], OKABE_ITO["green"], OKABE_ITO["vermillion"])
    for left, right, colour in zip(edges, edges[1:], tones, strict=False):
        ax.axvspan(left - 0.5, right - 0.5, color=colour, alpha=0.1, linewidth=0)
    borders = {dies: "zero | subnormal", normal: "subnormal | normal", overflows: "normal | inf"}
    for edge, words in borders.items():
        place = edge - 0.5
        ax.axvline(place, color=OKABE_ITO["ink"], linewidth=0.9, linestyle=":")
        above = ax.get_xaxis_transform()  # x in binades, y as a share of the axis
        ax.text(place, 0.97, words, ha="center", va="top", fontsize="x-small", transform=above)


@styled
def shares_by_layer(rows: Sequence[Shares]) -> Figure:
    """Draw a bar per layer: the shares of its gradients that the format flushes, makes subnormal or lets overflow."""
    figure, ax = canvas(height=0.35 + 0.1 * len(rows))
    left, places = np.zeros(len(rows)), np.arange(len(rows))[::-1]
    for kind, words, colour, hatch in KINDS:
        values = np.array([100 * getattr(row, kind) for row in rows])
        if not values.any():
            continue
        look = {"color": colour, "alpha": 0.55, "hatch": hatch, "edgecolor": colour}
        ax.barh(places, values, left=left, label=words, **look)
        left += values
    ax.set_yticks(places, [row.name for row in rows])
    ax.set(xlim=(0, 100), xlabel="% of the gradients that are not zero")
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=3)
    worst = max(rows, key=lambda row: row.zero)
    figure.set_label(
        f"Shares of gradients that become zero, are subnormal or overflow in {len(rows)} layers; most become zero in "
        f"{worst.name}: {worst.zero:.1%}."
    )
    return figure


@styled
def scale_trajectory(runs: Mapping[str, PrecisionRun]) -> Figure:
    """Plot the loss scale of every step, one line per run, with a cross at every skipped step."""
    figure, ax = canvas(height=0.9)
    words = []
    for number, (name, run) in enumerate(runs.items()):
        scales = np.log2(np.array(run.scales))
        steps = np.arange(1, len(scales) + 1)
        skipped = steps[:-1][scales[1:] < scales[:-1]]  # after a skipped step the scale is halved
        colour = COLOURS[number]
        ax.step(steps, scales, where="mid", color=colour, linestyle=LINES[number], label=name)
        ax.plot(skipped, scales[skipped - 1], marker="X", linestyle="", color=colour)
        words.append(f"{name}: {len(skipped)} steps skipped, ends at 2 to the power of {scales[-1]:.0f}")
    ax.plot([], [], marker="X", linestyle="", color=OKABE_ITO["ink"], label="skipped step")
    ax.set(xlabel="step", ylabel="log$_2$ of the loss scale")
    ax.legend(loc="best")
    figure.set_label(f"Loss scale against step. {'; '.join(words)}.")
    return figure


@styled
def ledgers(per_parameter: Mapping[str, Mapping[str, float]]) -> Figure:
    """Draw the bytes per parameter held from step to step, {recipe: {what: bytes}}: one stacked bar per recipe."""
    figure, ax = canvas(height=0.45 + 0.13 * len(per_parameter))
    kinds = list(next(iter(per_parameter.values())))
    places, left = np.arange(len(per_parameter))[::-1], np.zeros(len(per_parameter))
    for kind, colour, hatch in zip(kinds, COLOURS, HATCHES, strict=False):
        values = np.array([ledger[kind] for ledger in per_parameter.values()])
        look = {"color": colour, "alpha": 0.6, "hatch": hatch, "edgecolor": colour}
        ax.barh(places, values, left=left, label=kind, **look)
        for place, value, start in zip(places, values, left, strict=True):
            if value:
                ax.text(
                    start + value / 2, place, f"{value:g}", ha="center", va="center", weight="bold",
                    bbox={"facecolor": PANEL, "edgecolor": "none", "pad": 1.2, "alpha": 0.85},
                )  # fmt: skip
        left += values
    ax.set_yticks(places, list(per_parameter))
    ax.set(xlabel="bytes per parameter, held from step to step")
    ax.legend(loc="upper center", bbox_to_anchor=(0.4, 1.0 + 0.5 / len(per_parameter)), ncols=len(kinds))
    totals = ", ".join(f"{name} {total:g}" for name, total in zip(per_parameter, left, strict=True))
    figure.set_label(f"Bytes per parameter by recipe: {totals}.")
    return figure


@styled
def format_shares(shares: Mapping[str, Mapping[str, Shares]]) -> Figure:
    """Draw the share of gradients that each format flushes to zero, {format: {way of scaling: Shares}}, as bars."""
    figure, ax = canvas(height=0.8)
    ways = list(next(iter(shares.values())))
    width = 0.8 / len(ways)
    for number, way in enumerate(ways):
        offset = (number - (len(ways) - 1) / 2) * width  # the group is centred on its tick
        places = np.arange(len(shares)) + offset
        values = [100 * row[way].zero for row in shares.values()]
        look = {
            "color": COLOURS[number],
            "alpha": 0.6,
            "hatch": HATCHES[number],
            "edgecolor": COLOURS[number],
        }
        ax.bar(places, values, width, label=way, **look)
        for place, value in zip(places, values, strict=True):
            ax.text(place, value + 1.5, f"{value:.3g}", ha="center", va="bottom", fontsize="small")
    ax.set_xticks(range(len(shares)), list(shares))
    ax.set(ylabel="% flushed to zero", ylim=(0, 115))
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, 1.14), ncols=len(ways))  # above the bars
    words = ", ".join(f"{name} {row[ways[-1]].zero:.1%}" for name, row in shares.items())
    figure.set_label(f"Share of gradients flushed to zero by format; with {ways[-1]}: {words}.")
    return figure


# {recipe: (boxes from left to right, what the arrow back does)}; the last line of a box is its dtype
STEP = ("unscale\nFP32", "Adam\nFP32")
MASTERS = ("weights\nFP16", "forward,\nbackward\nFP16", "gradients\nFP16", *STEP, "master\nweights\nFP32")
CASTS = "cast, then\nforward,\nbackward\nFP16"
AUTOCAST = ("weights\nFP32", CASTS, "gradients\nFP32", *STEP, "same\nweights\nFP32")
FLOWS = {
    "masters": (MASTERS, "rounded to FP16 after every step"),
    "autocast": (AUTOCAST, "nothing to copy: there is no second set of weights"),
}


@styled
def flow(kind: str) -> Figure:
    """Draw a step of one of the two recipes called mixed precision: FP16 weights with "masters", or "autocast"."""
    boxes, back = FLOWS[kind]
    figure, ax = canvas(height=0.62)
    for place, words in enumerate(boxes):
        low = words.endswith("FP16")
        colour = OKABE_ITO["orange" if low else "blue"]
        box = FancyBboxPatch(
            (place, 0), 0.74, 1, boxstyle="round,pad=0.02", facecolor=PANEL, edgecolor=colour, linewidth=2.4,
            linestyle="--" if low else "-",
        )  # fmt: skip
        ax.add_patch(box)
        look = {"fontsize": "small", "color": colour, "weight": "bold"}
        ax.text(place + 0.37, 0.5, words, ha="center", va="center", **look)
        if place:
            ax.annotate("", (place - 0.03, 0.5), (place - 0.23, 0.5), arrowprops={"arrowstyle": "->"})
    end = len(boxes) - 1 + 0.37
    way_back = {"arrowstyle": "->", "connectionstyle": "bar,fraction=-0.06", "linestyle": ":"}
    ax.annotate("", (0.37, -0.06), (end, -0.06), arrowprops=way_back)
    ax.text(end / 2 + 0.2, -0.62, back, ha="center", va="top", fontsize="small")
    ax.set(xlim=(-0.1, len(boxes) - 0.1), ylim=(-0.95, 1.15))
    ax.axis("off")
    chain = ", ".join(words.replace("\n", " ") for words in boxes)
    figure.set_label(f"Flow of a step: {chain}; {back}. Solid boxes are FP32, dashed boxes FP16.")
    return figure

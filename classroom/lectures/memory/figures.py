"""Draw the figures of lecture 3, for its notebook and its deck.

Every function takes what `coursekit.memory` computed or measured and returns a matplotlib Figure whose label is its alt
text. In a notebook the second argument of `show` says the finding; on a slide the slide's own title does, and
`preset="slide"` makes the type large. Sizes are in MB of 10^6 or GB of 10^9 bytes, and the axis says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from classroom.drawing.style import HATCHES, INK, LINES, MARKERS, OKABE_ITO, PANEL, SOFT, canvas, styled
from classroom.drawing.training import smooth
from coursekit.memory.cards import Card
from coursekit.memory.ledger import LEDGERS, Ledger
from coursekit.memory.planner import CATEGORIES, PHASES, Estimate
from coursekit.units import GB, MB

# category: (colour, hatch); the same in every figure, and in the explorer
LOOK = {
    "weights": ("blue", ""),
    "gathered weights": ("sky", "xxx"),
    "master weights": ("sky", "///"),
    "optimizer states": ("green", "..."),
    "gradients": ("orange", "\\\\\\"),
    "activations": ("vermillion", "--"),
    "temporary": ("purple", "ooo"),
    "inputs": ("ink", ""),
}
COLOURS = [OKABE_ITO[name] for name in ("blue", "vermillion", "green", "purple", "orange", "sky", "ink")]


def unit(largest: float) -> tuple[float, str]:
    """(bytes, name) of the unit in which a figure with this largest value is drawn."""
    return (GB, "GB") if largest >= GB else (MB, "MB")


@styled
def step_timeline(moments: Sequence[tuple], measured: Sequence[tuple[str, int]] = ()) -> Figure:
    """Bytes by category through one step, event by event, and on top what the allocator measured.

    moments    of planner.timeline
    measured   (phase, bytes) after every event of the real step; each phase is stretched to the planned one
    """
    figure, ax = canvas(height=1.15)
    names = [name for name in CATEGORIES if name != "inputs" and any(terms[name] for *_, terms in moments)]
    rows = np.array([[terms[name] for name in names] for *_, terms in moments], dtype=float)
    scale, word = unit(rows.sum(1).max())
    phases = [phase for phase, *_ in moments]
    x = np.linspace(0, 1, len(rows))
    below = np.zeros(len(rows))
    for k, name in enumerate(names):
        colour, hatch = LOOK[name]
        look = {"facecolor": OKABE_ITO[colour], "hatch": hatch, "linewidth": 0, "alpha": 0.85}
        above = below + rows[:, k] / scale
        ax.fill_between(x, below, above, step="post", label=name, **look)
        below = above
    if measured:
        across, sums = _laid_over(measured, phases, x)
        ax.plot(across, sums / scale, color=INK, linewidth=1.4, linestyle="-", label="measured")
    _phase_ticks(ax, phases, x)
    ax.set(ylabel=f"memory in {word}", xlim=(0, 1), ylim=(0, 1.22 * below.max()))
    ax.legend(loc="upper left", ncols=3)
    top = int(below.argmax())
    on_top = ", the measured curve on top of them" if measured else ""
    figure.set_label(
        f"Memory through a training step: highest, {below[top]:.1f} {word}, in {moments[top][0]} at the "
        f"{moments[top][1]}; {', '.join(names)} stacked{on_top}."
    )
    return figure


def _laid_over(measured, phases: list[str], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Spread the measured events over the width that their phase has in the plan: (places, bytes)."""
    across, sums = [], []
    for phase in dict.fromkeys(phases):
        own = [total for name, total in measured if name == phase]
        places = x[[k for k, name in enumerate(phases) if name == phase]]
        across += list(np.linspace(places[0], places[-1], len(own)))
        sums += own
    return np.array(across), np.array(sums, dtype=float)


def _phase_ticks(ax, phases: list[str], x: np.ndarray) -> None:
    starts = [k for k in range(len(phases)) if k == 0 or phases[k] != phases[k - 1]]
    ends = [*starts[1:], len(phases) - 1]
    for k in starts[1:]:
        ax.axvline(x[k], color=SOFT, linewidth=1, linestyle=":")
    ticks = {}
    for start, end in zip(starts, ends, strict=True):
        if x[end] - x[start] > 0.02:  # a name needs room
            ticks[(x[start] + x[end]) / 2] = phases[start]
    ax.set_xticks(list(ticks), list(ticks.values()))
    ax.grid(visible=False, axis="x")


@styled
def phase_bars(estimates: Mapping[str, Estimate], card: Card | None = None) -> Figure:
    """The highest point of every phase, by category: one group of bars per plan, and the card as a line."""
    figure, axes = canvas(1, len(estimates), height=1.1, sharey=True, squeeze=False)
    largest = max(e.peak_bytes for e in estimates.values())
    if card:
        largest = max(largest, card.bytes)
    scale, word = unit(largest)
    words = []
    for ax, (name, found) in zip(axes[0], estimates.items(), strict=True):
        _stack(ax, [found.phases[phase] for phase in PHASES], scale)
        ax.set_xticks(
            range(len(PHASES)), ["forward", "start of\nbackward", "end of\nbackward", "optimizer\nstep"]
        )
        if len(estimates) > 1:
            ax.set_title(name, loc="left", fontsize="medium")
        if card:
            ax.axhline(card.bytes / scale, color=INK, linestyle="--")
            ax.annotate(
                card.name,
                (0.99, card.bytes / scale),
                xytext=(0, 4),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
                va="bottom",
                bbox={"facecolor": PANEL, "edgecolor": "none", "pad": 1.5},
            )
        words.append(f"{name}: peak {found.peak_bytes / scale:.1f} {word} in {found.peak_phase}")
    axes[0, 0].set_ylabel(f"memory in {word}")
    axes[0, 0].set_ylim(0, 1.3 * largest / scale)
    _category_legend(figure, axes[0, 0], [e.phases[p] for e in estimates.values() for p in PHASES])
    figure.set_label(f"Memory by phase and category. {'; '.join(words)}.")
    return figure


def _stack(ax, bars: Sequence[Mapping[str, int]], scale: float, width: float = 0.66) -> None:
    below = np.zeros(len(bars))
    for name in CATEGORIES:
        values = np.array([terms.get(name, 0) for terms in bars]) / scale
        if values.any():
            colour, hatch = LOOK[name]
            look = {"color": OKABE_ITO[colour], "hatch": hatch, "edgecolor": PANEL, "linewidth": 0.6}
            ax.bar(range(len(bars)), values, width, below, **look)
            below += values
    ax.grid(visible=False, axis="x")


def _category_legend(figure, ax, terms: Sequence[Mapping[str, int]]) -> None:
    from matplotlib.patches import Patch

    names = [name for name in CATEGORIES if any(t.get(name, 0) for t in terms) and name != "inputs"]
    handles = [
        Patch(facecolor=OKABE_ITO[LOOK[name][0]], hatch=LOOK[name][1], edgecolor=PANEL, label=name)
        for name in names
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)))


@styled
def ledger_bars(ledgers: Sequence[Ledger] = tuple(LEDGERS.values())) -> Figure:
    """Bytes per parameter between two steps: what the named ledgers consist of."""
    figure, ax = canvas(height=1.05)
    parts = {
        "weights": [e.weight for e in ledgers],
        "gradients": [e.gradient + e.gradient_copy for e in ledgers],
        "master weights": [e.master for e in ledgers],
        "optimizer states": [2 * e.state for e in ledgers],
    }
    left = np.zeros(len(ledgers))
    for name, values in parts.items():
        colour, hatch = LOOK[name]
        look = {"color": OKABE_ITO[colour], "hatch": hatch, "edgecolor": PANEL}
        ax.barh(range(len(ledgers)), values, 0.66, left, label=name, **look)
        left += values
    for row, total in enumerate(left):
        ax.annotate(f" {total:.0f}", (total, row), va="center", weight="bold")
    ax.set_yticks(range(len(ledgers)), [entry.title for entry in ledgers])
    ax.invert_yaxis()
    ax.set(xlabel="bytes per parameter", xlim=(0, 1.1 * left.max()))
    ax.grid(visible=False, axis="y")
    figure.legend(loc="outside lower center", ncols=4)
    totals = "; ".join(f"{e.title} {t:.0f}" for e, t in zip(ledgers, left, strict=True))
    figure.set_label(f"Bytes per parameter by ledger: {totals}.")
    return figure


@styled
def saved_bars(rows: Sequence[tuple[str, float]], unit_word: str = "bytes / (s b h)") -> Figure:
    """What one block saves for backward: one bar per tensor, in the order of the forward pass."""
    figure, ax = canvas(height=0.35 + 0.115 * len(rows))
    values = [value for _, value in rows]
    ax.barh(range(len(rows)), values, 0.7, color=OKABE_ITO["vermillion"], edgecolor=PANEL)
    for row, value in enumerate(values):
        ax.annotate(f" {value:.1f}", (value, row), va="center")
    ax.set_yticks(range(len(rows)), [name for name, _ in rows])
    ax.invert_yaxis()
    ax.set(xlabel=unit_word, xlim=(0, 1.18 * max(values)))
    ax.grid(visible=False, axis="y")
    top = max(rows, key=lambda row: row[1])
    figure.set_label(
        f"{len(rows)} saved tensors, {sum(values):.1f} {unit_word} in all; the largest is {top[0]}, {top[1]:.1f}."
    )
    return figure


@styled
def growth(series: Mapping[str, Sequence[float]], x: Sequence[int], xlabel: str, ylabel: str) -> Figure:
    """Curves over a size: what grows in proportion, and what with the square."""
    figure, ax = canvas(height=1.0)
    for k, (name, values) in enumerate(series.items()):
        ax.plot(x, values, color=COLOURS[k], linestyle=LINES[k], marker=MARKERS[k], label=name)
    ax.set_xscale("log", base=2)
    ax.set_xticks(x, [f"{value:,}" for value in x])
    ax.minorticks_off()
    ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, None))
    ax.legend(loc="upper left")
    ends = "; ".join(f"{name} {values[0]:.3g} to {values[-1]:.3g}" for name, values in series.items())
    figure.set_label(f"{ylabel} over {xlabel} from {x[0]:,} to {x[-1]:,}: {ends}.")
    return figure


@styled
def tradeoff(points: Mapping[str, tuple[float, float]], xlabel: str, ylabel: str) -> Figure:
    """Two costs of several ways, one marker with its name for each. Lower left is better."""
    figure, ax = canvas(height=1.0)
    for k, (name, (x, y)) in enumerate(points.items()):
        ax.plot([x], [y], color=COLOURS[k % 7], marker=MARKERS[k % 8], linestyle="", markersize=11)
        ax.annotate(name, (x, y), xytext=(9, 6), textcoords="offset points")
    ax.set(xlabel=xlabel, ylabel=ylabel, ylim=(0, None), xlim=(0, None))
    ax.margins(0.2)
    low, high = ax.get_xlim()
    ax.set_xlim(low, 1.15 * high)
    ax.set_ylim(0, 1.12 * ax.get_ylim()[1])
    words = "; ".join(f"{name}: {x:.3g} and {y:.3g}" for name, (x, y) in points.items())
    figure.set_label(f"{xlabel} and {ylabel} of each way. {words}.")
    return figure


@styled
def errors(table: Mapping[str, Mapping[str, float]]) -> Figure:
    """How far each estimate is from the measured peak, in percent: one group of bars per plan.

    table   name of the estimate -> name of the plan -> error in percent
    """
    figure, ax = canvas(height=1.1)
    plans = list(next(iter(table.values())))
    width = 0.8 / len(table)
    for k, (name, row) in enumerate(table.items()):
        places = np.arange(len(plans)) + (k - (len(table) - 1) / 2) * width
        values = [row[plan] for plan in plans]
        ax.bar(places, values, width, color=COLOURS[k], hatch=HATCHES[k], edgecolor=PANEL, label=name)
        for place, value in zip(places, values, strict=True):
            words = f"{value:+.0f}" if abs(value) >= 1 else f"{value:+.2f}"
            side = "bottom" if value >= 0 else "top"
            ax.annotate(words, (place, value), ha="center", va=side, fontsize="small")
    ax.axhline(0, color=INK, linewidth=1)
    ax.set_xticks(range(len(plans)), plans)
    ax.set(ylabel="error of the peak in %")
    ax.margins(y=0.15)
    ax.grid(visible=False, axis="x")
    figure.legend(loc="outside lower center", ncols=min(3, len(table)))
    words = "; ".join(
        f"{name} {', '.join(f'{v:+.2f} %' for v in row.values())}" for name, row in table.items()
    )
    figure.set_label(f"Errors of the estimated peak for {', '.join(plans)}: {words}.")
    return figure


@styled
def decision_chart(cells: Mapping[tuple[str, str], tuple[str, int]], rungs: Sequence[str]) -> Figure:
    """The cheapest method that fits, one row per model and one column per card.

    cells   (model, card) -> (method, its place in `rungs`); the darker the cell, the more the method costs
    """
    rows, columns = (list(dict.fromkeys(key[k] for key in cells)) for k in (0, 1))
    figure, ax = canvas(height=0.5 + 0.16 * len(rows))
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            words, rung = cells[row, column]
            shade = 0.12 + 0.6 * rung / max(1, len(rungs) - 1)
            colour = OKABE_ITO["sky"] if rung < len(rungs) - 1 else OKABE_ITO["vermillion"]
            ax.add_patch(_cell(j, i, colour, shade))
            ax.text(j + 0.5, i + 0.5, words, ha="center", va="center", fontsize="small")
    ax.set(xlim=(0, len(columns)), ylim=(len(rows), 0))
    ax.set_xticks(np.arange(len(columns)) + 0.5, columns)
    ax.set_yticks(np.arange(len(rows)) + 0.5, rows)
    ax.xaxis.tick_top()
    ax.grid(visible=False)
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_visible(False)
    words = "; ".join(
        f"{row} on {column}: {cells[row, column][0]}".replace("\n", " ") for row, column in cells
    )
    figure.set_label(f"The cheapest method that fits. {words}.")
    return figure


def _cell(column: int, row: int, colour: str, shade: float):
    from matplotlib.patches import Rectangle

    return Rectangle((column, row), 1, 1, facecolor=colour, alpha=shade, edgecolor=PANEL, linewidth=2)


@styled
def code_maps(maps: Mapping[str, Sequence[float]]) -> Figure:
    """Where the 256 codes of a map lie: one line per value, on a symmetric logarithmic axis."""
    figure, axes = canvas(len(maps), 1, height=0.35 + 0.3 * len(maps), squeeze=False, sharex=True)
    for ax, (name, values), colour in zip(axes[:, 0], maps.items(), COLOURS, strict=False):
        ax.vlines(list(values), 0, 1, color=colour, linewidth=0.6)
        ax.set_xscale("symlog", linthresh=1e-6)
        ax.set_yticks([])
        ax.set_title(name, loc="left", fontsize="medium")
        ax.grid(visible=False)
    axes[-1, 0].set_xlabel("value / the block's largest")
    sizes = "; ".join(
        f"{name}: {len(values)} values from {min(values):.2g} to {max(values):.2g}"
        for name, values in maps.items()
    )
    figure.set_label(f"The values of each code map. {sizes}.")
    return figure


@styled
def loss_lines(runs: Mapping[str, Sequence[float]], window: int = 5) -> Figure:
    """Loss of several runs over their steps, a running mean of `window` steps, on a logarithmic axis."""
    figure, ax = canvas()
    for k, (name, losses) in enumerate(runs.items()):
        smoothed = smooth(np.asarray(losses, dtype=float), window)
        ax.plot(range(1, len(smoothed) + 1), smoothed, color=COLOURS[k], linestyle=LINES[k], label=name)
    ax.set_yscale("log")
    ax.set(xlabel="step", ylabel=f"loss, mean of {window} steps")
    ax.legend(loc="upper right")
    ends = "; ".join(f"{name} ends at {np.mean(losses[-window:]):.3f}" for name, losses in runs.items())
    figure.set_label(f"Loss against step: {ends}.")
    return figure

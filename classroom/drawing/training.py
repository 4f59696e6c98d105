"""Draw the loss of a training run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from classroom.drawing.style import OKABE_ITO, canvas, styled


@styled
def loss_curve(losses: Sequence[float], total: int) -> Figure:
    """Plot the loss of every step and its running mean on a logarithmic axis; `total` steps are the whole run."""
    figure, ax = canvas(height=0.75)
    steps = np.arange(1, len(losses) + 1)
    thin = {"color": OKABE_ITO["sky"], "linestyle": "-", "linewidth": 0.8, "alpha": 0.7}
    ax.plot(steps, losses, label="every step", **thin)
    mean = smooth(losses, window=max(5, total // 25))
    ax.plot(steps, mean, color=OKABE_ITO["blue"], linestyle="-", label="running mean")
    ax.set(xlim=(0, total), xlabel="step", ylabel="loss", yscale="log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_formatter("")
    ax.legend(loc="upper right")
    figure.set_label(
        f"Loss against step: {len(losses):,} of {total:,} steps, from {losses[0]:.3g} to a running mean of "
        f"{mean[-1]:.3g}."
    )
    return figure


def smooth(losses: Sequence[float], window: int = 25) -> np.ndarray:
    """Average each loss with those before it, `window` in all, fewer at the start: [steps] -> float64 [steps]."""
    sums = np.cumsum(np.insert(np.asarray(losses, dtype=float), 0, 0.0))
    ends = np.arange(1, len(losses) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)

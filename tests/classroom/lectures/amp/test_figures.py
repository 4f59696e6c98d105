"""Figures of lecture 2: in the palette, described, showing what was measured, the same twice."""

import math

import numpy as np
import pytest
import torch

from classroom.drawing.style import picture
from classroom.lectures.amp import figures as draw
from classroom.lectures.amp.experiments import PRECISION_RECIPES, PrecisionRun
from coursekit.amp.grad_stats import Shares


def run(name, losses, scales=(), seed=0):
    return PrecisionRun(PRECISION_RECIPES[name], seed, tuple(losses), tuple(scales), 1.0, {})


FALLING = [3.0 - 0.1 * k for k in range(20)]
RUNS = {
    "FP32": [run("FP32", FALLING), run("FP32", np.array(FALLING) + 0.2, seed=1)],
    "FP16 only": [run("FP16 only", [3.0, math.nan])] * 2,
}
SCALES = run("FP16 autocast + scaling", FALLING, [2.0**9, 2.0**8, *[2.0**7] * 9, *[2.0**8] * 9])
ROWS = [Shares("first", 10, 0.5, 0.25, 0.0), Shares("second", 10, 0.0, 0.125, 0.25)]
GRADIENTS = torch.tensor([2.0**-30, 2.0**-20, 2.0**-20, 1.0])
FIGURES = {
    "loss_curves": lambda: draw.loss_curves(RUNS),
    "gradient_histogram": lambda: draw.gradient_histogram({"weights": GRADIENTS}, scale=1024.0),
    "shares_by_layer": lambda: draw.shares_by_layer(ROWS),
    "scale_trajectory": lambda: draw.scale_trajectory({"from above": SCALES}),
    "ledgers": lambda: draw.ledgers({"FP32": {"weights": 4, "Adam": 8}, "FP16": {"weights": 2, "Adam": 4}}),
    "format_shares": lambda: draw.format_shares({"FP16": {"unscaled": ROWS[0], "scaled": ROWS[1]}}),
    "flow": lambda: draw.flow("masters"),
    "flow of autocast": lambda: draw.flow("autocast"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_described_and_the_same_twice(name):
    first, second = (picture(FIGURES[name]()) for _ in range(2))
    assert first.svg == second.svg and len(first.alt) > 40


def test_curves_show_mean_range_and_where_a_run_died():
    figure = draw.loss_curves(RUNS, window=1)
    ax = figure.axes[0]
    line = next(line for line in ax.lines if line.get_label() == "FP32")
    assert line.get_ydata() == pytest.approx([x + 0.1 for x in FALLING])
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((FALLING[-1], 3.2))
    assert "FP16 only is NaN after step 1" in figure.get_label()


def test_a_histogram_counts_in_percent_and_scaling_only_shifts():
    ax = draw.gradient_histogram({"weights": GRADIENTS}, scale=1024.0).axes[0]
    plain, scaled = (
        {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in bars} for bars in ax.containers
    )
    assert plain == {-30: 25.0, -20: 50.0, 0: 25.0}
    assert scaled == {k + 10: share for k, share in plain.items()}


def test_bars_of_a_layer_add_up_and_the_worst_is_named():
    figure = draw.shares_by_layer(ROWS)
    widths = [[bar.get_width() for bar in bars] for bars in figure.axes[0].containers]
    assert widths == [[50.0, 0.0], [25.0, 12.5], [0.0, 25.0]]
    assert "most become zero in first: 50.0%" in figure.get_label()


def test_skipped_steps_are_where_the_scale_fell():
    assert (
        "2 steps skipped, ends at 2 to the power of 8" in draw.scale_trajectory({"run": SCALES}).get_label()
    )


def test_a_ledger_adds_up():
    figure = draw.ledgers({"FP32": {"weights": 4, "Adam": 8}, "FP16": {"weights": 2, "Adam": 4}})
    assert "FP32 12, FP16 6" in figure.get_label()

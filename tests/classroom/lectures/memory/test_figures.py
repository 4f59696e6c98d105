"""Figures of lecture 3: in the palette, described, showing what was computed or measured, the same twice."""

from functools import partial

import matplotlib.colors
import numpy as np
import pytest

from classroom.drawing.style import OKABE_ITO, picture
from classroom.lectures.memory import figures as draw
from coursekit.memory.cards import Card
from coursekit.memory.ledger import LEDGERS
from coursekit.memory.planner import CATEGORIES, PHASES, Plan, estimate, timeline

PLAN = Plan("tiny", batch=2, sequence=32, ledger="fp32", device="cpu")
MOMENTS = timeline(PLAN)
TOTALS = [sum(terms.values()) - terms["inputs"] for *_, terms in MOMENTS]
MEASURED = [(moment[0], total) for moment, total in zip(MOMENTS, TOTALS, strict=True)]
ESTIMATES = {
    "plain": estimate(PLAN),
    "eager": estimate(Plan("tiny", batch=2, sequence=32, attention="eager")),
}
CARD = Card("a small card", 0.06)
ROWS = [("norm", 4.0), ("q, k, v", 6.0), ("scores", 39.0)]
SERIES = {"SDPA": [1.0, 2.0, 4.0], "eager": [1.0, 3.0, 11.0]}
POINTS = {"plain": (1.0, 8.0), "checkpointing": (1.3, 3.0)}
TABLE = {"planner": {"A": 0.25, "B": -0.5}, "formula": {"A": 40.0, "B": -60.0}}
CELLS = {
    ("7B", "24 GB"): ("QLoRA", 1),
    ("7B", "80 GB"): ("8-bit Adam +\nckpt", 0),
    ("70B", "24 GB"): ("none", 2),
}
CELLS[("70B", "80 GB")] = ("QLoRA", 1)
MAPS = {"signed": np.linspace(-1, 1, 256), "unsigned": np.linspace(0, 1, 256)}
RUNS = {"AdamW": [4.0, 2.0, 1.0], "8-bit AdamW": [4.0, 2.2, 1.2]}
FIGURES = {
    "step_timeline": partial(draw.step_timeline, MOMENTS, measured=MEASURED[::2]),
    "phase_bars": partial(draw.phase_bars, ESTIMATES, CARD),
    "ledger_bars": partial(draw.ledger_bars),
    "saved_bars": partial(draw.saved_bars, ROWS),
    "growth": partial(draw.growth, SERIES, [128, 256, 512], "length", "bytes / (s b h)"),
    "tradeoff": partial(draw.tradeoff, POINTS, "time", "memory in MB"),
    "errors": partial(draw.errors, TABLE),
    "decision_chart": partial(draw.decision_chart, CELLS, ("as it is", "QLoRA", "nothing here")),
    "code_maps": partial(draw.code_maps, MAPS),
    "loss_lines": partial(draw.loss_lines, RUNS, window=1),
}


def test_every_figure_is_here():
    drawn = {name for name, value in vars(draw).items() if getattr(value, "__module__", "") == draw.__name__}
    assert {name for name in drawn if not name.startswith("_")} - {"unit"} == set(FIGURES)


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_described_and_the_same_twice(name):
    """`picture` refuses a colour that is not of the palette."""
    first, second = (picture(FIGURES[name]()) for _ in range(2))
    assert first.svg == second.svg and len(first.alt) > 40


@pytest.mark.parametrize("name", FIGURES)
def test_a_slide_is_drawn_too(name):
    """In larger type, with the same words for those who do not see it."""
    notebook, slide = FIGURES[name](title="A finding"), FIGURES[name](preset="slide")
    assert notebook.get_label() == slide.get_label() and notebook.get_suptitle() == "A finding"


def colour(name):
    return matplotlib.colors.to_rgba(OKABE_ITO[name])


def test_every_category_has_a_look_of_its_own():
    assert set(draw.LOOK) == set(CATEGORIES) and len(set(draw.LOOK.values())) == len(CATEGORIES)


def test_the_areas_of_a_step_end_where_the_sum_is():
    """The edge of the highest area is the sum of all categories, event by event; the label names the top."""
    figure = draw.step_timeline(MOMENTS)
    areas = figure.axes[0].collections
    top = max(area.get_paths()[0].vertices[:, 1].max() for area in areas)
    assert top == pytest.approx(max(TOTALS) / 1e6)
    assert f"highest, {max(TOTALS) / 1e6:.1f} MB" in figure.get_label()
    assert MOMENTS[int(np.argmax(TOTALS))][0] in figure.get_label()


def test_the_measured_curve_lies_over_its_own_phases():
    """With the plan's own events it is the edge of the areas; with a third of them each phase still has its width."""
    phases = [moment[0] for moment in MOMENTS]
    line = draw.step_timeline(MOMENTS, measured=MEASURED).axes[0].lines[0]
    assert line.get_ydata() == pytest.approx(np.array(TOTALS) / 1e6)
    assert line.get_xdata() == pytest.approx(np.linspace(0, 1, len(TOTALS)))
    fewer = [pair for k, pair in enumerate(MEASURED) if k % 3 == 0]
    line = draw.step_timeline(MOMENTS, measured=fewer).axes[0].lines[0]
    first = sum(phase == phases[0] for phase, _ in fewer)
    assert line.get_xdata()[first - 1] == pytest.approx((phases.count(phases[0]) - 1) / (len(phases) - 1))
    assert "measured" not in draw.step_timeline(MOMENTS).get_label()


def test_bars_of_a_phase_add_up_and_the_card_is_a_line():
    figure = draw.phase_bars(ESTIMATES, CARD)
    for ax, (name, found) in zip(figure.axes, ESTIMATES.items(), strict=True):
        tops = np.zeros(len(PHASES))
        for bars in ax.containers:
            tops = np.maximum(tops, [bar.get_y() + bar.get_height() for bar in bars])
        assert tops == pytest.approx([found.peaks[phase] / 1e6 for phase in PHASES])
        assert ax.lines[0].get_ydata()[0] == pytest.approx(60.0)
        assert f"{name}: peak {found.peak_bytes / 1e6:.1f} MB in {found.peak_phase}" in figure.get_label()


def test_one_plan_needs_no_title_and_no_card_no_line():
    (ax,) = draw.phase_bars({"plain": ESTIMATES["plain"]}).axes
    assert not ax.lines and not ax.get_title(loc="left")


def test_units_follow_the_largest():
    assert draw.unit(999e6) == (10**6, "MB") and draw.unit(1e9) == (10**9, "GB")


def test_ledgers_add_up_to_what_is_said_of_them():
    figure = draw.ledger_bars()
    ends = np.zeros(len(LEDGERS))
    for bars in figure.axes[0].containers:
        ends = np.maximum(ends, [bar.get_x() + bar.get_width() for bar in bars])
    assert list(ends) == [16, 16, 16, 18, 20, 8]
    assert [text.get_text().strip() for text in figure.axes[0].texts] == ["16", "16", "16", "18", "20", "8"]
    assert "pure FP32 + Adam 16" in figure.get_label()


def test_saved_tensors_are_bars_in_order_and_the_largest_is_named():
    figure = draw.saved_bars(ROWS)
    ax = figure.axes[0]
    assert [bar.get_width() for bar in ax.containers[0]] == [4.0, 6.0, 39.0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["norm", "q, k, v", "scores"]
    assert ax.yaxis_inverted()
    assert "3 saved tensors, 49.0 bytes / (s b h) in all; the largest is scores, 39.0" in figure.get_label()


def test_growth_draws_every_series_over_the_sizes():
    figure = draw.growth(SERIES, [128, 256, 512], "length", "bytes")
    lines = figure.axes[0].lines
    assert [list(line.get_ydata()) for line in lines] == list(SERIES.values())
    assert len({(line.get_color(), line.get_linestyle(), line.get_marker()) for line in lines}) == 2
    assert "from 128 to 512" in figure.get_label() and "eager 1 to 11" in figure.get_label()


def test_each_way_is_a_marker_with_its_name():
    figure = draw.tradeoff(POINTS, "time", "MB")
    ax = figure.axes[0]
    drawn = {
        t.get_text(): (line.get_xdata()[0], line.get_ydata()[0])
        for t, line in zip(ax.texts, ax.lines, strict=True)
    }
    assert drawn == POINTS and ax.get_xlim()[0] == 0 == ax.get_ylim()[0]


def test_errors_keep_their_sign():
    figure = draw.errors(TABLE)
    ax = figure.axes[0]
    heights = [[bar.get_height() for bar in bars] for bars in ax.containers]
    assert heights == [[0.25, -0.5], [40.0, -60.0]]
    assert [text.get_text() for text in ax.texts] == ["+0.25", "-0.50", "+40", "-60"]
    assert "formula +40.00 %, -60.00 %" in figure.get_label()


def test_the_chart_has_one_cell_per_model_and_card_and_warns_where_nothing_fits():
    figure = draw.decision_chart(CELLS, ("as it is", "QLoRA", "nothing here"))
    ax = figure.axes[0]
    assert [text.get_text() for text in ax.texts] == ["QLoRA", "8-bit Adam +\nckpt", "none", "QLoRA"]
    faces = [patch.get_facecolor() for patch in ax.patches]
    assert faces[2][:3] == colour("vermillion")[:3] and faces[0][:3] == colour("sky")[:3]
    assert faces[1][3] < faces[0][3] < faces[2][3]  # the more expensive, the darker
    assert "7B on 80 GB: 8-bit Adam + ckpt" in figure.get_label()


def test_a_map_has_one_line_per_code():
    figure = draw.code_maps(MAPS)
    assert [len(ax.collections[0].get_segments()) for ax in figure.axes] == [256, 256]
    assert "signed: 256 values from -1 to 1" in figure.get_label()


def test_losses_are_means_over_the_window():
    line = draw.loss_lines(RUNS, window=1).axes[0].lines[0]
    assert list(line.get_ydata()) == RUNS["AdamW"]
    assert "AdamW ends at 1.000" in draw.loss_lines(RUNS, window=1).get_label()
    assert "AdamW ends at 1.500" in draw.loss_lines(RUNS, window=2).get_label()

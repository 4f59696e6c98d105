"""Figures of lecture 4: in the palette, described, showing what was measured, the same twice."""

import pytest

from classroom.drawing.style import picture
from classroom.lectures.throughput import experiments
from classroom.lectures.throughput import figures as draw
from coursekit.throughput.batching import Waste
from coursekit.throughput.flame import Frame
from coursekit.throughput.flops import Flops, Part
from coursekit.throughput.meter import Timing
from coursekit.throughput.roofline import Point, Roof

WASTES = {"padded": Waste(60, 100), "packed": Waste(60, 64)}
ROOF = Roof(100e9, 10e9)
POINTS = [Point("matmul", 100.0, 80e9, "compute", 0.8), Point("decode", 0.5, 4e9, "memory", 0.8)]
TREE = Frame(
    "all", 1.0, 1,
    {"a": Frame("a", 0.6, 1, {"c": Frame("pkg/deep.py:1 c", 0.55)}), "b": Frame("b", 0.3), "d": Frame("d", 0.001)},
)  # fmt: skip
TIMINGS = {"eager": Timing((0.4, 0.5, 0.6)), "sdpa": Timing((0.2, 0.25, 0.3))}
COUNTS = {
    "full": Flops((Part("projections", 10**9, 2 * 10**9), Part("head", 10**9, 10**9))),
    "checkpointed": Flops((Part("projections", 10**9, 2 * 10**9, 10**9), Part("head", 10**9, 10**9))),
}
QUEUES = {read_loss: experiments.launch_queue(read_loss) for read_loss in (False, True)}
FIGURES = {
    "waste_bars": lambda: draw.waste_bars(WASTES),
    "packed_row": lambda: draw.packed_row([5, 3, 2], 12),
    "roofline": lambda: draw.roofline(ROOF, POINTS),
    "flame_graph": lambda: draw.flame_graph(TREE),
    "speed_bars": lambda: draw.speed_bars(TIMINGS, tokens=100),
    "speed_bars in ms": lambda: draw.speed_bars(TIMINGS),
    "flops_bars": lambda: draw.flops_bars(COUNTS),
    "launch_timeline": lambda: draw.launch_timeline(QUEUES),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_described_and_the_same_twice(name):
    """`picture` refuses a colour that is not of the palette."""
    first, second = (picture(FIGURES[name]()) for _ in range(2))
    assert first.svg == second.svg and len(first.alt) > 40


def test_bars_of_waste_add_up_to_the_slots():
    """Text and padding are the two parts of the slots."""
    ax = draw.waste_bars(WASTES).axes[0]
    text, padding = ([bar.get_width() for bar in bars] for bars in ax.containers)
    assert text == [60, 60] and padding == [40, 4]
    assert "padded 40.0%, packed 6.2%" in draw.waste_bars(WASTES).get_label()


def test_a_packed_row_counts_the_pairs_that_may_be_seen():
    """Triangles of 5, 3 and 2: 15 + 6 + 3."""
    assert "24 of 78 pairs" in draw.packed_row([5, 3, 2], 12).get_label()


def test_the_roof_is_drawn_where_it_is():
    figure = draw.roofline(ROOF, POINTS)
    line = next(line for line in figure.axes[0].lines if line.get_label() == "roof")
    x, y = line.get_data()
    assert y == pytest.approx([min(100, 10 * i) for i in x])
    assert "ridge at 10 FLOPs per byte" in figure.get_label()
    assert "decode: 80% of the roof, bound by memory" in [
        t.get_text() for t in figure.axes[0].get_legend().texts
    ]


def test_flames_are_as_wide_as_their_time_and_stand_on_their_caller():
    figure = draw.flame_graph(TREE)
    boxes = {
        (round(b.get_x()), round(b.get_width()), round(b.get_y() + b.get_height() / 2))
        for b in figure.axes[0].patches
    }
    assert boxes == {(0, 1000, 0), (0, 600, 1), (0, 550, 2), (600, 300, 1)}  # the thin one is left out
    assert "pkg/deep.py:1 c 55%" in figure.get_label()


def test_speed_is_the_rate_of_the_median():
    assert "eager 200, sdpa 400" in draw.speed_bars(TIMINGS, tokens=100).get_label()
    assert "eager 500, sdpa 250" in draw.speed_bars(TIMINGS).get_label()


def test_flops_add_up():
    assert "full 5, checkpointed 6" in draw.flops_bars(COUNTS).get_label()
    ax = draw.flops_bars(COUNTS).axes[0]
    assert sum(bar.get_width() for bars in ax.containers for bar in bars) == 11


def test_a_queue_is_drawn_box_by_box():
    """One box per step of Python, one per kernel of the GPU, where the toy put them."""
    figure = draw.launch_timeline(QUEUES)
    for ax, (python, gpu) in zip(figure.axes, QUEUES.values(), strict=True):
        drawn = [(box.get_x(), box.get_width()) for box in ax.patches]
        for found, (start, width, _) in zip(drawn, (*python, *gpu), strict=True):
            assert found == pytest.approx((start, width))

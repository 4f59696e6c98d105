"""Figures of lecture 1: in the palette, described, showing what numpy and the standards say, the same twice."""

import numpy as np
import pytest

from classroom.drawing.style import picture
from classroom.lectures.formats import figures as draw
from coursekit.formats.spec import BF16, E2M1, E4M3, E5M2, FP16, FP32, INT8, MXFP4, NVFP4

LINE = np.linspace(1.0, 2.0, 50)
FIGURES = {
    "running_sums": lambda: draw.running_sums({"FP32": LINE, "FP16": LINE * 0.99, "BF16": np.ones(50)}),
    "landmarks": lambda: draw.landmarks(FP16),
    "near_zero": lambda: draw.near_zero(E4M3),
    "spacing": lambda: draw.spacing((FP32, FP16, BF16, E4M3)),
    "layouts": lambda: draw.layouts((FP32, BF16, E5M2)),
    "ties": lambda: draw.ties({"half up": 0.5, "half to even": 0.0}),
    "stochastic": lambda: draw.stochastic([LINE, LINE + 0.1], np.ones(50)),
    "accumulators": lambda: draw.accumulators(LINE, {"FP16": LINE * 0.5, "FP32": LINE}),
    "all_numbers": lambda: draw.all_numbers((E2M1, E5M2)),
    "block_layout": lambda: draw.block_layout((MXFP4, NVFP4)),
    "error_bars": lambda: draw.error_bars({"MXFP4": 0.12, "NVFP4": 0.1}),
    "grids": lambda: draw.grids(INT8, E4M3),
    "ranges": lambda: draw.ranges((FP32, FP16, E4M3)),
    "relative_error": lambda: draw.relative_error((FP16, BF16, E4M3)),
    "signal_to_noise": lambda: draw.signal_to_noise({"MXFP4": (4.25, 18.9), "NVFP4": (4.5, 20.2)}),
    "histograms": lambda: draw.histograms(
        {"weights": LINE, "activations": LINE * 2, "gradients": LINE * 1e-4}, (FP32, FP16)
    ),
}
DESCRIBED = (
    "running_sums",
    "spacing",
    "layouts",
    "stochastic",
    "accumulators",
    "all_numbers",
    "ranges",
    "relative_error",
)


def texts(figure):
    """Every text that can be seen, in one string."""
    return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


@pytest.mark.parametrize("name", FIGURES)
def test_a_picture_is_in_the_palette_and_the_same_twice(name):
    """`picture` refuses a colour that cannot follow light and dark."""
    first, second = (picture(FIGURES[name](), "A picture for a test").svg for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", [*DESCRIBED, "signal_to_noise", "histograms"])
def test_a_figure_of_the_notebook_describes_itself(name):
    """Without `alt=`, the label is the alt text, and it holds a figure or a format's name."""
    label = picture(FIGURES[name]()).alt
    assert len(label) > 40 and any(word in label for word in ("FP", "E2M1", "stochastic"))


def test_the_title_is_drawn_where_it_is_given():
    assert "a finding" in texts(draw.spacing((FP16,), title="a finding"))


def test_the_staircase_is_numpys_spacing():
    """Every step of FP16 and FP32 equals numpy.spacing at that number."""
    figure = draw.spacing((FP32, FP16))
    for line, dtype in zip(figure.axes[0].lines, (np.float32, np.float16), strict=False):
        x, y = line.get_data()
        inside = x <= np.finfo(dtype).max  # the last step is where infinity begins
        assert inside.sum() > 30
        assert np.array_equal(np.spacing(x[inside].astype(dtype)).astype(float), y[inside])


def test_the_sawtooth_bounds_every_rounding_error():
    """numpy's casts to FP16, at the drawn numbers and all around them, never exceed the line; some come close."""
    x, bound = draw.relative_error((FP16,), low=-6, high=6).axes[0].lines[0].get_data()
    error = abs(x.astype(np.float16).astype(float) - x) / x
    assert (error <= bound * (1 + 1e-12)).all() and (error / bound).max() > 0.95


def test_ranges_end_where_numpy_says():
    """The bars of FP32 and FP16 reach from the smallest subnormal to the largest number of numpy.finfo."""
    bars = draw.ranges((FP32, FP16)).axes[0].patches
    for row, dtype in enumerate((np.float32, np.float16)):
        normal, subnormal = bars[2 * row : 2 * row + 2]
        info = np.finfo(dtype)
        assert normal.get_x() + normal.get_width() == pytest.approx(np.log2(float(info.max)))
        assert normal.get_x() == np.log2(float(info.smallest_normal))
        assert subnormal.get_x() == np.log2(float(info.smallest_subnormal))


def test_landmarks_carry_the_numbers_of_fp16():
    """IEEE 754 binary16: 2^-24, 2^-14, 65504."""
    seen = texts(FIGURES["landmarks"]())
    assert all(number in seen for number in ("5.96 × 10⁻⁸", "6.10 × 10⁻⁵", "65,504"))


def test_layouts_draw_a_box_per_bit():
    assert len(FIGURES["layouts"]().axes[0].patches) == 32 + 16 + 8


def test_near_zero_leaves_a_gap_without_subnormals():
    """E4M3 has seven positive subnormals: the row without them has seven ticks less."""
    with_them, without = FIGURES["near_zero"]().axes[0].collections[:2]
    assert len(with_them.get_segments()) - len(without.get_segments()) == 7


def test_all_numbers_draws_each_number_once():
    """FP4 has 15 numbers: 0, and 0.5, 1, 1.5, 2, 3, 4, 6 with both signs (OCP MX 1.0)."""
    ticks = FIGURES["all_numbers"]().axes[0].collections[0].get_segments()
    found = sorted({round(float(segment[0][0]) * 6, 6) for segment in ticks})
    assert found == [-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6] and len(ticks) == 15

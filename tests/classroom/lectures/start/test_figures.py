"""The bars of the Start page: as long as the bytes say, in MB of 10^6 bytes, and described in words."""

import pytest

from classroom.drawing.style import picture
from classroom.lectures.start.figures import memory_bars

HELD = {
    "full": {"weights": 12_000_000, "gradients": 12_000_000, "Adam": 24_000_000},
    "QLoRA": {"weights": 3_500_000, "gradients": 1_000_000, "Adam": 2_000_000},
}


def test_bars_are_stacked_from_their_parts():
    """Nothing is hidden behind another bar: each part begins where the one before ends."""
    ax = memory_bars(HELD).axes[0]
    bars = [[(bar.get_x(), bar.get_width()) for bar in container] for container in ax.containers]
    full = [bars[part][0] for part in range(3)]
    assert full == [(0, 12), (12, 12), (24, 24)]
    assert [bars[part][1][1] for part in range(3)] == pytest.approx([3.5, 1, 2])


def test_the_sum_stands_at_the_end_and_in_the_words():
    figure = memory_bars(HELD)
    assert [text.get_text().strip() for text in figure.axes[0].texts] == ["48.0 MB", "6.5 MB"]
    assert (
        picture(figure).alt
        == "Bytes held while training, weights, gradients, Adam. full: 48.0 MB; QLoRA: 6.5 MB."
    )

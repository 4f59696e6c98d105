"""The loss curve: its running mean is a mean, and it describes itself."""

import numpy as np

from classroom.drawing.style import picture
from classroom.drawing.training import loss_curve, smooth

LOSSES = np.random.default_rng(0).uniform(1, 3, 80)


def test_the_running_mean_is_numpys():
    expected = [LOSSES[max(0, k - 24) : k + 1].mean() for k in range(80)]
    assert np.allclose(smooth(LOSSES), expected)


def test_one_loss_is_a_curve_too():
    assert smooth([2.0]).tolist() == [2.0]


def test_it_describes_itself_and_shows_the_whole_way():
    figure = loss_curve(LOSSES, total=200)
    assert figure.axes[0].get_xlim() == (0, 200)
    assert picture(figure).alt.startswith("Loss against step: 80 of 200 steps")

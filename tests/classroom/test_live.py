"""The live loss curve: drawn now and then, at the last step for certain, with honest words."""

import pytest

from coursekit.classroom import live
from coursekit.training import Step


def steps(losses):
    return [Step(number, loss, 10, 0.1, 1e-3) for number, loss in enumerate(losses, start=1)]


class Handle:
    def __init__(self, shown, part):
        self.shown = shown
        shown.append(part)

    def update(self, part):
        self.shown.append(part)


@pytest.fixture
def shown(monkeypatch):
    """What was displayed, in order; the clock goes 0.4 s a call."""
    parts, clock = [], iter(0.4 * n for n in range(1000))
    monkeypatch.setattr("IPython.display.display", lambda part, display_id: Handle(parts, part))
    monkeypatch.setattr(live.time, "monotonic", lambda: next(clock))
    return parts


def test_it_draws_at_most_once_a_second_and_at_the_end(shown):
    plot = live.LossPlot(total=10)
    for step in steps([5.0 - 0.4 * k for k in range(10)]):
        plot(step)
    words = shown[1::2]
    assert [text.split(",")[0].split(" of")[0] for text in words] == [
        "Step 3",
        "Step 6",
        "Step 9",
        "10 steps in 4 s. The loss is 1.400.",
    ]
    assert "from 5.00 to" in shown[-2].alt


def test_the_words_tell_how_long_it_still_takes():
    plot = live.LossPlot(total=100)
    plot.losses = [1.0] * 20
    assert "Step 20 of 100" in plot.words(20, 10.0) and "about 40 s to go" in plot.words(20, 10.0)


def test_a_continued_run_reckons_with_its_own_pace():
    """After an interrupt a new plot starts at step 51: 10 steps in 5 s leave 40 steps, 20 s."""
    plot = live.LossPlot(total=100)
    plot.losses = [1.0] * 10
    assert "about 20 s to go" in plot.words(60, 5.0)

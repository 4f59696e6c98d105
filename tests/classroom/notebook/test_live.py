"""The live loss curve: drawn now and then, at the first and the last step for certain, with honest words."""

from types import SimpleNamespace

import pytest

from classroom.notebook import live
from coursekit.training import Step


def steps(losses, first=1):
    return [Step(number, loss, 10, 0.1, 1e-3) for number, loss in enumerate(losses, start=first)]


class Handle:
    def __init__(self, shown, view):
        self.update = shown.append
        shown.append(view)


@pytest.fixture
def shown(monkeypatch):
    """What was displayed, in order. Every look at the clock takes 0.2 s: two a step, so a step takes 0.4 s."""
    views, clock = [], iter(0.2 * n for n in range(1000))
    monkeypatch.setattr("IPython.get_ipython", lambda: "a notebook")
    monkeypatch.setattr("IPython.display.display", lambda view, display_id: Handle(views, view))
    monkeypatch.setattr(live, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    return views


def test_it_draws_the_first_step_the_last_and_at_most_one_a_second(shown):
    plot = live.LossPlot(total=14)
    for step in steps([5.0 - 0.2 * k for k in range(14)]):
        plot(step)
    assert [view.number for view in shown] == [1, 6, 11, 14]
    assert shown[-1].words == "14 steps in 3 s. The loss is 2.400."


def test_the_bar_and_the_curve_say_how_far_it_is(shown):
    live.LossPlot(total=40)(steps([1.5])[0])
    data = shown[0]._repr_mimebundle_()
    assert '<progress value="1" max="40" aria-label="Steps done"' in data["text/html"]
    assert "1 of 40 steps" in data["text/html"] and data["text/plain"].startswith("Step 1 of 40, loss 1.500")


def test_the_words_tell_how_long_it_still_takes():
    plot = live.LossPlot(total=100)
    plot.losses = [1.0] * 20
    assert plot.words(20, 10.0) == "Step 20 of 100, loss 1.000, about 40 s to go."


def test_a_continued_run_goes_on_with_its_curve_and_reckons_with_its_own_pace(shown):
    """After an interrupt a new plot starts behind 50 steps; 10 more in 5 s leave 40 steps, 20 s."""
    plot = live.LossPlot(100, history=steps([2.0] * 50))
    plot(steps([1.0], first=51)[0])
    assert "Loss against step: 51 of 100 steps, from 2 to" in shown[0].svg
    plot.losses += [1.0] * 9
    assert "about 20 s to go" in plot.words(60, 5.0)


def test_a_stop_shows_the_last_step_and_what_to_do(shown):
    plot = live.LossPlot(total=40)
    for step in steps([1.5, 1.4, 1.3]):
        plot(step)
    plot.stopped()
    assert [view.number for view in shown] == [1, 3] and "3 of 40 steps" in shown[-1].svg
    assert shown[-1].words == "Stopped after step 3 of 40. Run this cell again to go on."


def test_without_a_notebook_it_is_one_line(capsys):
    plot = live.LossPlot(total=2)
    for step in steps([1.0, 0.5]):
        plot(step)
    assert capsys.readouterr().err.splitlines()[-1].endswith("2 steps in 0 s. The loss is 0.500.")

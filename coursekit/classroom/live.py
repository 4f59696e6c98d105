"""A loss curve that grows while a model trains, with the progress in words below it.

    run.go(on_step=LossPlot(run.steps, run.history))

A run that was stopped and goes on brings its history along, so the curve goes on as well.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from coursekit.training import Step


class LossPlot:
    """Call it with every Step; it draws at most once in `every` seconds, and at the last step.

    total    steps of the whole run
    history  the steps that were done before, if the run was stopped and goes on

    In a notebook one picture is replaced by the next; where nothing displays, a line of text is printed at the end.
    """

    def __init__(self, total: int, history: Sequence[Step] = (), every: float = 1.0):
        self.total, self.every = total, every
        self.losses = [step.loss for step in history]
        self._before = len(self.losses)
        self.started = self.drawn = time.monotonic()
        self._handles = None

    def __call__(self, step: Step) -> None:
        self.losses.append(step.loss)
        now = time.monotonic()
        if now - self.drawn >= self.every or step.number == self.total:
            self.drawn = now
            self._draw(step.number, now - self.started)

    def words(self, number: int, seconds: float) -> str:
        """Where the run is, and how long it will still take at this pace."""
        if number >= self.total:
            return f"{number:,} steps in {seconds:.0f} s. The loss is {self.losses[-1]:.3f}."
        left = seconds / (len(self.losses) - self._before) * (self.total - number)
        return (
            f"Step {number:,} of {self.total:,}, loss {self.losses[-1]:.3f}, about {left:.0f} s to go. "
            "The stop button ends it after a whole step; run the cell again to go on."
        )

    def _draw(self, number: int, seconds: float) -> None:
        from IPython.display import display

        from coursekit.figures.style import picture
        from coursekit.figures.training import loss_curve

        shown = picture(loss_curve(self.losses, self.total)), self.words(number, seconds)
        if self._handles is None:
            self._handles = [display(part, display_id=True) for part in shown]
        else:
            for handle, part in zip(self._handles, shown, strict=True):
                if handle is not None:
                    handle.update(part)

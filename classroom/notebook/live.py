"""Draw a loss curve that grows while a model trains, under a progress bar.

    plot = LossPlot(run.steps, run.history)
    if not run.go(on_step=plot):
        plot.stopped()

A run that was stopped keeps its history; pass it to the new plot, and the curve continues.
"""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from coursekit.training import Step


class LossPlot:
    """Draw the first Step it is called with, then at most one every `every` seconds, and the last one.

    total    steps of the whole run
    history  the steps done before, if the run was stopped and continues

    In a notebook each picture replaces the one before; elsewhere a line is printed at the end.
    """

    def __init__(self, total: int, history: Sequence[Step] = (), every: float = 1.0):
        self.total = total
        self.every = every
        self.losses = [step.loss for step in history]
        self._before = len(self.losses)
        self.started = time.monotonic()
        self.drawn = float("-inf")
        self._handle = None

    def __call__(self, step: Step) -> None:
        self.losses.append(step.loss)
        now = time.monotonic()
        if now - self.drawn >= self.every or step.number == self.total:
            self._show(step.number, self.words(step.number, now - self.started))
            self.drawn = time.monotonic()  # after drawing, or a slow machine would draw all the time

    def stopped(self) -> None:
        """Show where the run was stopped, and what to do."""
        number = len(self.losses)
        self._show(number, f"Stopped after step {number:,} of {self.total:,}. Run this cell again to go on.")

    def words(self, number: int, seconds: float) -> str:
        """Say where the run is, and how long it will still take at this pace."""
        loss = self.losses[-1]
        done = len(self.losses) - self._before
        if number >= self.total:
            return f"{done:,} steps in {seconds:.0f} s. The loss is {loss:.3f}."
        left = seconds / done * (self.total - number)
        return f"Step {number:,} of {self.total:,}, loss {loss:.3f}, about {left:.0f} s to go."

    def _show(self, number: int, words: str) -> None:
        ipython = sys.modules.get("IPython")
        if not (ipython and ipython.get_ipython()):
            print(words, end="\n" if number == self.total else "\r", file=sys.stderr)
            return
        view = View(words, number, self.total, curve(self.losses, self.total))
        if self._handle is None:
            from IPython.display import display

            self._handle = display(view, display_id=True)
        else:
            self._handle.update(view)


@dataclass(frozen=True)
class View:
    """Hold what is displayed at one moment: a sentence, a progress bar, a curve."""

    words: str
    number: int
    total: int
    svg: str

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        bar = (
            f'<progress value="{self.number}" max="{self.total}" aria-label="Steps done" '
            'style="width: 12rem; margin-right: .6em; vertical-align: middle"></progress>'
        )
        page = (
            f'<div role="group" aria-label="Training"><p>{bar} {html.escape(self.words)}</p>{self.svg}</div>'
        )
        return {"text/html": page, "text/plain": self.words}


def curve(losses: Sequence[float], total: int) -> str:
    """Draw the loss curve as SVG."""
    from classroom.drawing.style import picture
    from classroom.drawing.training import loss_curve

    return picture(loss_curve(losses, total)).svg

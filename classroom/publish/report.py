"""What a person sees of runs: progress, a table at the end, and what is needed to mend a failure.

On a terminal a line with a bar moves; in a log file one line is printed when a notebook is done.
"""

from __future__ import annotations

from collections.abc import Iterable

from classroom.publish.execute import Run
from classroom.publish.watch import GB

TRACEBACK_LINES = 8


class Board:
    """`with Board(console, labels) as board:`, then per label `start`, `step` before each cell, `done`."""

    def __init__(self, console, labels: Iterable[str]):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        labels = list(labels)
        width = max(map(len, labels), default=0)
        self.console, self.labels, self.current = console, labels, None
        self.progress = Progress(
            TextColumn(f"{{task.description:<{width}}}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("cells"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[ram]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )

    def __enter__(self):
        self.progress.start()
        return self

    def __exit__(self, *_):
        self.progress.stop()

    def start(self, label: str) -> None:
        self.current = self.progress.add_task(label, total=None, ram="")

    def step(self, cell: int, cells: int, ram_bytes: int) -> None:
        self.progress.update(self.current, completed=cell, total=cells, ram=f"{ram_bytes / GB:.2f} GB")

    def done(self, label: str, words: str) -> None:
        self.progress.remove_task(self.current)
        width = max(map(len, self.labels))
        self.console.print(f"{label:<{width}}  {words}", markup=False, highlight=False)


def run_words(run: Run) -> str:
    status = "passed" if run.ok else f"FAILED in code cell {run.failure.cell}"
    return f"{status}, {run.seconds:.1f} s, {run.peak_bytes / GB:.2f} GB"


def table(runs: list[Run]):
    """The table at the end: notebook, cells, seconds, peak RAM, status, and the sums."""
    from rich.table import Table

    table = Table(show_footer=len(runs) > 1)
    table.add_column("notebook", "all", no_wrap=True)
    table.add_column("code cells", str(sum(run.code_cells for run in runs)), justify="right")
    table.add_column("seconds", f"{sum(run.seconds for run in runs):.1f}", justify="right")
    table.add_column(
        "peak RAM, GB", f"{max((run.peak_bytes for run in runs), default=0) / GB:.2f}", justify="right"
    )
    table.add_column("status", "passed" if all(run.ok for run in runs) else "FAILED")
    for run in runs:
        status = "passed" if run.ok else f"[bold red]FAILED[/] in code cell {run.failure.cell}"
        table.add_row(
            run.label, str(run.code_cells), f"{run.seconds:.1f}", f"{run.peak_bytes / GB:.2f}", status
        )
    return table


def as_dict(run: Run) -> dict:
    """A run for programs: plain JSON."""
    failure = run.failure
    told = {"cell": failure.cell, "source": failure.source, "reason": failure.reason} if failure else None
    return {
        "label": run.label,
        "ok": run.ok,
        "code_cells": run.code_cells,
        "seconds": round(run.seconds, 1),
        "peak_bytes": run.peak_bytes,
        "failure": told,
    }


def failure_panel(run: Run):
    """The failing cell, why it failed, and the last lines of its traceback."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.syntax import Syntax
    from rich.text import Text

    failure = run.failure
    source = Syntax(failure.source, "python", word_wrap=True, background_color="default")
    parts = [source, Text("\n" + failure.reason, style="bold")]
    if failure.traceback:
        parts.append(Text("\n" + "\n".join(failure.traceback[-TRACEBACK_LINES:]), style="dim"))
    return Panel(Group(*parts), title=f"{run.label}, code cell {failure.cell}", title_align="left")

"""Runs many notebooks, shows their progress and a table, and keeps executed copies and pages under build/.

One at a time on purpose: each notebook may use all cores, and the memory limit is the machine's. On a terminal a line
with a bar moves; in a log file one line is printed when a notebook is done.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from classroom.publish.execute import REPRODUCIBLE, Run, execute
from classroom.publish.limits import Limits
from classroom.publish.page import to_html
from classroom.publish.sources import CourseError, Source, parameters_of, read_source, refuse_unknown
from coursekit.units import GB


def run_all(
    sources: list[Source], console, *, profile: str, parameters: Mapping, limits: Limits, out: Path
) -> list[Run]:
    """Run every source with the profile and the parameters it has; a failure does not stop the others.

    Raises CourseError, before anything runs, for a parameter that no source has and for a folder `out` that cannot be
    written to.
    """
    notebooks = {source: read_source(source.path) for source in sources}
    refuse_unknown(parameters, {name for notebook in notebooks.values() for name in parameters_of(notebook)})
    require_folder(out)
    settings = {source: settings_of(notebook, profile, parameters) for source, notebook in notebooks.items()}
    runs = []
    with Board(console, [source.label for source in sources]) as board:
        for source in sources:
            board.start(source.label)
            run = execute(
                notebooks[source],
                source.label,
                cwd=source.built.parent,
                parameters=settings[source],
                limits=limits,
                env=REPRODUCIBLE if profile == "ci" else {},
                progress=board.step,
            )
            keep(run, source, out)
            board.done(source.label, run_words(run))
            runs.append(run)
    return runs


def require_folder(out: Path) -> None:
    """Make the folder. Raises CourseError if nothing can be written to it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            return
    except OSError as error:
        raise CourseError(
            f"copies and pages cannot be written to {out}: {error.strerror}. Name another folder with --out."
        ) from error


def settings_of(notebook, profile: str, parameters: Mapping) -> dict:
    """Return the parameters that the notebook has and that differ from its defaults."""
    known = parameters_of(notebook)
    wanted = {"PROFILE": profile, **parameters}
    return {name: value for name, value in wanted.items() if name in known and known[name] != value}


def keep(run: Run, source: Source, out: Path) -> None:
    """Write the executed copy and its page. Those of a failed run show how far it came."""
    import nbformat

    copy = out / source.folder / f"{source.name}.ipynb"
    copy.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(run.notebook, copy)
    copy.with_suffix(".html").write_text(to_html(run.notebook, source.name), encoding="utf-8")


TRACEBACK_LINES = 8


# ---------------------------------------------------------------- what a person sees


class Board:
    """Progress: `with Board(console, labels) as board:`, then per label `start`, `step` before each cell, `done`."""

    def __init__(self, console, labels: Iterable[str]):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        labels = list(labels)
        width = max(map(len, labels), default=0)
        self.console = console
        self.width = width
        self.current = None
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
        self.console.print(f"{label:<{self.width}}  {words}", markup=False, highlight=False)


def run_words(run: Run) -> str:
    status = "passed" if run.ok else f"FAILED in code cell {run.failure.cell}"
    return f"{status}, {run.seconds:.1f} s, {run.peak_bytes / GB:.2f} GB"


def table(runs: list[Run]):
    """Return the table at the end: notebook, cells, seconds, peak RAM, status, and the sums."""
    from rich.table import Table

    peak_bytes = max((run.peak_bytes for run in runs), default=0)
    table = Table(show_footer=len(runs) > 1)
    table.add_column("notebook", "all", no_wrap=True)
    table.add_column("code cells", str(sum(run.code_cells for run in runs)), justify="right")
    table.add_column("seconds", f"{sum(run.seconds for run in runs):.1f}", justify="right")
    table.add_column("peak RAM, GB", f"{peak_bytes / GB:.2f}", justify="right")
    table.add_column("status", "passed" if all(run.ok for run in runs) else "FAILED")
    for run in runs:
        status = "passed" if run.ok else f"[bold red]FAILED[/] in code cell {run.failure.cell}"
        numbers = str(run.code_cells), f"{run.seconds:.1f}", f"{run.peak_bytes / GB:.2f}"
        table.add_row(run.label, *numbers, status)
    return table


def as_dict(run: Run) -> dict:
    """Return a run for programs, as plain JSON."""
    told = None
    if failure := run.failure:
        told = {"cell": failure.cell, "source": failure.source, "reason": failure.reason}
    return {
        "label": run.label,
        "ok": run.ok,
        "code_cells": run.code_cells,
        "seconds": round(run.seconds, 1),
        "peak_bytes": run.peak_bytes,
        "failure": told,
    }


def failure_panel(run: Run):
    """Return a panel with the failing cell, why it failed, and the last lines of its traceback."""
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

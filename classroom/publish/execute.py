"""Run one notebook headless and tell what happened: seconds, peak memory, and where and why it failed.

papermill sets the parameters; nbclient, which papermill itself runs on, runs the cells. Going to nbclient
directly keeps three things that papermill's own loop takes away: cells tagged `raises-exception` may fail,
the kernel's process is known (so that `watch` can hold it to a limit), and `coursekit check` works for
students who have JupyterLab but not papermill. Every run gets a fresh kernel and ends with none, whatever
happens in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from classroom.publish.kernel import ANSI, Limits, Session

# The same number of threads and the same hash seed everywhere: torch splits a sum by threads, so the last
# digits of a committed output depend on it.
REPRODUCIBLE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


@dataclass(frozen=True)
class Failure:
    """Where a run ended: the cell's number among the code cells (from 1), its source, and why in words."""

    cell: int
    source: str
    reason: str
    traceback: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One execution of one notebook. `notebook` holds the outputs up to the failure, if there is one.

    overtime: numbers of the code cells that were interrupted at their time limit while the run went on.
    """

    label: str
    notebook: object = field(repr=False)
    code_cells: int
    seconds: float
    peak_bytes: int
    failure: Failure | None = None
    overtime: tuple[int, ...] = ()

    @property
    def ok(self) -> bool:
        return self.failure is None


def execute(
    notebook,
    label: str,
    *,
    cwd: Path,
    parameters: Mapping | None = None,
    limits: Limits | None = None,
    env: Mapping[str, str] | None = None,
    allow_errors: bool = False,
    progress: Callable[[int, int, int], None] | None = None,
) -> Run:
    """Execute a copy of `notebook` in a fresh kernel, in the folder `cwd`, `env` added to the environment.

    `progress(cell, cells, bytes)` is called before each cell. With `allow_errors` the run goes on after a
    failing cell, also one that was interrupted at its time limit; only a dead kernel, or one that does not
    answer an interrupt, is a failure. Raises CourseError for a parameter that the notebook does not have.
    """
    from classroom.publish.parameters import with_parameters

    limits = limits or Limits()
    notebook = with_parameters(notebook, parameters or {})
    session = Session(notebook, limits, progress)
    started = time.monotonic()
    reason = session.run(cwd, dict(env or {}), allow_errors)
    seconds = time.monotonic() - started
    failure = failure_at(notebook, session.at, reason) if reason else None
    overtime = tuple(code_number(notebook, index) for index in session.overtime)
    return Run(label, notebook, session.code_cells, seconds, session.peak_bytes, failure, overtime)


def code_number(notebook, index: int) -> int:
    """The number among the code cells, from 1, of the cell at `index`."""
    return sum(cell.cell_type == "code" for cell in notebook.cells[: index + 1])


def failure_at(notebook, index: int, reason: str) -> Failure:
    """The failure of the cell at `index`, with the traceback it shows."""
    cell = notebook.cells[index]
    lines = [line for output in cell.get("outputs", []) for line in output.get("traceback", [])]
    return Failure(
        code_number(notebook, index), cell.source, reason, tuple(ANSI.sub("", "\n".join(lines)).splitlines())
    )

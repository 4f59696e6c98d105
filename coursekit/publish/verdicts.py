"""Check a student's exercise notebook from the command line: run it, collect what its checks said, tell it in a table.

The checks are cells of the notebook itself and show verdicts (`classroom.check.Verdict`), each with a machine-readable form
beside its card. A cell that fails does not stop the others, as an unfinished exercise should not hide the finished ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coursekit.publish.execute import REPRODUCIBLE, Limits, Run, execute
from coursekit.publish.sources import CourseError

VERDICT_MIME = "application/vnd.coursekit.verdict+json"


@dataclass(frozen=True)
class CellError:
    """A cell that ended in an error: its number among the code cells, and the error in one line."""

    cell: int
    words: str


@dataclass(frozen=True)
class Checked:
    """What came of a notebook. `verdicts` are the records of classroom.check.Verdict in the order they were shown."""

    run: Run
    verdicts: tuple[Mapping, ...]
    errors: tuple[CellError, ...]

    @property
    def passed(self) -> int:
        return sum(bool(verdict["passed"]) for verdict in self.verdicts)

    @property
    def ok(self) -> bool:
        """Everything ran, there were checks, and all of them passed."""
        return self.run.ok and not self.errors and self.passed == len(self.verdicts) > 0


def check_notebook(path: Path, *, limits: Limits | None = None, progress=None) -> Checked:
    """Run the notebook at `path` in its own folder. Raises CourseError if there is none, or it cannot be read as one."""
    notebook = read_notebook(path)
    run = execute(
        notebook, path.stem, cwd=path.resolve().parent, limits=limits, env=REPRODUCIBLE, allow_errors=True, progress=progress
    )  # fmt: skip
    return Checked(run, tuple(verdicts_of(run.notebook)), tuple(errors_of(run.notebook)))


def read_notebook(path: Path):
    import nbformat

    if not path.is_file():
        raise CourseError(f"expected an exercise notebook; there is no file {path}. Give its path: exercises/01_formats.ipynb")
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises many kinds for a file that is no notebook
        raise CourseError(f"{path} cannot be read as a notebook: {error}. Open and save it in JupyterLab.") from error


def verdicts_of(notebook):
    """The verdicts shown in the notebook's outputs; the last one if one cell shows several of the same title."""
    for cell in notebook.cells:
        shown = [output["data"][VERDICT_MIME] for output in cell.get("outputs", []) if VERDICT_MIME in output.get("data", {})]
        yield from {verdict["title"]: verdict for verdict in shown}.values()


def errors_of(notebook):
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        if "raises-exception" not in cell.metadata.get("tags", []):
            yield from (CellError(number, f"{o.ename}: {o.evalue}") for o in cell.outputs if o.output_type == "error")


def show(checked: Checked, console) -> None:
    """The table, then what helps: hints of what did not pass, cells that failed."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("exercise", "", "expected", "got", title=f"{checked.passed} of {len(checked.verdicts)} passed")
    for verdict in checked.verdicts:
        mark = "[green]✓ passed[/]" if verdict["passed"] else "[red]✗ not yet[/]"
        table.add_row(escape(verdict["title"]), mark, words(verdict.get("expected")), words(verdict.get("got")))
    console.print(table)
    for verdict in checked.verdicts:
        if not verdict["passed"]:
            help_with(verdict, console)
    for error in checked.errors:
        console.print(f"code cell {error.cell} ended in {error.words}", markup=False)
    if checked.run.failure:
        console.print(f"code cell {checked.run.failure.cell}: {checked.run.failure.reason}", markup=False)


def help_with(verdict: Mapping, console) -> None:
    console.print(f"\n{verdict['title']}", style="bold", markup=False)
    if verdict.get("misconception"):
        console.print(f"  {verdict['misconception']}", markup=False)
    for number, hint in enumerate(verdict.get("hints") or [], start=1):
        console.print(f"  Hint {number}: {hint}", markup=False)


def words(value) -> str:
    from rich.markup import escape

    return "" if value is None else escape(str(value))

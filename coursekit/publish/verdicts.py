"""Check a student's exercise notebook: run it, collect what its checks said, tell it in a table.

The checks are cells of the notebook itself and show verdicts (`classroom.verdict`), each with a record that
programs can read beside its card. A cell that fails does not stop the others: an unfinished exercise should
not hide the finished ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coursekit.publish.execute import REPRODUCIBLE, Run, execute
from coursekit.publish.kernel import Limits
from coursekit.publish.sources import CourseError

VERDICT_MIME = "application/vnd.coursekit.verdict+json"


@dataclass(frozen=True)
class CellError:
    """A cell that ended in an error: its number among the code cells, and the error in one line."""

    cell: int
    words: str


@dataclass(frozen=True)
class Checked:
    """What came of a notebook. `verdicts`: the records of classroom.verdict, each with its card as `text`."""

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
    """Run the notebook at `path` in its own folder. Raises CourseError if there is none that can be read."""
    notebook = read_notebook(path)
    run = execute(
        notebook,
        path.stem,
        cwd=path.resolve().parent,
        limits=limits,
        env=REPRODUCIBLE,
        allow_errors=True,
        progress=progress,
    )
    return Checked(run, tuple(verdicts_of(run.notebook)), tuple(errors_of(run.notebook)))


def read_notebook(path: Path):
    import nbformat

    if not path.is_file():
        raise CourseError(
            f"expected an exercise notebook such as exercises/01_formats.ipynb; there is no file {path}."
        )
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises many kinds for a file that is no notebook
        raise CourseError(
            f"{path} cannot be read as a notebook: {error}. Open and save it in JupyterLab."
        ) from error


def verdicts_of(notebook):
    """The verdicts in the notebook's outputs; where one cell shows several of one title, the last."""
    for cell in notebook.cells:
        shown = [
            output["data"] for output in cell.get("outputs", []) if VERDICT_MIME in output.get("data", {})
        ]
        records = [data[VERDICT_MIME] | {"text": data.get("text/plain", "")} for data in shown]
        yield from {record["title"]: record for record in records}.values()


def errors_of(notebook):
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1):
        if "raises-exception" not in cell.metadata.get("tags", []):
            yield from (
                CellError(number, f"{o.ename}: {o.evalue}") for o in cell.outputs if o.output_type == "error"
            )


def show(checked: Checked, console) -> None:
    """The table, then the cards of what did not pass, with their hints, and the cells that failed."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        "exercise", "verdict", "typical mistake", title=f"{checked.passed} of {len(checked.verdicts)} passed"
    )
    for verdict in checked.verdicts:
        table.add_row(
            escape(verdict["title"]), status_words(verdict), escape(verdict.get("misconception") or "")
        )
    console.print(table)
    for sentence in (*cards_that_help(checked), *troubles(checked)):
        console.print("\n" + sentence, markup=False, highlight=False)


def status_words(verdict: Mapping) -> str:
    """Rich markup: a glyph and a word, so that colour is not alone."""
    status = verdict.get("status") or ("passed" if verdict["passed"] else "not yet")
    glyph = {"passed": "[green]✓[/]", "not started": "○"}.get(status, "[red]✗[/]")
    return f"{glyph} {status}"


def cards_that_help(checked: Checked) -> list[str]:
    """The text of every verdict that is not passed, apart from exercises that nobody has begun."""
    return [v["text"] for v in checked.verdicts if not v["passed"] and v.get("status") != "not started"]


def troubles(checked: Checked) -> list[str]:
    found = [f"code cell {error.cell} ended in {error.words}" for error in checked.errors]
    if checked.run.failure:
        found.append(f"code cell {checked.run.failure.cell}: {checked.run.failure.reason}")
    if not checked.verdicts:
        found.append("No check has shown a verdict: is this an exercise notebook?")
    return found

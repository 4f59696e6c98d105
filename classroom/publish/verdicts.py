"""Checks a student's exercise notebook: runs it, collects what its checks said, and shows it in a table.

The checks are cells of the notebook itself and show verdicts (`checking.verdict`), each a card with a record that
programs can read. A cell that fails or takes too long does not stop the others: an unfinished exercise should not hide
the finished ones.

This is a self-check. The notebook's code runs with all rights of its caller, and its author can make it show any
verdict. A record that is not proper, or does not fit the checks that the notebook calls, is named and does not count. A
forged record that fits cannot be distinguished from a true one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from classroom import lectures
from classroom.checking.outline import outlines
from classroom.checking.verdict import STATUSES, VERDICT_MIME
from classroom.publish.execute import REPRODUCIBLE, Run, execute
from classroom.publish.exercises import CHECK_CALL
from classroom.publish.limits import Limits, too_long
from classroom.publish.sources import CourseError

LECTURES = Path(lectures.__file__).parent
CHECKS_IMPORT = re.compile(r"^from classroom\.lectures\.(\w+) import exercises as check$", re.MULTILINE)
ERROR_CHARACTERS = 500
WHAT_THIS_IS = (
    "This is a self-check: it ran the notebook's own code as you, with your rights, and shows what that code said. "
    "Verdicts can be forged; marks come from the hidden tests in solutions/, run by the teacher."
)

#        field of a record, what it must be
FIELDS = {
    "exercise": str, "title": str, "status": str, "passed": bool, "misconception": (str, type(None)),
}  # fmt: skip


@dataclass(frozen=True)
class CellError:
    """A cell that ended in an error: its number among the code cells, and the error in one line."""

    cell: int
    words: str


@dataclass(frozen=True)
class Shown:
    """A verdict as a cell shows it: `record` may be anything, `text` is its card."""

    cell: int
    source: str
    record: object
    text: str


@dataclass(frozen=True)
class Checked:
    """The result of a notebook. `verdicts`: the records of checking.verdict, each with its card as `text`.

    not_run: titles of the exercises that the notebook should check and that show no verdict. flaws: a sentence per
    verdict that is not proper.
    """

    run: Run
    verdicts: tuple[Mapping, ...]
    errors: tuple[CellError, ...]
    not_run: tuple[str, ...] = ()
    flaws: tuple[str, ...] = ()

    @property
    def passed(self) -> int:
        return sum(verdict["passed"] for verdict in self.verdicts)

    @property
    def total(self) -> int:
        return len(self.verdicts) + len(self.not_run)

    @property
    def ok(self) -> bool:
        """Everything ran, there were checks, all of them passed, and nothing was odd."""
        return self.run.ok and not self.errors and not self.flaws and self.passed == self.total > 0


def check_notebook(path: Path, *, limits: Limits | None = None, progress=None) -> Checked:
    """Run the notebook at `path` in its own folder. Raises CourseError if it cannot be read."""
    limits = limits or Limits()
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
    return judged(run, limits)


def judged(run: Run, limits: Limits) -> Checked:
    """Compare what the executed notebook shows with the checks that it calls."""
    titles = titles_of(run.notebook)
    proper, flaws = sorted_out(shown_in(run.notebook), titles)
    wanted = titles or {name: name for name in calls_in(run.notebook)}
    not_run = tuple(title for name, title in wanted.items() if name not in proper)
    return Checked(run, tuple(proper.values()), tuple(errors_of(run, limits)), not_run, tuple(flaws))


def require_file(path: Path) -> None:
    """Raises CourseError if there is no file at `path`."""
    if not path.is_file():
        raise CourseError(
            f"there is no file {path}; expected an exercise notebook such as exercises/01_formats.ipynb."
        )


def read_notebook(path: Path):
    """Return the notebook without its outputs. Raises CourseError if the file is not a notebook."""
    require_file(path)
    import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = []
        nbformat.validate(notebook)
    except Exception as error:  # nbformat raises many kinds for a file that is not a notebook
        words = str(error).partition("\n")[0][:ERROR_CHARACTERS]
        raise CourseError(
            f"{path} cannot be read as a notebook: {words}. Open and save it in JupyterLab."
        ) from error
    return notebook


def verdicts_of(notebook) -> list[Mapping]:
    """Return the proper verdicts in the notebook's outputs; of several on one exercise, the last."""
    return list(sorted_out(shown_in(notebook), titles_of(notebook))[0].values())


def shown_in(notebook) -> Iterator[Shown]:
    """Yield every verdict in the outputs, proper or not."""
    for number, cell in enumerate(code_cells(notebook), start=1):
        for output in cell.outputs:
            data = output.get("data", {})
            if VERDICT_MIME in data:
                text = data.get("text/plain", "")
                yield Shown(number, cell.source, data[VERDICT_MIME], text if isinstance(text, str) else "")


def sorted_out(shown: Iterator[Shown], titles: Mapping[str, str]) -> tuple[dict[str, Mapping], list[str]]:
    """Return ({exercise: its last proper record}, a sentence for each verdict that is not proper)."""
    proper, flaws = {}, []
    for verdict in shown:
        if flaw := flaw_of(verdict.record) or misfit_of(verdict, titles):
            words = f"code cell {verdict.cell} shows a verdict that is not proper and does not count: {flaw}."
            flaws.append(words)
        else:
            proper[verdict.record["exercise"]] = {**verdict.record, "text": verdict.text}
    return proper, flaws


def flaw_of(record) -> str | None:
    """Say why this is not a record as a check writes it, or None."""
    if not isinstance(record, Mapping):
        return f"the record is of type {type(record).__name__}, not a JSON object"
    for name, kind in FIELDS.items():
        if not isinstance(record.get(name), kind):
            return f"the field {name!r} is missing, or not of the right type"
    if record["status"] not in STATUSES:
        return f"the status is {record['status'][:40]!r}, not one of {', '.join(STATUSES)}"
    if record["passed"] != (record["status"] == "passed"):
        return "the fields 'passed' and 'status' contradict each other"
    return None


def misfit_of(verdict: Shown, titles: Mapping[str, str]) -> str | None:
    """Say why a well-formed record does not belong to the cell that shows it, or None."""
    name, title = verdict.record["exercise"], verdict.record["title"]
    if name not in CHECK_CALL.findall(verdict.source):
        return f"it is about {name[:40]!r}, and the cell does not call that check"
    if titles and titles.get(name) != title:
        return f"the title of {name[:40]!r} should be {titles.get(name)!r}, and is {title[:80]!r}"
    return None


def titles_of(notebook) -> dict[str, str]:
    """{name: title} of the exercises whose checks the notebook imports; {} if they are not the course's."""
    found = [CHECKS_IMPORT.search(cell.source) for cell in code_cells(notebook)]
    words = [match[1] for match in found if match]
    exercises = outlines(LECTURES / words[0] / "exercises.py") if words else []
    return {exercise.name: exercise.title for exercise in exercises}


def calls_in(notebook) -> list[str]:
    """Return the names of the checks that the notebook's cells call."""
    return [name for cell in code_cells(notebook) for name in CHECK_CALL.findall(cell.source)]


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def errors_of(run: Run, limits: Limits) -> Iterator[CellError]:
    """Yield the cells that ended in an error or were interrupted; the one that ended the run is its failure."""
    for number, cell in enumerate(code_cells(run.notebook), start=1):
        if number in run.overtime:
            if not (run.failure and run.failure.cell == number):
                yield CellError(number, f"an interrupt: {too_long(limits)}")
        elif "raises-exception" not in cell.metadata.get("tags", []):
            errors = (output for output in cell.outputs if output.output_type == "error")
            yield from (CellError(number, f"{e.ename}: {e.evalue}"[:ERROR_CHARACTERS]) for e in errors)


def as_dict(checked: Checked, path: Path) -> dict:
    """Return the result as plain JSON data, for other programs."""
    failure = checked.run.failure
    verdicts = [{k: v for k, v in verdict.items() if k != "text"} for verdict in checked.verdicts]
    return {
        "notebook": path.as_posix(),
        "ok": checked.ok,
        "passed": checked.passed,
        "total": checked.total,
        "verdicts": verdicts,
        "not_run": list(checked.not_run),
        "flaws": list(checked.flaws),
        "errors": [{"cell": error.cell, "words": error.words} for error in checked.errors],
        "failure": {"cell": failure.cell, "reason": failure.reason} if failure else None,
        "seconds": round(checked.run.seconds, 1),
        "peak_bytes": checked.run.peak_bytes,
    }


def show(checked: Checked, console) -> None:
    """Print the table, then the cards of what did not pass, with their hints, and the cells that failed."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        "exercise", "verdict", "typical mistake", title=f"{checked.passed} of {checked.total} passed"
    )
    for verdict in checked.verdicts:
        mistake = escape(verdict.get("misconception") or "")
        table.add_row(escape(verdict["title"]), status_words(verdict), mistake)
    for title in checked.not_run:
        table.add_row(escape(title), "○ not run", "")
    console.print(table)
    for sentence in (*cards_that_help(checked), *troubles(checked), WHAT_THIS_IS):
        console.print("\n" + sentence, markup=False, highlight=False)


def status_words(verdict: Mapping) -> str:
    """Return Rich markup with a glyph and a word, so that the meaning does not rest on colour."""
    status = verdict["status"]
    glyph = {"passed": "[green]✓[/]", "not started": "○"}.get(status, "[red]✗[/]")
    return f"{glyph} {status}"


def cards_that_help(checked: Checked) -> list[str]:
    """Return the text of every verdict that is not passed, except for exercises that are not started."""
    return [v["text"] for v in checked.verdicts if v["status"] not in ("passed", "not started")]


def troubles(checked: Checked) -> list[str]:
    found = [f"code cell {error.cell} ended in {error.words}" for error in checked.errors]
    if checked.run.failure:
        found.append(f"code cell {checked.run.failure.cell}: {checked.run.failure.reason}")
    found += checked.flaws
    if not checked.total:
        found.append("No check has shown a verdict: is this an exercise notebook?")
    return found

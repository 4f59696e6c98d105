"""Every exercise, as a student opens it, holds nothing of the solution and fails kindly while unsolved."""

from pathlib import Path

import nbformat
import pytest

from classroom.publish.sources import all_sources, read_source
from classroom.publish.verdicts import check_notebook

ROOT = Path(__file__).parents[3]
SOLUTIONS = [source for source in all_sources(ROOT) if source.folder == "solutions"]
each = pytest.mark.parametrize("source", SOLUTIONS, ids=lambda source: source.name)


def exercise(source):
    return ROOT / "exercises" / f"{source.name}.ipynb"


def secret_lines(source):
    """Yield the lines between the markers of solutions and hidden tests, found here and not by nbgrader."""
    inside = False
    for line in source.path.read_text(encoding="utf-8").splitlines():
        if line.strip().startswith("### END"):
            inside = False
        if inside and line.strip():
            yield line.strip()
        if line.strip().startswith("### BEGIN"):
            inside = True


@each
def test_no_line_of_a_solution_or_hidden_test_leaks(source):
    shown = {
        line.strip()
        for cell in nbformat.read(exercise(source), as_version=4).cells
        for line in cell.source.splitlines()
    }
    secret = list(secret_lines(source))
    assert len(secret) > 5
    assert [line for line in secret if line in shown] == []


@each
def test_an_untouched_exercise_fails_kindly(source):
    """Every check answers, none is passed, none is an error, and no traceback is shown."""
    checked = check_notebook(exercise(source))
    solved = sum("BEGIN SOLUTION" in cell.source for cell in read_source(source.path).cells)
    assert len(checked.verdicts) == solved
    assert {verdict["status"] for verdict in checked.verdicts} == {"not started"}
    assert checked.errors == () and checked.run.failure is None

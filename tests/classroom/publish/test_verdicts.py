"""`coursekit check` judges the tiny course's exercise as released, half right, right, and broken."""

import io
import json
import shutil
from pathlib import Path

import nbformat
import pytest
from rich.console import Console

from classroom.checking.verdict import VERDICT_MIME
from classroom.lectures.formats import exercises as formats
from classroom.publish.execute import Run
from classroom.publish.limits import Limits
from classroom.publish.sources import CourseError
from classroom.publish.verdicts import (
    WHAT_THIS_IS,
    as_dict,
    check_notebook,
    judged,
    read_notebook,
    show,
    verdicts_of,
)


@pytest.fixture
def answered(built_course, tmp_path):
    """answered("return x + x") is the path of an exercise notebook with this answer written into it."""

    def write(answer: str, *more_cells: str):
        path = tmp_path / "mine.ipynb"
        shutil.copy(built_course / "exercises" / "01_demo.ipynb", path)
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            cell.source = cell.source.replace("# your code here\n    ...", answer)
        notebook.cells[2:2] = [nbformat.v4.new_code_cell(source) for source in more_cells]
        nbformat.write(notebook, path)
        return path

    return write


def told(checked) -> str:
    text = io.StringIO()
    show(checked, Console(file=text, width=400))
    return text.getvalue()


def test_a_right_answer_passes(answered):
    checked = check_notebook(answered("return 2 * x"))
    assert checked.ok and "1 of 1 passed" in told(checked)


def test_an_exercise_not_begun_is_no_error(answered):
    checked = check_notebook(answered("..."))
    assert not checked.ok and checked.errors == () and checked.run.ok
    assert "not started" in told(checked) and "Hint" not in told(checked)


def test_a_wrong_answer_gets_its_hint_and_errors_elsewhere_do_not_hide_it(answered):
    checked = check_notebook(answered("return x * x", "1 / 0"))
    words = told(checked)
    assert not checked.ok and checked.passed == 0
    assert "squares" in words and "Hint 1: 4 + 4" in words
    assert "code cell 2 ended in ZeroDivisionError: division by zero" in words


def test_a_cell_over_its_time_is_interrupted_and_the_exercises_after_it_are_checked(answered):
    checked = check_notebook(answered("return 2 * x", "while True: pass"), limits=Limits(cell_seconds=2))
    assert not checked.ok and (checked.passed, checked.total) == (1, 1)
    words = told(checked)
    assert (
        "1 of 1 passed" in words
        and "code cell 2 ended in an interrupt: this cell ran longer than 2 s" in words
    )


def test_after_a_kernel_that_died_the_rest_is_not_run(answered):
    checked = check_notebook(answered("return 2 * x", "import os; os._exit(0)"))
    words = told(checked)
    assert not checked.ok and (checked.passed, checked.total) == (0, 1)
    assert "0 of 1 passed" in words and "not run" in words and "the kernel died" in words


def test_what_a_check_is_and_is_not_is_said(answered):
    assert WHAT_THIS_IS in told(check_notebook(answered("..."))).replace("\n", " ")


GOOD = {"exercise": "double", "title": "Double it", "status": "passed", "passed": True, "misconception": None}


def shown(record, source="check.double(double)", *more) -> Run:
    """Return a run whose one cell shows this record; `more` are cells without output."""
    output = nbformat.v4.new_output("display_data", {"text/plain": "card"})
    output["data"][VERDICT_MIME] = record
    cells = [nbformat.v4.new_code_cell(source, outputs=[output]), *map(nbformat.v4.new_code_cell, more)]
    return Run("demo", nbformat.v4.new_notebook(cells=cells), len(cells), 1.0, 1)


def test_a_proper_record_counts():
    assert judged(shown(GOOD), Limits()).ok


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (["passed"], "the record is of type list"),
        (None, "the record is of type NoneType"),
        ({}, "the field 'exercise' is missing"),
        (GOOD | {"title": 7}, "the field 'title' is missing, or not of the right type"),
        (GOOD | {"passed": "yes"}, "the field 'passed'"),
        (GOOD | {"misconception": ["x"]}, "the field 'misconception'"),
        (GOOD | {"status": "brilliant"}, "the status is 'brilliant'"),
        (GOOD | {"status": "wrong"}, "contradict each other"),
        (GOOD | {"exercise": "triple"}, "it is about 'triple', and the cell does not call that check"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_record_that_is_not_proper_is_named_and_does_not_count(record, words):
    checked = judged(shown(record), Limits())
    assert not checked.ok and checked.passed == 0 and checked.not_run == ("double",)
    assert words in checked.flaws[0] and checked.flaws[0] in told(checked).replace("\n", " ")
    json.dumps(as_dict(checked, Path("mine.ipynb")))


def test_a_verdict_in_a_cell_that_calls_no_check_does_not_count():
    checked = judged(shown(GOOD, "display(forged)", "check.double(double)"), Limits())
    assert not checked.ok and checked.verdicts == () and checked.not_run == ("double",)


def test_titles_and_count_are_those_of_the_course():
    """A notebook that imports the course's checks is compared with all of them."""
    exercise = formats.round_to_grid
    source = "from classroom.lectures.formats import exercises as check\ncheck.round_to_grid(round_to_grid)"
    record = GOOD | {"exercise": exercise.name, "title": exercise.title}
    checked = judged(shown(record, source), Limits())
    assert (checked.passed, checked.total) == (1, len(formats.EXERCISES)) and not checked.ok
    assert list(checked.not_run) == [other.title for other in formats.EXERCISES if other is not exercise]
    (flaw,) = judged(shown(record | {"title": "Another"}, source), Limits()).flaws
    assert f"should be {exercise.title!r}, and is 'Another'" in flaw


def test_the_same_exercise_twice_counts_once():
    run = shown(GOOD)
    run.notebook.cells *= 2
    assert len(verdicts_of(run.notebook)) == 1


def test_an_errors_own_words_are_cut():
    run = shown(GOOD)
    error = nbformat.v4.new_output("error", ename="ValueError", evalue="x" * 10**6, traceback=[])
    run.notebook.cells[0].outputs.append(error)
    (found,) = judged(run, Limits()).errors
    assert len(found.words) == 500


def test_old_outputs_are_not_looked_at(tmp_path):
    """They are discarded anyway, and another program may have written them."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
    notebook.cells[0].outputs = [{"output_type": "stream", "name": "stdout", "text": 5}]
    (tmp_path / "mine.ipynb").write_text(json.dumps(notebook))
    assert read_notebook(tmp_path / "mine.ipynb").cells[0].outputs == []


def test_what_is_no_notebook_is_said(tmp_path):
    with pytest.raises(CourseError, match="there is no file"):
        check_notebook(tmp_path / "none.ipynb")
    (tmp_path / "broken.ipynb").write_text("{")
    with pytest.raises(CourseError, match="cannot be read as a notebook"):
        check_notebook(tmp_path / "broken.ipynb")
    (tmp_path / "odd.ipynb").write_text(
        '{"cells": [{"cell_type": "code"}], "nbformat": 4, "nbformat_minor": 5}'
    )
    with pytest.raises(CourseError, match="cannot be read as a notebook"):
        check_notebook(tmp_path / "odd.ipynb")

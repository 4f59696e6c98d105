"""`coursekit check` on the tiny course's exercise: as released, half right, right, and broken."""

import io
import shutil

import nbformat
import pytest
from rich.console import Console

from coursekit.publish.kernel import Limits
from coursekit.publish.sources import CourseError
from coursekit.publish.verdicts import check_notebook, show


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
    show(checked, Console(file=text, width=120))
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


def test_an_endless_answer_is_stopped(answered):
    checked = check_notebook(answered("while True: pass"), limits=Limits(cell_seconds=1))
    assert not checked.ok and "this cell ran longer than 1 s" in told(checked)


def test_what_is_no_notebook_is_said(tmp_path):
    with pytest.raises(CourseError, match="there is no file"):
        check_notebook(tmp_path / "none.ipynb")
    (tmp_path / "broken.ipynb").write_text("{")
    with pytest.raises(CourseError, match="cannot be read as a notebook"):
        check_notebook(tmp_path / "broken.ipynb")

import nbformat
import nbformat.v4 as v4
import pytest

from classroom.publish.exercises import build_exercises, exercise_text, release, stale_exercises
from classroom.publish.sources import CourseError, all_sources


@pytest.fixture
def released(course):
    """Return the exercise notebook of the course's one solution."""
    (solution,) = (s for s in all_sources(course) if s.folder == "solutions")
    return nbformat.reads(exercise_text(solution), as_version=4)


def cell_with(notebook, text):
    (cell,) = (cell for cell in notebook.cells if text in cell.source)
    return cell


def test_the_solution_becomes_a_stub_that_can_be_run(released):
    source = cell_with(released, "def double(x)").source
    assert source == 'def double(x):\n    """Twice x."""\n    # your code here\n    ...'
    names = {}
    exec(source, names)
    assert names["double"](4) is None


def test_nothing_of_the_solution_leaks(released):
    text = nbformat.writes(released)
    assert not any(secret in text for secret in ("secret", "x + x", "42", "Only a teacher", "BEGIN", "END"))


def test_checks_stay_and_can_be_run_and_edited(released):
    cell = cell_with(released, "check.double(double)")
    assert cell.source.strip() == "check.double(double)"
    assert cell.metadata.get("editable", True)


def test_nbgrader_finds_its_cells_and_points(released):
    """nbgrader itself reads the metadata."""
    from nbgrader import utils

    student, check = cell_with(released, "def double(x)"), cell_with(released, "check.double(")
    assert utils.is_solution(student) and not utils.is_grade(student) and student.metadata.deletable is False
    assert utils.is_grade(check) and check.metadata.nbgrader.points == 3
    assert [cell.metadata.nbgrader.grade_id for cell in (student, check)] == ["double", "check_double"]


@pytest.mark.parametrize(
    "cells, reason",
    [
        (["### BEGIN SOLUTION\n1"], "no end solution"),
        (["def f():\n    ### BEGIN SOLUTION\n    ### BEGIN SOLUTION\n    1\n    ### END SOLUTION"], "nested"),
        (["x = 1\n### BEGIN HIDDEN TESTS\n1\n### END HIDDEN TESTS"], "non-grade cell"),
        (["def f():\n    ### BEGIN SOLUTION\n    1\n    ### END SOLUTION"] * 2, "validate"),
    ],
    ids=["unclosed", "nested", "hidden test without a check", "two exercises of one name"],
)
def test_a_region_that_nbgrader_would_not_find_again_is_refused(cells, reason):
    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells])
    with pytest.raises(CourseError, match=reason):
        release(notebook)


def test_a_written_answer_is_graded_by_a_person():
    cell = v4.new_markdown_cell(
        "Why?\n\n### BEGIN SOLUTION\nBecause.\n### END SOLUTION", metadata={"tags": ["points-2"]}
    )
    (answer,) = release(v4.new_notebook(cells=[cell])).cells
    assert answer.source == "Why?\n\n*Your answer here.*"
    assert answer.metadata.nbgrader.grade and answer.metadata.nbgrader.points == 2


def test_building_twice_changes_nothing_and_a_changed_solution_is_noticed(course):
    (path,) = build_exercises(course)
    before = path.read_bytes()
    assert build_exercises(course) == [] and path.read_bytes() == before and stale_exercises(course) == []
    solution = course / "solutions" / "src" / "01_demo.py"
    solution.write_text(solution.read_text().replace("Twice x", "x twice"))
    assert stale_exercises(course) == [path]
    assert build_exercises(course) == [path] and b"x twice" in path.read_bytes()

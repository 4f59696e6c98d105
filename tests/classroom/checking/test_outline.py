"""The exercises of a file are known without running it."""

import importlib
from pathlib import Path

import pytest

from classroom import lectures
from classroom.checking.outline import Outline, outlines

LECTURES = Path(lectures.__file__).parent


def test_name_title_and_minutes_are_read_and_nothing_runs(tmp_path):
    path = tmp_path / "exercises.py"
    path.write_text(
        'raise SystemExit\na = Exercise("a", "First", minutes=5, hints=hints())\nb = other("b", "B")\n'
    )
    assert outlines(path) == [Outline("a", "First", 5)]


def test_what_is_not_written_out_is_an_error(tmp_path):
    path = tmp_path / "exercises.py"
    path.write_text('a = Exercise("a", TITLE, minutes=5)\n')
    with pytest.raises(ValueError):
        outlines(path)


def test_no_file_has_no_exercises(tmp_path):
    assert outlines(tmp_path / "none.py") == []


@pytest.mark.parametrize("path", sorted(LECTURES.glob("*/exercises.py")), ids=lambda path: path.parent.name)
def test_the_outline_is_that_of_the_exercises(path):
    exercises = importlib.import_module(f"classroom.lectures.{path.parent.name}.exercises").EXERCISES
    assert outlines(path) == [Outline(e.name, e.title, e.minutes) for e in exercises]

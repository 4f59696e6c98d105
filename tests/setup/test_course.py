"""course.py refuses a Python that is too old or too new, in words that this Python can read."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

from course_setup import tasks

ROOT = Path(__file__).parents[2]


@pytest.fixture
def course():
    spec = importlib.util.spec_from_file_location("course", ROOT / "course.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_old_python_can_read_it():
    """Its first duty is to tell an old Python that it is too old."""
    ast.parse((ROOT / "course.py").read_text(encoding="utf-8"), feature_version=(3, 6))


@pytest.mark.parametrize("version", [(3, 8), (3, 14)])
def test_the_wrong_python_is_named_with_one_that_fits(course, monkeypatch, version, capsys):
    monkeypatch.setattr(course.sys, "version_info", (*version, 0, "final", 0))
    monkeypatch.setattr(course.shutil, "which", lambda name: "found" if name == "python3.12" else None)
    assert course.main(["lab"]) == 2
    message = capsys.readouterr().err
    assert f"this is Python {version[0]}.{version[1]}" in message and "python3.12 course.py lab" in message


def test_no_python_that_fits(course, monkeypatch):
    monkeypatch.setattr(course.shutil, "which", lambda name: None)
    assert "Install Python 3.11, 3.12 or 3.13" in course.wrong_python((3, 9, 0))
    assert [course.wrong_python((3, minor, 0)) for minor in (11, 12, 13)] == [None] * 3


def test_the_python_comes_before_the_tools(course, monkeypatch, capsys):
    """Who has the wrong Python is told so first, not to install Node.js."""
    monkeypatch.setattr(course.sys, "version_info", (3, 9, 0, "final", 0))
    assert course.main(["test", "--without", "nonsense"]) == 2
    assert "this is Python 3.9" in capsys.readouterr().err


def test_the_makefile_offers_every_task():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    offered = set(re.findall(r"course\.py (\w+) ", makefile))
    assert offered == {*tasks.TASKS, *tasks.COURSEKIT} - {"setup"}

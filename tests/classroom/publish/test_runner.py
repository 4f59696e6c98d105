import io

import nbformat
import pytest
from rich.console import Console

from classroom.publish.kernel import Limits
from classroom.publish.runner import run_all
from classroom.publish.sources import CourseError, all_sources


@pytest.fixture
def run_course(course, tmp_path):
    """run_course(profile, steps=4) runs the tiny course; returns the runs and where they were kept."""

    def runner(profile="ci", **parameters):
        out = tmp_path / "kept"
        console = Console(file=io.StringIO())
        return run_all(
            all_sources(course), console, profile=profile, parameters=parameters, limits=Limits(), out=out
        ), out

    return runner


def output_of(path, cell):
    return nbformat.read(path, as_version=4).cells[cell].outputs[0].text


def test_all_are_run_with_the_parameters_they_have_and_kept_as_notebook_and_page(run_course):
    runs, out = run_course(profile="cpu", steps=4)
    assert [(run.label, run.ok) for run in runs] == [("notebooks/01_demo", True), ("solutions/01_demo", True)]
    kept = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*"))
    assert kept == [
        f"{folder}/01_demo.{kind}" for folder in ("notebooks", "solutions") for kind in ("html", "ipynb")
    ]
    # papermill's cell with the given values comes after the defaults
    assert output_of(out / "notebooks" / "01_demo.ipynb", 3) == "cpu 10.0\n"
    assert "cpu 10.0" in (out / "notebooks" / "01_demo.html").read_text(encoding="utf-8")


def test_a_failing_notebook_is_kept_and_does_not_stop_the_next(run_course, course):
    path = course / "notebooks" / "src" / "01_demo.py"
    path.write_text(path.read_text().replace("steps * 2.5", "steps / 0"))
    runs, out = run_course()
    assert [run.ok for run in runs] == [False, True]
    assert "ZeroDivisionError" in (out / "notebooks" / "01_demo.html").read_text(encoding="utf-8")


def test_a_parameter_that_none_has_is_refused_before_anything_runs(run_course, tmp_path):
    with pytest.raises(CourseError, match=r"Did you mean steps\?"):
        run_course(step=4)
    assert not (tmp_path / "kept").exists()


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_runs(course, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CourseError, match=r"Name another one with --out\."):
        run_all(
            all_sources(course),
            None,
            profile="ci",
            parameters={},
            limits=Limits(),
            out=tmp_path / "file" / "deep",
        )

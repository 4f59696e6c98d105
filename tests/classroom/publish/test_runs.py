"""Many notebooks are run and kept; progress, table and failure say what a person needs."""

import io
import json
import re

import nbformat
import pytest
from rich.console import Console

from classroom.publish.execute import Failure, Run
from classroom.publish.limits import Limits
from classroom.publish.runs import Board, as_dict, failure_panel, run_all, run_words, table
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
    with pytest.raises(CourseError, match=r"Name another folder with --out\."):
        run_all(
            all_sources(course),
            None,
            profile="ci",
            parameters={},
            limits=Limits(),
            out=tmp_path / "file" / "deep",
        )


GOOD = Run("notebooks/01_demo", None, code_cells=12, seconds=3.14, peak_bytes=1_250_000_000)
TRACE = tuple(f"line {i}" for i in range(30))
FAILURE = Failure(3, "half(x)\nprint('[bold]')", "ZeroDivisionError: division by zero", TRACE)
BAD = Run("solutions/01_demo", None, 7, 0.5, 90_000_000, FAILURE)


def printed(thing, terminal=False):
    text = io.StringIO()
    Console(file=text, width=110, force_terminal=terminal).print(thing)
    return text.getvalue()


def rows(text):
    return [re.split(r"\s*[│┃]\s*", line)[1:-1] for line in text.splitlines() if line[:1] in "│┃"]


def test_the_table_has_a_row_for_each_run_and_their_sums():
    assert rows(printed(table([GOOD, BAD]))) == [
        ["notebook", "code cells", "seconds", "peak RAM, GB", "status"],
        ["notebooks/01_demo", "12", "3.1", "1.25", "passed"],
        ["solutions/01_demo", "7", "0.5", "0.09", "FAILED in code cell 3"],
        ["all", "19", "3.6", "1.25", "FAILED"],
    ]


def test_one_run_needs_no_sums():
    assert len(rows(printed(table([GOOD])))) == 2


def test_a_failure_shows_cell_source_reason_and_the_last_lines_of_the_traceback():
    text = printed(failure_panel(BAD))
    for words in (
        "solutions/01_demo, code cell 3",
        "half(x)",
        "print('[bold]')",
        "ZeroDivisionError: division by zero",
        "line 29",
    ):
        assert words in text
    assert "line 10 " not in text


def test_a_log_file_gets_one_line_a_notebook():
    text = io.StringIO()
    with Board(Console(file=text, width=80), [GOOD.label, "a"]) as board:
        for label in (GOOD.label, "a"):
            board.start(label)
            board.step(1, 12, 10**9)
            board.done(label, run_words(GOOD))
    assert text.getvalue().splitlines() == [
        "notebooks/01_demo  passed, 3.1 s, 1.25 GB",
        "a                  passed, 3.1 s, 1.25 GB",
    ]


def test_a_terminal_sees_cells_and_memory_while_it_goes_on():
    text = io.StringIO()
    with Board(Console(file=text, width=100, force_terminal=True), [GOOD.label]) as board:
        board.start(GOOD.label)
        board.step(5, 12, 2 * 10**9)
        board.progress.refresh()
    assert re.search("5/12.*2.00 GB", re.sub(r"\x1b\[[0-9;?]*\w", "", text.getvalue()))


def test_programs_get_plain_json():
    data = json.loads(json.dumps([as_dict(GOOD), as_dict(BAD)]))
    assert (data[0]["ok"], data[0]["failure"], data[0]["peak_bytes"]) == (True, None, 1_250_000_000)
    assert data[1]["failure"] == {"cell": 3, "source": FAILURE.source, "reason": FAILURE.reason}

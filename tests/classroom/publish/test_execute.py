"""One notebook, headless: what comes back when it runs and when a cell fails."""

import pytest

from classroom.publish.execute import REPRODUCIBLE, execute
from classroom.publish.sources import CourseError
from classroom.publish.watch import GB


def printed(run):
    return [output.text for cell in run.notebook.cells for output in cell.outputs if "text" in output]


def test_a_run_knows_its_cells_seconds_memory_folder_and_environment(run, tmp_path):
    steps = []
    result = run(
        "import os; print(os.path.samefile('.', " + repr(str(tmp_path)) + "), os.environ['OMP_NUM_THREADS'])",
        "block = bytearray(200_000_000)",
        "import time; time.sleep(0.5)",
        env=REPRODUCIBLE,
        progress=lambda *step: steps.append(step),
    )
    assert result.ok and printed(result) == ["True 1\n"]
    assert result.code_cells == 3 and result.seconds > 0.5
    assert 0.2 * GB < result.peak_bytes < GB
    assert [step[:2] for step in steps] == [(0, 3), (1, 3), (2, 3)]


def test_a_failing_cell_is_named_with_its_source_and_traceback(run):
    result = run("a = 1", "def half(x):\n    return x / 0\nhalf(a)", "print('never')")
    failure = result.failure
    assert (failure.cell, failure.source) == (2, "def half(x):\n    return x / 0\nhalf(a)")
    assert failure.reason == "ZeroDivisionError: division by zero"
    assert any("return x / 0" in line for line in failure.traceback) and "\x1b" not in "".join(
        failure.traceback
    )
    assert printed(result) == []


def test_errors_that_are_meant_or_allowed_do_not_end_the_run(run, notebook_of, tmp_path):
    assert printed(run("1 / 0", "print('on')", allow_errors=True)) == ["on\n"]
    notebook = notebook_of("1 / 0", "print('on')")
    notebook.cells[0].metadata["tags"] = ["raises-exception"]
    assert printed(execute(notebook, "demo", cwd=tmp_path)) == ["on\n"]


def test_parameters_reach_the_cells_and_the_notebook_given_stays_as_it_is(notebook_of, tmp_path):
    notebook = notebook_of("steps = 3", "print(steps)")
    notebook.cells[0].metadata["tags"] = ["parameters"]
    assert printed(execute(notebook, "demo", cwd=tmp_path, parameters={"steps": 7})) == ["7\n"]
    assert [cell.source for cell in notebook.cells] == ["steps = 3", "print(steps)"]
    assert [cell.outputs for cell in notebook.cells] == [[], []]
    with pytest.raises(CourseError, match=r"Did you mean steps\?"):
        execute(notebook, "demo", cwd=tmp_path, parameters={"stops": 7})

"""One notebook in one kernel: what comes back when it runs, fails, hangs, eats memory, dies or is stopped."""

import os
import re
import signal
import threading
import time

import psutil
import pytest

from coursekit.publish.execute import REPRODUCIBLE, Limits, execute
from coursekit.publish.sources import CourseError
from coursekit.publish.watch import GB, Watch


@pytest.fixture
def run(tmp_path, notebook_of):
    """run("a = 1", "a", limits=...) executes these cells; afterwards no kernel is left."""

    def runner(*cells, **options):
        return execute(notebook_of(*cells), "demo", cwd=tmp_path, **options)

    before = set(psutil.Process().children(recursive=True))
    yield runner
    left = set(psutil.Process().children(recursive=True)) - before
    assert [child for child in left if child.status() != psutil.STATUS_ZOMBIE] == []


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
    assert result.code_cells == 3 and 0.5 < result.seconds < 60
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


def test_a_cell_that_allocates_too_much_is_stopped(run):
    result = run(
        "block = bytearray(2 * 10**9)\nimport time; time.sleep(60)", limits=Limits(ram_bytes=0.5 * GB)
    )
    assert "the limit is 0.50 GB of memory" in result.failure.reason
    assert result.seconds < 30


def test_a_cell_that_takes_too_long_is_stopped(run):
    result = run("import time; time.sleep(60)", limits=Limits(cell_seconds=1))
    assert "this cell ran longer than 1 s" in result.failure.reason
    assert result.seconds < 30


def test_a_notebook_that_takes_too_long_is_stopped(run):
    result = run("import time; time.sleep(60)", limits=Limits(seconds=1))
    assert "the limit of a notebook" in result.failure.reason
    assert result.seconds < 30


@pytest.mark.parametrize(
    "cell, reason",
    [
        ("os.kill(os.getpid(), 9)", "memory ran out"),
        ("os.write(2, b'libfoo: bad day'); os._exit(3)", "exit status 3.*\nlibfoo: bad day"),
    ],
    ids=["killed", "crashed"],
)
def test_a_kernel_that_dies_is_reported_and_does_not_hang(run, cell, reason):
    result = run("import os", cell)
    assert result.failure.cell == 2 and re.search(reason, result.failure.reason)
    assert result.seconds < 30


if os.name != "nt":  # a process cannot send itself Ctrl-C there

    @pytest.mark.parametrize("when", ["the kernel starts", "a cell runs"])
    def test_ctrl_c_ends_the_run_and_the_kernel(run, monkeypatch, when):
        def interrupt(*_):
            threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

        if when == "the kernel starts":
            monkeypatch.setattr(Watch, "start", interrupt)
            monkeypatch.setattr(Watch, "stop", lambda watch: None)
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            run("import time; time.sleep(60)", progress=interrupt)
        assert time.monotonic() - started < 30


def test_a_kernel_that_does_not_start_is_a_failure_with_its_last_words(run):
    result = run("print('never')", env={"PYTHONHOME": os.devnull})
    assert result.failure.reason.startswith("the kernel did not start")
    assert "encodings" in result.failure.reason


def test_parameters_reach_the_cells_and_the_notebook_given_stays_as_it_is(notebook_of, tmp_path):
    notebook = notebook_of("steps = 3", "print(steps)")
    notebook.cells[0].metadata["tags"] = ["parameters"]
    assert printed(execute(notebook, "demo", cwd=tmp_path, parameters={"steps": 7})) == ["7\n"]
    assert [cell.source for cell in notebook.cells] == ["steps = 3", "print(steps)"]
    assert [cell.outputs for cell in notebook.cells] == [[], []]
    with pytest.raises(CourseError, match=r"Did you mean steps\?"):
        execute(notebook, "demo", cwd=tmp_path, parameters={"stops": 7})

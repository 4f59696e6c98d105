"""One notebook in a kernel: what comes back when it runs, fails, hangs, exceeds a limit, or is interrupted."""

import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

from classroom.publish.endings import Terminated
from classroom.publish.execute import REPRODUCIBLE, execute
from classroom.publish.limits import Limits, Watch, marked
from classroom.publish.sources import CourseError
from coursekit.units import GB


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


def test_a_cell_that_allocates_too_much_is_stopped(run):
    result = run(
        "block = bytearray(2 * 10**9)\nimport time; time.sleep(600)", limits=Limits(ram_bytes=0.5 * GB)
    )
    assert "the limit is 0.50 GB of memory" in result.failure.reason
    assert result.seconds < 120


def test_a_cell_that_takes_too_long_is_stopped(run):
    result = run("import time; time.sleep(600)", limits=Limits(cell_seconds=1))
    assert "this cell ran longer than 1 s" in result.failure.reason and result.overtime == ()
    assert result.seconds < 120


def test_where_errors_are_allowed_a_cell_that_takes_too_long_is_interrupted_and_the_run_goes_on(run):
    result = run(
        "import time", "time.sleep(600)", "print('on')", limits=Limits(cell_seconds=2), allow_errors=True
    )
    assert result.ok and result.overtime == (2,)
    assert result.notebook.cells[2].outputs[0].text == "on\n"


def test_a_cell_that_does_not_answer_the_interrupt_ends_the_run(run, monkeypatch):
    """A loop inside C hears no interrupt."""
    monkeypatch.setattr("classroom.publish.execute.GRACE_SECONDS", 1)
    result = run("sum(range(10**12))", "print('never')", limits=Limits(cell_seconds=1), allow_errors=True)
    assert result.failure.cell == 1 and "ran longer than 1 s" in result.failure.reason
    assert result.notebook.cells[1].outputs == []


def test_much_output_ends_in_time_and_is_cut(run):
    """nbclient alone would take hours to join one line of 2 MB, then 100 MB."""
    result = run(
        "print('x' * 2_000_000)",
        "for _ in range(1000): print('x' * 100_000)",
        "print('on')",
        limits=Limits(cell_seconds=120),
    )
    texts = [cell.outputs[0].text for cell in result.notebook.cells]
    assert result.ok and texts[2] == "on\n"
    assert all(len(text) < 1_000_100 for text in texts[:2])
    assert texts[0].endswith("\n... 1.0 MB more were printed and left out\n")
    assert texts[1].endswith("\n... 99.0 MB more were printed and left out\n")


def test_an_endless_printer_is_stopped_at_its_time_limit(run):
    result = run(
        "while True: print('x' * 1000)", "print('on')", limits=Limits(cell_seconds=2), allow_errors=True
    )
    assert result.ok and result.overtime == (1,) and result.notebook.cells[1].outputs[0].text == "on\n"


def test_a_notebook_that_takes_too_long_is_stopped(run):
    result = run("import time; time.sleep(600)", limits=Limits(seconds=1))
    assert "the limit of a notebook" in result.failure.reason
    assert result.seconds < 120


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
    assert result.seconds < 120


if os.name != "nt":  # a process cannot send itself Ctrl-C there

    @pytest.mark.parametrize("when", ["the kernel starts", "a cell runs"])
    @pytest.mark.parametrize(
        "number, kind", [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)]
    )
    def test_ctrl_c_and_sigterm_end_the_run_and_the_kernel(run, monkeypatch, when, number, kind):
        def interrupt(*_):
            threading.Timer(0.1, os.kill, (os.getpid(), number)).start()

        handler = signal.getsignal(signal.SIGTERM)

        if when == "the kernel starts":
            monkeypatch.setattr(Watch, "start", interrupt)
            monkeypatch.setattr(Watch, "stop", lambda watch: None)
        started = time.monotonic()
        with pytest.raises(kind):
            run("import time; time.sleep(600)", progress=interrupt)
        assert signal.getsignal(signal.SIGTERM) is handler
        assert time.monotonic() - started < 120

    def test_sigterm_is_heard_where_a_loop_runs_already(tmp_path):
        """In JupyterLab, or beside a browser that is driven from this process, nbclient works in a thread.

        Tested in a process of its own: this one may have a loop already, and would end if the signal were not heard.
        """
        code = f"""if True:
            import asyncio, os, signal, threading
            from pathlib import Path
            import nbformat.v4 as v4
            from classroom.publish.execute import execute
            from classroom.publish.endings import Terminated

            async def inside():
                notebook = v4.new_notebook(cells=[v4.new_code_cell("import time; time.sleep(600)")])
                timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
                execute(notebook, "demo", cwd=Path({str(tmp_path)!r}), progress=lambda *_: timer.start())

            try:
                asyncio.run(inside())
            except Terminated:
                print("heard")
        """
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
        assert result.stdout == "heard\n", result.stderr[-2000:]


def test_a_kernel_that_does_not_start_is_a_failure_with_its_last_words(run):
    result = run("print('never')", env={"PYTHONHOME": os.devnull})
    assert result.failure.reason.startswith("the kernel did not start")
    assert "encodings" in result.failure.reason


if os.name == "posix":

    def test_what_a_cell_leaves_in_the_background_ends_with_the_run(run):
        """A daemon has forked twice and has a session of its own, and no parent in the run."""
        command = f"{sys.executable} -c 'import time; time.sleep(600)' & exit"
        result = run(
            f"import subprocess; subprocess.run(['setsid', 'sh', '-c', {command!r}])",
            "import os; print(os.environ['COURSEKIT_RUN'])",
        )
        assert list(marked(result.notebook.cells[1].outputs[0].text.strip())) == []

"""One kernel: what comes back when a cell hangs, eats memory or kills the kernel, or after Ctrl-C."""

import os
import re
import signal
import threading
import time

import pytest

from coursekit.publish.kernel import Limits
from coursekit.publish.watch import GB, Watch


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

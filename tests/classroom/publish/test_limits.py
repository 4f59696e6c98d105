"""The watch holds plain processes to limits (kernels: test_execute.py); what a cell prints is joined and cut."""

import os
import re
import subprocess
import sys
import time

import nbformat.v4 as v4
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classroom.publish.limits import (
    CAP_CHARACTERS,
    GB,
    MARK,
    Allowance,
    Watch,
    after_returns,
    joined,
    judge,
    kill_tree,
    marked,
    new_mark,
    tree_bytes,
)

HOLD = "import time; block = bytearray({size}); print('ready', flush=True); time.sleep(600)"
PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"


@pytest.fixture
def start():
    """Start Python code that prints a line when it is ready; whatever is left is killed at the end."""
    processes = []

    def starter(code: str):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        processes.append(process)
        process.stdout.readline()
        return process

    yield starter
    for process in processes:
        kill_tree(process.pid)
        process.stdout.close()
        process.wait()


def test_memory_of_a_child_counts(start):
    size = 200_000_000
    process = start(PARENT.format(code=HOLD.format(size=size)))
    assert size <= tree_bytes(process.pid) < size + 100_000_000


def test_a_process_that_is_gone_holds_nothing():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert tree_bytes(process.pid) == 0
    kill_tree(process.pid)


def test_kill_tree_leaves_no_child(start):
    process = start(PARENT.format(code=HOLD.format(size=1)))
    (child,) = psutil.Process(process.pid).children()
    kill_tree(process.pid)
    psutil.wait_procs([child], timeout=60)
    assert process.wait(60) != 0 and not child.is_running()


def test_too_much_memory_stops_the_process_and_says_so(start):
    process = start(HOLD.format(size=300_000_000))
    watch = Watch(process.pid, limit_bytes=0.2 * GB, seconds=60)
    watch.start()
    assert process.wait(60) != 0
    watch.stop()
    assert "the limit is 0.20 GB" in watch.verdict and "--ram-limit" in watch.verdict
    assert watch.peak_bytes > 0.3 * GB


def test_too_much_time_stops_the_process_and_says_so(start):
    process = start(HOLD.format(size=1))
    watch = Watch(process.pid, limit_bytes=4 * GB, seconds=0.3)
    watch.start()
    assert process.wait(60) != 0
    watch.stop()
    assert "--timeout" in watch.verdict


def test_a_machine_that_runs_out_is_a_reason_to_stop():
    assert "this machine has less than" in judge(1, limit_bytes=4 * GB, floor_bytes=10**18)
    assert judge(1, limit_bytes=4 * GB, floor_bytes=0) is None


def test_a_parent_that_is_busy_or_gone_does_not_stop_the_watch(start):
    """The program that starts the watch dies at once; the watch sees it and kills what it watched."""
    process = start(HOLD.format(size=1))
    code = f"""if True:
        import os
        from classroom.publish.limits import Watch
        Watch({process.pid}, 4e9, 600).start()
        os._exit(0)
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert process.wait(60) != 0


if os.name != "nt":  # Windows keeps no environment that another process may always read

    def test_a_daemon_that_left_its_parent_is_found_by_its_mark(tmp_path):
        """It has forked twice and has a session of its own: no descendant of the run any more, but started by it."""
        mark, started = new_mark(), tmp_path / "started"
        sleeper = f"import pathlib, time; pathlib.Path({str(started)!r}).touch(); time.sleep(600)"
        code = f"""if True:
            import os, subprocess, sys
            if os.fork() == 0:
                os.setsid()
                subprocess.Popen([sys.executable, "-c", {sleeper!r}])
        """
        subprocess.run([sys.executable, "-c", code], env={**os.environ, MARK: mark}, check=True)
        while not started.exists():
            time.sleep(0.05)
        assert len(list(marked(mark))) == 1
        kill_tree(2**22 + 1, mark)  # no process has this number: its parent is gone
        assert list(marked(mark)) == []


def test_what_keeps_to_its_limits_is_left_alone(start):
    process = start(HOLD.format(size=1))
    watch = Watch(process.pid, limit_bytes=4 * GB, seconds=60)
    watch.start()
    while not watch.peak_bytes:  # it has looked once
        time.sleep(0.05)
    watch.stop()
    watch.stop()
    assert watch.verdict is None and process.poll() is None


NBCLIENTS_RULE = re.compile(r".*\r(?=[^\n])")
TEXTS = st.text("ab\r\n\b", max_size=30)


def stream(text, name="stdout"):
    return v4.new_output("stream", name=name, text=text)


def told(outputs):
    return [(o.get("name"), o.get("text", o.get("data"))) for o in outputs]


@given(TEXTS)
def test_carriage_returns_equal_nbclients_rule(text):
    assert after_returns(text) == NBCLIENTS_RULE.sub("", text)


@given(TEXTS, TEXTS)
def test_joining_early_changes_nothing(first, second):
    """A progress bar's pieces may be joined while it still runs."""
    assert after_returns(after_returns(first) + second) == after_returns(first + second)


def test_a_long_line_takes_linear_time():
    """nbclient took 6 s for 40,000 characters; this is a million, counted in CPU seconds."""
    started = time.process_time()
    after_returns("x" * 10**6)
    assert time.process_time() - started < 2


def test_pieces_of_one_stream_become_one_and_stdout_comes_first():
    figure = v4.new_output("display_data", {"text/plain": "figure"})
    pieces = [stream("e", "stderr"), stream("a"), figure, stream("b"), stream("f", "stderr")]
    assert told(joined(pieces)) == [("stdout", "ab"), ("stderr", "ef"), (None, {"text/plain": "figure"})]


def test_what_is_too_much_is_left_out_and_counted():
    allowance, outputs = Allowance(), []
    for _ in range(30):
        outputs.append(stream(allowance.take(outputs, "x" * 100_000)))
    (output,) = allowance.settle(outputs)
    assert output.text == "x" * CAP_CHARACTERS + "\n... 2.0 MB more were printed and left out\n"


def test_a_progress_bar_never_fills_the_cap():
    allowance, outputs = Allowance(), []
    for step in range(400):
        outputs.append(stream(allowance.take(outputs, f"\r{step:10000}")))
    (output,) = allowance.settle(outputs)
    assert output.text.strip() == "399"


@pytest.mark.parametrize(
    "outputs", [[], [v4.new_output("execute_result", {"text/plain": "3"})]], ids=["none", "a result"]
)
def test_what_prints_nothing_stays_as_it_is(outputs):
    assert Allowance().settle(list(outputs)) == outputs

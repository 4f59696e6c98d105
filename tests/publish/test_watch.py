"""The watch on plain processes; test_execute.py has it on kernels."""

import subprocess
import sys
import time

import psutil
import pytest

from coursekit.publish.watch import GB, Watch, kill_tree, tree_bytes

HOLD = "import time; block = bytearray({size}); print('ready', flush=True); time.sleep(60)"
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
    psutil.wait_procs([child], timeout=5)
    assert process.wait(5) != 0 and not child.is_running()


def test_too_much_memory_stops_the_process_and_says_so(start):
    process = start(HOLD.format(size=300_000_000))
    watch = Watch(process.pid, limit_bytes=0.2 * GB, seconds=60)
    watch.start()
    assert process.wait(10) != 0
    watch.stop()
    assert "the limit is 0.20 GB" in watch.verdict and "--ram-limit" in watch.verdict
    assert watch.peak_bytes > 0.3 * GB


def test_too_much_time_stops_the_process_and_says_so(start):
    process = start(HOLD.format(size=1))
    watch = Watch(process.pid, limit_bytes=4 * GB, seconds=0.3)
    watch.start()
    assert process.wait(10) != 0
    watch.stop()
    assert "--timeout" in watch.verdict


def test_a_machine_that_runs_out_stops_the_process(start, monkeypatch):
    process = start(HOLD.format(size=1))
    nearly_none = psutil.virtual_memory()._replace(available=1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: nearly_none)
    watch = Watch(process.pid, limit_bytes=4 * GB, seconds=60)
    watch.start()
    assert process.wait(10) != 0
    watch.stop()
    assert "this machine has less than" in watch.verdict


def test_what_keeps_to_its_limits_is_left_alone(start):
    process = start(HOLD.format(size=1))
    watch = Watch(process.pid, limit_bytes=4 * GB, seconds=60)
    watch.start()
    time.sleep(0.3)
    watch.stop()
    assert watch.verdict is None and process.poll() is None and watch.peak_bytes > 0

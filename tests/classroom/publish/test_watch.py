"""The watch on plain processes; test_execute.py has it on kernels."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from classroom.publish.watch import GB, MARK, Watch, judge, kill_tree, marked, new_mark, tree_bytes

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
        from classroom.publish.watch import Watch
        Watch({process.pid}, 4e9, 600).start()
        os._exit(0)
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert process.wait(60) != 0


if os.name != "nt":  # Windows keeps no environment that another process may always read

    def test_a_daemon_that_left_its_parent_is_found_by_its_mark(tmp_path):
        """Two forks and a session of its own: nobody's child any more, but of the same run."""
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

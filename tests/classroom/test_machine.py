"""Facts about the machine: a container's limits count, nothing is guessed, nothing waits."""

import sys
import time

from coursekit.classroom import machine


def test_a_name_server_that_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(machine.socket, "getaddrinfo", lambda *_: time.sleep(30))
    start = time.perf_counter()
    assert machine.hub_is_reachable(seconds=0.05) is False
    assert time.perf_counter() - start < 5


def test_a_container_counts_with_its_own_limit(monkeypatch):
    limits = {"/sys/fs/cgroup/memory.max": 2**30, "/sys/fs/cgroup/memory.current": 2**29}
    monkeypatch.setattr(machine, "_read_int", limits.get)
    total, free = machine.ram_bytes()
    assert total == 2**30
    assert free <= 2**29


def test_without_psutil_memory_is_unknown(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert machine.ram_bytes() == (None, None)


def test_chrome_path_names_the_browser(monkeypatch, tmp_path):
    mine = tmp_path / "my-chrome"
    mine.touch()
    monkeypatch.setenv("CHROME_PATH", str(mine))
    assert machine.find_tool("chromium") == str(mine)
    monkeypatch.setenv("CHROME_PATH", str(tmp_path / "gone"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.find_tool("chromium") is None

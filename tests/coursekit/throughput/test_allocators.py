"""Which malloc is found, and that a fresh process really runs under what it was given."""

import subprocess
import sys
from pathlib import Path

import pytest

from coursekit.throughput import allocators

MAPS = "7f00-7f01 r-xp 00000000 08:01 1 {}\n"


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4.5.9", "tcmalloc"),
        ("/usr/lib/x86_64-linux-gnu/libjemalloc.so.2", "jemalloc"),
        ("/usr/lib/x86_64-linux-gnu/libc.so.6", "system"),
        ("", "system"),
    ],
)
def test_the_malloc_is_read_from_the_map_of_the_process(library, name):
    assert allocators.loaded(MAPS.format(library)) == name


def test_installed_libraries_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(allocators.ctypes.util, "find_library", lambda name: None)
    (tmp_path / "lib").mkdir()
    for name in ("libtcmalloc_minimal.so.4", "libjemalloc.so.2", "libjemalloc.so", "libother.so"):
        (tmp_path / "lib" / name).touch()
    found = allocators.installed((str(tmp_path / "*"),))
    assert {k: Path(v).name for k, v in found.items()} == {
        "tcmalloc": "libtcmalloc_minimal.so.4",
        "jemalloc": "libjemalloc.so",
    }
    assert allocators.installed((str(tmp_path / "nowhere"),)) == {}


def test_preloaded_is_what_the_loader_was_told():
    assert allocators.preloaded({"LD_PRELOAD": "libjemalloc.so.2"}) == "libjemalloc.so.2"
    assert allocators.preloaded({}) == ""


def test_a_fresh_process_gets_its_environment_and_is_timed():
    """The snippet itself looks at its variable, and sleeps where it is set."""
    code = "import os, time\ndef work():\n    time.sleep(float(os.environ.get('NAP', 0)))\n"
    seconds = allocators.compare(code, {"none": {}, "nap": {"NAP": "0.15"}}, rounds=2)
    assert all(0.15 <= s < 2 for s in seconds["nap"]) and all(s < 0.1 for s in seconds["none"])


def test_glibc_keeps_its_blocks_when_told():
    """Page faults, counted by the kernel: far fewer in the fresh process that keeps its memory. Elsewhere no glibc."""
    if sys.platform != "linux":
        assert list(allocators.settings()) == ["as it is"]
        return
    code = (
        "import ctypes, resource\n"
        "malloc, free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free\n"
        "malloc.restype, free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]\n"
        "def touch():\n"
        "    block = malloc(2**23); ctypes.memset(block, 1, 2**23); free(block)\n"
        "touch(); before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(5): touch()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    faults = []
    for environment in ({}, allocators.settings()["glibc, keeps blocks"]):
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        faults.append(int(done.stdout))
    assert faults[1] < faults[0] / 4


def test_a_snippet_that_fails_says_so():
    with pytest.raises(ValueError, match=r"failed in its own process \(code 1\): ZeroDivisionError"):
        allocators.run_fresh("def work():\n    1 / 0\n")


def test_settings_begin_with_the_machine_as_it_is():
    assert next(iter(allocators.settings().items())) == ("as it is", {})

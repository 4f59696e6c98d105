"""Tell which malloc a process uses, and measure what another one would change.

    compare(SNIPPET, settings())        # seconds of the same code in fresh processes, in turns

torch asks the C library for the memory of every CPU tensor. glibc takes large blocks from the kernel and returns them
at once, so each use begins with page faults; tcmalloc and jemalloc keep them. The library that is loaded first is used,
so the choice is made when a process starts: LD_PRELOAD on Linux; Windows has nothing of the kind. Environment variables
can tell glibc to keep blocks too. All of this concerns the CPU. Left out: torch's own allocator for GPUs.

Sources: mallopt(3), M_MMAP_THRESHOLD and M_TRIM_THRESHOLD; PyTorch, Performance tuning guide, "Switch memory
allocator".
"""

from __future__ import annotations

import ctypes.util
import glob
import os
import subprocess
import sys
from collections.abc import Mapping

NAMES = ("tcmalloc", "jemalloc", "mimalloc")
FOLDERS = ("/usr/lib", "/usr/lib64", "/usr/lib/*", "/usr/local/lib", "/opt/homebrew/lib")
KEEP = 2**30  # glibc keeps freed blocks up to this size

SNIPPET = """\
import torch
torch.set_num_threads(1)
def work():
    for _ in range(60):
        x = torch.ones(2**21)  # 8 MiB, new every time, like the activations of a step
        (x * 2).sum()
"""

RUNNER = """
import sys, time
sys.path[:0] = {path!r}
scope = {{}}
exec(compile({code!r}, "snippet", "exec"), scope)
scope["work"]()  # warm up
start = time.perf_counter()
scope["work"]()
print("seconds", time.perf_counter() - start)
"""


def loaded(maps: str | None = None) -> str:
    """The malloc of this process: one of NAMES, else "system" for the C library's.

    maps  text in the form of /proc/self/maps; default: that file, or the preloaded names where it does not exist
    """
    text = _maps() if maps is None else maps
    return next((name for name in NAMES if f"lib{name}" in text), "system")


def _maps() -> str:
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:  # not Linux
        return preloaded()


def preloaded(environment: Mapping[str, str] = os.environ) -> str:
    """What the loader was asked to load first; "" if nothing."""
    return environment.get("LD_PRELOAD") or environment.get("DYLD_INSERT_LIBRARIES") or ""


def installed(folders: tuple[str, ...] = FOLDERS) -> dict[str, str]:
    """Path of each allocator that is installed, {} if none; the full tcmalloc before its minimal variant."""
    paths = {name: _path(name, folders) for name in NAMES}
    return {name: path for name, path in paths.items() if path}


def _path(name: str, folders: tuple[str, ...]) -> str | None:
    patterns = (f"lib{name}.so*", f"lib{name}_minimal.so*", f"lib{name}*.dylib")
    for folder in folders:
        for pattern in patterns:
            if paths := glob.glob(os.path.join(folder, pattern)):
                return min(paths)
    return ctypes.util.find_library(name)


def settings() -> dict[str, dict[str, str]]:
    """Environments to compare on this machine: unchanged, glibc keeping its blocks, every installed allocator."""
    rows = {"as it is": {}}
    if sys.platform == "linux":
        keep = {"MALLOC_MMAP_THRESHOLD_": str(KEEP), "MALLOC_TRIM_THRESHOLD_": str(KEEP)}
        rows["glibc, keeps blocks"] = keep
        rows |= {name: {"LD_PRELOAD": path} for name, path in installed().items()}
    return rows


def run_fresh(code: str, environment: Mapping[str, str] | None = None, timeout: float = 120.0) -> float:
    """Seconds that `work()`, which the code defines, takes in a new process: the second call, after a warm-up.

    environment  variables on top of those of this process

    Raises ValueError with the process's last line if it fails, subprocess.TimeoutExpired after `timeout` seconds.
    """
    script = RUNNER.format(path=sys.path, code=code)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **(environment or {})},  # read by the loader, so it takes a new process
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if done.returncode:  # the traceback's last line says what it was
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise ValueError(f"the snippet failed in its own process (code {done.returncode}): {lines[-1]}")
    return float(done.stdout.split("seconds")[-1])


def compare(
    code: str, environments: Mapping[str, Mapping[str, str]], rounds: int = 3
) -> dict[str, list[float]]:
    """Seconds of every round in every environment, in turns: what slows one slows the others too."""
    seconds: dict[str, list[float]] = {name: [] for name in environments}
    for _ in range(rounds):
        for name, environment in environments.items():
            seconds[name].append(run_fresh(code, environment))
    return seconds

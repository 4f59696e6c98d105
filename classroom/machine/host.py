"""Facts about this machine: cores, memory, disk, versions, tools, offline or not.

Needs no package, takes no time and never fails: a fact that cannot be found out is None, never a guess. In a
container the container's limits count, not the host's.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import threading
from dataclasses import dataclass
from importlib import metadata

from classroom.machine import browser


@dataclass(frozen=True)
class Machine:
    os: str
    python: str
    cores: int
    ram_total_bytes: int | None
    ram_free_bytes: int | None
    disk_free_bytes: int | None


def read_machine(folder: str = ".") -> Machine:
    """The machine as a process on it sees it; `folder` says on which disk to look."""
    total, free = ram_bytes()
    return Machine(
        os=system_words(),
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        cores=usable_cores(),
        ram_total_bytes=total,
        ram_free_bytes=free,
        disk_free_bytes=shutil.disk_usage(folder).free if os.path.exists(folder) else None,
    )


def system_words() -> str:
    """The system, how it runs (WSL, Colab, an Intel Python on an Apple chip), and the kind of processor."""
    name = f"{platform.system()} ({platform.machine()})"
    if in_wsl():
        return f"{name}, in Windows (WSL)"
    if in_colab():
        return f"{name}, Google Colab"
    return f"{name}, an Intel Python on an Apple chip" if is_translated() else name


def in_wsl() -> bool:
    """Whether this Linux runs inside Windows; its kernel's name says so."""
    return platform.system() == "Linux" and "microsoft" in platform.release().lower()


def in_colab() -> bool:
    """Whether this is a machine of Google Colab, which sets these variables."""
    return any(name in os.environ for name in ("COLAB_RELEASE_TAG", "COLAB_GPU"))


def is_intel_mac() -> bool:
    """Whether this Python is a build for Intel's processors on macOS."""
    return platform.system() == "Darwin" and platform.machine() == "x86_64"


def is_translated() -> bool:
    """Whether macOS translates this Intel Python for an Apple chip (Rosetta)."""
    return is_intel_mac() and answer_of("sysctl", "-n", "sysctl.proc_translated") == "1"


def answer_of(*command: str, seconds: float = 10) -> str | None:
    """What a program prints, stripped; None if it is not there, fails, or takes longer than `seconds`."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=seconds, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def usable_cores() -> int:
    """Cores this process may use; fewer than the machine has where a job was given only some."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ram_bytes() -> tuple[int | None, int | None]:
    """(total, free) in bytes; the container's limit where that is lower; (None, None) without psutil."""
    try:
        import psutil
    except ImportError:
        return None, None
    memory = psutil.virtual_memory()
    limit = _cgroup_limit_bytes()
    if limit is None or limit >= memory.total:
        return memory.total, memory.available
    used = _read_int("/sys/fs/cgroup/memory.current") or 0
    return limit, max(0, min(memory.available, limit - used))


def _cgroup_limit_bytes() -> int | None:
    """Memory limit of a Linux container, None if there is none (cgroups version 2, else version 1)."""
    return _read_int("/sys/fs/cgroup/memory.max") or _read_int("/sys/fs/cgroup/memory/memory.limit_in_bytes")


def _read_int(path: str) -> int | None:
    try:
        with open(path) as file:
            return int(file.read())
    except (OSError, ValueError):  # no such file, or the word "max"
        return None


def version(package: str) -> str | None:
    """Installed version of a package, without importing it; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def find_tool(name: str) -> str | None:
    """Path of a program, None if it is not there; "chromium" stands for any browser of its family."""
    return browser.find_browser() if name == "chromium" else shutil.which(name)


LIMITING_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")


def processor_limits() -> tuple[str, ...]:
    """The variables that hide instructions of the processor from torch, as set now."""
    return tuple(f"{name}={os.environ[name]}" for name in LIMITING_VARIABLES if os.environ.get(name))


OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


def offline_variables() -> tuple[str, ...]:
    """The variables that forbid the Hugging Face libraries to ask the network, as set now."""
    return tuple(f"{name}={os.environ[name]}" for name in OFFLINE_VARIABLES if os.environ.get(name))


def hub_is_reachable(seconds: float = 0.5) -> bool:
    """Can the model hub's name be looked up? Never takes longer than `seconds`, whatever the network does."""
    found = []

    def look_up():
        try:
            found.append(socket.getaddrinfo("huggingface.co", 443))
        except OSError:
            return

    # a name lookup cannot be given a time limit, so it runs beside us and is left behind
    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(found)

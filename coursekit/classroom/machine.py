"""Facts about this machine: cores, memory, disk, versions, tools, offline or not.

Needs no package, takes no time and never fails: a fact that cannot be found out is None, never a guess. In a
container the container's limits count, not the host's.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import threading
from dataclasses import dataclass
from importlib import metadata


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
        os=f"{platform.system()} ({platform.machine()})",
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        cores=usable_cores(),
        ram_total_bytes=total,
        ram_free_bytes=free,
        disk_free_bytes=shutil.disk_usage(folder).free if os.path.exists(folder) else None,
    )


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


CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")


def find_tool(name: str) -> str | None:
    """Path of a program, None if it is not there; "chromium" stands for any browser of its family."""
    if name != "chromium":
        return shutil.which(name)
    named = os.environ.get("CHROME_PATH")
    if named and os.path.exists(named):
        return named
    return next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)


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

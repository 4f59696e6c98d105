"""Find out where the time of a step goes: torch.profiler for operations, cProfile for Python.

    profile = profiled(step)
    top_operations(profile, 5)                # rows: name, calls, seconds of its own, share
    save_trace(profile, "trace.json")         # open it at https://ui.perfetto.dev
    by_function(step, 5)                      # rows of cProfile

A profiler slows what it watches: its shares tell where to look, `meter` tells how fast a step is. What it leaves out:
the tree of calls (`flame`) and waiting for the GPU (`syncs`).
"""

from __future__ import annotations

import cProfile
import os
import pstats
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One operation or function, over the whole profile."""

    name: str
    calls: int
    seconds: float  # its own, without what it called
    share: float  # of the seconds of all operations or functions


def profiled(step: Callable[[], object], steps: int = 3, warmup: int = 1, stacks: bool = False):
    """A torch.profiler.profile of `steps` calls, after `warmup` calls that it does not see; of the GPU too, if any.

    stacks  also record the Python calls, for the trace; many times as slow
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or torch writes a line to stderr for every profile
    import torch
    from torch.profiler import ProfilerActivity, profile, record_function

    for _ in range(warmup):
        step()
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities, with_stack=stacks) as found:
        for number in range(steps):
            with record_function(f"step {number + 1}"):
                step()
    return found


def top_operations(profile, count: int = 10) -> list[Row]:
    """The operations with the most time of their own: on the GPU if one was watched, else on the CPU."""
    averages = profile.key_averages()
    on_gpu = any(getattr(e, "self_device_time_total", 0) > 0 for e in averages)
    unit = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    return _rows([(e.key, e.count, getattr(e, unit) * 1e-6) for e in averages], count)  # microseconds


def by_function(call: Callable[[], object], count: int = 10) -> list[Row]:
    """The Python functions with the most time of their own, as "file:line function", by cProfile.

    Raises ValueError if another profiler runs in this thread (a debugger, coverage).
    """
    profiler = cProfile.Profile()
    try:
        profiler.enable()
    except ValueError as error:  # from Python 3.12 on
        raise ValueError(f"cProfile cannot start: {error}. Stop the other profiler first.") from error
    try:
        call()
    finally:
        profiler.disable()
    stats = pstats.Stats(profiler).stats
    return _rows([(code_location(*key), row[1], row[2]) for key, row in stats.items()], count)


def code_location(file: str, line: int, function: str) -> str:
    """ "file:line function" with the last two parts of the path: the rest differs from machine to machine."""
    if file in ("~", ""):  # cProfile's mark of a built-in function
        return function
    parts = file.replace(os.sep, "/").split("/")
    return f"{'/'.join(parts[-2:])}:{line} {function}"


def _rows(entries: list[tuple[str, int, float]], count: int) -> list[Row]:
    total = sum(seconds for _, _, seconds in entries) or 1.0
    longest = sorted(entries, key=lambda entry: -entry[2])[:count]
    return [Row(name, calls, seconds, seconds / total) for name, calls, seconds in longest]


def save_trace(profile, path: str | Path) -> Path:
    """Write the profile as Chrome's trace JSON; ui.perfetto.dev and chrome://tracing show it without an upload.

    A path that ends in .gz is compressed. Raises ValueError if the folder does not exist, or if the profile was written
    before: torch frees it then.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise ValueError(f"the folder {path.parent} does not exist. Make it first, or choose another.")
    try:
        profile.export_chrome_trace(str(path))
    except RuntimeError as error:
        raise ValueError(f"no trace was written: {error} Profile anew for another file.") from error
    return path

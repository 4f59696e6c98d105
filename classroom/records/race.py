"""Measure ours and the peers in turns, in one process, and print one table.

Two runs of one program differ by more than most optimisations gain, because the machine is never the same twice. So the
contestants take turns, A B A B, for at least nine rounds: whatever slows one slows the others. A `copy_` of the same
elements takes part in every round: it is the speed of the memory, and the unit in which a rate can be read on another
machine. Results are compared for equality before anything is timed; compilation is timed apart.
"""

from __future__ import annotations

import datetime
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version

import torch


@dataclass(frozen=True)
class Timing:
    """Seconds of one contestant over all rounds."""

    minimum: float
    median: float


@dataclass
class Race:
    """One task on one size: contestants by name, ours first. `goals` says what ours / peer should reach."""

    task: str
    elements: int
    contestants: dict[str, Callable[[], object]]
    goals: dict[str, float] = field(default_factory=dict)
    note: str = ""


def run(race: Race, rounds: int = 9) -> dict[str, Timing]:
    """Time all contestants in turns; one round more at the start, to warm up, is thrown away."""
    seconds: dict[str, list[float]] = {name: [] for name in race.contestants}
    for _ in range(rounds + 1):
        for name, contestant in race.contestants.items():
            begin = time.perf_counter()
            contestant()
            seconds[name].append(time.perf_counter() - begin)
    return {name: Timing(min(times[1:]), statistics.median(times[1:])) for name, times in seconds.items()}


def rows(race: Race, timings: dict[str, Timing]) -> list[str]:
    """Markdown rows, one a contestant: rate by the minimum, by the median, against the copy, ours over it, goal."""
    lines = []
    ours = next(iter(timings.values()))
    for name, timing in timings.items():
        peer = timing is not ours and name != "copy_"
        ratio = f"{timing.minimum / ours.minimum:.2f}x" if peer else ""
        goal = race.goals.get(name)
        verdict = (
            ""
            if goal is None
            else f"{goal:g}x: " + ("met" if timing.minimum / ours.minimum >= goal else "missed")
        )
        lines.append(
            f"| {race.task} | {size(race.elements)} | {name} | {race.elements / timing.minimum / 1e9:.3f} "
            f"| {race.elements / timing.median / 1e9:.3f} | {timings['copy_'].minimum / timing.minimum:.2f} "
            f"| {ratio} | {verdict} |"
        )
    return lines


HEADER = (
    "| task | elements | who | G elements/s (best) | (median) | of copy_ | ours is | goal |\n"
    "|---|---|---|---|---|---|---|---|"
)


def size(elements: int) -> str:
    return f"{elements >> 20}M" if elements >= 1 << 20 else f"{elements >> 10}K"


def environment(packages: tuple[str, ...]) -> str:
    """One paragraph: the date, what the processor can do, the versions. No name of a machine or a person."""
    capability = torch.backends.cpu.get_cpu_capability()
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    return (
        f"Measured {datetime.date.today().isoformat()}: {platform.machine()} with {capability}, "
        f"{torch.get_num_threads()} thread(s), Python {platform.python_version()}, {versions}."
    )

"""Measures ours and the peers in turns, in one process, and makes the rows of one table.

Two runs of one program differ by more than most optimisations gain, because the machine is never the same twice. So the
contestants take turns, A B A B, for at least nine rounds: whatever slows one slows the others. A `copy_` of the same
elements takes part in every round: it is the speed of the memory, the unit in which a rate can be compared with another
machine. Results are compared for equality before anything is timed; compilation is timed separately.
"""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version

import torch

from coursekit.throughput.meter import Timing, in_turns


@dataclass
class Race:
    """One task on one size: contestants by name, ours first. `goals` says what ours / peer should reach."""

    task: str
    elements: int
    contestants: dict[str, Callable[[], object]]
    goals: dict[str, float] = field(default_factory=dict)
    note: str = ""


def run(race: Race, rounds: int = 9) -> dict[str, Timing]:
    """Time all contestants in turns; one round more at the start, to warm up, does not count."""
    return in_turns(race.contestants, rounds, warmup=1)


def rows(race: Race, timings: dict[str, Timing]) -> list[str]:
    """Markdown rows, one per contestant: rate by the minimum, by the median, against the copy, ours over it, goal."""
    lines = []
    ours = next(iter(timings.values()))
    for name, timing in timings.items():
        peer = timing is not ours and name != "copy_"
        ratio = f"{timing.minimum / ours.minimum:.2f}x" if peer else ""
        goal = race.goals.get(name)
        verdict = ""
        if goal is not None:
            verdict = f"{goal:g}x: " + ("met" if timing.minimum / ours.minimum >= goal else "missed")
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
    """Return a paragraph with the date, what the processor can do, the versions, and no machine's or person's name."""
    capability = torch.backends.cpu.get_cpu_capability()
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    return (
        f"Measured {datetime.date.today().isoformat()}: {platform.machine()} with {capability}, "
        f"{torch.get_num_threads()} thread(s), Python {platform.python_version()}, {versions}."
    )

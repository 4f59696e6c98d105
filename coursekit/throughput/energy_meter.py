"""Joules of a run, from the machine's own meters.

    with EnergyMeter() as meter:
        train()
    print(meter.source or "nothing to read here", meter.joules)

Two meters are read where they are: NVML's counter of the GPU, and RAPL, the processor's own (Linux; since 2020 readable
by root only on most machines). Neither sees fans and disks, RAPL's packages not the memory: a whole computer
draws more.

Source: Linux kernel documentation, "Power Capping Framework"; NVML API reference.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coursekit.throughput import gpu

POWERCAP = Path("/sys/class/powercap")


@dataclass
class Counter:
    """A counter that goes up and wraps around: RAPL's, in microjoules.

    A wrap between two readings is added; two wraps cannot be told from one. At 100 W the usual range, 262 kJ, lasts
    44 minutes, so `EnergyMeter.sample` should be called more often than that.
    """

    read: Callable[[], int]
    full: int | None = None  # the largest value; after it comes 0. None: it never wraps

    def __post_init__(self):
        self.last, self.sum = self.read(), 0

    def sample(self) -> int:
        """What was counted since the counter was made."""
        now = self.read()
        step = now - self.last
        if step < 0:
            if self.full is None:
                raise ValueError(
                    f"the energy counter fell from {self.last} to {now}: the driver was reloaded."
                )
            step += self.full + 1
        self.last, self.sum = now, self.sum + step
        return self.sum


def rapl_counters(root: Path = POWERCAP) -> list[Counter]:
    """One counter a processor package, [] where RAPL is missing or not readable.

    Only the packages (intel-rapl:0, :1): their parts (intel-rapl:0:0) are in them, and psys holds the packages.
    """
    counters = []
    for folder in sorted(root.glob("intel-rapl:[0-9]*")):
        try:
            if (folder / "name").read_text().startswith("package"):
                counters.append(
                    Counter(lambda file=folder / "energy_uj": int(file.read_text()), _full(folder))
                )
        except (OSError, ValueError):  # not readable, as on most machines for all but root
            continue
    return counters


def _full(folder: Path) -> int:
    return int((folder / "max_energy_range_uj").read_text())


def gpu_joules() -> float | None:
    """Sum of all GPUs' counters, None where there is none to read."""
    try:
        energies = [reading.energy_joules for reading in gpu.read()]
    except gpu.NoGpu:
        return None
    return None if None in energies else sum(energies)


class EnergyMeter:
    """A context manager that reads every meter it finds, before and after.

    joules   of all that was metered; None if nothing can be read here: use `estimate_energy` then
    source   what was read: "measured: GPU (NVML), processor (RAPL)"; "" if nothing
    seconds  between start and the last sample
    """

    def __init__(self, root: Path = POWERCAP, read_gpu=gpu_joules, clock=time.perf_counter):
        self._root, self._gpu, self._clock = root, read_gpu, clock
        self.joules, self.seconds, self.source = None, 0.0, ""

    def __enter__(self) -> EnergyMeter:
        self._counters = rapl_counters(self._root)
        self._gpu_start = self._gpu()
        meters = [("GPU (NVML)", self._gpu_start is not None), ("processor (RAPL)", bool(self._counters))]
        found = [name for name, there in meters if there]
        self.source = f"measured: {', '.join(found)}" if found else ""
        self._start = self._clock()
        return self

    def sample(self) -> float | None:
        """Joules since the start; call it in a long run, more often than RAPL wraps."""
        self.seconds = self._clock() - self._start
        if self.source:
            of_gpu = 0.0 if self._gpu_start is None else self._gpu() - self._gpu_start
            self.joules = of_gpu + sum(counter.sample() for counter in self._counters) * 1e-6
        return self.joules

    def __exit__(self, *error) -> None:
        self.sample()

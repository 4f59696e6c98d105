"""Read the joules of a run from the machine's own meters.

    with EnergyMeter() as meter:
        train()
    print(meter.source or "nothing to read here", meter.joules)

Two meters are read where they exist: NVML's counter of the GPU, and RAPL, the processor's own (Linux; since 2020 only
root can read it on most machines). Neither sees fans and disks, and RAPL's packages leave out the memory: a whole
computer draws more. Left out: what the joules mean (`energy`).

Source: Linux kernel documentation, "Power Capping Framework"; NVML API reference.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
        self.last = self.read()
        self.sum = 0

    def sample(self) -> int:
        """What was counted since this object was made."""
        now = self.read()
        step = now - self.last
        if step < 0:  # it wrapped around
            if self.full is None:
                raise ValueError(
                    f"the energy counter fell from {self.last} to {now}: the driver was reloaded."
                )
            step += self.full + 1
        self.last = now
        self.sum += step
        return self.sum


def rapl_counters(root: Path = POWERCAP) -> list[Counter]:
    """One counter per processor package, [] where RAPL is missing or not readable.

    Only the packages (intel-rapl:0, :1) are read: they include their parts (intel-rapl:0:0), and psys includes them.
    """
    counters = []
    for folder in sorted(root.glob("intel-rapl:[0-9]*")):
        try:
            if (folder / "name").read_text().startswith("package"):
                full = _read_int(folder / "max_energy_range_uj")
                counters.append(Counter(partial(_read_int, folder / "energy_uj"), full))
        except (OSError, ValueError):  # not readable, as on most machines for all but root
            continue
    return counters


def _read_int(file: Path) -> int:
    return int(file.read_text())


def gpu_joules() -> float | None:
    """Sum of all GPUs' counters, None where there is none to read."""
    try:
        energies = [reading.energy_joules for reading in gpu.read()]
    except gpu.NoGpu:
        return None
    return None if None in energies else sum(energies)  # old cards have no energy counter


class EnergyMeter:
    """A context manager that reads every meter it finds, before and after.

    joules   of everything that was metered; None if nothing can be read here: use `estimate_energy` then
    source   what was read: "measured: GPU (NVML), processor (RAPL)"; "" if nothing
    seconds  between start and the last sample
    """

    def __init__(self, root: Path = POWERCAP, read_gpu=gpu_joules, clock=time.perf_counter):
        self._root, self._gpu, self._clock = root, read_gpu, clock
        self.joules = None
        self.seconds = 0.0
        self.source = ""

    def __enter__(self) -> EnergyMeter:
        self._counters = rapl_counters(self._root)
        self._gpu_start = self._gpu()  # NVML counts since the driver was loaded
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
            microjoules = sum(counter.sample() for counter in self._counters)
            self.joules = of_gpu + microjoules * 1e-6
        return self.joules

    def __exit__(self, *error) -> None:
        self.sample()

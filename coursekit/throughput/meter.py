"""Measure how fast a step is: medians of repeated steps, contestants in turns, the warm-up apart.

    timings = in_turns({"eager": eager_step, "compiled": compiled_step})
    timings["eager"].median, timings["eager"].spread

The first steps pay for what later ones find ready (kernels loaded, memory mapped, code compiled), so they are timed but
not counted. A machine is never the same twice, so two ways are compared in turns, A B A B: whatever slows one slows the
other. The median counts, since a step that the system interrupted says nothing about the code. On a GPU a call returns
before its work is done, so the clock is read after waiting for it. Left out: where the time goes (`profiling`).
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Seconds of one contestant: `seconds` of the counted rounds in order, `warmup` of the rounds before."""

    seconds: tuple[float, ...]
    warmup: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def minimum(self) -> float:
        """Seconds of the fastest round: what the code can do when nothing interrupts it."""
        return min(self.seconds)

    @property
    def spread(self) -> float:
        """Distance of the quartiles over the median; a smaller difference of two medians means little."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (high - low) / self.median if self.median else 0.0

    def per_second(self, tokens: float) -> float:
        """Rate at the median, for `tokens` per round."""
        return tokens / self.median


def in_turns(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int = 9,
    warmup: int = 2,
    wait: Callable[[], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Run all contestants once per round, in their order; the first `warmup` rounds are kept apart.

    wait  called before the clock is read; default: `torch.cuda.synchronize` where a GPU is in use

    Raises ValueError if rounds is below 1 or there is no contestant.
    """
    if rounds < 1 or warmup < 0 or not contestants:
        raise ValueError(
            f"expected contestants, 1 round or more, warm-up of 0 or more; got {len(contestants)} contestants, "
            f"rounds={rounds}, warmup={warmup}."
        )
    wait = wait or gpu_wait()
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(warmup + rounds):
        for name, step in contestants.items():
            wait()  # or work that another contestant left in the queue would count here
            start = clock()
            step()
            wait()
            seconds[name].append(clock() - start)
    return {name: Timing(tuple(s[warmup:]), tuple(s[:warmup])) for name, s in seconds.items()}


def gpu_wait() -> Callable[[], None]:
    """The function that waits for the GPU; where none has been used, a function that does nothing."""
    torch = sys.modules.get("torch")  # a program that has not imported torch has no work on a GPU
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.synchronize
    return lambda: None


def tokens_per_second(step: Callable[[], object], tokens: float, rounds: int = 9, warmup: int = 2) -> float:
    """Median rate of a step alone; one call of `step` works on `tokens` tokens."""
    return in_turns({"step": step}, rounds, warmup)["step"].per_second(tokens)

"""How fast a step is: medians of repeated steps, contestants in turns, the warm-up apart.

The first steps pay for what later ones find ready (kernels loaded, memory mapped, code compiled), so they are timed but
not counted. A machine is never the same twice, so two ways are compared in turns, A B A B: whatever slows one slows the
other. The median, since a step that the system interrupted says nothing about the code. On a GPU a call returns before
its work is done; the clock is read after waiting for it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """seconds: one a counted round, in order. warmup: the rounds before, not counted."""

    seconds: tuple[float, ...]
    warmup: tuple[float, ...] = ()

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Distance of the quartiles over the median: below it, a difference of two medians means little."""
        if len(self.seconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (high - low) / self.median if self.median else 0.0

    def per_second(self, tokens: float) -> float:
        """Rate at the median, for `tokens` a round."""
        return tokens / self.median


def in_turns(
    contestants: Mapping[str, Callable[[], object]],
    rounds: int = 9,
    warmup: int = 2,
    wait: Callable[[], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Run all contestants once a round, in their order; the first `warmup` rounds are kept apart.

    wait  called before the clock is read; default: `torch.cuda.synchronize` where a GPU is in use

    Raises ValueError if rounds is below 1 or nobody takes part.
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
            wait()
            start = clock()
            step()
            wait()
            seconds[name].append(clock() - start)
    return {name: Timing(tuple(s[warmup:]), tuple(s[:warmup])) for name, s in seconds.items()}


def gpu_wait() -> Callable[[], None]:
    """What waits for the GPU, or does nothing where none has been used."""
    import sys

    torch = sys.modules.get("torch")  # whoever has not imported it has no work on a GPU
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.synchronize
    return lambda: None


def tokens_per_second(step: Callable[[], object], tokens: float, rounds: int = 9, warmup: int = 2) -> float:
    """Median rate of one way alone; `tokens` are those that one call of `step` works on."""
    return in_turns({"step": step}, rounds, warmup)["step"].per_second(tokens)

"""Find the loss scale by torch's rule, step for step and bit for bit.

The best scale is not known, and it changes. So the scale grows until a gradient overflows; that step is lost, the scale
shrinks, and after a while it grows again. It stays just below the largest one that works, at the price of about one
lost step in `growth_interval`. Left out: the gradients themselves (`unscale`) and the order of calls (`grad_scaler`).

Source: ATen/native/cuda/AmpKernels.cu, amp_update_scale; Micikevicius et al., Mixed Precision Training, ICLR 2018,
section 3.2 (arXiv:1710.03740).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch


@dataclass
class LossScale:
    """A scale, and how it changes after each iteration.

    scale            the factor on the loss; always an FP32 number as in torch, so that both round in the same way
    growth_factor    the scale is multiplied by it after `growth_interval` good iterations in a row; above 1
    backoff_factor   the scale is multiplied by it after an iteration with inf or NaN; below 1
    growth_interval  None: the scale never changes (static scaling)
    growth_tracker   good iterations since the scale last changed

    >>> scale = LossScale(8.0, growth_interval=2)
    >>> [scale.update(found_inf) for found_inf in (False, True, False, False)]
    [8.0, 4.0, 4.0, 8.0]

    Raises ValueError for a scale that is not positive, factors on the wrong side of 1 and an interval below 1.
    """

    scale: float = 65536.0
    growth_factor: float = 2.0
    backoff_factor: float = 0.5
    growth_interval: int | None = 2000
    growth_tracker: int = 0

    def __post_init__(self):
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be a positive number; got {self.scale}.")
        if not self.growth_factor > 1:
            raise ValueError(
                f"growth_factor must be above 1, or the scale never grows; got {self.growth_factor}."
            )
        if not 0 < self.backoff_factor < 1:
            raise ValueError(f"backoff_factor must lie between 0 and 1; got {self.backoff_factor}.")
        if self.growth_interval is not None and self.growth_interval < 1:
            raise ValueError(
                f"growth_interval must be at least 1, or None for static scaling; got {self.growth_interval}."
            )
        self.scale = float32(self.scale)  # or the first product would round differently from torch's

    def update(self, found_inf: bool) -> float:
        """End an iteration; returns the scale of the next one.

        It does not grow beyond FP32, and it may shrink to 0 if every iteration overflows.
        """
        if self.growth_interval is None:
            return self.scale
        if found_inf:
            self.scale = float32(self.scale * self.backoff_factor)
            self.growth_tracker = 0
            return self.scale
        self.growth_tracker += 1
        if self.growth_tracker == self.growth_interval:
            grown = float32(self.scale * self.growth_factor)  # inf beyond FP32's largest number
            if math.isfinite(grown):
                self.scale = grown
            self.growth_tracker = 0
        return self.scale


def float32(value: float) -> float:
    """The nearest FP32 number; inf beyond the largest."""
    return torch.tensor(value, dtype=torch.float32).item()

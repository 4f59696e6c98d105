"""Scale the loss dynamically, from scratch: equal to torch.amp.GradScaler, rule for rule and bit for bit.

    scaler.scale(loss).backward()     # every gradient comes out S times as large, so FP16 does not flush it to 0
    scaler.step(optimizer)            # divide by S; if a gradient is inf or NaN, leave this step out
    scaler.update()                   # a step was left out: S was too large, halve it; 2000 good steps: double it

The rule by which S changes is `loss_scale`, the arithmetic on the gradients is `unscale`. What is left is the order of
calls, which this module checks: training would go on silently with a gradient divided twice or not at all.

Unlike torch's: no `device` argument (S is a Python float, moved to where it is needed); misuse raises RuntimeError or
ValueError where torch has an AssertionError; optimizers with fused=True are unscaled here, not in their kernel; Python
waits for the GPU once per unscale_(), and in torch once per step().

Source: torch/amp/grad_scaler.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from coursekit.amp.loss_scale import LossScale, float32
from coursekit.amp.unscale import unscale_and_check

STATE_KEYS = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")


@dataclass
class _Visit:
    """What happened to one optimizer since the last update(): first "ready", then "unscaled", then "stepped"."""

    stage: str = "ready"
    found_inf: bool | None = None  # None: no gradient was looked at


class GradScaler:
    """Scales the loss, unscales the gradients, leaves out overflowed steps and adapts the scale.

    init_scale, growth_factor, backoff_factor, growth_interval  as in LossScale; a growth_interval of None never
             changes S: static scaling, which still leaves out overflowed steps
    enabled  False: scale() and step() pass everything on, the rest does nothing

    >>> scaler = GradScaler(init_scale=4.0)
    >>> scaler.scale(torch.tensor(0.5))
    tensor(2.)

    Raises ValueError for settings that LossScale refuses, unless disabled.
    """

    def __init__(
        self,
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int | None = 2000,
        enabled: bool = True,
    ):
        settings = init_scale, growth_factor, backoff_factor, growth_interval
        self._rule = LossScale(*settings) if enabled else None
        self._enabled = enabled
        self._used = False  # whether scale() was called: without it step() would only shrink the gradients
        self._visits: dict[int, _Visit] = defaultdict(_Visit)  # by id of the optimizer

    def scale(self, outputs: Tensor | Iterable[Tensor]) -> Any:
        """outputs [...] * S; of a list or tuple of tensors a list or tuple, of another iterable an iterator.

        A scalar loss in FP16 becomes FP32, since S is an FP32 tensor and not a Python number: 65,536 times an FP16 loss
        would overflow. Raises TypeError for anything but tensors.
        """
        if not self._enabled:
            return outputs
        self._used = True
        if isinstance(outputs, Tensor):
            return outputs * torch.full((), self._rule.scale, dtype=torch.float32, device=outputs.device)
        if not isinstance(outputs, Iterable):
            raise TypeError(
                f"expected a tensor or an iterable of tensors to scale, got {type(outputs).__name__}. "
                "Pass the loss itself, not loss.item()."
            )
        scaled = map(self.scale, outputs)
        return type(outputs)(scaled) if isinstance(outputs, (list, tuple)) else scaled

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the optimizer's gradients by S in place, for clipping before step(); without clipping step() does it.

        Raises RuntimeError if scale() was never called, or on the second call since update(), or after step();
        ValueError for FP16 gradients.
        """
        if not self._enabled:
            return
        self._check_used("unscale_")
        visit = self._visits[id(optimizer)]
        if visit.stage != "ready":
            raise RuntimeError(
                "expected one unscale_() per optimizer and update(), before its step(); this optimizer is "
                f"already {visit.stage}, and a second division would shrink its gradients again. "
                "Call update() at the end of the iteration."
            )
        grads = _gradients(optimizer)
        visit.found_inf = unscale_and_check(grads, self._rule.scale) if grads else None
        visit.stage = "unscaled"

    def step(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        """optimizer.step(*args, **kwargs) unless a gradient is inf or NaN; returns its result, or None.

        Raises RuntimeError for a second step() since update(), for a closure, if no gradient is there, and as
        unscale_().
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if args or "closure" in kwargs:
            raise RuntimeError(
                "expected step() without a closure, got one: its gradients would never be unscaled. "
                "Call backward() before step()."
            )
        self._check_used("step")
        visit = self._visits[id(optimizer)]
        if visit.stage == "stepped":
            raise RuntimeError(
                "expected one step() per optimizer and update(), got a second one. "
                "Call update() after all optimizers have stepped."
            )
        if visit.stage == "ready":
            self.unscale_(optimizer)
        if visit.found_inf is None:
            raise RuntimeError(
                "expected gradients to check for inf, but every .grad of this optimizer is None. "
                "Call scaler.scale(loss).backward() first (MasterWeights: then collect_grads())."
            )
        visit.stage = "stepped"  # also if the step is left out: the iteration is over for this optimizer
        return None if visit.found_inf else optimizer.step(*args, **kwargs)

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """End of the iteration: adapt S, or set it to `new_scale`. Raises RuntimeError without any unscaling."""
        if not self._enabled:
            return
        self._check_used("update")
        if new_scale is not None:
            self._rule.scale = float32(float(new_scale))  # torch keeps S in FP32
        else:
            found = [visit.found_inf for visit in self._visits.values() if visit.found_inf is not None]
            if not found:
                raise RuntimeError(
                    "expected unscaled gradients since the last update(), got none. "
                    "Call step(optimizer) or unscale_(optimizer) before update()."
                )
            self._rule.update(any(found))  # one optimizer's overflow is enough
        self._visits.clear()  # the next iteration begins

    def get_scale(self) -> float:
        """S, or 1.0 if not enabled."""
        return self._rule.scale if self._enabled else 1.0

    def is_enabled(self) -> bool:
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """S, factors, interval and counter, with torch's keys: either scaler loads the other's. {} if disabled.

        Only the state of a static scaler cannot be loaded into torch's: its growth_interval is None.
        """
        if not self._enabled:
            return {}
        return {key: getattr(self._rule, key.lstrip("_")) for key in STATE_KEYS}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where state_dict() was taken.

        Raises ValueError if a key is missing, or for a value that LossScale refuses; then nothing changed.
        """
        if not self._enabled:
            return
        missing = [key for key in STATE_KEYS if key not in state_dict]
        if missing:
            raise ValueError(
                f"expected a state dict with {', '.join(STATE_KEYS)}; missing: {', '.join(missing)}. "
                "The state of a disabled scaler is empty: save it from an enabled one."
            )
        self._rule = LossScale(**{key.lstrip("_"): state_dict[key] for key in STATE_KEYS})

    def _check_used(self, method: str) -> None:
        if not self._used:
            raise RuntimeError(
                f"expected scale() before {method}(), but it was never called: the gradients are not scaled. "
                "Write scaler.scale(loss).backward()."
            )


def _gradients(optimizer: Optimizer) -> list[Tensor]:
    """All gradients of an optimizer. Raises ValueError for FP16 ones: dividing by S would flush them to 0 again."""
    grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if any(grad.dtype == torch.float16 for grad in grads):
        raise ValueError(
            "expected gradients in FP32, got FP16: divided by the scale, they would underflow again. Keep the "
            "weights in FP32 under autocast, or step on FP32 copies (MasterWeights)."
        )
    return grads

"""Dynamic loss scaling from scratch: torch.amp.GradScaler, rule for rule and bit for bit.

    scaler.scale(loss).backward()     # every gradient comes out S times as large, so FP16 does not flush it to 0
    scaler.step(optimizer)            # divide by S; if a gradient is inf or NaN, leave this step out
    scaler.update()                   # S too large (a step was left out): halve it; long quiet: double it

Nobody knows the best S, so the scaler finds it from below and above: S grows until a gradient overflows, the
step is lost, S shrinks. `growth_interval=None` never changes S: static scaling, still without the broken steps.

Unscaling and checking are two passes over all gradients, each one call for all tensors of one dtype: the
L2 norm (inf and NaN in any element make it inf or NaN), then the product with 1/S. The norm of finite
gradients may overflow as well (elements near 1e19 in float32): only then are the elements looked at one by
one. torch does both in one pass, in a kernel of its own (_amp_foreach_non_finite_check_and_unscale_).

Different from torch: no `device` argument (S is a Python float here, moved to where it is needed), and misuse
raises RuntimeError or ValueError where torch has an AssertionError. Optimizers with fused=True are unscaled
here and not in their own kernel; so FP16 gradients are refused for them too.

Source: torch/amp/grad_scaler.py; ATen/native/cuda/AmpKernels.cu; Micikevicius et al., Mixed Precision
Training, ICLR 2018, section 3.2 (arXiv:1710.03740).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

STATE_KEYS = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")


@dataclass
class _Visit:
    """What happened to one optimizer since the last update()."""

    stage: str = "ready"  # then "unscaled", then "stepped"
    found_inf: list[Tensor] = field(default_factory=list)  # bool [], one per device and dtype


class GradScaler:
    """Scales the loss, unscales the gradients, leaves out broken steps and adapts the scale.

    init_scale       S of the first iteration
    growth_factor    S is multiplied by it after `growth_interval` good iterations in a row; above 1
    backoff_factor   S is multiplied by it after an iteration with inf or NaN; below 1
    growth_interval  None: S stays what it is
    enabled          False: scale() and step() pass everything on, the rest does nothing

    >>> scaler = GradScaler(init_scale=4.0)
    >>> scaler.scale(torch.tensor(0.5))
    tensor(2.)

    Raises ValueError for factors on the wrong side of 1 and for an interval below 1.
    """

    def __init__(
        self,
        init_scale: float = 65536.0,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int | None = 2000,
        enabled: bool = True,
    ):
        if enabled:
            _check_factors(init_scale, growth_factor, backoff_factor, growth_interval)
        self._scale = _float32(init_scale)
        self._growth_factor, self._backoff_factor = growth_factor, backoff_factor
        self._growth_interval = growth_interval
        self._growth_tracker = 0  # good iterations since S last changed
        self._enabled = enabled
        self._used = False  # scale() was called: without it the gradients would be shrunk and never grown
        self._visits: dict[int, _Visit] = defaultdict(_Visit)

    def scale(self, outputs: Tensor | Iterable[Tensor]) -> Any:
        """outputs * S; lists and tuples of tensors give the same, other iterables an iterator.

        A scalar loss in FP16 comes back in float32, since S is a float32 tensor and not a Python number: 65536
        times an FP16 loss would overflow already. Raises TypeError for anything but tensors.
        """
        if not self._enabled:
            return outputs
        self._used = True
        if isinstance(outputs, Tensor):
            return outputs * torch.full((), self._scale, dtype=torch.float32, device=outputs.device)
        if not isinstance(outputs, Iterable):
            raise TypeError(
                f"expected a tensor or an iterable of tensors to scale, got {type(outputs).__name__}. "
                "Pass the loss itself, not loss.item()."
            )
        scaled = map(self.scale, outputs)
        return type(outputs)(scaled) if isinstance(outputs, (list, tuple)) else scaled

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide the optimizer's gradients by S in place; for clipping before step(), which else does it.

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
        visit.found_inf = [unscale_and_check(grads, self._scale) for grads in _grad_lists(optimizer)]
        visit.stage = "unscaled"

    def step(self, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        """optimizer.step(*args, **kwargs) unless a gradient is inf or NaN; returns its result, or None.

        Raises RuntimeError for a second step() since update(), for a closure, if no gradient is there, and
        as unscale_().
        """
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        _refuse_closure(args, kwargs)
        self._check_used("step")
        visit = self._visits[id(optimizer)]
        if visit.stage == "stepped":
            raise RuntimeError(
                "expected one step() per optimizer and update(), got a second one. "
                "Call update() after all optimizers have stepped."
            )
        if visit.stage == "ready":
            self.unscale_(optimizer)
        if not visit.found_inf:
            raise RuntimeError(
                "expected gradients to check for inf, but every .grad of this optimizer is None. "
                "Call scaler.scale(loss).backward() first (MasterWeights: then collect_grads())."
            )
        result = None if _any(visit.found_inf) else optimizer.step(*args, **kwargs)
        visit.stage = "stepped"
        return result

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """End of the iteration: adapt S, or set it to `new_scale`. Raises RuntimeError without any unscaling."""
        if not self._enabled:
            return
        self._check_used("update")
        if new_scale is not None:
            self._scale = _float32(float(new_scale))
        else:
            found = [flag for visit in self._visits.values() for flag in visit.found_inf]
            if not found:
                raise RuntimeError(
                    "expected unscaled gradients since the last update(), got none. "
                    "Call step(optimizer) or unscale_(optimizer) before update()."
                )
            self._adapt(_any(found))
        self._visits.clear()

    def _adapt(self, found_inf: bool) -> None:
        """The rule itself. S is float32, as torch keeps it, so that both round alike."""
        if self._growth_interval is None:
            return
        if found_inf:
            self._scale = _float32(self._scale * self._backoff_factor)
            self._growth_tracker = 0
            return
        self._growth_tracker += 1
        if self._growth_tracker == self._growth_interval:
            grown = _float32(self._scale * self._growth_factor)
            self._scale = grown if math.isfinite(grown) else self._scale  # years without an overflow
            self._growth_tracker = 0

    def get_scale(self) -> float:
        """S, or 1.0 if not enabled."""
        return self._scale if self._enabled else 1.0

    def is_enabled(self) -> bool:
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """S, factors, interval and counter, with torch's keys: either scaler loads the other's. {} if disabled.

        Only a static scaler's cannot be loaded into torch's: its growth_interval is None.
        """
        if not self._enabled:
            return {}
        return {key: getattr(self, "_" + key.lstrip("_")) for key in STATE_KEYS}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where state_dict() was taken. Raises ValueError if a key is missing; then nothing changed."""
        if not self._enabled:
            return
        missing = [key for key in STATE_KEYS if key not in state_dict]
        if missing:
            raise ValueError(
                f"expected a state dict with {', '.join(STATE_KEYS)}; missing: {', '.join(missing)}. "
                "The state of a disabled scaler is empty: save it from an enabled one."
            )
        for key in STATE_KEYS:
            setattr(self, "_" + key.lstrip("_"), state_dict[key])

    def __getstate__(self) -> dict[str, Any]:
        """For pickle; raises RuntimeError in the middle of an iteration, whose notes name optimizers by id."""
        if self._visits:
            raise RuntimeError(
                "expected to be pickled between iterations, got optimizers waiting for update()."
            )
        return self.__dict__

    def _check_used(self, method: str) -> None:
        if not self._used:
            raise RuntimeError(
                f"expected scale() before {method}(), but it was never called: the gradients are not scaled. "
                "Write scaler.scale(loss).backward()."
            )


def unscale_and_check(grads: list[Tensor], scale: float) -> Tensor:
    """Divide all gradients by `scale` in place; bool []: was one of them inf or NaN before?

    grads  any shapes, one dtype, one device. Bit-equal to torch's kernel: 1/S is rounded to float32, then
           multiplied. The check comes first: with S below 1 the division itself may overflow.
    """
    inverse = torch.tensor(scale, dtype=torch.float64).reciprocal().float().item()  # as torch, 1/0 is inf
    norms = []
    for piece in _pieces(grads):
        norms += torch._foreach_norm(piece, 2, dtype=_norm_dtype(piece[0]))
        suspects = piece  # kept for the rare exact look below, which must see them before the product
        if piece[0].device.type == "cpu" and not _all_finite(norms[-len(piece) :]):
            norms[-len(piece) :] = [_exact(grad) for grad in suspects]
        torch._foreach_mul_(piece, inverse)
    return ~torch.stack(norms).isfinite().all()

"""Run every operation of a region in the dtype that a table names: autocast from scratch.

    with autocast("cpu", torch.bfloat16):     # as torch.autocast
        loss = model(x)                       # linear: bfloat16; nll_loss: float32; relu: the input's dtype
    loss.backward()                           # outside: every cast is undone by its own backward

Autocast has three parts, and each is a few lines here:

    a table      which operation wants which dtype                                      autocast_policy.py
    a hook       TorchFunctionMode sees every call of torch before autograd does. The casts must happen
                 there: then autograd records them, keeps the 16-bit inputs for backward, and hands the
                 float32 leaf a float32 gradient. A TorchDispatchMode sits below autograd: too late.
    a cache      a weight used twice is cast once. Kept until the outermost region ends, since the optimizer
                 changes the weight afterwards.

The flags "enabled" and "dtype" are torch's own. So code that asks torch.is_autocast_enabled or opens
torch.autocast(enabled=False) within, as the rotary embedding of transformers does, finds what it expects.
torch's own casting is switched off for every call that passes the hook.

Left out: what happens inside a C++ function. To a hook in Python it is one call; torch's autocast sees the
functions that it calls. Those that language models use are in the table under their own names (einsum,
tensordot, pad); torch.lstm, gru and rnn, cov, matrix_power and matrix_exp run unchanged.

Source: torch/include/ATen/autocast_mode.h (cached_cast, CastPolicy, WrapFunction_); PyTorch documentation,
torch.overrides.TorchFunctionMode.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from contextlib import ContextDecorator
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from coursekit.amp.autocast_policy import FP32_OUT, LOWER, PROMOTE, REFUSE, Rule, operation_name, policy_of

LOW_DTYPES = (torch.bfloat16, torch.float16)


class _Regions(threading.local):
    """How many regions this thread is in, and the casts it keeps until it leaves the outermost."""

    def __init__(self):
        self.depth = 0
        # (id of the weight, dtype): (weight, its cast)
        self.cache: dict[tuple[int, torch.dtype], tuple[Tensor, Tensor]] = {}


_regions = _Regions()


class autocast(ContextDecorator):
    """A region in which operations choose their dtype, as torch.autocast; also a decorator.

    device_type    "cpu" or "cuda"; tensors elsewhere are left alone
    dtype          torch.bfloat16 or torch.float16; None: torch's default for the device
    enabled        False switches an outer region off within this one
    cache_enabled  keep the casts of leaf weights until the outermost region ends
    policy         {operation: rule} in place of autocast_policy.POLICY[device_type]

    >>> weight = torch.ones(2, 2, requires_grad=True)
    >>> with autocast("cpu", torch.bfloat16):
    ...     y = torch.ones(3, 2) @ weight
    >>> y.sum().backward()
    >>> y.dtype, weight.grad.dtype
    (torch.bfloat16, torch.float32)

    Raises ValueError for another device, or another dtype.
    """

    def __init__(
        self,
        device_type: str,
        dtype: torch.dtype | None = None,
        enabled: bool = True,
        cache_enabled: bool = True,
        *,
        policy: Mapping[str, Rule] | None = None,
    ):
        table = policy_of(device_type) if policy is None else policy
        dtype = torch.get_autocast_dtype(device_type) if dtype is None else dtype
        if enabled and dtype not in LOW_DTYPES:
            raise ValueError(
                f"expected a dtype out of {LOW_DTYPES}, got {dtype}; for full precision: enabled=False"
            )
        self._device_type = device_type
        self._wanted = (enabled, dtype, cache_enabled)
        self._hook = _Hook(device_type, table)
        # The flags before each entry: a list, since a region may be entered again within itself.
        self._outer: list[tuple[bool, torch.dtype, bool]] = []

    def __enter__(self) -> autocast:
        self._outer.append(_get_flags(self._device_type))
        _set_flags(self._device_type, *self._wanted)
        _regions.depth += 1
        self._hook.__enter__()
        return self

    def __exit__(self, *exc_info) -> None:
        self._hook.__exit__(*exc_info)  # in the reverse order of __enter__
        _regions.depth -= 1
        _set_flags(self._device_type, *self._outer.pop())
        if _regions.depth == 0:  # from here on the weights may change
            _regions.cache.clear()


class _Hook(TorchFunctionMode):
    """Sees every call of torch within a region. It is off while it handles one, and on again afterwards."""

    def __init__(self, device_type: str, policy: Mapping[str, Rule]):
        super().__init__()
        self._device_type, self._policy = device_type, policy
        self._looking_into: list[Callable] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        # Off: by enabled=False, or because an inner region has made the casts already.
        if not torch.is_autocast_enabled(self._device_type):
            return func(*args, **kwargs)
        inner = _without_hook(func)
        # Tensor.unflatten calls the C++ method it replaces, and torch reports that one under the same name.
        if inner is not None and func not in self._looking_into:
            return self._look_into(func, inner, args, kwargs)
        dtype = torch.get_autocast_dtype(self._device_type)
        with torch._C._DisableAutocast():  # off: torch's own casting, and the hooks of outer regions
            if "out" not in kwargs:  # the caller's tensor has its dtype already
                op = operation_name(func.__name__, args, kwargs)
                args, kwargs = apply_rule(self._policy.get(op), op, args, kwargs, self._device_type, dtype)
            return func(*args, **kwargs)

    def _look_into(self, func: Callable, inner: Callable, args: tuple, kwargs: dict) -> Any:
        """Run a function that is written in Python, with the hook switched on for the calls that it makes."""
        self._looking_into.append(func)
        try:
            with self:
                return inner(*args, **kwargs)
        finally:
            self._looking_into.pop()


def apply_rule(
    rule: Rule | None, op: str, args: tuple, kwargs: dict, device_type: str, dtype: torch.dtype
) -> tuple[tuple, dict]:
    """(args, kwargs) of an operation, cast as its rule requires; autograd records the casts.

    Raises RuntimeError for rule REFUSE, and where PROMOTE meets a 16-bit dtype other than the region's.
    """
    if rule == REFUSE:
        raise RuntimeError(
            f"expected an operation that is safe in 16 bits, got {op}; call it on float32 in a region with "
            "enabled=False, or take binary_cross_entropy_with_logits"
        )
    if rule == FP32_OUT:
        return args, _with_float32_out(args, kwargs, device_type)
    if rule is None:
        return args, kwargs
    wanted = dtype if rule == LOWER else torch.float32
    if rule == PROMOTE:
        wanted = _widest(op, (args, kwargs), device_type, dtype)
    # From the last argument to the first, as torch's C++ does it: autograd runs backward in the order of recording,
    # and so the gradients are added in the same order, to the same bits.
    kwargs = {k: _cast(kwargs[k], wanted, device_type) for k in reversed(kwargs)}
    return tuple(_cast(a, wanted, device_type) for a in reversed(args))[::-1], kwargs


def cached_cast(x: Tensor, dtype: torch.dtype) -> Tensor:  # [...] -> dtype [...]
    """x in dtype; a float32 leaf that requires a gradient is cast once per region, and the cast is kept.

    Only such a leaf is worth keeping: it is a weight, and a weight is used again. The weight is kept beside its cast,
    so that no other tensor gets its id.

    Source: cached_cast in ATen/autocast_mode.cpp.
    """
    keep = (
        torch.is_autocast_cache_enabled()
        and dtype in LOW_DTYPES
        and x.dtype == torch.float32
        and x.requires_grad
        and x.is_leaf
        and not x._is_view()
        and not torch.is_inference_mode_enabled()  # a cast made there can never have a gradient
    )
    if not keep or _regions.depth == 0:
        return x.to(dtype)
    if (id(x), dtype) not in _regions.cache:
        with torch.enable_grad():  # the first caller may be under no_grad, a later one may need the gradient
            _regions.cache[id(x), dtype] = (x, x.to(dtype))
    return _regions.cache[id(x), dtype][1]


def _cast(value: Any, dtype: torch.dtype, device_type: str) -> Any:
    """value with its tensors in dtype, those in lists and tuples too; other values unchanged."""
    if isinstance(value, (list, tuple)) and any(isinstance(v, Tensor) for v in value):
        return [_cast(v, dtype, device_type) for v in value]
    if _is_eligible(value, device_type) and value.dtype != dtype:
        return cached_cast(value, dtype)
    return value


def _is_eligible(value: Any, device_type: str) -> bool:
    """Whether autocast may cast it: a floating tensor of the device. float64 is left alone: someone chose it."""
    return (
        isinstance(value, Tensor)
        and value.device.type == device_type
        and value.is_floating_point()
        and value.dtype != torch.float64
    )


def _with_float32_out(args: tuple, kwargs: dict, device_type: str) -> dict:
    """kwargs with dtype=float32, unless the caller named a dtype or the first tensor may not be cast."""
    named = kwargs.get("dtype") is not None or any(isinstance(a, torch.dtype) for a in args)
    first = args[0] if args else kwargs.get("input")
    if named or not _is_eligible(first, device_type):
        return kwargs
    return {**kwargs, "dtype": torch.float32}


def _widest(op: str, values: Any, device_type: str, dtype: torch.dtype) -> torch.dtype:
    """float32 if one of the tensors has it, else the region's dtype.

    Raises RuntimeError for a third dtype that comes before the first float32 among the arguments, as torch does.
    """
    for tensor in (t for t in tree_leaves(values) if _is_eligible(t, device_type)):
        if tensor.dtype == torch.float32:
            return torch.float32
        if tensor.dtype != dtype:
            raise RuntimeError(
                f"expected float32 or {dtype} for {op}, got {tensor.dtype}; cast it before the region"
            )
    return dtype


@functools.cache
def _without_hook(func: Callable) -> Callable | None:
    """A copy of a Python function of torch that does not ask for hooks on entry; None for a C++ function.

    F.layer_norm begins with `if has_torch_function(...): return handle_torch_function(...)`. Within a hook
    that is always true, and calling it again would never end. In the copy the question is answered with no:
    it runs its body, and the C++ calls in there reach the hook.
    """
    asks = {name: _no for name in getattr(getattr(func, "__code__", None), "co_names", ()) if name in _ASKING}
    if not asks:
        return None
    inner = FunctionType(
        func.__code__, {**func.__globals__, **asks}, func.__name__, func.__defaults__, func.__closure__
    )
    inner.__kwdefaults__ = func.__kwdefaults__
    return inner


_ASKING = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")


def _no(*_) -> bool:
    return False


def _get_flags(device_type: str) -> tuple[bool, torch.dtype, bool]:
    """(enabled, dtype, cache_enabled) as torch has them for this thread."""
    return (
        torch.is_autocast_enabled(device_type),
        torch.get_autocast_dtype(device_type),
        torch.is_autocast_cache_enabled(),
    )


def _set_flags(device_type: str, enabled: bool, dtype: torch.dtype, cache_enabled: bool) -> None:
    torch.set_autocast_enabled(device_type, enabled)
    torch.set_autocast_dtype(device_type, dtype)
    torch.set_autocast_cache_enabled(cache_enabled)

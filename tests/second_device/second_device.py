"""A second device without a second device: a pytest plugin that stands in for a GPU.

    x = torch.ones(3, device="second")    # its bytes are in the CPU's memory, its device is not the CPU
    x + torch.ones(3)                     # RuntimeError: Expected all tensors to be on the same device, as on a GPU

torch keeps a key for devices that others write (PrivateUse1). Here everything behind it is ten lines of DLPack and one
fallback: an operation on "second" is done by the CPU's kernel on the same bytes, and its result is on "second" again.
What a program must do for a GPU it must do for this device: make tensors where the model is, move batches, generators
of the device only, no .numpy(). Autograd, optimizers, views, hooks and storages are torch's own and work as on a GPU.

What it leaves out: memory of its own (the CPU's allocator serves it), streams, autocast, kernels written for CUDA
(bitsandbytes), `copy.deepcopy` and `torch.save` of its tensors (there is no allocator to ask, and the process dies).

A process that has registered it has it for good, so the tests that use it run in a process of their own
(test_second_device.py starts it).
"""

from __future__ import annotations

import ctypes
from contextlib import contextmanager, nullcontext
from functools import partial

import pytest
import torch
from torch._C import DispatchKey, DispatchKeySet
from torch.utils import backend_registration

NAME = "second"
DLPACK_CPU, DLPACK_OTHER = 1, 12  # DLDeviceType: kDLCPU, and kDLExtDev, which torch reads as PrivateUse1
CPU_KERNELS = DispatchKeySet(DispatchKey.CPU)
COPIES = {"aten::_copy_from", "aten::_copy_from_and_resize"}
# CUDA takes indices from the CPU, and numbers in tensors of no dimension for what works element by element.
INDEXING = {"aten::index", "aten::index_put_", "aten::_index_put_impl_"}
TAKES_A_NUMBER = {"aten::fill_", "aten::masked_fill_", "aten::masked_fill", "aten::index_put_"}


class Second(backend_registration._DummyBackendModule):
    """What torch asks as `torch.second`: one device, with random numbers of its own."""

    state = torch.Generator().get_state()

    def manual_seed_all(self, seed: int) -> None:
        self.state = torch.Generator().manual_seed(seed + 1).get_state()  # not those of the CPU

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]  # a region of autocast opens, and casts nothing

    def get_rng_state(self, device=NAME) -> torch.Tensor:
        return self.state.clone()

    def set_rng_state(self, state: torch.Tensor, device=NAME) -> None:
        self.state = state.clone()

    @contextmanager
    def own_numbers(self):
        """Within the block torch draws from the device's generator."""
        before = torch.get_rng_state()
        torch.set_rng_state(self.state)
        try:
            yield
        finally:
            self.state = torch.get_rng_state()
            torch.set_rng_state(before)


SECOND = Second()


class DLTensor(ctypes.Structure):
    """The head of a DLPack capsule (dlpack.h): a pointer, and the device it belongs to."""

    _fields_ = (("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32))


_head = ctypes.pythonapi.PyCapsule_GetPointer
_head.restype, _head.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


def relabelled(tensor: torch.Tensor, device_type: int) -> torch.Tensor:
    """The same bytes as a tensor of another device."""
    capsule = torch._C._to_dlpack(tensor)
    DLTensor.from_address(_head(capsule, b"dltensor")).device_type = device_type
    return torch._C._from_dlpack(capsule)


def on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.numel():  # a kernel may let an empty result grow, which borrowed bytes cannot
        return torch.empty(tensor.shape, dtype=tensor.dtype)
    return relabelled(tensor, DLPACK_CPU)


def on_second(tensor: torch.Tensor) -> torch.Tensor:
    return relabelled(tensor, DLPACK_OTHER)


def is_here(value) -> bool:
    return isinstance(value, torch.Tensor) and value.device.type == NAME


def mapped(change, value):
    """`value` with `change` applied to what is in its lists and tuples."""
    if isinstance(value, (list, tuple)):
        return type(value)(mapped(change, each) for each in value)
    return change(value)


class Lent:
    """The tensors of the device that one operation sees as the CPU's, to be found again among its results."""

    def __init__(self, op):
        self.op, self.pairs = op, {}  # id of what the kernel sees -> (it, the tensor of the device)

    def lend(self, value):
        check_place(self.op, value)
        if isinstance(value, torch.device):
            return torch.device("cpu")
        if not is_here(value):
            return value
        seen = on_cpu(value)
        self.pairs[id(seen)] = seen, value
        return seen

    def give_back(self, value):
        if not isinstance(value, torch.Tensor):
            return value
        return self.pairs[id(value)][1] if id(value) in self.pairs else on_second(value)


def run_on_cpu(op, *args, **kwargs):
    """The kernel of every operation of the device."""
    if op._schema.name in COPIES:
        source, target = (on_cpu(t) if is_here(t) else t for t in args[:2])
        target.copy_(source)
        return args[1]
    if is_view(op):  # only sizes and strides: the CPU's kernel keeps storage and device
        return op.redispatch(CPU_KERNELS, *args, **kwargs)
    check_index(op, args)
    lent = Lent(op)
    args = mapped(lent.lend, numbers_as_tensors(op, args))
    kwargs = {name: mapped(lent.lend, value) for name, value in kwargs.items()}
    with SECOND.own_numbers() if torch.Tag.nondeterministic_seeded in op.tags else nullcontext():
        found = op(*args, **kwargs)
    for seen, tensor in lent.pairs.values():
        if seen.shape != tensor.shape:
            grow(tensor, seen)
    return mapped(lent.give_back, found)


def numbers_as_tensors(op, args):
    """`x & 1` comes as two tensors to C++ and as a tensor and a number to Python: what the schema calls a tensor."""
    return [
        torch.tensor(value)
        if isinstance(value, (bool, int, float)) and str(given.type) == "Tensor"
        else value
        for given, value in zip(op._schema.arguments, args, strict=False)
    ]


def is_view(op) -> bool:
    """Whether the result shares the bytes of an argument without changing them, by the operation's schema."""
    returns = op._schema.returns
    alias = returns[0].alias_info if returns else None
    return alias is not None and not alias.is_write


def grow(tensor: torch.Tensor, result: torch.Tensor) -> None:
    """An empty `out` takes the size of what was computed."""
    new = on_second(result.clone())
    shape = new.untyped_storage(), new.storage_offset(), new.shape, new.stride()
    torch.ops.aten.set_.source_Storage_storage_offset.redispatch(CPU_KERNELS, tensor, *shape)


def check_place(op, value) -> None:
    """Raises RuntimeError for a tensor or generator that a GPU would refuse."""
    if isinstance(value, torch.Generator):
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found 'cpu'")
    if not isinstance(value, torch.Tensor) or is_here(value) or op._schema.name in INDEXING:
        return
    number = torch.Tag.pointwise in op.tags or op._schema.name in TAKES_A_NUMBER
    if value.dim() or not number:
        raise RuntimeError(
            "Expected all tensors to be on the same device, but found at least two devices, "
            f"{NAME}:0 and {value.device}! (in {op})"
        )


def check_index(op, args) -> None:
    """Raises RuntimeError if a CPU tensor is indexed from the device, or takes or gets numbers of another one."""
    if op._schema.name not in INDEXING:
        return
    tensor, values = args[0], args[2:3]
    if not is_here(tensor):
        raise RuntimeError(
            "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
        )
    if any(isinstance(v, torch.Tensor) and v.dim() and not is_here(v) for v in values):
        raise RuntimeError(f"Expected all tensors to be on the same device, but found {NAME}:0 and cpu!")


# Registrations live as long as these objects.
_fallback, _named = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
# Called from inside torch.tensor(), where torch looks for kernels by name if a TorchDispatchMode is on.
NAMED = {"_copy_from": "default", "empty.memory_format": "memory_format", "empty_strided": "default"}


def register() -> None:
    """Make the device; once in a process."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, SECOND)
    _fallback.fallback(run_on_cpu, "PrivateUse1")
    _fallback.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for name, overload in NAMED.items():
        op = getattr(getattr(torch.ops.aten, name.split(".")[0]), overload)
        _named.impl(name, partial(run_on_cpu, op), "PrivateUse1")
    # Module.to() replaces the parameters of an unknown device one by one, and tied weights would come apart. A GPU's
    # stay tied; so do swapped ones.
    torch.__future__.set_swap_module_params_on_conversion(True)


register()


@pytest.fixture
def first_gpu(monkeypatch):
    """The device is what `load` takes if it is not told another, as the first GPU of a machine is."""
    monkeypatch.setattr("classroom.models.load.default_device", lambda: NAME)
    return NAME

"""Where the bytes of a training step go, measured.

Four instruments, each for its own question:

    held_bytes(tensors)     bytes of tensors, each storage counted once, with what bitsandbytes keeps beside its codes
    saved_tensors(model)    what the graph holds for backward: torch's own hooks, each storage counted once
    allocations()           every allocation and release of the CPU's allocator, from torch's profiler
    measure(...)            a whole step: weights, gradients, states, activations, and the peak of each phase

>>> layer = torch.nn.Linear(8, 8, bias=False)
>>> with saved_tensors(layer) as saved:
...     y = layer(torch.ones(2, 8))
>>> saved.bytes, held_bytes([layer.weight, layer.weight.T])
(64, 256)

On a GPU the peak is `max_memory_allocated`, reset before each phase. A difference of `memory_allocated` before and
after is not a peak: it misses everything that came and went in between.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

PHASES = ("forward", "backward", "optimizer")
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")


@dataclass(frozen=True)
class Saved:
    """One storage that the graph holds: the module that saved it first, and the shape of that tensor."""

    module: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    bytes: int


@dataclass
class SavedTensors:
    """What a forward pass has saved, in order."""

    rows: list[Saved] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(row.bytes for row in self.rows)


@contextmanager
def saved_tensors(model: torch.nn.Module, *, weights: bool = False):
    """Collect what a forward pass saves for backward; several views of one storage count once.

    weights   also count the model's parameters, which are in memory anyway
    """
    result, seen = SavedTensors(), {}
    path = [""]  # names of the modules that are running, the innermost last
    if not weights:
        seen = {p.untyped_storage()._cdata: p for p in [*model.parameters(), *model.buffers()]}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in seen:
            seen[storage._cdata] = storage  # kept, so that no other storage gets the same address
            result.rows.append(Saved(path[-1], tuple(tensor.shape), tensor.dtype, storage.nbytes()))
        return tensor

    hooks = list(_follow(model, path))
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield result
    finally:
        for hook in hooks:
            hook.remove()
        seen.clear()  # the graph keeps its hooks, which would keep every storage


def _follow(model, path: list[str]):
    """Hooks that keep the name of the module that is running at the end of `path`."""

    def enter(name):
        return lambda module, inputs: path.append(name)

    def leave(module, inputs, result):
        path.pop()

    for name, module in model.named_modules():
        yield module.register_forward_pre_hook(enter(name))
        yield module.register_forward_hook(leave)


@dataclass
class Allocations:
    """Bytes allocated (positive) and freed (negative), in order, each with its phase."""

    events: list[tuple[str, int]] = field(default_factory=list)

    def peaks(self, phases: Sequence[str] = ()) -> dict[str, int]:
        """The highest sum within each phase, counted from 0 at the start.

        phases   the phases in their order; one without events is as high as the end of the one before
        """
        peaks, last, now = {}, dict.fromkeys(phases, 0), 0
        for phase, nbytes in self.events:
            peaks[phase] = max(peaks.get(phase, now), now, now + nbytes)
            now += nbytes
            last[phase] = now
        before = 0
        for phase in phases:
            if phase in peaks:
                before = last[phase]
            else:
                peaks[phase] = before
        return peaks

    def curve(self, at_least: int = 1) -> list[tuple[str, int]]:
        """Return (phase, the bytes then in use) after each event of `at_least` bytes or more."""
        sums = itertools.accumulate(nbytes for _, nbytes in self.events)
        pairs = zip(self.events, sums, strict=True)
        return [(phase, total) for (phase, nbytes), total in pairs if abs(nbytes) >= at_least]

    @property
    def peak(self) -> int:
        return max([0, *self.peaks().values()])


@contextmanager
def allocations(*, scratch: bool = True):
    """Collect the events of the CPU's allocator while the block runs.

    Mark phases in the block with `torch.profiler.record_function(name)`.

    scratch   count also what a matrix product allocates and frees before it returns. It depends on the processor:
              nothing in FP32; in BF16 a packed copy where there are BF16 units, copies of both matrices in FP32 where
              oneDNN emulates them. A GPU has none of it, and no plan counts it
    """
    from torch.profiler import ProfilerActivity, profile

    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # else the profiler writes its start and stop to stderr
    result = Allocations()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        yield result
    # the tree follows the operators; sorted, the events are in the order of time
    found = sorted(_events(profiler.profiler.kineto_results.experimental_event_tree(), "", scratch))
    result.events += [(phase, nbytes) for _, phase, nbytes in found]


def _events(tree, phase: str, scratch: bool):
    from torch._C._profiler import _EventType

    for event in tree:
        if event.tag == _EventType.Allocation:
            yield event.start_time_ns, phase, event.extra_fields.alloc_size
        children = event.children
        if event.name in PRODUCTS and not scratch:
            children = _without_scratch(children)
        yield from _events(children, event.name if event.name in PHASES else phase, scratch)


def _without_scratch(children: list) -> list:
    """The events below one product, without the pairs in which a block is allocated and then freed."""
    from torch._C._profiler import _EventType

    kept, taken = list(children), {}
    for event in children:
        if event.tag != _EventType.Allocation:
            continue
        block = event.extra_fields.ptr
        if event.extra_fields.alloc_size > 0:
            taken[block] = event
        elif block in taken:
            kept.remove(taken.pop(block))
            kept.remove(event)
    return kept


def held_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of these tensors, each storage once."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in leaves(tensors)}
    return sum(storages.values())


def leaves(tensors: Iterable) -> Iterator[torch.Tensor]:
    """The tensors themselves, and those that a 4-bit weight of bitsandbytes keeps beside its codes."""
    for tensor in tensors:
        if not isinstance(tensor, torch.Tensor):
            continue
        yield tensor
        state = getattr(tensor, "quant_state", None)
        if state is not None:
            yield from _quantisation(state)


def _quantisation(state):
    yield from leaves([state.absmax, state.code, state.offset])
    if state.state2 is not None:  # double quantisation: the scales are quantised as well
        yield from _quantisation(state.state2)


@dataclass(frozen=True)
class Measured:
    """A training step, in bytes. `peaks`: of each phase, with everything that is in memory."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    peaks: dict[str, int]
    seconds: float

    @property
    def peak(self) -> int:
        return max(self.peaks.values())

    @property
    def peak_phase(self) -> str:
        return max(self.peaks, key=self.peaks.get)


def measure(
    model,
    optimizer,
    batches: Sequence[dict],
    *,
    loss: Callable | None = None,
    autocast=None,
    scratch: bool = True,
) -> Measured:
    """Measure one optimizer step on these micro-batches, after one that is not counted (it makes the states).

    batches   dictionaries of tensors that the model takes; more than one: gradients accumulate
    loss      (model, batch) -> scalar; default: the model's own `.loss`
    autocast  makes a context for the forward pass, for example lambda: torch.autocast("cpu", torch.bfloat16)
    scratch   on a CPU, count also what a kernel allocates for itself while it multiplies; see `allocations`

    Changes the weights by two steps. On a GPU the caching allocator's counters are read, and reset.
    """
    loss = loss or (lambda model, batch: model(**batch).loss)
    step = PhasedStep(model, optimizer, batches, loss, autocast or torch.enable_grad)
    step.run()
    activations = step.activations()
    optimizer.zero_grad(set_to_none=True)
    device = next(model.parameters()).device
    resident = step.resident(batches)
    started = time.perf_counter()
    peaks = step.cuda_peaks(resident) if device.type == "cuda" else step.cpu_peaks(resident, scratch)
    seconds = time.perf_counter() - started
    weights = held_bytes([*model.parameters(), *model.buffers()])
    states = held_bytes(optimizer_tensors(optimizer))
    return Measured(weights, step.gradients, states, activations, peaks, seconds)


def optimizer_tensors(optimizer) -> Iterator:
    """The states of an optimizer, one after the other; some are numbers, some lists of tensors."""
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, (list, tuple)):
                yield from value
            else:
                yield value


@dataclass
class PhasedStep:
    """One optimizer step that marks its phases."""

    model: object
    optimizer: object
    batches: Sequence[dict]
    loss: Callable
    context: Callable
    gradients: int = 0

    def run(self, phase=torch.profiler.record_function) -> None:
        for batch in self.batches:
            with phase("forward"), self.context():
                loss = self.loss(self.model, batch) / len(self.batches)
            with phase("backward"):
                loss.backward()
            del loss  # else its graph lives through the next forward pass
        # Read before zero_grad frees them.
        self.gradients = held_bytes(p.grad for p in self.model.parameters())
        with phase("optimizer"):
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def activations(self) -> int:
        """Bytes that one forward pass saves."""
        with saved_tensors(self.model) as saved, self.context():
            self.loss(self.model, self.batches[0])
        return saved.bytes

    def resident(self, batches) -> int:
        """Bytes that are in memory before the step begins: weights, buffers, states, and the batches."""
        inputs = [tensor for batch in batches for tensor in batch.values()]
        return held_bytes(
            [*self.model.parameters(), *self.model.buffers(), *optimizer_tensors(self.optimizer), *inputs]
        )

    def cpu_peaks(self, resident: int, scratch: bool) -> dict[str, int]:
        with allocations(scratch=scratch) as found:
            self.run()
        peaks = found.peaks(PHASES)
        return {phase: resident + peaks[phase] for phase in PHASES}

    def cuda_peaks(self, resident: int) -> dict[str, int]:
        """Peaks without what was allocated before: other models of the process, the workspace of matrix products."""
        peaks, start = dict.fromkeys(PHASES, 0), torch.cuda.memory_allocated()

        @contextmanager
        def phase(name):
            torch.cuda.reset_peak_memory_stats()
            yield
            torch.cuda.synchronize()  # so that the seconds are those of the kernels too
            peaks[name] = max(peaks[name], resident + torch.cuda.max_memory_allocated() - start)

        self.run(phase)
        return peaks

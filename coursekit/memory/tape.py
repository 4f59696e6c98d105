"""A shadow of autograd: tensors that have a size and no content, and a tape that notes when their bytes come and go.

Lifetimes decide the peak of a training step. A result lives as long as a variable of the forward pass, or a node of the
graph, holds it; a gradient lives until it has been passed on. So the planner runs the forward and the backward pass of
a model on shadows. Python counts their references as it counts those of tensors; the tape notes what comes and goes:

>>> tape = Tape()
>>> x = tape.require_grad(tape.tensor(1000, itemsize=4))      # 4,000 bytes
>>> def run(gradient):                                        # the backward of silu makes one gradient
...     return [Gradient(tape.new(4000, "silu"), itemsize=4)]
>>> y = tape.record("silu", [x], 1000, 4, run, saves=[x])     # 4,000 more; the node of y holds x
>>> del x                                                     # frees nothing: x is saved for backward
>>> sum(event.bytes for event in tape.events)
8000
>>> tape.backward(y, Gradient(tape.new(4000, "loss"), itemsize=4))   # the node runs, and x is freed
>>> sum(event.bytes for event in tape.events)
4000

The engine follows torch's: nodes run in reverse order of creation, and release what they saved when they have run. A
second gradient for the same result is added in place if no other node holds the buffer. What it leaves out: numbers,
there are only sizes. `operations` says what each operation saves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

ACTIVATIONS, TEMPORARY, GRADIENTS, GATHERED = "activations", "temporary", "gradients", "gathered weights"


class Event(NamedTuple):
    """`bytes` of a category were allocated (freed, if negative) while `place` was running."""

    phase: str
    place: str  # "embedding", "layer 0", "head", "loss", ...
    operation: str
    category: str
    bytes: int


class Storage:
    """Some bytes of memory. They are freed when nothing refers to them any more."""

    __slots__ = ("bytes", "category", "holders", "operation", "tape")

    def __init__(self, tape: Tape, nbytes: int, operation: str, category: str = TEMPORARY):
        self.tape, self.bytes = tape, nbytes
        self.operation, self.category = operation, category
        self.holders = 0  # gradients that wait with it in a node, and nodes that save it
        tape.note(operation, category, nbytes)

    def become(self, category: str) -> None:
        """Change the purpose of the same bytes: a temporary result that a node saves is an activation."""
        if category != self.category:
            self.tape.note(self.operation, self.category, -self.bytes)
            self.tape.note(self.operation, category, self.bytes)
            self.category = category

    def __del__(self):
        self.tape.note(self.operation, self.category, -self.bytes)


@dataclass(slots=True)
class Gradient:
    """A gradient that is being passed on. A view keeps its base alive, so nothing may be added to it in place."""

    storage: Storage
    itemsize: int
    view: bool = False

    def viewed(self) -> Gradient:
        return Gradient(self.storage, self.itemsize, view=True)

    @property
    def sole(self) -> bool:
        """Whether another may be added to it in place: it is not a view, and no other node holds it."""
        return not self.view and self.storage.holders == 1


@dataclass(slots=True, eq=False)
class Parameter:
    """A weight of the model: a leaf of the graph, whose own bytes are counted elsewhere.

    grad_bytes   bytes of its gradient where it is kept (fp32 gradients of a 16-bit weight: twice those that come)
    grad         the gradient, once it is there
    """

    name: str
    numel: int
    itemsize: int
    requires_grad: bool = True
    grad_bytes: int = 0
    grad: Storage | None = None

    def accumulate(self, tape: Tape, new: Gradient) -> None:
        """Wait for the gradients of all uses of the weight (a tied one has two), then keep their sum, or add it to what
        an earlier micro-batch left. This is torch's AccumulateGrad."""
        total = added(tape, tape.arriving.get(self.name), new)
        tape.arriving[self.name] = total
        tape.uses[self.name] -= 1
        if tape.uses[self.name]:
            return
        del tape.arriving[self.name]
        total.storage.holders -= 1
        if tape.accumulates:
            return  # the sum is in the gradient that exists already, and this one is freed
        if self.grad is None and total.storage.bytes == self.grad_bytes:
            self.grad = total.storage
            self.grad.become(GRADIENTS)
        elif self.grad is None:
            self.grad = Storage(tape, self.grad_bytes, self.name, GRADIENTS)


def added(tape: Tape, old: Gradient | None, new: Gradient) -> Gradient:
    """The sum of two gradients. Like torch's InputBuffer it adds in place, unless the first is a view or is held
    elsewhere too."""
    if old is None:
        return new
    new.storage.holders -= 1
    if old.sole:
        return old
    total = Gradient(Storage(tape, old.storage.bytes, "add"), old.itemsize)
    total.storage.holders = 1
    old.storage.holders -= 1
    return total


@dataclass(slots=True, eq=False)
class Node:
    """One operation of the graph. `run` maps the gradient of its result to those of its inputs, None for an input that
    wants none."""

    inputs: list
    saved: list[Storage]
    run: Callable[[Gradient], Sequence[Gradient | None]]
    place: str
    operation: str
    gradient: Gradient | None = None
    waits: list | None = None  # the gradients of a node with several results, which are not added up

    def accumulate(self, tape: Tape, new: Gradient) -> None:
        if self.waits is None or self.gradient is None:
            self.gradient = added(tape, self.gradient, new)
        else:
            self.waits.append(new)


@dataclass(slots=True, eq=False)
class Shadow:
    """A tensor without content. `node` is the operation that made it; None if no gradient is wanted."""

    storage: Storage
    numel: int
    itemsize: int
    node: Node | None = None
    view: bool = False

    @property
    def requires_grad(self) -> bool:
        return self.node is not None


class Tape:
    """Notes the events of one forward and backward pass, and keeps the graph between them.

    While `grad` is False nothing is saved and no graph is built: inference, and the first pass of a checkpointed block.
    """

    def __init__(self):
        self.events: list[Event] = []
        self.nodes: list[Node] = []
        self.phase, self.place = "forward", ""
        self.grad = True
        self.saves = 0  # how often something was saved, to know when recomputing may stop
        self.stop_after: int | None = None
        self.uses: Counter[str] = Counter()  # of each weight, gradients yet to come
        self.arriving: dict[str, Gradient] = {}  # the sum of those that came
        self.accumulates = False  # whether earlier micro-batches left gradients, which are counted elsewhere
        self.cache: list[tuple[str, Storage]] = []  # (place, keys or values), until the forward pass is over
        self.copies: dict[str, tuple[str, Shadow]] = {}  # weights in 16 bits: autocast keeps them as long

    def note(self, operation: str, category: str, nbytes: int) -> None:
        if nbytes:
            self.events.append(Event(self.phase, self.place, operation, category, nbytes))

    def new(self, nbytes: int, operation: str) -> Storage:
        if self.stop_after is not None and self.saves >= self.stop_after:
            nbytes = 0  # recomputing has stopped: everything that backward needs is there
        return Storage(self, nbytes, operation)

    def tensor(self, numel: int, itemsize: int, operation: str = "input") -> Shadow:
        """Make a tensor that no gradient reaches."""
        return Shadow(self.new(numel * itemsize, operation), numel, itemsize)

    def record(self, operation, inputs, numel, itemsize, run, saves=(), out: Storage | None = None):
        """The result of an operation, with its node if one of the inputs wants a gradient.

        numel, itemsize   of the result
        run     the backward: gradient of the result -> gradients of the inputs
        saves   shadows that the node holds until it has run
        out     storage of the result if it takes no new memory (a view, a sum in place)
        """
        wants = self.grad and any(value.requires_grad for value in inputs)
        saved = self.save(saves) if wants else []
        storage = self.new(numel * itemsize, operation) if out is None else out
        if not wants:
            return Shadow(storage, numel, itemsize, None, out is not None)
        node = Node([self.edge(value) for value in inputs], saved, run, self.place, operation)
        self.nodes.append(node)
        return Shadow(storage, numel, itemsize, node, out is not None)

    def edge(self, value):
        """Find where the gradient of an input goes: to the node that made it, to the weight itself, or nowhere."""
        if not isinstance(value, Parameter):
            return value.node
        if not value.requires_grad:
            return None
        self.uses[value.name] += 1
        return value

    def save(self, values) -> list[Storage]:
        self.saves += len(values)
        for value in values:
            value.storage.become(ACTIVATIONS)
            value.storage.holders += 1
        return [value.storage for value in values]

    def save_result(self, result: Shadow) -> Shadow:
        """Let the node of an operation also hold its result, as softmax does."""
        if result.node is not None:
            result.node.saved += self.save([result])
        return result

    def require_grad(self, x: Shadow) -> Shadow:
        """Want gradients of the same values from here on: nothing below is trained, but something above is."""
        size = x.numel * x.itemsize

        def run(gradient):  # a leaf keeps a copy of a gradient that others hold too
            self.new(size, "clone")
            return []

        node = Node([], [], run, self.place, "input")
        self.nodes.append(node)
        return Shadow(x.storage, x.numel, x.itemsize, node, x.view)

    def end_forward(self) -> None:
        """Release the model's cache and autocast's copies, except what backward needs."""
        kept = [*self.cache, *self.copies.values()]
        self.cache, self.copies = [], {}
        while kept:
            self.place = kept[0][0]  # freed where it was made, so that the net change of a block is complete
            kept.pop(0)
        self.phase = "backward"

    def backward(self, result: Shadow, gradient: Gradient, down_to: int = 0) -> None:
        """Run the nodes that were made since the tape had `down_to` of them, the last one first."""
        gradient.storage.holders += 1
        result.node.accumulate(self, gradient)
        del gradient, result  # else this frame would hold them until the last node has run
        while len(self.nodes) > down_to:
            self._run(self.nodes.pop())

    def _run(self, node: Node) -> None:
        self.place = node.place
        passed = list(node.run(node.gradient)) if node.gradient else []
        if node.gradient:
            node.gradient.storage.holders -= 1
            node.gradient = node.waits = None
        while node.saved:
            node.saved.pop().holders -= 1
        for gradient in passed:
            if gradient is not None:
                gradient.storage.holders += 1
        for target in node.inputs if passed else ():
            gradient = passed.pop(0)  # popped, so that it is freed as soon as its target has added it up
            if gradient is not None and target is not None:
                target.accumulate(self, gradient)
            elif gradient is not None:
                gradient.storage.holders -= 1

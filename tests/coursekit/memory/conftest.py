"""Oracles that share no code with the planner: transformers' classes without content, torch's MemTracker under
FakeTensorMode, and the events of torch's allocator beside those of a shadow."""

import warnings
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from torch.profiler import record_function

from coursekit.memory.architecture import presets
from coursekit.memory.measure import allocations
from coursekit.memory.tape import ACTIVATIONS, Gradient, Node, Parameter, Shadow, Storage, Tape


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Kernels that work in parallel take more memory, and two test processes share the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_num_threads(threads)


def make_config(name, layers=None, **changes):
    """The transformers config of a preset, with fewer layers if asked for."""
    from transformers import CONFIG_MAPPING

    values = dict(presets()[name])
    family = values.pop("model_type")
    if layers:
        values["n_layer" if family == "gpt2" else "num_hidden_layers"] = layers
    return CONFIG_MAPPING[family](**values | changes)


@pytest.fixture(scope="session")
def config_of():
    return make_config


@pytest.fixture(scope="session")
def on_meta():
    """on_meta(config) is transformers' model with shapes and without content."""
    from transformers import AutoModelForCausalLM

    def build(config):
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)

    return build


def fake(config, dtype, attention, checkpointing=False):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention).train()
    if checkpointing:
        model.gradient_checkpointing_enable()
    return model


@contextmanager
def fake_tensors():
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


@pytest.fixture(scope="session")
def tracked_peak():
    """tracked_peak(config, batch, sequence) is the peak of a training step as MemTracker sees it: of the second one
    with AdamW, whose first makes the states; of the first one with SGD."""

    def peak(
        config,
        batch,
        sequence,
        dtype=torch.float32,
        attention="sdpa",
        checkpointing=False,
        sgd=False,
        **adamw,
    ):
        from torch.distributed._tools.mem_tracker import MemTracker

        with fake_tensors():
            model = fake(config, dtype, attention, checkpointing)
            weights = model.parameters()
            optimizer = torch.optim.SGD(weights) if sgd else torch.optim.AdamW(weights, **adamw)
            tokens = torch.randint(0, 100, (batch, sequence))
            labels = tokens.clone()
            tracker = MemTracker()
            tracker.track_external(model, optimizer, tokens, labels)
            with tracker:
                for _ in range(1 if sgd else 2):
                    tracker.reset_mod_stats()
                    model(input_ids=tokens, labels=labels).loss.backward()
                    optimizer.step()
                    optimizer.zero_grad()
            (snapshot,) = tracker.get_tracker_snapshot("peak").values()
        return next(count for kind, count in snapshot.items() if str(kind) == "Total")

    return peak


@pytest.fixture(scope="session")
def hooked():
    """hooked(model, **batch): (module, bytes) of every storage of floats that autograd saves, by hooks of our own.

    Left out: tokens and labels, which are there anyway, and the scalar that holds the number of labels."""

    def rows(model, **batch):
        found, seen, path = [], {}, [""]
        known = {p.untyped_storage()._cdata for p in [*model.parameters(), *model.buffers()]}

        def pack(tensor):
            storage = tensor.untyped_storage()
            counts = tensor.is_floating_point() and tensor.dim() and storage._cdata not in known
            if counts and storage._cdata not in seen:
                found.append((path[-1], storage.nbytes()))
            seen[storage._cdata] = storage
            return tensor

        hooks = []
        for name, module in model.named_modules():
            hooks.append(module.register_forward_pre_hook(lambda m, x, name=name: path.append(name)))
            hooks.append(module.register_forward_hook(lambda m, x, y: path.pop() and None))
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(**batch)
        for hook in hooks:
            hook.remove()
        return found

    return rows


@pytest.fixture(scope="session")
def hooked_fake(hooked):
    """The same for a config, without content: hooked_fake(config, batch, sequence, dtype, attention)."""

    def rows(config, batch, sequence, dtype=torch.float32, attention="sdpa"):
        with fake_tensors():
            tokens = torch.randint(0, 100, (batch, sequence))
            return hooked(fake(config, dtype, attention), input_ids=tokens, labels=tokens)

    return rows


@pytest.fixture(scope="session")
def tokens():
    """tokens(batch, sequence, n) is n batches for a model that takes input_ids and labels."""

    def make(batch, sequence, n=1, vocabulary=1000):
        generator = torch.Generator().manual_seed(0)
        shape = (batch, sequence)
        drawn = [torch.randint(0, vocabulary, shape, generator=generator) for _ in range(n)]
        return [{"input_ids": ids, "labels": ids.clone()} for ids in drawn]

    return make


@dataclass(frozen=True)
class Bytes:
    """Of one operation, over what its inputs take: highest in forward, held after it, saved for backward; highest in
    backward over what was there when it began, held after it."""

    forward: int
    held: int
    saved: int
    backward: int
    left: int

    def near(self, other, names=("forward", "held", "saved", "backward", "left"), slack=64):
        """Equal in what is asked for, but for the scalars that torch keeps in tensors."""
        return all(abs(getattr(self, name) - getattr(other, name)) <= slack for name in names)


def climb(changes):
    """(highest, last) of the running sum."""
    now = top = 0
    for change in changes:
        now += change
        top = max(top, now)
    return top, now


@pytest.fixture(scope="session")
def torch_bytes():
    """torch_bytes(function, tensors): what the allocator gives for it, the gradients going to those that want one."""

    def saved_by(function, tensors):
        weights = {t.untyped_storage()._cdata for t in tensors if isinstance(t, torch.nn.Parameter)}
        seen = {}

        def pack(tensor):
            storage = tensor.untyped_storage()
            if storage._cdata not in weights and tensor.is_floating_point():
                seen[storage._cdata] = storage
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            result = function(*tensors)
        return sum(storage.nbytes() for storage in seen.values()), torch.ones_like(result)

    def measured(function, *tensors):
        wanted = [tensor for tensor in tensors if tensor.requires_grad]

        def run(seed):
            with record_function("forward"):
                result = function(*tensors)
            with record_function("backward"):
                return result, torch.autograd.grad(result, wanted, seed)

        saved, seed = saved_by(function, tensors)
        run(seed)
        with allocations() as found:
            kept = run(seed)
        forward, backward = (
            climb(nbytes for phase, nbytes in found.events if phase == name)
            for name in ("forward", "backward")
        )
        del kept
        return Bytes(*forward, saved, *backward)

    return measured


class Lab:
    """A tape with inputs to try an operation on."""

    def __init__(self, itemsize=4):
        self.tape, self.itemsize = Tape(), itemsize

    def x(self, *shape, grad=True, itemsize=None):
        numel, itemsize = torch.Size(shape).numel(), itemsize or self.itemsize
        node = Node([], [], lambda g: [], "", "input") if grad else None
        return Shadow(Storage(self.tape, numel * itemsize, "x"), numel, itemsize, node)

    def weight(self, *shape, grad=True, name="weight", itemsize=None):
        numel, itemsize = torch.Size(shape).numel(), itemsize or self.itemsize
        return Parameter(name, numel, itemsize, grad, numel * itemsize)

    def bytes(self, operation, *inputs):
        """What `operation(tape, *inputs)` makes of them."""
        tape = self.tape
        start = len(tape.events)
        result = operation(tape, *inputs)
        forward = climb(e.bytes for e in tape.events[start:])
        saved = sum(e.bytes for e in tape.events if e.category == ACTIVATIONS)
        seed = Gradient(Storage(tape, result.numel * result.itemsize, "seed"), result.itemsize)
        start = len(tape.events)
        tape.backward(result, seed)
        return Bytes(*forward, saved, *climb(e.bytes for e in tape.events[start:]))


@pytest.fixture
def lab():
    """lab(itemsize) makes one."""
    return Lab

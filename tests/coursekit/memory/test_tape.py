"""The shadow of autograd beside autograd: lifetimes, sums in place, and that every byte comes and goes once."""

import gc
from copy import copy

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from coursekit.memory import operations as op
from coursekit.memory.activations import Lora, Model, Numerics, step
from coursekit.memory.architecture import Architecture, architecture_of
from coursekit.memory.tape import ACTIVATIONS, GRADIENTS, TEMPORARY, Gradient, Parameter, Storage, Tape

N = 4096


def total(tape, category=None):
    return sum(e.bytes for e in tape.events if category in (None, e.category))


def living(tape):
    return [s for s in gc.get_objects() if isinstance(s, Storage) and s.tape is tape]


@pytest.fixture
def no_collector():
    """Lifetimes are those of references, as torch's are: the garbage collector must find nothing to do."""
    gc.disable()
    yield
    gc.enable()


def test_a_storage_comes_and_goes_once():
    """One event when it is made, one when the last reference goes; a variable more changes nothing."""
    tape = Tape()
    x = tape.tensor(N, 4)
    other = copy(x)
    del x
    assert [e.bytes for e in tape.events] == [4 * N]
    del other
    assert [e.bytes for e in tape.events] == [4 * N, -4 * N]


def test_the_lesson_of_the_docstring():
    """What backward needs lives as long as the node that saves it, and not longer."""
    tape = Tape()
    x = tape.require_grad(tape.tensor(N, 4))
    y = op.activation(tape, x)
    del x
    assert total(tape) == 8 * N and total(tape, ACTIVATIONS) == 4 * N
    tape.backward(y, op.fresh(tape, N, 4, "seed"))
    del y
    assert total(tape) == 0


def test_nothing_of_no_bytes_is_noted():
    tape = Tape()
    tape.note("nothing", TEMPORARY, 0)
    assert tape.events == []


def test_becoming_another_category_moves_the_bytes():
    tape = Tape()
    storage = Storage(tape, 100, "x")
    storage.become(ACTIVATIONS)
    storage.become(ACTIVATIONS)
    assert total(tape, TEMPORARY) == 0 and total(tape, ACTIVATIONS) == 100
    assert len(tape.events) == 3


def test_without_grad_nothing_is_saved():
    """Inference, and the first pass of a checkpointed block: results go as soon as nobody names them."""
    tape = Tape()
    x = tape.require_grad(tape.tensor(N, 4))
    tape.grad = False
    y = op.activation(tape, op.activation(tape, x))
    assert y.node is None and total(tape) == 8 * N and total(tape, ACTIVATIONS) == 0


def add_of(*branches):
    """x goes into all branches, their results are added from the left."""

    def run(tape, x):
        result = branches[0](tape, x)
        for branch in branches[1:]:
            result = op.add(tape, result, branch(tape, x))
        return result

    return run


FAN_OUT = {
    "two fresh gradients": (
        lambda h: h * 2 + h * 3,
        add_of(op.scale, op.scale),
    ),
    "four fresh gradients": (
        lambda h: h * 2 + h * 3 + h * 4 + h * 5,
        add_of(op.scale, op.scale, op.scale, op.scale),
    ),
    "as it is, then fresh": (
        lambda h: h * 2 + h,
        add_of(op.scale, lambda tape, x: x),
    ),
    "fresh and a view": (
        lambda h: h * 2 + h.view(-1).view(h.shape),
        add_of(op.scale, lambda tape, x: op.view(tape, op.view(tape, x))),
    ),
    "a view and fresh": (
        lambda h: h.view(-1).view(h.shape) + h * 2,
        add_of(lambda tape, x: op.view(tape, op.view(tape, x)), op.scale),
    ),
    "two slices": (
        lambda h: h[:, :32] * 2 + h[:, 32:] * 3,
        add_of(
            lambda t, x: op.scale(t, op.part(t, x, N // 2)),
            lambda t, x: op.scale(t, op.part(t, x, N // 2)),
        ),
    ),
    "an activation and a residual": (
        lambda h: F.silu(h) + h,
        add_of(op.activation, lambda tape, x: x),
    ),
    "a residual of a residual": (
        lambda h: F.silu(F.silu(h) + h) + h,
        lambda tape, x: op.add(tape, op.activation(tape, op.add(tape, op.activation(tape, x), x)), x),
    ),
}


@pytest.mark.parametrize("name", FAN_OUT)
def test_gradients_of_several_uses_are_added_as_torch_does(name, torch_bytes, lab):
    """In place where the buffer is nobody else's, into new memory where it is a view or waits elsewhere too."""
    function, shadow = FAN_OUT[name]
    bench = lab()
    # x * 0.5 first, so that the sum is that of a node in the middle of the graph and not of a leaf
    measured = torch_bytes(lambda x: function(x * 0.5) * 7, torch.randn(64, 64, requires_grad=True))
    ours = bench.bytes(lambda tape, x: op.scale(tape, shadow(tape, op.scale(tape, x))), bench.x(64, 64))
    assert ours.near(measured), f"shadow {ours}\ntorch  {measured}"


@pytest.mark.parametrize("uses", [1, 2, 3])
def test_a_weight_waits_for_all_of_its_uses(uses, torch_bytes, lab):
    """One gradient stays, however often the weight was used."""
    bench = lab()
    weight = torch.nn.Parameter(torch.randn(64, 64))

    def function(x, w):
        for _ in range(uses):
            x = F.linear(x, w)
        return x

    def shadow(tape, x, w):
        for _ in range(uses):
            x = op.linear(tape, x, w, 64)
        return x

    measured = torch_bytes(function, torch.randn(16, 64), weight)
    ours = bench.bytes(shadow, bench.x(16, 64, grad=False), bench.weight(64, 64))
    assert ours.near(measured), f"shadow {ours}\ntorch  {measured}"


def test_a_gradient_becomes_the_weights_own():
    """No copy: what backward made is what `.grad` keeps."""
    tape = Tape()
    weight = Parameter("w", N, 4, True, 4 * N)
    x = tape.tensor(64, 4)
    y = op.linear(tape, x, weight, N // 64)
    tape.backward(y, op.fresh(tape, N // 64, 4, "seed"))
    assert weight.grad.bytes == 4 * N and total(tape, GRADIENTS) == 4 * N


def test_a_gradient_kept_wider_is_a_copy():
    """16-bit gradients that are collected in FP32: the narrow one goes."""
    tape = Tape()
    weight = Parameter("w", N, 2, True, 4 * N)
    y = op.linear(tape, tape.tensor(64, 2), weight, N // 64)
    tape.backward(y, op.fresh(tape, N // 64, 2, "seed"))
    del y
    assert total(tape, GRADIENTS) == 4 * N == total(tape)


def test_an_earlier_micro_batch_takes_the_gradient_in():
    """With gradients there already, the new one is added to them and goes."""
    tape = Tape()
    tape.accumulates = True
    weight = Parameter("w", N, 4, True, 4 * N)
    y = op.linear(tape, tape.tensor(64, 4), weight, N // 64)
    tape.backward(y, op.fresh(tape, N // 64, 4, "seed"))
    del y
    assert weight.grad is None and total(tape) == 0


def test_a_view_that_waits_is_not_added_to():
    assert not Gradient(Storage(Tape(), 8, "g"), 4, view=True).sole


@st.composite
def models(draw):
    """Any small architecture, numerics, adapters, with or without checkpointing."""
    kv, groups, head = draw(st.integers(1, 2)), draw(st.integers(1, 3)), draw(st.sampled_from((4, 8)))
    gpt2 = draw(st.booleans())
    rank = draw(st.sampled_from((0, 2)))
    quantised = bool(rank) and draw(st.booleans()) and not gpt2
    a = Architecture(
        family="gpt2" if gpt2 else "llama",
        hidden=kv * groups * head,
        layers=draw(st.integers(1, 3)),
        heads=kv * groups,
        kv_heads=kv * groups if gpt2 else kv,
        head_dim=head,
        intermediate=draw(st.integers(4, 40)),
        vocabulary=draw(st.integers(10, 50)),
        tied=draw(st.booleans()),
        attention_bias=gpt2 or draw(st.booleans()),
        output_bias=gpt2,
        mlp_bias=gpt2 or draw(st.booleans()),
        gated=not gpt2,
        norm="layer" if gpt2 else draw(st.sampled_from(("rms", "gemma"))),
        norms_per_layer=2 if gpt2 else draw(st.sampled_from((2, 4))),
        qk_norm=not gpt2 and draw(st.booleans()),
        rotary=0 if gpt2 else head,
        positions=64 if gpt2 else 0,
        fused_qkv=gpt2,
        activation="gelu_new" if gpt2 else "silu",
        logit_softcap=draw(st.booleans()),
        attention_softcap=draw(st.booleans()),
        dropout=draw(st.sampled_from((0.0, 0.1))),
        attention_dropout=draw(st.sampled_from((0.0, 0.1))),
    )
    targets = (
        {"gpt2": ("c_attn", "c_fc"), "llama": ("q_proj", "v_proj", "down_proj")}[a.family] if rank else ()
    )
    numerics = draw(st.sampled_from((Numerics(4), Numerics(2), Numerics(4, autocast=2), Numerics(2, 0, 4))))
    return Model(
        a, draw(st.integers(1, 3)), draw(st.integers(1, 20)), numerics,
        Lora(rank, targets, draw(st.sampled_from((0.0, 0.1))), quantised=quantised),
        draw(st.sampled_from(("sdpa", "eager"))), draw(st.booleans()), trainable=not rank,
        cpu=draw(st.booleans()), input_gradients=bool(rank),
    )  # fmt: skip


NO_FIXTURE_PROBLEM = [HealthCheck.function_scoped_fixture]  # the collector stays off for all examples


@settings(max_examples=60, deadline=None, suppress_health_check=NO_FIXTURE_PROBLEM)
@given(model=models())
def test_after_a_step_only_gradients_stay(model, no_collector):
    """The sum of all events is the gradients of what is trained, so every other storage went, and went once; no
    category is negative on the way."""
    tape = Tape()
    step(tape, model, range(model.architecture.layers))
    kept = [w for w in model.weights.values() if w.requires_grad]
    assert kept and all(w.grad is not None for w in kept)
    assert total(tape, GRADIENTS) == total(tape) == sum(w.grad_bytes for w in kept)
    assert not (tape.nodes or tape.cache or tape.copies or tape.arriving)
    now = {}
    for event in tape.events:
        now[event.category] = now.get(event.category, 0) + event.bytes
        assert now[event.category] >= 0, event


@settings(max_examples=30, deadline=None, suppress_health_check=NO_FIXTURE_PROBLEM)
@given(model=models())
def test_after_a_micro_batch_that_accumulates_nothing_stays(model, no_collector):
    tape = Tape()
    tape.accumulates = True
    step(tape, model, range(model.architecture.layers))
    assert total(tape) == 0


@pytest.mark.parametrize("checkpointing", [True, False])
def test_no_storage_is_alive_after_a_step_but_the_gradients(checkpointing, no_collector):
    tape, model = Tape(), Model(architecture_of("tiny"), 2, 16, checkpointing=checkpointing)
    step(tape, model, range(4))
    assert {id(s) for s in living(tape)} == {id(w.grad) for w in model.weights.values()}


def test_a_storage_that_leaks_is_caught():
    """The law above sees a node that keeps what it saved."""
    tape = Tape()
    x = tape.require_grad(tape.tensor(N, 4))
    y = op.activation(tape, x)
    leaked = y.node.saved[0]
    tape.backward(y, op.fresh(tape, N, 4, "seed"))
    del x, y
    assert total(tape) == 4 * N and living(tape) == [leaked]

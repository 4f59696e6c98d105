"""The instruments themselves, on tensors whose bytes are known."""

import pytest
import torch
from torch.profiler import record_function

from classroom.models.load import load
from coursekit.memory import measure as measure_module
from coursekit.memory.measure import Allocations, allocations, held_bytes, measure, saved_tensors

N = 1000


class Net(torch.nn.Module):
    """Two linear layers with a name each."""

    def __init__(self):
        super().__init__()
        self.up = torch.nn.Linear(8, 32)
        self.act = torch.nn.SiLU()
        self.down = torch.nn.Linear(32, 8)

    def forward(self, x):
        return self.down(self.act(self.up(x)))


def test_saved_tensors_says_who_saved_what():
    """up saves x, act what up made, down what act made: 8, 32, 32 values a row; weights are left out."""
    model, x = Net(), torch.randn(5, 8)
    with saved_tensors(model) as saved:
        model(x)
    assert [(row.module, row.shape, row.bytes) for row in saved.rows] == [
        ("up", (5, 8), 4 * 5 * 8),
        ("act", (5, 32), 4 * 5 * 32),
        ("down", (5, 32), 4 * 5 * 32),
    ]
    assert saved.bytes == 4 * 5 * (8 + 32 + 32)


def test_weights_are_counted_if_asked_for():
    model, x = Net(), torch.randn(5, 8, requires_grad=True)
    with saved_tensors(model, weights=True) as saved:
        model(x)
    with saved_tensors(model) as without:
        model(x)
    assert saved.bytes == without.bytes + model.up.weight.nbytes + model.down.weight.nbytes


def test_views_of_one_storage_count_once():
    x = torch.randn(N, requires_grad=True)
    with saved_tensors(torch.nn.Identity()) as saved:
        x.view(10, -1) ** 2, x.view(-1, 10) ** 2, x[:5] ** 2
    assert saved.bytes == 4 * N and len(saved.rows) == 1


def test_hooks_go_even_after_an_exception():
    model, x = Net(), torch.randn(5, 8)
    with pytest.raises(RuntimeError, match="stop"), saved_tensors(model) as saved:
        raise RuntimeError("stop")
    model(x)
    assert saved.rows == []
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_saved_values_are_unchanged():
    """The hooks watch; backward gets what it would get."""
    model, x = Net(), torch.randn(5, 8)
    model(x).sum().backward()
    plain = model.up.weight.grad.clone()
    model.zero_grad()
    with saved_tensors(model):
        result = model(x).sum()
    result.backward()
    assert torch.equal(model.up.weight.grad, plain)


def test_allocations_are_those_of_the_block():
    with allocations() as found:
        kept = torch.empty(N)
        gone = torch.empty(3 * N)
        del gone
    sizes = [nbytes for _, nbytes in found.events if abs(nbytes) >= 4 * N]
    assert sizes == [4 * N, 12 * N, -12 * N]
    assert found.peak == 16 * N
    del kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_scratch_a_product_takes_its_result_and_nothing_else(dtype):
    """On any processor; with scratch a BF16 product takes more wherever oneDNN packs or widens its matrices."""
    a, b = torch.ones(96, 64, dtype=dtype), torch.ones(64, 80, dtype=dtype)
    found = {}
    for scratch in (True, False):
        with allocations(scratch=scratch) as events:
            product = a @ b
        found[scratch] = [nbytes for _, nbytes in events.events]
        assert sum(found[scratch]) == product.nbytes
        del product
    assert found[False] == [96 * 80 * a.element_size()]
    assert set(found[False]) <= set(found[True])


def test_scratch_is_what_one_product_takes_and_gives_back():
    """Not what it keeps, not what was there before, and the second use of an address counts as the first."""
    from types import SimpleNamespace

    from torch._C._profiler import _EventType

    def event(ptr, size, tag=_EventType.Allocation):
        return SimpleNamespace(tag=tag, extra_fields=SimpleNamespace(ptr=ptr, alloc_size=size))

    result, before = event(1, 100), event(9, -7)
    call = event(0, 0, tag=_EventType.TorchOp)
    scratch = [event(2, 50), event(2, -50), event(2, 60), event(2, -60)]
    kept = measure_module._without_scratch([result, *scratch[:2], call, *scratch[2:], before])
    assert kept == [result, call, before]


def test_peaks_of_phases():
    with allocations() as found:
        with record_function("forward"):
            a = torch.empty(N)
        with record_function("backward"):
            b = torch.empty(2 * N)
            del a
        with record_function("optimizer"):
            del b
    assert found.peaks() == {"forward": 4 * N, "backward": 12 * N, "optimizer": 8 * N}


def test_a_phase_without_events_is_as_high_as_the_one_before_left_it():
    """SGD's step takes nothing; nothing is not zero bytes."""
    found = Allocations([("forward", 100), ("forward", -40), ("backward", 10)])
    assert found.peaks(("forward", "backward", "optimizer")) == {
        "forward": 100,
        "backward": 70,
        "optimizer": 70,
    }
    assert Allocations().peak == 0


def test_held_bytes_counts_a_storage_once():
    x = torch.randn(N)
    assert held_bytes([x, x[:10], x.view(10, -1), None, 3]) == 4 * N


def test_held_bytes_of_a_4_bit_weight():
    """Codes, scales, tables: everything that bitsandbytes keeps."""
    import bitsandbytes as bnb

    weight = bnb.nn.Linear4bit(128, 64, bias=False, quant_type="nf4").to("cpu").weight
    state = weight.quant_state
    kept = [weight.data, state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
    assert held_bytes([weight]) == sum(t.nbytes for t in kept)


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_a_step_whose_parts_are_known(optimizer, tokens):
    """Weights and gradients of FP32 are four bytes each, Adam's states eight and a counter."""
    model, _ = load("tiny", dtype="float32", device="cpu")
    numel = sum(p.numel() for p in model.parameters())
    buffers = sum(b.nbytes for b in model.buffers())
    found = measure(model.train(), optimizer(model.parameters(), lr=1e-4), tokens(2, 16))
    assert found.weights == 4 * numel + buffers
    assert found.gradients == 4 * numel
    count = len(list(model.parameters()))
    assert found.optimizer == (8 * numel + 4 * count if optimizer is torch.optim.AdamW else 0)
    assert found.activations > 0 and found.seconds > 0
    assert found.peak == max(found.peaks.values()) == found.peaks[found.peak_phase]
    assert found.peaks["optimizer"] >= found.weights + found.gradients + found.optimizer


def test_two_micro_batches_hold_no_more_activations_than_one(tokens):
    """Accumulation adds the gradients that wait, and nothing else."""
    model, _ = load("tiny", dtype="float32", device="cpu")
    one, two = (
        measure(model.train(), torch.optim.SGD(model.parameters(), lr=1e-4), tokens(4, 64, n)) for n in (1, 2)
    )
    assert two.activations == one.activations
    assert 0 < two.peak - one.peak <= 1.05 * two.gradients


def test_another_loss_and_autocast():
    """`loss` and `autocast` are called for every batch; 16-bit activations are smaller."""
    model = Net()
    batch = {"x": torch.randn(64, 8)}
    calls = []

    def loss(model, batch):
        calls.append(1)
        return model(batch["x"]).float().square().mean()

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    full = measure(model, optimizer, [batch, batch], loss=loss)
    assert len(calls) == 2 + 1 + 2  # a step that is not counted, a forward pass under hooks, the step
    half = measure(
        model, optimizer, [batch], loss=loss, autocast=lambda: torch.autocast("cpu", torch.bfloat16)
    )
    assert half.activations < full.activations


def test_no_gradient_is_left(tokens):
    model, _ = load("tiny", dtype="float32", device="cpu")
    measure(model.train(), torch.optim.SGD(model.parameters(), lr=1e-4), tokens(1, 8))
    assert all(p.grad is None for p in model.parameters())


def test_on_a_gpu_the_peak_is_that_of_the_step(monkeypatch):
    """The card's counters know of everything in the process; what was there before the step is left out."""
    others, step_takes = 10_000, 300
    for name, value in {
        "memory_allocated": others,
        "max_memory_allocated": others + step_takes,
        "reset_peak_memory_stats": None,
        "synchronize": None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    model, batch = Net(), {"x": torch.ones(2, 8)}
    step = measure_module.PhasedStep(
        model, torch.optim.SGD(model.parameters()), [batch], lambda m, b: m(**b).sum(), torch.enable_grad
    )
    resident = 500
    assert step.cuda_peaks(resident) == dict.fromkeys(measure_module.PHASES, resident + step_takes)

"""Bytes for each parameter: named sums against the papers, states against real optimizers, NF4 against bitsandbytes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coursekit.memory.ledger import (
    LEDGERS,
    OPTIMIZERS,
    Optimizer,
    factored_elements,
    nf4_bytes,
    nf4_tables,
)


def test_sums_with_adam():
    """16 bytes are said of three different things; Megatron's is 18, both gradients make 20, pure 16 bits 8."""
    sums = {name: ledger.with_adam for name, ledger in LEDGERS.items()}
    assert sums == {"fp32": 16, "amp": 16, "master-16": 16, "master-18": 18, "master-20": 20, "bf16": 8}


def held(optimizer):
    """Bytes of every tensor in an optimizer's state, by our own count."""
    tensors = [v for state in optimizer.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
    return sum(t.nbytes for t in tensors)


SHAPES = [(64, 96), (96,), (1,), (7, 5, 3), (128, 1)]
REAL = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=1e-3),
    "sgd-momentum": lambda ps: torch.optim.SGD(ps, lr=1e-3, momentum=0.9),
    "adamw": torch.optim.AdamW,
    "adafactor": lambda ps: torch.optim.Adafactor(ps, lr=1e-3),
}


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", SHAPES)
def test_states_equal_torch(name, dtype, shape):
    """To the byte, the four of the step's counter included; Adafactor's factored moments are FP32 in both."""
    weight = torch.nn.Parameter(torch.randn(shape, dtype=dtype))
    weight.grad = torch.randn(shape, dtype=dtype)
    optimizer = REAL[name]([weight])
    optimizer.step()
    if name == "adafactor" and dtype == torch.bfloat16:
        assert held(optimizer) <= OPTIMIZERS[name].state_bytes(shape, 2)  # torch keeps the weight's precision
        return
    assert OPTIMIZERS[name].state_bytes(shape, weight.element_size()) == held(optimizer)


@pytest.mark.parametrize("shape", [(64, 64), (100, 50), (4095,), (16,), (300, 1000)])
def test_8_bit_states_equal_bitsandbytes(shape):
    """One byte a value and an FP32 absmax for each block of 256; tensors under 4096 elements keep 32 bits."""
    import bitsandbytes as bnb

    weight = torch.nn.Parameter(torch.randn(shape))
    weight.grad = torch.randn(shape)
    optimizer = bnb.optim.AdamW8bit([weight])
    optimizer.step()
    state = optimizer.state[weight]
    theirs = sum(state[key].nbytes for key in ("state1", "state2", "absmax1", "absmax2") if key in state)
    assert OPTIMIZERS["adamw-8bit"].state_bytes(shape) == theirs


def test_paged_states_are_as_large_as_the_others():
    for paged, other in (("paged-adamw-8bit", "adamw-8bit"),):
        assert OPTIMIZERS[paged].state_bytes((64, 96)) == OPTIMIZERS[other].state_bytes((64, 96))
        assert OPTIMIZERS[paged].paged and not OPTIMIZERS[other].paged
    assert OPTIMIZERS["paged-adamw"].state_bytes((64, 96)) == 2 * 4 * 64 * 96


def test_factored_moments_are_a_row_and_a_column():
    assert factored_elements((64, 96)) == 64 + 96
    assert factored_elements((96,)) == 96
    assert factored_elements((5, 64, 96)) == 5 * (64 + 96)


class Peak:
    """The allocator's highest point during an optimizer's second step."""

    def __init__(self, sizes, make):
        from coursekit.memory.measure import allocations

        weights = [torch.nn.Parameter(torch.randn(n)) for n in sizes]
        optimizer = make(weights)
        for measured in (False, True):
            for weight in weights:
                weight.grad = torch.randn_like(weight)
            if not measured:
                optimizer.step()
                continue
            with allocations() as found:
                optimizer.step()
        self.bytes = found.peak


@pytest.mark.parametrize("sizes", [(5000,), (5000, 7000, 3000), (9000, 1000, 9000), (2000, 8000)])
@pytest.mark.parametrize("implementation", ["for-loop", "foreach", "fused"])
def test_what_comes_and_goes_in_a_step_equals_torch(sizes, implementation):
    """for-loop: two results of one weight while the last weight's lives; foreach: one of all; fused: none."""
    chosen = {"for-loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
    peak = Peak(sizes, lambda ws: torch.optim.AdamW(ws, **chosen[implementation])).bytes
    ours = OPTIMIZERS["adamw"].step_bytes(sizes, implementation)
    assert ours == pytest.approx(peak, abs=200)  # scalars


@pytest.mark.parametrize("name", ["sgd", "sgd-momentum"])
def test_sgd_needs_no_room(name):
    assert OPTIMIZERS[name].step_bytes([5000, 7000], "for-loop") == 0
    assert Peak([5000, 7000], REAL[name]).bytes < 200


def test_a_step_of_nothing_takes_nothing():
    assert OPTIMIZERS["adamw"].step_bytes([], "for-loop") == 0


def storage_of(layer):
    """Bytes of everything a Linear4bit of bitsandbytes keeps: (codes, scales, tables)."""
    weight, state = layer.weight, layer.weight.quant_state
    scales, tables = state.absmax.nbytes, state.code.nbytes
    if state.nested:
        scales += state.offset.nbytes + state.state2.absmax.nbytes
        tables += state.state2.code.nbytes
    return weight.data.nbytes, scales, tables


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("shape", [(64, 64), (128, 320), (100, 64), (512, 1024), (65, 3), (1, 64)])
def test_nf4_bytes_equal_bitsandbytes(shape, double):
    """Codes, absmax, and of double quantisation the absmax of absmax and their mean; look-up tables apart."""
    import bitsandbytes as bnb

    layer = bnb.nn.Linear4bit(
        shape[1], shape[0], bias=False, quant_type="nf4", compress_statistics=double
    ).to("cpu")
    codes, scales, tables = storage_of(layer)
    assert nf4_bytes(shape[0] * shape[1], double=double) == codes + scales
    assert nf4_tables(double) == tables


def test_nf4_takes_four_bits_and_an_eighth():
    """4.127 bits a weight with double quantisation, 4.5 without (Dettmers et al. 2023, section 3)."""
    n = 2**26
    assert 8 * nf4_bytes(n) / n == pytest.approx(4 + 8 / 64 + 32 / (64 * 256), abs=1e-4)
    assert 8 * nf4_bytes(n, double=False) / n == 4.5


@given(st.integers(1, 10**9), st.booleans())
def test_nf4_is_never_less_than_half_a_byte_a_weight(numel, double):
    assert nf4_bytes(numel, double=double) >= numel / 2
    assert nf4_bytes(numel + 1, double=double) >= nf4_bytes(numel, double=double)


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=8))
def test_fused_never_needs_more_than_the_others(sizes):
    adamw = OPTIMIZERS["adamw"]
    peaks = [adamw.step_bytes(sizes, name) for name in ("fused", "for-loop", "foreach")]
    assert peaks[0] == 0 < min(peaks[1:])


def test_a_planted_counter_is_caught():
    """Momentum that counts steps, as Adam does, is four bytes off, and the comparison to the byte sees it."""
    weight = torch.nn.Parameter(torch.randn(8))
    weight.grad = torch.randn(8)
    optimizer = REAL["sgd-momentum"]([weight])
    optimizer.step()
    assert Optimizer("adamw", "wrong", 1).state_bytes((8,)) != held(optimizer)

"""8-bit AdamW: as near to AdamW as bitsandbytes' or nearer, and never further in a step than AdamW can go."""

import math
from types import MethodType

import bitsandbytes
import pytest
import torch
from bitsandbytes.functional import create_dynamic_map
from hypothesis import given, settings
from hypothesis import strategies as st

from classroom.models import finetune, task
from classroom.models.load import load
from coursekit.optim.adamw import AdamW, adamw_, largest_update
from coursekit.optim.adamw8bit import AdamW8bit
from coursekit.optim.per_parameter import state_bytes
from coursekit.quantization.blockwise import Codec, dequantize
from coursekit.quantization.nearest import dynamic_code

N, LR = 1 << 14, 1e-3


def streams():
    """name -> gradient [N] of step t; every call begins anew with the same numbers."""
    generator = torch.Generator().manual_seed(0)

    def normal():
        return torch.randn(N, generator=generator)

    scales = 10 ** (-4 * torch.rand(N, generator=generator))
    constant = normal() * scales.sqrt() * 0.01
    return {
        "noise": lambda t: normal() * 0.01,
        "growing noise": lambda t: normal() * 1.05**t,
        "constant and noise": lambda t: constant + normal() * 0.003,
        "noise over four decades": lambda t: normal() * scales,
        "one in twenty": lambda t: normal() * (torch.rand(N, generator=generator) < 0.05),
        "constant": lambda t: constant,
    }


def run(optimizer_class, stream, steps, n=N, **options):
    """(parameters after the stream, largest update of a step in units of lr, optimizer); no weight decay."""
    p = torch.nn.Parameter(torch.zeros(n))
    optimizer, largest = optimizer_class([p], lr=LR, weight_decay=0.0, **options), 0.0
    for t in range(steps):
        p.grad, before = stream(t).clone(), p.detach().clone()
        optimizer.step()
        largest = max(largest, float((p.detach() - before).abs().max()) / LR)
    return p.detach(), largest, optimizer


@pytest.mark.parametrize(
    ("name", "goal"),
    [
        ("noise", 1.02),
        ("growing noise", 1.02),
        ("constant and noise", 1.02),
        ("noise over four decades", 0.75),
        ("one in twenty", 0.95),
        ("constant", 0.65),
    ],
)
def test_deviation_from_adam_is_at_most_that_of_bitsandbytes(name, goal):
    """Mean distance from torch.optim.AdamW after 100 steps, as a share of the peer's.

    Where a block's gradients are of one size both store the same codes but for 0.15 %, and the distances are equal but
    for that chance: 2 % are granted. Where they are spread, or zero, ours is nearer.
    """
    exact, ours, theirs = (
        run(kind, streams()[name], 100)[0]
        for kind in (torch.optim.AdamW, AdamW8bit, bitsandbytes.optim.AdamW8bit)
    )
    assert (ours - exact).abs().mean() <= goal * (theirs - exact).abs().mean()


def test_deviation_on_the_embedded_model_is_at_most_that_of_bitsandbytes():
    """30 steps of fine-tuning on the gradients of the model that torch.optim.AdamW trains."""
    model, tokenizer = load("tiny")
    batches = finetune.batches(tokenizer, task.pairs("train", 400), size=4)
    reference = list(model.parameters())
    copies = [[torch.nn.Parameter(p.detach().clone()) for p in reference] for _ in range(2)]
    optimizers = [
        torch.optim.AdamW(reference, lr=LR),
        AdamW8bit(copies[0], lr=LR),
        bitsandbytes.optim.AdamW8bit(copies[1], lr=LR),
    ]
    for _, batch in zip(range(30), batches, strict=False):
        model.zero_grad()
        model(**batch).loss.backward()
        for p, *others in zip(reference, *copies, strict=True):
            for other in others:
                other.grad = p.grad
        for optimizer in optimizers:
            optimizer.step()
    ours, theirs = (
        sum(float((p - q).detach().abs().sum()) for p, q in zip(reference, copy, strict=True))
        for copy in copies
    )
    assert 0 < ours <= theirs


def test_states_equal_bitsandbytes():
    """One step from zeros: the same absmax; codes equal but for those of its CPU kernel that are not the nearest.

    Those are about 0.2 % of exp_avg's, and 3 % of exp_avg_sq's, which are spread over more decades.
    """
    generator = torch.Generator().manual_seed(0)
    grad = torch.randn(1 << 16, generator=generator)
    ours, theirs = (
        run(kind, lambda t: grad, 1, n=len(grad))[2] for kind in (AdamW8bit, bitsandbytes.optim.AdamW8bit)
    )
    (state,), (other,) = ours.state.values(), theirs.state.values()
    assert torch.allclose(state["exp_avg_absmax"], other["absmax1"], rtol=1e-6)
    assert torch.allclose(state["exp_avg_sq_absmax"], other["absmax2"], rtol=1e-6)
    assert (state["exp_avg"] == other["state1"]).float().mean() > 0.995
    assert (state["exp_avg_sq"] == other["state2"]).float().mean() > 0.95
    assert (state["exp_avg_sq"] >= 1).all()


def two_sizes(t, n=4096):
    """The known failure: one large gradient a block, small ones beside it, which then stop."""
    grad = torch.full((n,), 1e-4 if t < 20 else 0.0)
    grad[::256] = 1.0
    return grad


def stuck(t, n=4096):
    """A gradient that grows from 0.005 to 0.07 beside a constant 1: exp_avg follows, exp_avg_sq's code cannot."""
    grad = torch.full((n,), 0.005 if t < 800 else 0.07)
    grad[::256] = 1.0
    return grad


def test_bitsandbytes_goes_beyond_10_lr_and_ours_does_not():
    """Where exp_avg_sq is stuck; AdamW moves at most 7.27 lr in a step."""
    exact, ours, theirs = (
        run(kind, stuck, 850, n=4096)[1]
        for kind in (torch.optim.AdamW, AdamW8bit, bitsandbytes.optim.AdamW8bit)
    )
    assert exact < 5 and ours < 5.7
    assert theirs > 10


MAGNITUDES = st.sampled_from((0.0, 1e-12, 1e-7, 1e-4, 1e-3, 0.015, 0.1, 1.0, 1e4))


@settings(max_examples=60, deadline=None)
@given(
    grads=st.lists(st.lists(MAGNITUDES, min_size=4, max_size=4), min_size=1, max_size=12),
    repeats=st.lists(st.integers(1, 25), min_size=12, max_size=12),
    seed=st.integers(0, 9),
)
def test_no_update_above_10_lr(grads, repeats, seed):
    """Whatever four kinds of elements of one block see, each for some steps: no step beyond AdamW's own bound."""
    sign = torch.randint(0, 2, (256,), generator=torch.Generator().manual_seed(seed)) * 2.0 - 1
    sequence = [grad for grad, count in zip(grads, repeats, strict=False) for _ in range(count)]
    _, largest, optimizer = run(
        AdamW8bit,
        lambda t: torch.tensor(sequence[t]).repeat(64) * sign,
        len(sequence),
        n=256,
        min_8bit_size=0,
    )
    assert optimizer.state_dict()["state"][0]["exp_avg"].dtype == torch.uint8
    assert largest <= largest_update(10**6, (0.9, 0.999)) * (1 + 1e-5) < 10


def unbounded(self, p, grad, exp_avg, exp_avg_sq, step, group):
    adamw_(p, grad, exp_avg, exp_avg_sq, step, group)


class NearestOnly(AdamW8bit):
    """Wrong: 0 is the nearest value to a small exp_avg_sq, and no bound. bitsandbytes' rule on a GPU."""

    def _workspace(self, device, blocksize):
        workspace = super()._workspace(device, blocksize)
        workspace.unsigned = Codec(*dynamic_code(False, device), workspace.scratch)
        workspace._bounded_adamw_ = MethodType(unbounded, workspace)
        return workspace


def test_an_exp_avg_sq_of_zero_divides():
    """Small gradients beside a large one, then none: with nearest rounding alone, a step of hundreds of lr.

    bitsandbytes on a CPU is spared, since its table turns 0 into 1.6e-5 of the block's largest.
    """
    assert run(NearestOnly, two_sizes, 60, n=4096)[1] > 500
    assert run(AdamW8bit, two_sizes, 60, n=4096)[1] < 1.01
    assert run(bitsandbytes.optim.AdamW8bit, two_sizes, 60, n=4096)[1] < 1.01


def test_exp_avg_sq_is_zero_only_where_it_was():
    """Positive stays positive, however small beside its block; what never had a gradient stays 0."""
    grad = torch.zeros(4096)
    grad[::256], grad[1::256], grad[2::256] = 1.0, 1e-12, 1e-4
    _, _, optimizer = run(AdamW8bit, lambda t: grad, 5, n=4096)
    (state,) = optimizer.state.values()
    v = dequantize(state["exp_avg_sq"], state["exp_avg_sq_absmax"], create_dynamic_map(signed=False))
    assert torch.equal(v > 0, grad > 0)


def test_small_tensors_equal_adamw():
    """Below min_8bit_size: float32 states and AdamW's step, bit for bit."""
    grad = torch.randn(4095, generator=torch.Generator().manual_seed(0))
    assert torch.equal(*(run(kind, lambda t: grad * t, 10, n=4095)[0] for kind in (AdamW8bit, AdamW)))
    sizes = [
        run(AdamW8bit, lambda t, n=n: torch.ones(n), 1, n=n, **options)[2].state
        for n, options in ((4095, {}), (4096, {}), (10, {"min_8bit_size": 1}))
    ]
    assert [next(iter(s.values()))["exp_avg"].dtype.itemsize for s in sizes] == [4, 1, 1]


@pytest.mark.parametrize("n", [4096, 5000, (1 << 16) + 300])
@pytest.mark.parametrize("blocksize", [64, 256, 100_000])
def test_any_length_and_blocksize(n, blocksize):
    """After one step from zeros the update is AdamW's; the bytes are 2 and two absmax a block."""
    grad = torch.randn(n, generator=torch.Generator().manual_seed(0))
    ours, _, optimizer = run(AdamW8bit, lambda t: grad, 1, n=n, blocksize=blocksize)
    assert torch.allclose(ours, run(AdamW, lambda t: grad, 1, n=n)[0], rtol=1e-5, atol=0)
    assert state_bytes(optimizer) == 2 * n + 8 * math.ceil(n / blocksize)


def test_bytes_per_parameter():
    """2.03 instead of 8."""
    _, _, optimizer = run(AdamW8bit, lambda t: torch.ones(1 << 16), 1, n=1 << 16)
    assert state_bytes(optimizer) / (1 << 16) == 2.03125


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_parameters_are_rounded_once(dtype):
    """A step of 16-bit parameters is the float32 step, rounded."""
    generator = torch.Generator().manual_seed(0)
    p = torch.nn.Parameter(torch.randn(5000, generator=generator).to(dtype))
    q = torch.nn.Parameter(p.detach().float())
    for parameter in (p, q):
        parameter.grad = torch.ones_like(parameter)
        AdamW8bit([parameter], lr=0.1).step()
    assert torch.equal(p, q.to(dtype))


def test_weight_decay_equals_torch():
    """Without gradients to speak of, a step is a multiplication by 1 - lr weight_decay."""
    p, q = (torch.nn.Parameter(torch.ones(4096)) for _ in range(2))
    for parameter, kind in ((p, AdamW8bit), (q, torch.optim.AdamW)):
        optimizer = kind([parameter], lr=0.1, weight_decay=0.5)
        for _ in range(10):
            parameter.grad = torch.zeros(4096)
            optimizer.step()
    assert torch.equal(p, q)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_broken_gradient_is_loud_and_stays_in_its_block(bad):
    """Its own weight breaks at once, its block in the next step, other blocks never."""
    p = torch.nn.Parameter(torch.zeros(4096))
    optimizer = AdamW8bit([p])
    p.grad = torch.ones(4096)
    p.grad[300] = bad
    optimizer.step()
    assert p[300].isnan() and p[:256].isfinite().all()
    p.grad = torch.ones(4096)
    optimizer.step()
    assert p[256:512].isnan().all() and p[:256].isfinite().all() and p[512:].isfinite().all()


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda p: AdamW8bit([p], blocksize=0), ValueError, "blocksize of at least 1, got 0"),
        (lambda p: AdamW8bit([p], betas=(0.9, 1.0)), ValueError, "two betas"),
        (lambda p: run_double(p), TypeError, r"float64.*Use AdamW\."),
    ],
)
def test_bad_arguments_get_a_sentence(call, error, says):
    with pytest.raises(error, match=says):
        call(torch.nn.Parameter(torch.ones(5000)))


def run_double(p):
    p = torch.nn.Parameter(p.detach().double())
    p.grad = torch.ones_like(p)
    AdamW8bit([p]).step()

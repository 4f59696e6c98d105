"""AdamW beside torch.optim.AdamW, on the same gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.optim.adamw import AdamW, largest_update


def both(shapes, groups=None, **options):
    """(our parameters, torch's, our optimizer, torch's), the same numbers in the same groups."""
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    make = groups or (lambda parameters: parameters)
    torch_s = torch.optim.AdamW(make(theirs), foreach=False, **options)
    return ours, theirs, AdamW(make(ours), **options), torch_s


def drive(ours, theirs, optimizer, torch_s, steps=20, missing=lambda step, index: False):
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        for index, (p, q) in enumerate(zip(ours, theirs, strict=True)):
            grad = torch.randn(p.shape, generator=generator) * 10.0 ** (index - 2)
            p.grad, q.grad = (None, None) if missing(step, index) else (grad, grad.clone())
        optimizer.step()
        torch_s.step()


SHAPES = [(300, 17), (1000,), (3, 4, 5), ()]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 3e-2, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.3},
        {"betas": (0.0, 0.5), "weight_decay": 0.0},
    ],
)
def test_parameters_equal_torch(options):
    """20 steps, bit for bit, and both states."""
    ours, theirs, optimizer, torch_s = both(SHAPES, **options)
    drive(ours, theirs, optimizer, torch_s)
    for p, q in zip(ours, theirs, strict=True):
        assert torch.equal(p, q)
        assert torch.equal(optimizer.state[p]["exp_avg"], torch_s.state[q]["exp_avg"])
        assert torch.equal(optimizer.state[p]["exp_avg_sq"], torch_s.state[q]["exp_avg_sq"])


def test_groups_missing_gradients_and_schedules_equal_torch():
    """Groups with options of their own; gradients that come and go; an lr that changes."""

    def groups(parameters):
        return [
            {"params": parameters[:2], "lr": 0.1, "weight_decay": 0.5},
            {"params": parameters[2:], "betas": (0.5, 0.9)},
        ]

    ours, theirs, optimizer, torch_s = both(SHAPES, groups)
    for lr in (0.1, 0.03):
        for group in (*optimizer.param_groups, *torch_s.param_groups):
            group["lr"] = lr
        drive(ours, theirs, optimizer, torch_s, missing=lambda step, index: (step + index) % 3 == 0)
    assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes_equal_torch(dtype):
    p = torch.nn.Parameter(torch.randn(500, dtype=dtype))
    q = torch.nn.Parameter(p.detach().clone())
    optimizer, torch_s = AdamW([p], lr=0.01), torch.optim.AdamW([q], lr=0.01, foreach=False)
    for _ in range(10):
        p.grad = torch.randn(500, dtype=dtype)
        q.grad = p.grad.clone()
        optimizer.step(), torch_s.step()
    assert torch.equal(p, q)


@settings(max_examples=60, deadline=None)
@given(
    gradients=st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40),
    betas=st.tuples(st.floats(0, 0.99), st.floats(0.1, 0.9999)),
)
def test_no_stream_moves_torch_s_adamw_beyond_largest_update(gradients, betas):
    """The bound holds for torch.optim.AdamW in float64, whatever the gradients and betas."""
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.AdamW(
        [p], lr=1.0, betas=betas, eps=0.0 if all(gradients) else 1e-300, weight_decay=0.0
    )
    for step, gradient in enumerate(gradients, 1):
        before, p.grad = p.item(), torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        moved = abs(p.item() - before)
        assert moved <= largest_update(step, betas) * (1 + 1e-6) + 1e-6 * abs(before)


def test_largest_update_is_reached():
    """g_k in proportion to (beta1 / beta2)^k is the case of equality; long after the start it gives 7.27 lr."""
    betas, steps = (0.9, 0.999), 400
    p = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.AdamW([p], lr=1.0, betas=betas, eps=0.0, weight_decay=0.0)
    for step in range(steps):
        before, p.grad = p.item(), torch.tensor([(0.999 / 0.9) ** step], dtype=torch.float64)
        optimizer.step()
    assert math.isclose(abs(p.item() - before), largest_update(steps, betas), rel_tol=1e-6)
    assert largest_update(1, betas) == 1 and round(largest_update(10**5, betas), 2) == 7.27


def test_largest_update_of_unusual_betas():
    """beta1 = 0 leaves |g| / sqrt((1 - beta2) g^2); beta2 = 0 forgets what m remembers; no overflow."""
    assert math.isclose(largest_update(10**6, (0.0, 0.999)), 1 / math.sqrt(0.001), rel_tol=1e-9)
    assert largest_update(1, (0.9, 0.0)) == 1 and largest_update(2, (0.9, 0.0)) == math.inf
    assert largest_update(2, (0.0, 0.0)) == 1
    assert largest_update(10**6, (0.9, 0.5)) == math.inf
    assert largest_update(100, (0.5, 0.25)) > 1


@pytest.mark.parametrize("betas", [(1.0, 0.9), (0.9, -0.1), (0.9, 0.99, 0.999)])
def test_betas_out_of_range_are_refused(betas):
    with pytest.raises(ValueError, match=r"two betas in \[0, 1\)"):
        AdamW([torch.nn.Parameter(torch.ones(1))], betas=betas)

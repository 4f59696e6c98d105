"""Adafactor beside torch's and transformers', on the same gradients."""

import math

import pytest
import torch
from transformers.optimization import Adafactor as TransformersAdafactor

from coursekit.optim.adafactor import Adafactor, rms, second_moment, state_shapes
from coursekit.optim.per_parameter import state_bytes

SHAPES = [(60, 40), (1000,), (3, 20, 30), ()]
STATES = ("row_var", "col_var", "variance")


def parameters():
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape)) for shape in SHAPES]


def drive(pairs, steps=25):
    """The same gradients of very different sizes for all; one is missing every third step."""
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        for index, group in enumerate(zip(*(ps for ps, _ in pairs), strict=True)):
            grad = torch.randn(group[0].shape, generator=generator) * 10.0 ** (index - 2)
            for p in group:
                p.grad = None if index == 1 and step % 3 == 0 else grad.clone()
        for _, optimizer in pairs:
            optimizer.step()


def close(ours, theirs):
    """float32 sums in another order: 25 steps of at most 0.01 each may differ in the last digits."""
    return all(torch.allclose(p, q, rtol=1e-5, atol=1e-6) for p, q in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lr": 0.3, "weight_decay": 0.1},
        {"beta2_decay": -0.5, "eps": (1e-3, 1e-2), "d": 2.0},
    ],
)
def test_parameters_and_states_equal_torch(options):
    """Within float32's tolerance, for vectors, matrices, stacks of matrices and a scalar."""
    ours, theirs = parameters(), parameters()
    optimizer = Adafactor(ours, **options)
    torch_s = torch.optim.Adafactor(theirs, foreach=False, **options)
    drive([(ours, optimizer), (theirs, torch_s)])
    assert close(ours, theirs)
    for p, q in zip(ours, theirs, strict=True):
        state, other = optimizer.state[p], torch_s.state[q]
        assert [k for k in STATES if k in state] == [k for k in STATES if k in other]
        assert all(torch.allclose(state[k], other[k], rtol=1e-4) for k in STATES if k in state)


@pytest.mark.parametrize(
    ("ours_options", "theirs_options"),
    [
        ({}, {"relative_step": True, "scale_parameter": True}),
        (
            {"lr": 3e-3, "relative_step": False, "scale_parameter": False},
            {"lr": 3e-3, "relative_step": False, "scale_parameter": False},
        ),
    ],
    ids=["relative step", "fixed step"],
)
def test_parameters_equal_transformers(ours_options, theirs_options):
    """eps 1e-15 here is its 1e-30 in the square: neither shows beside gradients of a usual size."""
    ours, theirs = parameters(), parameters()
    optimizer = Adafactor(ours, eps=(1e-15, 1e-3), **ours_options)
    drive([(ours, optimizer), (theirs, TransformersAdafactor(theirs, **theirs_options))])
    assert close(ours, theirs)


def test_equal_torch_on_a_network_that_learns():
    def train(kind):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(20, 50), torch.nn.Tanh(), torch.nn.Linear(50, 5))
        optimizer, losses = kind(model.parameters(), lr=0.05), []
        for _ in range(60):
            x = torch.randn(64, 20)
            optimizer.zero_grad()
            loss = (model(x) - x[:, :5]).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    ours, theirs = train(Adafactor), train(torch.optim.Adafactor)
    assert ours == pytest.approx(theirs, rel=1e-3) and ours[-1] < ours[0] / 3


def test_a_square_of_rank_one_is_remembered_exactly():
    """V = R C / mean(R) is G^2 itself if |G| is an outer product."""
    grad = torch.outer(torch.rand(30) + 0.1, torch.rand(50) + 0.1)
    state = {name: torch.zeros(shape) for name, shape in state_shapes(grad.shape).items()}
    assert torch.allclose(second_moment(grad, state, 1.0, 1e-30), grad.square(), rtol=1e-5)


def test_an_update_has_at_most_d_times_the_size_of_the_weights_step():
    """rms(update) <= d rms(weights) min(lr, 1 / sqrt(t)): a gradient a million times larger changes nothing."""
    p = torch.nn.Parameter(torch.full((40, 40), 2.0))
    optimizer = Adafactor([p], lr=1e-2)
    for size in (1.0, 1e6):
        before, p.grad = p.detach().clone(), size * torch.randn(40, 40)
        optimizer.step()
        assert rms(p.detach() - before) <= 1.001 * 2.0 * 1e-2 * 1.1


def test_bytes_are_rows_and_columns():
    """4096 x 4096: 32,768 bytes; AdamW takes 134,217,728. A vector keeps everything."""
    matrix, vector = torch.nn.Parameter(torch.zeros(4096, 4096)), torch.nn.Parameter(torch.zeros(100))
    for p, expected in ((matrix, 4 * (4096 + 4096)), (vector, 400)):
        optimizer = Adafactor([p])
        p.grad = torch.ones_like(p)
        optimizer.step()
        assert state_bytes(optimizer) == expected
        assert expected == sum(4 * math.prod(shape) for shape in state_shapes(p.shape).values())


class Exchanged(Adafactor):
    """Wrong: rows and columns exchanged."""

    def update(self, p, grad, state, group):
        super().update(p, grad.mT, state, group)


class Unbounded(Adafactor):
    """Wrong: the update is not held to d."""

    def update(self, p, grad, state, group):
        super().update(p, grad, state, {**group, "d": 1e9})


@pytest.mark.parametrize("planted", [Exchanged, Unbounded])
def test_planted_bugs_are_caught(planted):
    start = torch.randn(40, 40)
    ours, theirs = ([torch.nn.Parameter(start.clone())] for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    optimizers = planted(ours), torch.optim.Adafactor(theirs)
    for step in range(5):
        ours[0].grad = theirs[0].grad = torch.randn(40, 40, generator=generator) * 10**step
        for optimizer in optimizers:
            optimizer.step()
    assert not close(ours, theirs)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"beta2_decay": 0.5}, "beta2_decay to be at most 0, got 0.5"),
        ({"d": 0.5}, "d to be at least 1, got 0.5"),
        ({"eps": (-1.0, 1e-3)}, r"eps\[0\] to be at least 0"),
        ({"eps": (None, -1e-3)}, r"eps\[1\] to be at least 0"),
    ],
)
def test_options_out_of_range_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        Adafactor([torch.nn.Parameter(torch.ones(1))], **options)

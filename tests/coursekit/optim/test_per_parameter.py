"""What holds for every optimizer of the package."""

import copy
import io

import pytest
import torch

from coursekit.optim.adafactor import Adafactor
from coursekit.optim.adamw import AdamW
from coursekit.optim.adamw8bit import AdamW8bit
from coursekit.optim.paged import PagedAdamW
from coursekit.optim.per_parameter import state_bytes

OPTIMIZERS = [AdamW, AdamW8bit, Adafactor, PagedAdamW]
every = pytest.mark.parametrize("kind", OPTIMIZERS, ids=lambda kind: kind.__name__)


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(70, 90), torch.nn.GELU(), torch.nn.Linear(90, 10)).to(dtype)


def train(model, optimizer, steps, seed=1):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(32, 70, generator=generator).to(next(model.parameters()).dtype)
        optimizer.zero_grad()
        (model(x) - x[:, :10]).square().mean().backward()
        optimizer.step()


def weights(model):
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


@every
def test_it_learns(kind):
    """The loss falls to less than a third of the start."""
    model = network()
    optimizer = kind(model.parameters(), lr=1e-2)
    x = torch.randn(512, 70, generator=torch.Generator().manual_seed(2))
    before = (model(x) - x[:, :10]).square().mean().item()
    train(model, optimizer, 150)
    assert (model(x) - x[:, :10]).square().mean().item() < before / 3


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resume_is_bit_equal(kind, dtype):
    """5 steps, save to a file, load into a new optimizer, 5 steps: the weights of 10 steps, and no dtype changed."""
    through, stopped = network(dtype), network(dtype)
    optimizer = kind(through.parameters(), lr=1e-2)
    train(through, optimizer, 5)
    train(through, optimizer, 5, seed=2)
    first = kind(stopped.parameters(), lr=1e-2)
    train(stopped, first, 5)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    second = kind(stopped.parameters(), lr=1.0)
    second.load_state_dict(torch.load(io.BytesIO(file.getvalue()), weights_only=True))
    train(stopped, second, 5, seed=2)
    assert torch.equal(weights(through), weights(stopped))
    for state, other in zip(optimizer.state.values(), second.state.values(), strict=True):
        assert all(torch.equal(torch.as_tensor(state[k]), torch.as_tensor(other[k])) for k in state)
        assert all(state[k].dtype == other[k].dtype for k in state if k != "step")


@every
def test_a_loaded_state_is_a_copy(kind):
    """Steps after load_state_dict leave the dict as it was; loading an optimizer's own state changes nothing."""
    model = network()
    optimizer = kind(model.parameters())
    train(model, optimizer, 2)
    saved = optimizer.state_dict()
    frozen = copy.deepcopy(saved)
    optimizer.load_state_dict(saved)
    train(model, optimizer, 2)
    for key, state in frozen["state"].items():
        assert all(
            torch.equal(torch.as_tensor(saved["state"][key][k]), torch.as_tensor(state[k])) for k in state
        )


@every
def test_a_copied_optimizer_steps_alike(kind):
    """copy.deepcopy and pickle keep nothing but options, states and groups; that is enough."""
    model = network()
    optimizer = kind(model.parameters(), lr=1e-2)
    train(model, optimizer, 3)
    other, twin = copy.deepcopy((model, optimizer))
    train(model, optimizer, 3)
    train(other, twin, 3)
    assert torch.equal(weights(model), weights(other))


@every
def test_a_parameter_without_gradient_stays(kind):
    """Weight decay included, and nothing is remembered of it; a frozen one may be there."""
    used, unused = (torch.nn.Parameter(torch.ones(5000)) for _ in range(2))
    frozen = torch.nn.Parameter(torch.ones(3), requires_grad=False)
    optimizer = kind([used, unused, frozen], weight_decay=0.1)
    used.grad = torch.ones(5000)
    optimizer.step()
    assert (used != 1).all() and (unused == 1).all() and (frozen == 1).all()
    assert list(optimizer.state) == [used]


@every
def test_memory_order_and_shape_do_not_matter(kind):
    """A transposed parameter, or one with a transposed gradient, is stepped like a contiguous one."""
    values, grad = torch.randn(2, 80, 70)
    plain = torch.nn.Parameter(values.clone())
    turned = torch.nn.Parameter(values.t().contiguous().t())
    assert not turned.is_contiguous()
    for p, g in ((plain, grad), (turned, grad.t().contiguous().t())):
        optimizer = kind([p], lr=0.1)
        for _ in range(3):
            p.grad = g.clone(memory_format=torch.preserve_format)
            optimizer.step()
    assert torch.allclose(plain, turned, rtol=1e-6, atol=1e-6)


@every
def test_empty_and_scalar_parameters(kind):
    empty, scalar = torch.nn.Parameter(torch.empty(0, 3)), torch.nn.Parameter(torch.tensor(2.0))
    empty.grad, scalar.grad = torch.empty(0, 3), torch.tensor(1.0)
    kind([scalar, empty] if kind is not Adafactor else [scalar], lr=0.1).step()
    assert scalar < 2


@every
def test_closure_runs_with_gradients_and_its_result_comes_back(kind):
    p = torch.nn.Parameter(torch.ones(3))
    optimizer = kind([p])

    def closure():
        loss = p.sum()
        loss.backward()
        return loss

    assert optimizer.step(closure) == 3 and (p < 1).all()


@every
def test_sparse_gradients_are_refused(kind):
    embedding = torch.nn.Embedding(10, 3, sparse=True)
    embedding(torch.tensor([1])).sum().backward()
    with pytest.raises(ValueError, match=r"sparse_coo.*SparseAdam"):
        kind(embedding.parameters()).step()


@every
@pytest.mark.parametrize("option", [{"lr": -1.0}, {"lr": float("nan")}, {"weight_decay": -0.1}])
def test_options_out_of_range_are_refused(kind, option):
    """In the constructor, in a group of its own, and in a group that comes later."""
    p, q = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    says = f"expected {next(iter(option))} to be at least 0"
    with pytest.raises(ValueError, match=says):
        kind([p], **option)
    with pytest.raises(ValueError, match=says):
        kind([{"params": [p], **option}])
    with pytest.raises(ValueError, match=says):
        kind([p]).add_param_group({"params": [q], **option})


def test_state_bytes_counts_what_is_remembered():
    """AdamW: 8 bytes a parameter."""
    model = network()
    optimizer = AdamW(model.parameters())
    assert state_bytes(optimizer) == 0
    train(model, optimizer, 1)
    assert state_bytes(optimizer) == 8 * sum(p.numel() for p in model.parameters())

"""The stand-in: what it computes is what the CPU computes; it refuses what a GPU refuses."""

import pytest
import torch
from second_device import NAME, on_cpu
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

X = torch.linspace(-2, 2, 12).view(3, 4)


def attention(x):
    return nn.functional.scaled_dot_product_attention(*x.expand(3, 1, 2, 3, 4), is_causal=True)


COMPUTED = {
    "element by element": lambda x: (x * 2 + 1).exp().clamp(max=5),
    "a product": lambda x: x @ x.T,
    "views": lambda x: x.t()[1:, ::2].unsqueeze(0).expand(2, 3, 2),
    "reshaped": lambda x: x.t().reshape(2, 6),
    "an index": lambda x: x[torch.tensor([2, 0])],
    "a mask": lambda x: x[x > 0],
    "rows chosen": lambda x: nn.functional.embedding(x.long().abs(), x),
    "sorted": lambda x: x.flatten().topk(3).values,
    "joined": lambda x: torch.cat([x, x[:1]]),
    "attention": attention,
    "another dtype": lambda x: x.bfloat16() / 3,
    "its bits": lambda x: x.view(torch.int32) >> 3,
    "made like it": lambda x: torch.full_like(x, 2) + x.new_ones(4),
    "made there": lambda x: x + torch.arange(4, device=x.device),
    "a number from the CPU": lambda x: torch.where(x > 0, x, torch.tensor(7.0)) + torch.tensor(1.0),
    "an `out` that grows": lambda x: torch.add(x, 1, out=torch.empty(0, device=x.device)),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_it_computes_what_the_cpu_computes(name):
    found, expected = COMPUTED[name](X.to(NAME)), COMPUTED[name](X)
    assert (found.device.type, found.dtype) == (NAME, expected.dtype)
    # Attention and layer norm come in their parts here and as one kernel on the CPU: the last bits differ.
    torch.testing.assert_close(found.cpu(), expected)


HERE = torch.ones(3, 3).to(NAME)
THERE = torch.ones(3, 3)
MIXED = {
    "a sum": lambda: HERE + THERE,
    "a sum, the other way": lambda: THERE + HERE,
    "in place": lambda: HERE.add_(THERE),
    "a product": lambda: HERE @ THERE,
    "a layer": lambda: nn.functional.linear(THERE, HERE),
    "token ids": lambda: nn.functional.embedding(torch.tensor([1]), HERE),
    "labels": lambda: nn.functional.cross_entropy(HERE, torch.tensor([0, 1, 2])),
    "joined": lambda: torch.cat([HERE, THERE]),
    "a mask": lambda: HERE.masked_fill(THERE > 0, 0.0),
    "where": lambda: torch.where(HERE > 0, HERE, THERE),
    "values put in": lambda: HERE.index_put_((torch.tensor([0]),), THERE[:1]),
    "gathered": lambda: HERE.gather(0, THERE.long()),
    "equal": lambda: torch.equal(HERE, THERE),
    "several at once": lambda: torch._foreach_add([HERE], [THERE]),
}


@pytest.mark.parametrize("name", MIXED)
def test_it_refuses_tensors_of_two_devices(name):
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        MIXED[name]()


def test_it_refuses_what_else_a_gpu_refuses():
    with pytest.raises(RuntimeError, match="indices should be either on cpu or on the same device"):
        THERE[torch.tensor([1]).to(NAME)]
    with pytest.raises(TypeError, match="can't convert second:0 device type tensor to numpy"):
        HERE.numpy()
    with pytest.raises(RuntimeError, match="Expected a 'second' device type for generator but found 'cpu'"):
        torch.randn(3, device=NAME, generator=torch.Generator())


def test_views_share_their_storage():
    x = torch.zeros(2, 3, device=NAME)
    x.t()[1].fill_(7)
    assert x.tolist() == [[0, 7, 0], [0, 7, 0]]
    assert x.view(6).untyped_storage()._cdata == x.untyped_storage()._cdata
    assert x.untyped_storage().nbytes() == 24 and type(x) is torch.Tensor


def test_its_bytes_are_those_of_the_cpu_s_view():
    x = torch.zeros(3, device=NAME)
    on_cpu(x)[0] = 5
    assert x.tolist() == [5, 0, 0]


def network():
    torch.manual_seed(0)
    made = nn.Sequential(nn.Embedding(7, 4), nn.LayerNorm(4), nn.Linear(4, 7, bias=False))
    made[2].weight = made[0].weight  # tied
    return made


@pytest.mark.parametrize("options", [{"foreach": False}, {"foreach": True}, {"amsgrad": True}], ids=str)
def test_training_goes_the_way_it_goes_on_the_cpu(options):
    """Tied weights, gradients that add up, an optimizer whose step counts stay on the CPU."""
    weights = {}
    for device in ("cpu", NAME):
        model, ids = network().to(device), torch.arange(6, device=device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, **options)
        for _ in range(3):
            for half in ids.chunk(2):
                nn.functional.cross_entropy(model(half), half).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        assert model[2].weight is model[0].weight
        weights[device] = torch.cat([p.detach().cpu().flatten() for p in model.parameters()])
    torch.testing.assert_close(weights["cpu"], weights[NAME])


def test_a_region_of_autocast_casts_nothing():
    with torch.autocast(NAME, torch.bfloat16):
        assert (HERE @ HERE).dtype == torch.float32


def test_random_numbers_are_its_own():
    torch.manual_seed(3)
    first, before = torch.rand(4, device=NAME), torch.get_rng_state()
    second = torch.rand(4, device=NAME)
    assert torch.equal(torch.get_rng_state(), before) and not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(4, device=NAME), first)


def test_tensors_are_made_within_a_dispatch_mode():
    """As in `tensor_core`: torch.tensor() looks for its kernels in another way there."""

    class Silent(TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            return operation(*args, **(kwargs or {}))

    with Silent():
        x = torch.tensor([6, 3], device=NAME)
        assert (x & 2).tolist() == [2, 2]

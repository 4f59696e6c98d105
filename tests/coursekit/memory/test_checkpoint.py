"""Checkpointing by hand = torch.utils.checkpoint = no checkpointing, bit for bit; and the graph holds x alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint as torchs

from coursekit.memory.checkpoint import Recompute, checkpoint, random_state, same_random_numbers, trained
from coursekit.memory.measure import saved_tensors

H = 24


class Block(nn.Module):
    """Norm, attention of one head, an MLP with dropout, the residual: what a layer of a model has."""

    def __init__(self, dropout=0.1, dtype=torch.float32):
        super().__init__()
        self.norm = nn.LayerNorm(H, dtype=dtype)
        self.qkv, self.up, self.down = (
            nn.Linear(a, b, dtype=dtype) for a, b in ((H, 3 * H), (H, 4 * H), (4 * H, H))
        )
        self.dropout = dropout

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + F.dropout(
            F.scaled_dot_product_attention(q, k, v, is_causal=True), self.dropout, self.training
        )
        return x + F.dropout(self.down(F.gelu(self.up(x))), self.dropout, self.training)


WAYS = {
    "plain": lambda block, x: block(x),
    "torch": lambda block, x: torchs(block, x, use_reentrant=False),
    "ours": checkpoint,
}


def stack(depth=3, **options):
    torch.manual_seed(0)
    return nn.ModuleList(Block(**options) for _ in range(depth))


def run(blocks, way, *, wanted=True, dtype=torch.float32):
    """(output, gradient of x, gradients of the parameters, next random number), from the same numbers for every way."""
    torch.manual_seed(1)
    for parameter in blocks.parameters():
        parameter.grad = None
    x = leaf = torch.randn(2, 7, H, dtype=dtype, requires_grad=wanted)
    for block in blocks:
        x = WAYS[way](block, x) if isinstance(way, str) else way(block, x)
    (x.float() ** 2).sum().backward()
    return x.detach(), leaf.grad, [p.grad for p in blocks.parameters()], torch.rand(1)


def same(one, other):
    """Bit for bit; None where the other has None."""
    flat = [[r[0], r[1], *r[2], r[3]] for r in (one, other)]
    return all(
        (a is None) == (b is None) and (a is None or torch.equal(a, b)) for a, b in zip(*flat, strict=True)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("way", ["torch", "ours"])
def test_outputs_and_gradients_are_those_without_it(way, dropout, dtype):
    """Also with dropout: the mask of the second run is that of the first, and later random numbers are as before."""
    blocks = stack(dropout=dropout, dtype=dtype)
    assert same(run(blocks, way, dtype=dtype), run(blocks, "plain", dtype=dtype))


def test_dropout_does_something_here():
    blocks = stack(dropout=0.3)
    assert not torch.equal(run(blocks, "plain")[0], run(blocks.eval(), "plain")[0])


def test_frozen_parameters_get_no_gradient_and_the_others_theirs():
    blocks = stack()
    for name, parameter in blocks.named_parameters():
        parameter.requires_grad_("up" in name)
    ours = run(blocks, "ours")
    assert same(ours, run(blocks, "plain"))
    assert sum(gradient is not None for gradient in ours[2]) == 6


def test_a_trained_block_over_an_x_without_gradient():
    """As the first block over a frozen embedding; torch's old reentrant kind gave no gradient at all here."""
    blocks = stack()
    ours = run(blocks, "ours", wanted=False)
    assert ours[1] is None and all(gradient is not None for gradient in ours[2])
    assert same(ours, run(blocks, "plain", wanted=False))


def test_a_frozen_block_lets_the_gradient_of_x_through():
    blocks = stack().requires_grad_(False)
    ours = run(blocks, "ours")
    assert same(ours, run(blocks, "plain")) and ours[1].abs().sum() > 0


def test_nothing_trained_and_nothing_wanted_makes_no_graph():
    block = Block().requires_grad_(False)
    assert not checkpoint(block, torch.randn(2, 3, H)).requires_grad


class Segment(nn.Module):
    """Two blocks, each checkpointed, to be checkpointed together."""

    def __init__(self, blocks, way):
        super().__init__()
        self.blocks, self.way = blocks, way

    def forward(self, x):
        for block in self.blocks:
            x = self.way(block, x)
        return x


@pytest.mark.parametrize("inner", [checkpoint, WAYS["torch"]], ids=["ours in ours", "torch's in ours"])
def test_nested(inner):
    """A checkpointed segment of checkpointed blocks."""
    blocks = stack(depth=4)
    segments = nn.ModuleList([Segment(blocks[:2], inner), Segment(blocks[2:], inner)])
    assert same(run(segments, checkpoint), run(blocks, "plain"))


def test_a_parameter_that_two_modules_share():
    blocks = stack()
    blocks[0].up.weight = blocks[0].down.weight = nn.Parameter(torch.randn(H, H) / 5)
    blocks[0].up.bias = nn.Parameter(torch.zeros(H))
    assert same(run(blocks, "ours"), run(blocks, "plain"))


def test_a_parameter_that_the_block_does_not_use():
    block = nn.Sequential(nn.Linear(H, H))
    block.unused = nn.Parameter(torch.ones(3))
    checkpoint(block, torch.randn(2, H)).sum().backward()
    assert block.unused.grad is None and block[0].weight.grad is not None


def test_gradients_accumulate_over_micro_batches():
    block, x, found = Block(0.0), torch.randn(2, 5, H), {}
    for way in WAYS:
        block.zero_grad()
        for half in x:
            WAYS[way](block, half).square().sum().backward()
        found[way] = [p.grad for p in block.parameters()]
    assert all(map(torch.equal, found["ours"], found["plain"]))


@pytest.mark.parametrize("depth", [1, 4])
def test_what_is_saved_is_the_input_of_each_block(depth):
    """By torch's own hooks: 4 bytes of every element of x, a block; without checkpointing many times that."""
    blocks, x = stack(depth), torch.randn(2, 7, H)
    saved = {}
    for way in WAYS:
        with saved_tensors(blocks) as found:
            y = x
            for block in blocks:
                y = WAYS[way](block, y)
        saved[way] = found.bytes
    assert saved["ours"] == depth * x.nbytes
    assert saved["ours"] <= saved["torch"] < saved["plain"] / 5


def test_the_block_runs_twice_and_not_more():
    class Counting(nn.Linear):
        runs = 0

        def forward(self, x):
            Counting.runs += 1
            return super().forward(x)

    block = Counting(H, H)
    y = checkpoint(block, torch.randn(2, H))
    assert Counting.runs == 1
    y.sum().backward()
    assert Counting.runs == 2


def test_random_numbers_afterwards_are_as_if_nothing_had_been():
    state = random_state()
    first = torch.rand(3)
    with same_random_numbers(state):
        again = torch.rand(3)
    assert torch.equal(first, again) and not torch.equal(torch.rand(3), first)


def test_trained_are_those_that_want_a_gradient():
    block = nn.Linear(2, 2)
    block.bias.requires_grad_(False)
    assert [p is block.weight for p in trained(block)] == [True]


@pytest.mark.parametrize(
    ("block", "x", "says"),
    [
        (F.gelu, torch.ones(2), "block must be an nn.Module.*builtin_function"),
        (lambda x: x, torch.ones(2), "block must be an nn.Module.*function"),
        (nn.Identity(), torch.ones(2, dtype=torch.long), "floating-point tensor; got torch.int64"),
        (nn.Identity(), [1.0], "floating-point tensor; got list"),
        (nn.Identity(), None, "floating-point tensor; got NoneType"),
    ],
)
def test_what_cannot_be_checkpointed_is_refused_in_words(block, x, says):
    with pytest.raises(TypeError, match=says):
        checkpoint(block, x)


class AnotherMask(Recompute):
    """Wrong: the second run draws new numbers."""

    @staticmethod
    def backward(ctx, grad_y):
        ctx.random_state = random_state()
        return Recompute.backward(ctx, grad_y)


class SpendsNumbers(Recompute):
    """Wrong: what is drawn in the second run is missing afterwards."""

    @staticmethod
    def backward(ctx, grad_y):
        torch.rand(1)
        return Recompute.backward(ctx, grad_y)


class NoParameters(Recompute):
    """Wrong: only x gets its gradient."""

    @staticmethod
    def backward(ctx, grad_y):
        found = Recompute.backward(ctx, grad_y)
        return (*found[:2], *[None] * len(found[2:]))


@pytest.mark.parametrize("planted", [AnotherMask, SpendsNumbers, NoParameters])
def test_planted_bugs_are_caught(planted):
    blocks = stack(dropout=0.3)
    wrong = run(blocks, lambda block, x: planted.apply(block, x, *trained(block)))
    assert not same(wrong, run(blocks, "plain"))

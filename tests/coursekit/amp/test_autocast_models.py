"""Whole models against torch.autocast: what ran in which dtype, and every bit of losses and gradients."""

import copy

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from coursekit.amp.autocast import autocast
from coursekit.amp.autocast_policy import POLICY
from coursekit.amp.recorder import Recorder

LOW = [torch.bfloat16, torch.float16]


class Block(nn.Module):
    """A transformer block of single operations, and a head: tokens [b, t] -> cross entropy []."""

    def __init__(self, width=32, heads=4, vocabulary=19):
        super().__init__()
        self.heads = heads
        self.embed = nn.Embedding(vocabulary, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def attend(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        y = F.softmax(scores.masked_fill(future, float("-inf")), -1) @ v
        return self.out(y.transpose(1, 2).flatten(2))

    def forward(self, tokens):
        x = self.embed(tokens)
        x = x + self.attend(self.norm1(x))
        x = x + self.down(F.gelu(self.up(self.norm2(x))))
        logits = F.linear(x, self.embed.weight)  # tied: the second use of a weight
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def llama(attention):
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=97,
        attn_implementation=attention,
    )
    return LlamaForCausalLM(config)


def step(model, region, device="cpu"):
    """(rows, loss and gradients) of one forward in the region and one backward outside."""
    model = copy.deepcopy(model).to(device)
    tokens = torch.randint(0, 19, (2, 12), generator=torch.Generator().manual_seed(0)).to(device)
    with Recorder() as recorder:
        with region:
            loss = model(tokens) if isinstance(model, Block) else model(input_ids=tokens, labels=tokens).loss
        with recorder.backward():
            loss.backward()
    return recorder.rows, [loss.detach()] + [p.grad for p in model.parameters()]


def block():
    torch.manual_seed(0)
    return Block()


MODELS = {"block": block, "llama-eager": lambda: llama("eager"), "llama-sdpa": lambda: llama("sdpa")}


@pytest.mark.parametrize("low", LOW, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_runs_as_under_torch(name, low):
    model = MODELS[name]()
    rows, tensors = step(model, autocast("cpu", low))
    their_rows, their_tensors = step(model, torch.autocast("cpu", low))
    assert [str(r) for r in rows] == [str(r) for r in their_rows]
    assert all(torch.equal(a, b) for a, b in zip(tensors, their_tensors, strict=True))
    assert {t.dtype for t in tensors} == {torch.float32}


@pytest.mark.gpu
@pytest.mark.parametrize("low", LOW, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_runs_as_under_torch_on_a_gpu(name, low):
    """Equal but for cross entropy: torch's kernel reads 16 bits and gives float32, ours is cast before."""
    model = MODELS[name]()
    rows, tensors = step(model, autocast("cuda", low), "cuda")
    their_rows, their_tensors = step(model, torch.autocast("cuda", low), "cuda")
    products = {"mm", "addmm", "bmm", "native_layer_norm", "_softmax", "gelu", "rsqrt", "pow"}
    assert [r for r in rows if r.op in products] == [r for r in their_rows if r.op in products]
    for ours, theirs in zip(tensors, their_tensors, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=1e-3)


def test_recorded_dtypes_of_the_block_are_those_of_the_table():
    rows, _ = step(block(), autocast("cpu", torch.bfloat16))
    found = {row.op: row.outputs[0] for row in rows if row.phase == "forward"}
    bf16, fp32 = torch.bfloat16, torch.float32
    assert found["addmm"] == found["bmm"] == found["_softmax"] == found["gelu"] == bf16
    assert found["native_layer_norm"] == found["nll_loss_forward"] == found["embedding"] == fp32


PLANTED = {
    "linear in float32": {"linear": "fp32"},
    "products in float32": {"matmul": "fp32"},
    "softmax in float32": {"softmax": "fp32"},
    "gelu in float32": {"gelu": "fp32"},
    "layer_norm in 16 bits": {"layer_norm": "lower"},
    "loss in 16 bits": {"cross_entropy_loss": "lower"},
    "the table of the other device": dict(POLICY["cuda"]),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_wrong_entry_shows(name):
    ours, _ = step(block(), autocast("cpu", torch.bfloat16, policy={**POLICY["cpu"], **PLANTED[name]}))
    theirs, _ = step(block(), torch.autocast("cpu", torch.bfloat16))
    assert ours != theirs

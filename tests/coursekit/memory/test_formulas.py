"""The formulas that others use, each against what it comes from: a real layer's saved tensors, accelerate itself, the
figures that the papers and DeepSpeed's page print."""

import pytest
import torch
from accelerate.commands.estimate import estimate_training_usage
from torch.nn import functional as F

from coursekit.memory import formulas
from coursekit.memory.architecture import architecture_of, parameter_count
from coursekit.memory.planner import Plan

GPT2 = 124_439_808  # parameters, as transformers counts them
LLAMA_2 = 6_738_415_616


class ByteMask(torch.autograd.Function):
    """Dropout with a mask of a byte an element, as a GPU keeps it."""

    @staticmethod
    def forward(ctx, x):
        keep = torch.rand(x.shape) < 0.9
        ctx.save_for_backward(keep)
        return x * keep

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.saved_tensors[0]


def gpt_layer(x, heads, weights):
    """A GPT's layer in 16 bits, [s, b, h], its norms without weights; those of the matrices are noted in `weights`."""
    s, b, h = x.shape

    def linear(x, outputs):
        weights.append(torch.full((outputs, x.shape[-1]), 0.01, dtype=x.dtype, requires_grad=True))
        return F.linear(x, weights[-1])

    y = F.layer_norm(x, (h,))
    q, k, v = (linear(y, h).view(s, b * heads, -1).transpose(0, 1) for _ in range(3))
    mixed = ByteMask.apply((q @ k.mT * (heads / h) ** 0.5).softmax(-1)) @ v
    x = x + ByteMask.apply(linear(mixed.transpose(0, 1).reshape(s, b, h), h))
    y = F.layer_norm(x, (h,))
    return x + ByteMask.apply(linear(F.gelu(linear(y, 4 * h)), h))


def kept(s, b, h, heads):
    """Bytes of what has a place for each token or each pair of tokens: no weights, no statistics of the norms."""
    x, found, weights = torch.randn(s, b, h, dtype=torch.bfloat16, requires_grad=True), {}, []

    def pack(tensor):
        found[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        gpt_layer(x, heads, weights)
    for weight in weights:
        found.pop(weight.untyped_storage()._cdata)
    return sum(t.untyped_storage().nbytes() for t in found.values() if t.shape[-1] != 1)


@pytest.mark.parametrize(("s", "b", "h", "heads"), [(16, 2, 32, 4), (12, 3, 48, 6), (64, 1, 32, 2)])
def test_korthikantis_layer_is_what_a_real_one_saves(s, b, h, heads):
    assert formulas.korthikanti_layer(b, s, h, heads) == kept(s, b, h, heads)


@pytest.mark.parametrize(
    ("hidden", "heads", "scores"), [(12_288, 96, 80), (20_480, 128, 64)], ids=["GPT-3", "MT-NLG"]
)
def test_korthikantis_layer_of_the_papers_models(hidden, heads, scores):
    """Section 4.2.1: 5 a s / h is 80 for GPT-3 and 64 for MT-NLG, beside the 34."""
    assert formulas.korthikanti_layer(1, 2048, hidden, heads) == 2048 * hidden * (34 + scores)


def test_korthikanti_summed_by_hand():
    """GPT-2, one row of 1024: 1024 (34 768 + 5 12 1024) is 89,653,248 a layer; states of 16 bytes."""
    plan = Plan("gpt2", sequence=1024, ledger="master-16")
    assert parameter_count(architecture_of("gpt2")) == GPT2
    assert formulas.korthikanti(plan) == 12 * 89_653_248 + 16 * GPT2
    again = Plan("gpt2", sequence=1024, ledger="master-18", checkpointing=True)
    assert formulas.korthikanti(again) == 12 * 1_572_864 + 18 * GPT2


def test_eleuther_by_hand():
    """t = 1, so 10 + 24 = 34: the same activations, beside 18 bytes: 2 + 12 + 4."""
    plan = Plan("gpt2", sequence=1024, ledger="fp32")  # its ledger is always mixed precision
    assert formulas.eleuther(plan) == 12 * 89_653_248 + 18 * GPT2
    again = Plan("llama-2-7b", batch=2, sequence=512, checkpointing=True)
    assert formulas.eleuther(again) == 18 * LLAMA_2 + 2 * 1024 * 4096 * 32


@pytest.mark.parametrize("model", ["tiny", "gpt2", "llama-3-8b"])
@pytest.mark.parametrize(
    ("ledger", "precision"),
    [("fp32", "float32"), ("amp", "float16"), ("master-16", "bfloat16"), ("bf16", "bfloat16")],
)
def test_accelerate_is_what_accelerate_says(model, ledger, precision):
    """The largest of the four figures that its command prints for the FP32 weights, whatever batch and length."""
    usage = estimate_training_usage(4 * parameter_count(architecture_of(model)), precision)
    for plan in (Plan(model, ledger=ledger, sequence=64), Plan(model, ledger=ledger, batch=8, sequence=128)):
        assert formulas.accelerate(plan) == max(usage.values())


@pytest.mark.parametrize(("ranks", "factor"), [(1, 20), (2, 12), (4, 8), (8, 6), (16, 5)])
def test_deepspeed_by_hand(ranks, factor):
    """4 P + 16 P / N without offload: 16-bit weights and gradients whole, the FP32 rest shared."""
    plan = Plan("llama-2-7b", zero_stage=2, world_size=ranks)
    assert formulas.deepspeed(plan) == factor * LLAMA_2


def test_deepspeed_as_its_page_prints_it():
    """ZeRO-2 on 8 GPUs for T5-3B, 2,851,598,336 parameters, no offload: "15.93GB", which is GiB."""
    each = formulas.deepspeed(Plan("tiny", zero_stage=2, world_size=8)) / parameter_count(
        architecture_of("tiny")
    )
    assert f"{2_851_598_336 * each / 2**30:.2f}" == "15.93"


def test_states_only_do_not_know_the_batch():
    small, large = Plan("gpt2", sequence=8), Plan("gpt2", batch=64, sequence=1024)
    for name, formula in formulas.FORMULAS.items():
        assert (formula(small) == formula(large)) == (name in ("accelerate", "DeepSpeed"))


def test_all_are_listed_and_are_whole_bytes():
    listed = {formulas.korthikanti, formulas.eleuther, formulas.accelerate, formulas.deepspeed}
    assert set(formulas.FORMULAS.values()) == listed
    assert all(isinstance(formula(Plan("tiny", sequence=33)), int) for formula in listed)


WRONG = {
    "scores of one head": lambda b, s, h, a: b * s * (34 * h + 5 * s),
    "masks of 16 bits": lambda b, s, h, a: b * s * (36 * h + 6 * a * s),
    "scores once": lambda b, s, h, a: b * s * (34 * h + 3 * a * s),
}


@pytest.mark.parametrize("planted", WRONG)
def test_a_wrong_formula_is_caught(planted):
    assert WRONG[planted](2, 16, 32, 4) != kept(16, 2, 32, 4)

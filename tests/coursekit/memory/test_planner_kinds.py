"""Kinds of training beside the plain one: batches with padding, mixtures of experts, sharded states."""

import pytest
import torch

from classroom.models.load import checkpointing, load
from coursekit.memory.architecture import architecture_of, parameter_count
from coursekit.memory.measure import measure
from coursekit.memory.planner import PHASES, Plan, estimate

MIXTURES = {
    "mixtral": {"num_local_experts": 8, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 16, "num_experts_per_tok": 4, "moe_intermediate_size": 96, "head_dim": 32},
}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("batch", "sequence"), [(2, 64), (4, 256)])
def test_peak_of_a_padded_batch(batch, sequence, recompute):
    """With padding, attention gets a mask, copies keys and values for their queries and turns the mask into numbers."""
    model, _ = load("tiny")
    if recompute:
        checkpointing(model)
    ids = torch.randint(0, 1000, (batch, sequence))
    mask = torch.ones_like(ids)
    mask[0, sequence // 2 :] = 0
    data = {"input_ids": ids, "labels": ids.clone(), "attention_mask": mask}
    found = measure(model.train(), torch.optim.AdamW(model.parameters()), [data])
    plan = Plan("tiny", batch, sequence, ledger="fp32", device="cpu", padded=True, checkpointing=recompute)
    assert estimate(plan).peak_bytes == pytest.approx(found.peak, rel=1e-3)
    without = Plan("tiny", batch, sequence, ledger="fp32", device="cpu", checkpointing=recompute)
    assert (
        estimate(plan).phases["start of backward"]["activations"]
        > (estimate(without).phases["start of backward"]["activations"])
    )


@pytest.mark.parametrize("family", MIXTURES)
def test_peak_of_a_mixture_of_experts(family):
    """transformers computes all experts in one grouped product; how many tokens each gets does not change the bytes."""
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    config = CONFIG_MAPPING[family](
        hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=512, pad_token_id=0, **MIXTURES[family],
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).train()
    ids = torch.randint(0, 512, (4, 64))
    optimizer = torch.optim.AdamW(model.parameters())
    found = measure(model, optimizer, [{"input_ids": ids, "labels": ids.clone()}])
    planned = estimate(Plan(config, 4, 64, ledger="fp32", device="cpu"))
    assert planned.peak_bytes == pytest.approx(found.peak, rel=5e-3)
    assert planned.notes  # it says what it assumes


def states(plan):
    """Weights, masters, states and gradients of a rank after backward, in bytes."""
    terms = estimate(plan).phases["optimizer step"]
    return sum(terms[name] for name in ("weights", "master weights", "optimizer states", "gradients"))


def test_zero_divides_what_its_stage_divides():
    """ZeRO paper, section 5: 16 P; 4 P + 12 P / N; 2 P + 14 P / N; 16 P / N."""
    parameters, ranks = parameter_count(architecture_of("llama-2-7b")), 4
    paper = (16, 4 + 12 / ranks, 2 + 14 / ranks, 16 / ranks)
    for stage, bytes_each in enumerate(paper):
        plan = Plan("llama-2-7b", sequence=128, ledger="master-16", zero_stage=stage, world_size=ranks)
        assert states(plan) == pytest.approx(bytes_each * parameters, rel=1e-5)


def test_gradients_are_shared_out_during_backward():
    """From stage 2 a rank never holds more than its share and those of one block."""
    plan = Plan(
        "llama-2-7b", sequence=128, ledger="master-16", zero_stage=2, world_size=4, checkpointing=True
    )
    end = estimate(plan).phases["end of backward"]
    share = 2 * parameter_count(architecture_of("llama-2-7b")) / 4
    assert end["gradients"] == pytest.approx(share, rel=0.03)
    assert end["temporary"] > 2 * 200_000_000  # a block of 202M weights in 16 bits


def test_an_offloaded_optimizer_leaves_the_weights_and_a_block():
    """ZeRO-2 with offload: 16-bit weights of 13.5 GB stay, and with one block's gradients some 14 GB before
    activations; the host holds 12 bytes a parameter shared by the ranks."""
    plan = Plan(
        "llama-2-7b",
        sequence=512,
        ledger="master-16",
        zero_stage=2,
        world_size=4,
        checkpointing=True,
        offload="optimizer",
    )
    found = estimate(plan)
    assert 13.5e9 < found.peak_bytes < 15e9
    assert found.host_bytes == pytest.approx(12 * found.parameters / 4, rel=1e-4)
    assert all(found.phases[phase]["optimizer states"] == 0 for phase in PHASES)


def test_stage_3_gathers_two_blocks():
    plan = Plan(
        "llama-2-7b", sequence=128, ledger="master-16", zero_stage=3, world_size=64, checkpointing=True
    )
    found = estimate(plan)
    assert found.phases["forward"]["gathered weights"] == pytest.approx(2 * 2 * 202.4e6, rel=1e-2)
    assert found.phases["optimizer step"]["gathered weights"] == 0

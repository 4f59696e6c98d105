"""Impossible plans are refused in words: what was expected, what came, what is possible instead."""

import math

import pytest

from coursekit.memory.architecture import UnknownModel
from coursekit.memory.config import shown
from coursekit.memory.fit import fits
from coursekit.memory.planner import Plan, estimate, timeline

NF4 = {"quantization": "nf4", "lora_rank": 16}
REFUSED = [
    ({"batch": 0}, "batch must be a whole number of at least 1; got batch=0"),
    ({"batch": -3}, "batch .* got batch=-3"),
    ({"batch": True}, "batch .* got batch=True"),
    ({"batch": 2.0}, "batch .* got batch=2.0"),
    ({"batch": "8"}, "batch .* got batch='8'"),
    ({"batch": None}, "batch .* got batch=None"),
    ({"batch": math.nan}, "batch .* got batch=nan"),
    ({"batch": 10**10}, "batch must be 1,000,000,000 at most; got batch=10000000000"),
    ({"batch": 10**5000}, "batch must be 1,000,000,000 at most; got batch="),
    ({"sequence": 0}, "sequence must be a whole number of at least 1"),
    ({"sequence": True}, "sequence .* got sequence=True"),
    ({"accumulation": 0}, "accumulation must be a whole number"),
    ({"world_size": 0}, r"ranks \(GPUs\) must be a whole number of at least 1; got world_size=0"),
    ({"world_size": False}, "ranks .* got world_size=False"),
    ({"lora_rank": -1}, "lora_rank must be a whole number of at least 0; got lora_rank=-1"),
    ({"lora_rank": True}, "lora_rank .* got lora_rank=True"),
    ({"lora_rank": 800}, "the LoRA rank 800 is larger than the smallest layer .*width 768.*far below the width"),
    ({"lora_rank": 8, "lora_targets": ("q_proj",)}, "no linear layer .* called q_proj; it has c_attn, c_proj, c_fc"),
    ({"lora_rank": 8, "lora_targets": ()}, "no linear layer of this model is called nothing"),
    ({"lora_rank": 8, "lora_targets": "c_attn"}, '"all-linear" or a tuple of names; got .c_attn.'),
    ({"lora_rank": 8, "lora_dropout": 1.0}, "lora_dropout must be a probability below 1; got 1.0"),
    ({"lora_dropout": "x"}, "lora_dropout must be a probability below 1; got 'x'"),
    ({"lora_rank": 8, "lora_targets": 3}, '"all-linear" or a tuple of names; got 3'),
    ({"lora_rank": 8, "lora_targets": (3,)}, "no linear layer of this model is called 3"),
    ({"lora_dropout": -0.1}, "lora_dropout must be a probability"),
    ({"lora_dropout": math.nan}, "lora_dropout must be a probability below 1; got nan"),
    ({"ledger": "fp16"}, "ledger must be one of 'fp32', 'amp', .*; got 'fp16'"),
    ({"optimizer": "adam"}, "optimizer must be one of .*'adamw'.*; got 'adam'"),
    ({"attention": "flash"}, "attention must be one of 'sdpa', 'eager'; got 'flash'"),
    ({"implementation": "fast"}, "implementation must be one of None, 'for-loop'"),
    ({"quantization": "int8", "lora_rank": 8}, "quantization must be one of None, 'nf4'; got 'int8'"),
    ({"offload": "all"}, "offload must be one of None, 'optimizer', 'parameters'"),
    ({"device": "tpu"}, "device must be one of 'cuda', 'cpu'; got 'tpu'"),
    ({"zero_stage": 4}, "zero_stage must be one of 0, 1, 2, 3; got 4"),
    ({"zero_stage": -1}, "zero_stage must be a whole number of at least 0"),
    ({"zero_stage": True}, "zero_stage must be a whole number .* got zero_stage=True"),
    ({"zero_stage": 2.0}, "zero_stage must be a whole number"),
    ({"sequence": 1025}, "sequence can be 1024 at most.* learned 1024 positions; got 1025"),
    ({"quantization": "nf4"}, r"4 bits cannot be trained.*Set lora_rank.*\(QLoRA\)"),
    ({**NF4, "ledger": "master-16"}, "no master weights; choose the ledger 'bf16', 'amp' or 'fp32'"),
    ({"kbit_preparation": True}, "kbit_preparation needs quantization='nf4': without it there is nothing to prepare"),
    ({**NF4, "zero_stage": 3}, "stage 3 cannot shard bitsandbytes' 4-bit weights"),
    ({"offload": "parameters", "zero_stage": 2}, "needs zero_stage=3: stage 2 keeps all weights"),
    ({"offload": "parameters"}, "stage 0 keeps all weights"),
    ({"offload": "optimizer"}, "needs ZeRO, which manages it; use zero_stage=1 or a paged optimizer"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "words"), REFUSED, ids=lambda value: shown(value)[:40])
def test_impossible_plans(settings, words):
    """Before anything is counted, and the same by every door."""
    plan = Plan("gpt2", **{"sequence": 64} | settings)
    for door in (estimate, timeline, lambda plan: fits(plan, 24)):
        with pytest.raises(ValueError, match=words):
            door(plan)


def test_experts_are_not_quantised():
    with pytest.raises(ValueError, match=r"experts are one 3-D tensor.*without quantization"):
        estimate(Plan("mixtral-8x7b", **NF4))


def test_an_unknown_model_is_answered_with_near_ones():
    with pytest.raises(UnknownModel, match=r"'lama-3-8b' is not a preset.*Did you mean llama-3-8b"):
        estimate(Plan("lama-3-8b"))


@pytest.mark.parametrize(
    "settings",
    [
        {"sequence": 1024},
        {"lora_rank": 768, "lora_targets": ("c_proj",)},
        {"lora_rank": 8, "lora_targets": ["c_attn", "c_fc"]},
        {"zero_stage": 3, "world_size": 64, "offload": "parameters"},
        {"zero_stage": 1, "world_size": 2, "offload": "optimizer"},
        {**NF4, "zero_stage": 2, "world_size": 4},
        {**NF4, "kbit_preparation": False},
    ],
)
def test_plans_at_the_edge_are_not_refused(settings):
    assert estimate(Plan("gpt2", **{"sequence": 64} | settings)).peak_bytes > 0

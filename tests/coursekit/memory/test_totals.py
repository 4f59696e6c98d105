"""What follows from shapes alone, against published figures and against a walk through every block."""

from collections import Counter
from dataclasses import replace
from math import prod

import pytest

from coursekit.memory.architecture import (
    architecture_of,
    from_config,
    linear_layers,
    parameter_count,
    presets,
    shapes,
    weights,
)
from coursekit.memory.ledger import OPTIMIZERS, nf4_bytes, nf4_tables
from coursekit.memory.plan import Plan
from coursekit.memory.totals import base_bytes, resident, totals, trained_of_block, trained_shapes


def gb(nbytes):
    return nbytes / 1e9


@pytest.mark.parametrize(
    ("model", "plain", "prepared"),
    [("llama-2-7b", 3.87, 4.39), ("llama-3-8b", 5.70, 7.80), ("llama-3-70b", 39.52, 43.72), ("phi-3-mini", 2.26, 2.66)],
)  # fmt: skip
def test_gigabytes_of_models_in_nf4(model, plain, prepared):
    """4 bits are not a quarter of 16: embedding, head and norms stay in 16 bits, and become 32 for k-bit training."""
    sizes = [
        gb(
            base_bytes(
                Plan(model, quantization="nf4", lora_rank=16, kbit_preparation=p), architecture_of(model)
            )
        )
        for p in (False, True)
    ]
    assert sizes == [pytest.approx(plain, abs=0.005), pytest.approx(prepared, abs=0.005)]


@pytest.fixture(scope="module")
def seven_and_a_half():
    """7.5e9 parameters, the model of figure 1 of the ZeRO paper, as a LLaMA."""
    architecture = replace(architecture_of("llama-2-7b"), layers=35, vocabulary=50850)
    assert parameter_count(architecture) == pytest.approx(7.5e9, rel=1e-5)
    return architecture


@pytest.mark.parametrize(("stage", "published"), [(0, 120), (1, 31.4), (2, 16.6), (3, 1.9)])
def test_zero_on_64_ranks(seven_and_a_half, stage, published):
    """Rajbhandari et al. 2020, figure 1: weights, gradients and states of each rank, 16 bytes per parameter."""
    a = seven_and_a_half
    plan = Plan(a, ledger="master-16", zero_stage=stage, world_size=64, accumulation=2)
    states = {name: nbytes for name, nbytes in resident(plan, totals(plan, a)).items() if name != "inputs"}
    assert gb(sum(states.values())) == pytest.approx(published, abs=0.05)


MIXED = {  # blocks of two kinds in different orders: of Qwen3's mixture, some with an ordinary MLP
    "every second": {"decoder_sparse_step": 2},
    "every third": {"decoder_sparse_step": 3, "num_hidden_layers": 8},
    "the first": {"mlp_only_layers": [0]},
    "the first and the last": {"mlp_only_layers": [0, 1, 47]},
    "two apart": {"mlp_only_layers": [3, 4, 9]},
    "one of two": {"mlp_only_layers": [1], "num_hidden_layers": 2},
    "all": {"mlp_only_layers": [0, 1, 2], "num_hidden_layers": 3},
}


def mixed(name):
    return from_config(presets()["qwen3-30b-a3b"] | MIXED[name])


EVERY = [*((name, architecture_of(name)) for name in presets()), *((name, mixed(name)) for name in MIXED)]


@pytest.mark.parametrize("a", [a for _, a in EVERY], ids=[name for name, _ in EVERY])
def test_a_block_stands_for_all_of_its_kind(a):
    """Counted by kinds of block, everything is as if each block had been walked through."""
    every = [weight.shape for weight in weights(a)]
    assert shapes(a) == Counter(every) and parameter_count(a) == sum(map(prod, every))
    linear = [w.numel for layer in range(a.layers) for w in linear_layers(a, layer)]
    nf4 = Plan(a, quantization="nf4", lora_rank=4, kbit_preparation=False)
    codes = sum(nf4_bytes(numel) + nf4_tables() for numel in linear)
    assert base_bytes(nf4, a) == codes + 2 * (parameter_count(a) - sum(linear))


@pytest.mark.parametrize(
    "plan", [{}, {"lora_rank": 4}, {"lora_rank": 4, "lora_targets": ("q_proj", "k_proj")}]
)
@pytest.mark.parametrize("name", [*MIXED, "llama-3-8b", "gemma-2-2b"])
def test_what_comes_and_goes_in_the_step_is_as_if_all_weights_were_there(name, plan):
    """The largest pair of neighbours decides, and a few blocks have all pairs: for AdamW's loop and for Adafactor."""
    a = mixed(name) if name in MIXED else architecture_of(name)
    one = Plan(a, **plan)
    every = [shape for layer in range(a.layers) for shape in trained_of_block(one, a, layer)]
    if not plan:
        every = [weight.shape for weight in weights(a)]
    assert trained_shapes(one, a) == Counter(every)
    for optimizer in ("adamw", "adafactor"):
        for implementation in ("for-loop", "foreach", "fused"):
            mine = totals(Plan(a, optimizer=optimizer, implementation=implementation, **plan), a)
            size = 4 if plan else 2
            assert mine.step == OPTIMIZERS[optimizer].step_bytes(map(prod, every), implementation, size)

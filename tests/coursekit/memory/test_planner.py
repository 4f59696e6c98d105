"""The planner's arithmetic against published figures and its own laws; `test_planner_measured` and
`test_planner_tracked` hold its peaks against torch."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.memory.architecture import (
    architecture_of,
    from_config,
    parameter_count,
    presets,
)
from coursekit.memory.fit import fits
from coursekit.memory.ledger import LEDGERS, OPTIMIZERS
from coursekit.memory.plan import Plan
from coursekit.memory.planner import CATEGORIES, PHASES, estimate, timeline


@pytest.mark.parametrize(
    ("model", "targets", "trainable"),
    [
        ("llama-2-7b", ("q_proj", "v_proj"), 8_388_608),
        ("llama-2-7b", ("q_proj", "k_proj", "v_proj", "o_proj"), 16_777_216),
        ("llama-2-7b", "all-linear", 39_976_960),
        ("phi-3-mini", "all-linear", 25_165_824),
    ],
)
def test_adapters_of_rank_16(model, targets, trainable):
    assert estimate(Plan(model, lora_rank=16, lora_targets=targets)).trainable == trainable


@pytest.mark.parametrize("model", ["qwen2-0.5b", "phi-3-mini", "gpt2", "gemma-2-2b", "llama-3.2-1b"])
@pytest.mark.parametrize("rank", [1, 8])
def test_trainable_parameters_equal_peft(model, rank, config_of, on_meta):
    from peft import LoraConfig, get_peft_model

    config = config_of(model, layers=2)
    adapted = get_peft_model(
        on_meta(config), LoraConfig(r=rank, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    theirs = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert estimate(Plan(config, lora_rank=rank, sequence=16)).trainable == theirs


def after_the_step(plan):
    return estimate(plan).phases["optimizer step"]


@pytest.mark.parametrize("stage", range(4))
def test_a_stage_shards_what_it_says_and_nothing_else(stage):
    """1: states and master; 2: gradients too; 3: weights too; rounded up to whole bytes."""
    whole = after_the_step(Plan("gpt2", sequence=64, ledger="master-16"))
    mine = after_the_step(Plan("gpt2", sequence=64, ledger="master-16", zero_stage=stage, world_size=8))
    sharded = {"optimizer states": 1, "master weights": 1, "temporary": 1, "gradients": 2, "weights": 3}
    for name, first in sharded.items():
        share = 8 if stage >= first else 1
        assert mine[name] == -(-whole[name] // share), name
    assert mine["inputs"] == whole["inputs"]


@pytest.mark.parametrize("stage", range(4))
def test_only_stage_3_gathers_weights(stage):
    """And only where there is somebody to gather them from."""
    for ranks in (1, 8):
        phases = estimate(Plan("gpt2", sequence=64, zero_stage=stage, world_size=ranks)).phases.values()
        assert any(terms["gathered weights"] for terms in phases) == (stage == 3 and ranks > 1)


@pytest.mark.parametrize(
    ("offload", "stage", "gone"),
    [
        ("optimizer", 1, {"optimizer states", "master weights"}),
        ("optimizer", 2, {"optimizer states", "master weights", "gradients"}),
        ("parameters", 3, {"optimizer states", "master weights", "gradients", "weights"}),
    ],
)
def test_what_is_offloaded_is_in_the_hosts_memory(offload, stage, gone):
    """Not on the card while the optimizer works, and counted for the host instead."""
    settings = {"sequence": 64, "ledger": "master-16", "zero_stage": stage, "world_size": 4}
    here, there = Plan("gpt2", **settings), Plan("gpt2", **settings, offload=offload)
    terms = after_the_step(there)
    assert {
        name for name in ("weights", "gradients", "optimizer states", "master weights") if not terms[name]
    } == gone
    before = estimate(here).phases["forward"]
    moved = [n for n in gone if n != "gradients"]
    assert estimate(there).host_bytes == sum(before[name] for name in moved)
    assert estimate(here).host_bytes == 0


def test_paged_states_are_on_the_host():
    plan = Plan("gpt2", sequence=64, optimizer="paged-adamw-8bit")
    assert after_the_step(plan)["optimizer states"] == 0
    assert (
        estimate(plan).host_bytes == after_the_step(replace(plan, optimizer="adamw-8bit"))["optimizer states"]
    )


@pytest.mark.parametrize("name", LEDGERS)
def test_a_ledger_is_the_sum_of_what_stays(name):
    """Bytes for each parameter with Adam, found again in the estimate, whatever the model."""
    terms = after_the_step(Plan("gpt2-medium", sequence=16, ledger=name, implementation="fused"))
    stays = sum(terms[c] for c in ("weights", "gradients", "master weights", "optimizer states"))
    assert stays / parameter_count(architecture_of("gpt2-medium")) == pytest.approx(
        LEDGERS[name].with_adam, rel=1e-5
    )


def test_figures_of_an_estimate_hang_together():
    found = estimate(Plan("llama-3.2-1b", batch=2, sequence=512))
    assert tuple(found.phases) == PHASES
    assert all(tuple(terms) == CATEGORIES for terms in found.phases.values())
    assert found.peak_bytes == sum(found.at_peak.values()) == found.peaks[found.peak_phase]
    assert found.parameters == found.trainable == parameter_count(architecture_of("llama-3.2-1b"))
    assert min(min(terms.values()) for terms in found.phases.values()) >= 0


def test_an_estimate_is_plain_data():
    """JSON and back is the same."""
    found = estimate(Plan(architecture_of("gpt2"), sequence=64)).to_dict()
    assert json.loads(json.dumps(found)) == found
    assert found["peak_bytes"] == sum(found["phases"][found["peak_phase"]].values())


def test_what_is_assumed_is_said():
    assert any("experts are planned as" in note for note in estimate(Plan("mixtral-8x7b", sequence=16)).notes)
    assert any(
        "one rank shards nothing" in n for n in estimate(Plan("gpt2", sequence=16, zero_stage=1)).notes
    )
    assert estimate(Plan("gpt2", sequence=16)).notes == ()


@st.composite
def plans(draw):
    """Any possible plan of a small model."""
    a = replace(architecture_of("tiny"), layers=draw(st.integers(1, 7)), tied=draw(st.booleans()))
    rank = draw(st.sampled_from((0, 4)))
    quantised = "nf4" if rank and draw(st.booleans()) else None
    ledgers = [name for name in LEDGERS if not (quantised and name.startswith("master"))]
    choices = {
        "batch": st.integers(1, 4),
        "sequence": st.integers(1, 300),
        "ledger": st.sampled_from(ledgers),
        "optimizer": st.sampled_from(list(OPTIMIZERS)),
        "implementation": st.sampled_from((None, "for-loop", "foreach", "fused")),
        "attention": st.sampled_from(("sdpa", "eager")),
        "checkpointing": st.booleans(),
        "accumulation": st.integers(1, 3),
        "lora_dropout": st.sampled_from((0.0, 0.1)),
        "zero_stage": st.integers(0, 2),
        "world_size": st.sampled_from((1, 4)),
        "device": st.sampled_from(("cuda", "cpu")),
    }
    drawn = {name: draw(values) for name, values in choices.items()}
    return Plan(a, lora_rank=rank, quantization=quantised, **drawn)


@settings(max_examples=60, deadline=None)
@given(plan=plans())
def test_three_blocks_stand_for_all(plan):
    """Played through every block, the step is as high in each phase as with the middle one repeated."""
    found, moments = estimate(plan), timeline(plan)
    assert max(sum(now.values()) for _, _, now in moments) == found.peak_bytes
    for phase, mine in (("forward", ["forward"]), ("backward", ["start of backward", "end of backward"])):
        played = max(sum(now.values()) for name, _, now in moments if name == phase)
        assert played == max(found.peaks[name] for name in mine)
    assert moments[-1][2] == found.phases["optimizer step"]


@settings(max_examples=60, deadline=None)
@given(plan=plans(), batch=st.integers(0, 3), sequence=st.integers(0, 200))
def test_more_tokens_never_take_less(plan, batch, sequence):
    plan = replace(plan, device="cuda")
    more = replace(plan, batch=plan.batch + batch, sequence=plan.sequence + sequence)
    assert estimate(more).peak_bytes >= estimate(plan).peak_bytes


@settings(max_examples=40, deadline=None)
@given(plan=plans())
def test_more_ranks_never_take_more(plan):
    """From two on: one rank needs no room for messages."""
    for stage in (1, 2):
        peaks = [
            estimate(replace(plan, zero_stage=stage, world_size=ranks)).peak_bytes for ranks in (2, 8, 64)
        ]
        assert peaks == sorted(peaks, reverse=True)


@settings(max_examples=40, deadline=None)
@given(plan=plans())
def test_checkpointing_never_saves_more_at_the_end_of_the_forward_pass(plan):
    """On a card, which keeps no state of a CPU's generator beside each block."""
    plan = replace(plan, device="cuda")
    before, after = (
        estimate(replace(plan, checkpointing=c)).phases["start of backward"]["activations"]
        for c in (False, True)
    )
    assert after <= before or plan.model.layers == 1  # one block is recomputed whole, while its input waits


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_a_plan_is_its_own_in_every_default(name):
    """What the defaults mean is what is written out: AdamW of the device, k-bit preparation with quantisation."""
    plan = Plan("gpt2", sequence=64, ledger=name)
    assert estimate(plan).peaks == estimate(replace(plan, implementation="foreach")).peaks
    on_cpu = replace(plan, device="cpu")
    assert estimate(on_cpu).peaks == estimate(replace(on_cpu, implementation="for-loop")).peaks


def calls_of(function) -> int:
    """How many functions of Python run: the work, whatever the machine does meanwhile."""
    calls = 0

    def note(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls


def layered(name, layers):
    return from_config(presets()[name] | {"n_layer" if name == "gpt2" else "num_hidden_layers": layers})


@pytest.mark.parametrize("name", ["llama-3-8b", "gpt2", "mixtral-8x7b", "qwen3-30b-a3b"])
@pytest.mark.parametrize("plan", [{}, {"lora_rank": 8}, {"checkpointing": True, "device": "cpu"}])
def test_ten_thousand_layers_are_no_more_work_than_ten(name, plan):
    few, many = (Plan(layered(name, layers), sequence=64, **plan) for layers in (10, 10_000))
    assert calls_of(lambda: estimate(many)) <= 1.2 * calls_of(lambda: estimate(few)) < 30_000


def test_the_ways_out_of_ten_thousand_layers_are_found():
    """Some 60 estimates; a walk through the layers in each would be 100 million calls."""
    config = presets()["qwen3-30b-a3b"] | {"num_hidden_layers": 10_000, "decoder_sparse_step": 2}
    plan = Plan(from_config(config), sequence=64, optimizer="adafactor", attention="eager")
    assert calls_of(lambda: fits(plan, 24)) < 3_000_000


def test_the_planner_is_bare_python():
    """No module of the planner brings torch or numpy along, nor does an estimate."""
    code = (
        "import sys\n"
        "from coursekit.memory import activations, architecture, cards, fit, ledger, operations, planner, tape\n"
        "fit.fits(planner.Plan('gpt2', sequence=64), 24)\n"
        "print(sorted({'torch', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""What the graph holds, block by block, beside hooks on transformers' models."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from classroom.models.load import load
from coursekit.memory.activations import Lora, Model, Numerics, forward, saved
from coursekit.memory.architecture import architecture_of, from_config
from coursekit.memory.plan import Plan
from coursekit.memory.planner import estimate, model_of
from coursekit.memory.tape import ACTIVATIONS, Tape

QUIET = {"resid_pdrop": 0.0, "attn_pdrop": 0.0, "embd_pdrop": 0.0}  # GPT-2 without dropout
BITS16, BITS32 = Numerics(2), Numerics(4)


def per_token(rows, batch, sequence, hidden):
    return sum(nbytes for _, nbytes in rows) / (batch * sequence * hidden)


def of_block(rows, layer=1):
    return [(module, nbytes) for module, nbytes in rows if f".{layer}." in module + "."]


SHAPES = ["llama-3-8b", "qwen2-0.5b", "qwen3-0.6b", "mistral-7b", "phi-3-mini", "gemma-2b", "gpt2"]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", SHAPES)
def test_a_block_saves_what_transformers_saves(name, attention, config_of, hooked_fake):
    """The bytes of the second block, BF16, to the byte: transformers' class, hooks of saved tensors, no content."""
    config = config_of(name, layers=3, **(QUIET if name == "gpt2" else {}))
    theirs = of_block(hooked_fake(config, 2, 128, torch.bfloat16, attention))
    ours = saved(Model(from_config(config), 2, 128, BITS16, attention=attention))
    assert sum(b for _, b in ours) == sum(b for _, b in theirs)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["llama-3-8b", "gpt2"])
def test_a_block_in_fp32(name, attention, config_of, hooked_fake):
    config = config_of(name, layers=3, **(QUIET if name == "gpt2" else {}))
    theirs = of_block(hooked_fake(config, 2, 128, torch.float32, attention))
    ours = saved(Model(from_config(config), 2, 128, BITS32, attention=attention))
    assert sum(b for _, b in ours) == sum(b for _, b in theirs)


def test_gemma_2_in_eager_mode(config_of, hooked_fake):
    """Four norms, scores capped by a tanh, which is saved too."""
    config = config_of("gemma-2-2b", layers=3)
    theirs = of_block(hooked_fake(config, 2, 128, torch.bfloat16, "eager"))
    ours = saved(Model(from_config(config), 2, 128, BITS16, attention="eager"))
    assert sum(b for _, b in ours) == sum(b for _, b in theirs)


def test_gpt2_with_dropout_in_eager_mode(config_of, hooked_fake):
    """Three dropouts a block: noise as wide as what it falls on, on a CPU; on a GPU a byte an element."""
    config = config_of("gpt2", layers=3)
    theirs = of_block(hooked_fake(config, 2, 128, torch.float32, "eager"))
    cpu, gpu = (
        saved(Model(from_config(config), 2, 128, BITS32, attention="eager", cpu=cpu)) for cpu in (True, False)
    )
    assert sum(b for _, b in cpu) == sum(b for _, b in theirs)
    masks = 2 * 128 * (2 * 768 + 12 * 128)
    assert sum(b for _, b in cpu) - sum(b for _, b in gpu) == 3 * masks


LLAMA = {"sdpa": 49.1, "eager": {128: 58.0, 256: 64.0, 512: 76.0, 1024: 100.0}}
GPT2 = {128: 72.0, 256: 84.0, 512: 108.0}


@pytest.mark.parametrize("sequence", [128, 256, 512, 1024])
def test_bytes_of_llama_3_for_each_hidden_value(sequence):
    """SDPA 49.1 bytes per (s b h) at any length; eager 58 / 64 / 76 / 100 at s = 128 / 256 / 512 / 1024."""
    a = architecture_of("llama-3-8b")
    sdpa, eager = (
        per_token(saved(Model(a, 2, sequence, BITS16, attention=kind)), 2, sequence, a.hidden)
        for kind in ("sdpa", "eager")
    )
    assert sdpa == pytest.approx(LLAMA["sdpa"], abs=0.1)
    assert eager == pytest.approx(LLAMA["eager"][sequence], abs=0.05)


@pytest.mark.parametrize("sequence", GPT2)
def test_bytes_of_gpt_2_for_each_hidden_value(sequence):
    """Eager with dropout, on a CPU, where each of its masks takes two bytes: 72 / 84 / 108 at s = 128 / 256 / 512."""
    a = architecture_of("gpt2")
    rows = saved(Model(a, 2, sequence, BITS16, attention="eager", cpu=True))
    assert per_token(rows, 2, sequence, a.hidden) == pytest.approx(GPT2[sequence], abs=0.05)


def at_end_of_forward(model):
    tape = Tape()
    loss = forward(tape, model, range(model.architecture.layers))
    bytes_saved = sum(e.bytes for e in tape.events if e.category == ACTIVATIONS)
    del loss
    return bytes_saved


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(2, 64), (4, 100)])
def test_all_that_the_embedded_model_saves(attention, dtype, shape, hooked, tokens):
    """Embedding, four blocks, head and loss, to the byte."""
    model, _ = load("tiny", dtype=dtype, device="cpu")
    model.config._attn_implementation = attention
    theirs = sum(b for _, b in hooked(model.train(), **tokens(*shape)[0]))
    numerics = {"float32": BITS32, "bfloat16": BITS16}[dtype]
    assert at_end_of_forward(Model(architecture_of("tiny"), *shape, numerics, attention=attention)) == theirs


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), "all-linear"])
def test_all_that_adapters_save(targets, dropout, hooked, tokens):
    """A frozen base does not save the inputs of its products; the adapters do."""
    from peft import LoraConfig, get_peft_model

    model, _ = load("tiny", dtype="float32", device="cpu")
    names = targets if isinstance(targets, str) else list(targets)
    lora = LoraConfig(r=8, target_modules=names, lora_dropout=dropout, task_type="CAUSAL_LM")
    theirs = sum(b for _, b in hooked(get_peft_model(model, lora).train(), **tokens(2, 64)[0]))
    plan = Plan(
        "tiny", 2, 64, ledger="fp32", lora_rank=8, lora_targets=targets, lora_dropout=dropout, device="cpu"
    )
    ours = at_end_of_forward(model_of(plan, architecture_of("tiny")))
    assert ours == theirs


def test_a_block_can_be_asked_for_by_number():
    """All blocks of a model are alike."""
    model = Model(architecture_of("tiny"), 2, 16, BITS32)
    assert len({sum(b for _, b in saved(model, layer)) for layer in range(3)}) == 1


small = st.tuples(st.integers(1, 4), st.integers(1, 64))


@settings(max_examples=40, deadline=None)
@given(
    small,
    st.sampled_from(["llama-3.2-1b", "gpt2", "gemma-2-2b", "phi-3-mini"]),
    st.sampled_from(["sdpa", "eager"]),
)
def test_checkpointing_never_saves_more(shape, name, attention):
    """What the forward pass leaves for backward: one input a block instead of all of its results."""
    plain, checkpointed = (
        at_end_of_forward(Model(architecture_of(name), *shape, BITS16, attention=attention, checkpointing=c))
        for c in (False, True)
    )
    assert checkpointed < plain


@settings(max_examples=30, deadline=None)
@given(small, st.integers(2, 5), st.sampled_from(["sdpa", "eager"]))
def test_saved_bytes_grow_with_the_batch_in_proportion(shape, times, attention):
    batch, sequence = shape
    one, many = (
        sum(b for _, b in saved(Model(architecture_of("tiny"), n, sequence, BITS32, attention=attention)))
        for n in (batch, batch * times)
    )
    assert many == times * one


def test_eager_grows_with_the_square_of_the_sequence_and_sdpa_does_not():
    """Second differences over equal steps: constant and positive, or zero."""

    def second(attention):
        a = [
            sum(b for _, b in saved(Model(architecture_of("tiny"), 1, s, BITS32, attention=attention)))
            for s in (64, 128, 192)
        ]
        return a[2] - 2 * a[1] + a[0]

    heads = architecture_of("tiny").heads
    assert second("sdpa") == 0
    assert second("eager") == 2 * heads * 64 * 64 * 4  # the softmax's result; in FP32 the cast is free


def test_all_layers_count_though_three_are_played():
    """Two models that differ by some layers in the middle differ by what these save."""
    from dataclasses import replace

    a = architecture_of("tiny")
    per_block = sum(b for _, b in saved(Model(a, 2, 64, BITS32)))
    values = [
        estimate(Plan(replace(a, layers=n), 2, 64, ledger="fp32")).phases["forward"]["activations"]
        for n in (10, 17)
    ]
    assert values[1] - values[0] == 7 * per_block


def test_a_quantised_base_saves_no_weights():
    """The whole weight that a product unpacks is gone after it."""
    lora = Lora(8, ("q_proj", "v_proj"), quantised=True)
    model = Model(architecture_of("tiny"), 2, 32, BITS32, lora, trainable=False)
    assert "dequantise" not in {name for name, _ in saved(model)}

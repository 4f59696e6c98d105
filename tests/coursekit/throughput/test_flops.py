"""Our count equals torch's FlopCounterMode to the last digit, on real models of four families."""

import itertools
import subprocess
import sys

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig, Qwen2Config

from classroom.models.load import load
from coursekit.throughput import flops
from coursekit.throughput.flops import Adapters, Shape, count_flops, flop_counter, mfu

SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 50, "max_position_embeddings": 64,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "llama, wide heads, tied": LlamaConfig(**SIZES, head_dim=16, tie_word_embeddings=True),
    "mistral, a window": MistralConfig(**SIZES, sliding_window=4),
    "qwen2": Qwen2Config(**SIZES),
    "gpt2": GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=50, n_positions=64, bos_token_id=1, eos_token_id=2,
        resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0,
    ),
}  # fmt: skip
BATCH, LENGTH, RANK = 3, 12, 3


def targets(config, which):
    names = {m.name for m in Shape.of(config).matrices}
    some = {"all": names, "inputs": {"q_proj", "v_proj", "c_attn"}, "last": {"down_proj", "c_fc"}}
    return frozenset(some[which] & names)


def measured(config, attention, lora, checkpoint, counting=flop_counter):
    """(forward, whole step) by the counter."""
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).train()
    if lora:
        adapter = LoraConfig(r=lora.rank, target_modules=sorted(lora.targets), task_type="CAUSAL_LM")
        model = get_peft_model(model, adapter)
    if checkpoint:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    ids = torch.randint(3, 50, (BATCH, LENGTH))
    with counting() as counts:
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
        forward = counts.get_total_flops()
        loss.backward()
    return forward, counts.get_total_flops()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("name", CONFIGS)
def test_counts_equal_torchs_counter(name, attention):
    """Forward and whole step; all weights trained or three kinds of adapters; plain or checkpointed."""
    config = CONFIGS[name]
    for which, checkpoint in itertools.product((None, "all", "inputs", "last"), (False, True)):
        lora = Adapters(RANK, targets(config, which)) if which else None
        ours = count_flops(
            Shape.of(config), BATCH, LENGTH, lora=lora, checkpoint=checkpoint, flash=attention == "sdpa",
            input_grads=checkpoint,  # transformers asks for them when an adapted model checkpoints
        )  # fmt: skip
        assert (ours.forward, ours.total) == measured(config, attention, lora, checkpoint), (
            which,
            checkpoint,
        )


def test_the_embedded_model():
    """Equal part by part: torch's counter tells the products of weights (mm) from those of attention (bmm)."""
    model, _ = load("tiny")
    model.set_attn_implementation("eager")
    ids = torch.randint(3, 1000, (2, 32))
    with FlopCounterMode(display=False) as counts:
        model(input_ids=ids, labels=ids).loss.backward()
    theirs = {str(op).rsplit(".", 1)[1]: n for op, n in counts.get_flop_counts()["Global"].items()}
    ours = count_flops(Shape.of(model.config), 2, 32)
    assert ours["attention"].total == theirs["bmm"]
    assert ours["projections"].total + ours["head"].total == theirs["mm"]
    assert ours["adapters"].total == ours.recompute == 0


def test_torchs_own_counter_leaves_out_sdpa_on_a_cpu():
    """That is why there is `flop_counter`."""
    config = CONFIGS["llama"]
    ours = count_flops(Shape.of(config), BATCH, LENGTH, flash=True)
    _, theirs = measured(config, "sdpa", None, False, lambda: FlopCounterMode(display=False))
    assert theirs == ours.total - ours["attention"].total


@pytest.mark.parametrize("kind", ["efficient", "flash"])
def test_a_fused_kernel_of_a_gpu_has_the_same_formula(kind):
    """torch's own registry for CUDA kernels, asked with the shapes of one layer."""
    from torch.utils.flop_counter import flop_registry

    shape, attention = Shape.of(CONFIGS["llama"]), f"_scaled_dot_product_{kind}_attention"
    forward, backward = (
        flop_registry[getattr(torch.ops.aten, name)] for name in (attention, f"{attention}_backward")
    )
    q = torch.empty(BATCH, shape.heads, LENGTH, shape.head_dim)
    ours = count_flops(shape, BATCH, LENGTH, flash=True)["attention"]
    assert ours.forward == shape.layers * forward(q, q, q, out_val=None)
    assert ours.backward == shape.layers * backward(q, q, q, q, out_val=None)


def test_no_weights_are_allocated_on_the_meta_device():
    """Llama 2 7B, counted by both without a byte of weights. 6 N D leaves attention out: 8 % below at 2048 tokens."""
    config = LlamaConfig(intermediate_size=11008, max_position_embeddings=4096)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        ids, mask = torch.zeros(1, 2048, dtype=torch.long), torch.zeros(1, 1, 2048, 2048)
    with flop_counter() as counts:
        model(input_ids=ids, attention_mask=mask, use_cache=False).logits.sum().backward()
    ours = count_flops(Shape.of(config), 1, 2048)
    assert ours.total == counts.get_total_flops()
    weights = sum(p.numel() for name, p in model.named_parameters() if "embed" not in name)
    assert flops.six_n_d(weights, 2048) / ours.total == pytest.approx(0.925, abs=0.01)


def test_palms_rule_is_our_count_in_eager_attention():
    """6 N + 12 L H Q T counts the same products; without the norms' weights, which multiply nothing."""
    for config in CONFIGS.values():
        shape = Shape.of(config)
        assert (
            flops.palm_flops_per_token(shape, LENGTH) * BATCH * LENGTH
            == count_flops(shape, BATCH, LENGTH).total
        )


def test_lora_saves_a_third():
    """Of the products of weights: the gradients of the frozen ones. Not two thirds."""
    shape = Shape.of(load("tiny")[0].config)
    full = count_flops(shape, 8, 64)
    lora = count_flops(shape, 8, 64, lora=Adapters(8, frozenset({"q_proj", "v_proj"})))
    assert 0.64 < lora.total / full.total < 0.7


def test_parts_add_up():
    step = count_flops(Shape.of(CONFIGS["qwen2"]), 2, 8, checkpoint=True)
    assert step.total == sum(part.total for part in step.parts)
    assert step.total == step.forward + step.backward + step.recompute


def test_mfu_by_hand():
    """1000 tokens/s of 10^9 FLOPs each are 10^12 FLOP/s: half of a peak of 2 x 10^12."""
    assert mfu(1000, 1e9, 2e12) == 0.5
    with pytest.raises(ValueError, match="peak_flops must be above 0; got 0"):
        mfu(1000, 1e9, 0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"batch": 0}, "batch and length must be 1 or more"),
        ({"lora": Adapters(0, frozenset({"q_proj"}))}, "rank 1 or more"),
        ({"lora": Adapters(4, frozenset({"query"}))}, "targets among down_proj, gate_proj"),
    ],
)
def test_impossible_sizes_get_a_sentence(arguments, words):
    with pytest.raises(ValueError, match=words):
        count_flops(Shape.of(CONFIGS["llama"]), **{"batch": 1, "length": 1, **arguments})


def test_an_unknown_architecture_is_refused():
    from transformers import BertConfig

    with pytest.raises(ValueError, match="no rule to count 'bert'; the known ones are gpt2, llama"):
        Shape.of(BertConfig())


def test_the_count_needs_no_torch():
    code = "import sys, coursekit.throughput.flops; print('torch' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
    )

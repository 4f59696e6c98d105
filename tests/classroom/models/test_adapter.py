"""An adapter saved and put on its base again answers alike; what is damaged or foreign is refused in words."""

import math

import pytest
import torch
from peft import LoraConfig, get_peft_model

from classroom.models import adapter, files
from classroom.models.load import load
from classroom.models.trouble import ModelError

IDS = torch.arange(12)[None]


@pytest.fixture(scope="module")
def adapted():
    """The embedded model with a small adapter whose matrices are not zero."""
    torch.manual_seed(0)
    config = LoraConfig(
        r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", init_lora_weights=False
    )
    return get_peft_model(load("tiny")[0], config).eval()


@pytest.fixture
def saved(adapted, tmp_path):
    adapter.save_adapter(adapted, tmp_path / "assistant")
    return tmp_path / "assistant"


def logits(model):
    with torch.no_grad():
        return model(IDS).logits


def test_saved_and_loaded_it_computes_the_same(adapted, saved):
    model, _ = adapter.load_adapter(saved)
    assert torch.equal(logits(model), logits(adapted))
    assert not torch.equal(logits(model), logits(load("tiny")[0]))


def test_the_size_is_that_of_the_trained_numbers_and_a_header(adapted, tmp_path):
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert 4 * trained < adapter.save_adapter(adapted, tmp_path / "a") < 4 * trained + 8192


def test_a_matrix_with_nan_is_not_saved_over_an_earlier_adapter(adapted, saved):
    before = (saved / adapter.WEIGHTS).read_bytes()
    matrix = next(p for p in adapted.parameters() if p.requires_grad)
    first = matrix.data.flatten()[0].item()
    matrix.data.view(-1)[0] = math.nan
    try:
        with pytest.raises(ValueError, match=r"not finite.*lower learning rate"):
            adapter.save_adapter(adapted, saved)
    finally:
        matrix.data.view(-1)[0] = first
    assert (saved / adapter.WEIGHTS).read_bytes() == before


def test_a_full_disk_leaves_the_earlier_adapter(adapted, saved, room):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    with room(10_000), pytest.raises(files.SaveError, match="assistant could not be saved"):
        adapter.save_adapter(adapted, saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


@pytest.mark.parametrize("missing", [adapter.CONFIG, adapter.WEIGHTS])
def test_a_missing_file_is_named(saved, missing):
    (saved / missing).unlink()
    with pytest.raises(ModelError, match=f"no {missing}"):
        adapter.load_adapter(saved)


def test_weights_cut_off_are_damaged(saved):
    file = saved / adapter.WEIGHTS
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match="damaged"):
        adapter.load_adapter(saved)


ODD = {
    "an array": "[]",
    "of nothing": "{}",
    "a number": "5",
    "cut off": '{"peft_type": "LO',
    "of an unknown kind": '{"peft_type": "NOPE"}',
    "of a kind that is a list": '{"peft_type": ["LORA"]}',
    "too deep": "[" * 100_000,
    "with a rank in words": '{"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": "x", "target_modules": ["q_proj"]}',
    "with no rank": '{"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 0, "target_modules": ["q_proj"]}',
    "with targets that are none": '{"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "target_modules": 3}',
    "of an unknown task": '{"peft_type": "LORA", "task_type": "NOPE", "r": 2, "target_modules": ["q_proj"]}',
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_an_odd_adapter_config_is_a_sentence(saved, text):
    (saved / adapter.CONFIG).write_text(text)
    with pytest.raises(
        ModelError, match=r"adapter_config\.json|the adapter in assistant does not fit on tiny"
    ):
        adapter.load_adapter(saved)


def test_an_adapter_with_nan_is_refused(saved):
    from safetensors.torch import load_file, save_file

    matrices = load_file(saved / adapter.WEIGHTS)
    next(iter(matrices.values())).view(-1)[0] = math.nan
    save_file(matrices, saved / adapter.WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"lora_.* of the adapter in assistant holds numbers that are not finite"
    ):
        adapter.load_adapter(saved)


def test_the_folder_one_is_in_can_be_saved_to(adapted, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    adapter.save_adapter(adapted, ".")
    assert {adapter.CONFIG, adapter.WEIGHTS} <= {path.name for path in (tmp_path / "here").iterdir()}
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_an_adapter_of_another_base_is_refused(tmp_path):
    """One with other sizes, and one whose layers the model does not have."""
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=99, **sizes))
    gpt2 = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=99))
    for base, target in ((llama, "q_proj"), (gpt2, "c_attn")):
        model = get_peft_model(base, LoraConfig(r=2, target_modules=[target], task_type="CAUSAL_LM"))
        adapter.save_adapter(model, tmp_path / target)
        with pytest.raises(ModelError, match=r"does not fit on tiny .*Load it onto the model"):
            adapter.load_adapter(tmp_path / target)

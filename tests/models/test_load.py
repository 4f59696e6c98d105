"""One call loads any model; what is wrong is said in a sentence, and nothing is half loaded."""

import json
import shutil

import pytest
import torch

from coursekit.models import load as module
from coursekit.models.load import TINY, ModelError, load


@pytest.fixture
def folder(tmp_path):
    return shutil.copytree(TINY, tmp_path / "model")


def test_the_embedded_model_is_small_and_whole():
    model, tokenizer = load("tiny")
    assert sum(p.numel() for p in model.parameters()) < 4_000_000 and model.dtype == torch.float32
    assert sum(file.stat().st_size for file in TINY.iterdir()) < 12_000_000
    assert tokenizer.decode(tokenizer("The young knight.")["input_ids"]) == "The young knight."
    assert not model.training


def test_a_folder_and_a_dtype(folder):
    assert load(str(folder), dtype="bfloat16")[0].dtype == torch.bfloat16


def test_quantised_to_four_bits():
    """bitsandbytes' own layers, and logits close to those of the full model."""
    full, tokenizer = load("tiny")
    small, _ = load("tiny", quantization="nf4")
    assert type(small.model.layers[0].mlp.up_proj).__name__ == "Linear4bit"
    ids = tokenizer("The young knight found a silver key.", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        a, b = full(ids).logits.softmax(-1), small(ids).logits.softmax(-1)
    assert 0 < (a - b).abs().sum(-1).mean() / 2 < 0.2  # total variation distance, averaged over positions


def test_a_truncated_file_is_named(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1_000_000])
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged.*1,000,000 bytes.*Copy it again"):
        load(str(folder))


def test_a_corrupt_file_is_named(folder):
    (folder / "model.safetensors").write_bytes(b"not a model at all")
    with pytest.raises(ModelError, match="is damaged"):
        load(str(folder))


@pytest.mark.parametrize(
    ("name", "words"), [("config.json", "no config.json"), ("model.safetensors", "weights are missing")]
)
def test_a_missing_file_is_named(folder, name, words):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=words):
        load(str(folder))


def test_a_tokenizer_of_another_model_is_refused(folder):
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][0], "id": 1024, "content": "<|more|>"})
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(ModelError, match=r"makes ids up to 1024, the model has embeddings for 1024"):
        load(str(folder))


def test_a_model_larger_than_the_memory_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(module, "_free_bytes", lambda device: 1_000_000)
    with pytest.raises(ModelError, match=r"the weights of tiny take 0\.0 GB.*quantization=\"nf4\""):
        load("tiny")


def test_offline_is_explained():
    """The tests run with HF_HUB_OFFLINE=1."""
    with pytest.raises(ModelError, match=r"cannot be reached.*MODEL = \"tiny\""):
        load("someone/not-on-this-machine")


def test_a_gated_model_is_explained(monkeypatch):
    def gated(*_):
        raise OSError("You are trying to access a gated repo.")

    monkeypatch.setattr(module, "_load_model", gated)
    with pytest.raises(ModelError, match="accept a licence"):
        load("meta-llama/Llama-3-8B")


@pytest.mark.parametrize("arguments", [{"dtype": "float8"}, {"quantization": "nf3"}])
def test_unknown_options_are_refused(arguments):
    with pytest.raises(ValueError, match="got"):
        load("tiny", **arguments)

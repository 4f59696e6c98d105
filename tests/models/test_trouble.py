"""What is wrong with a model is said in a sentence: what was expected, what came, what to do."""

import json

import pytest
import torch
from transformers import AutoConfig, LlamaConfig

from coursekit.models import trouble
from coursekit.models.load import TINY, load
from coursekit.models.sizes import stored_bytes
from coursekit.models.trouble import ModelError


def edit(path, **changes):
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**settings, **changes}), encoding="utf-8")


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1], lambda data: data + b"x", lambda data: b"nothing"]
)
def test_a_file_of_another_length_is_damaged(folder, change):
    """One byte less, one byte more, something else altogether."""
    file = folder / "model.safetensors"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged \(.*Copy it again"):
        trouble.check_files(folder)


@pytest.mark.parametrize(
    ("name", "words"), [("config.json", "no config.json"), ("model.safetensors", "weights are missing")]
)
def test_a_missing_file_is_named(folder, name, words):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=words):
        trouble.check_files(folder)


@pytest.mark.parametrize("name", ["/no/such", "./model", "~/model", "..\\model", "one/two/three"])
def test_a_path_to_nothing_is_told_apart_from_a_model_of_the_hub(name):
    with pytest.raises(ModelError, match="there is no folder"):
        trouble.check_place(name)


@pytest.mark.parametrize("name", ["tiny", "someone/model", str(TINY)])
def test_other_names_are_left_to_the_hub(name):
    trouble.check_place(name)


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    trouble.check_device("cpu")
    with pytest.raises(ModelError, match=r"device is 'cuda:1', and torch finds no GPU here.*device=\"cpu\""):
        trouble.check_device("cuda:1")


def test_the_bytes_of_llama_3_8b_are_known_without_its_weights():
    """8,030,261,248 parameters, says its model card; two bytes each."""
    config = LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
        num_attention_heads=32, num_key_value_heads=8,
    )  # fmt: skip
    assert trouble.weight_bytes(config, torch.bfloat16, None) == 2 * 8_030_261_248


@pytest.mark.parametrize(
    ("dtype", "quantization"),
    [("float32", None), ("bfloat16", None), ("float32", "nf4"), ("float32", "int8")],
)
def test_the_bytes_foreseen_are_those_of_the_loaded_model(dtype, quantization):
    foreseen = trouble.weight_bytes(AutoConfig.from_pretrained(TINY), getattr(torch, dtype), quantization)
    model, _ = load("tiny", dtype=dtype, quantization=quantization)
    # int8 keeps a scale for each row, four bytes, which is not counted
    assert foreseen == pytest.approx(stored_bytes(model), rel=0.01 if quantization else 0)


def test_too_large_is_said_with_both_sizes_and_what_would_be_smaller(monkeypatch):
    monkeypatch.setattr(trouble, "free_bytes", lambda device: 3_000_000)
    config, fp32 = AutoConfig.from_pretrained(TINY), torch.float32
    with pytest.raises(
        ModelError, match=r"take 0\.0 GB, 0\.0 GB are free on cpu\. .*quantization=\"nf4\", or close"
    ):
        trouble.check_memory(config, fp32, "cpu", None, "tiny")
    trouble.check_memory(config, fp32, "cpu", "nf4", "tiny")
    monkeypatch.setattr(trouble, "free_bytes", lambda device: 1_000_000)
    with pytest.raises(ModelError, match="Take a smaller model, or close other programs"):
        trouble.check_memory(config, fp32, "cpu", "nf4", "tiny")


def test_a_tokenizer_of_another_model_is_refused(folder):
    path = folder / "tokenizer.json"
    added = json.loads(path.read_text(encoding="utf-8"))["added_tokens"]
    edit(path, added_tokens=[*added, {**added[0], "id": 1024, "content": "<|more|>"}])
    with pytest.raises(ModelError, match=r"makes ids up to 1024, the model has embeddings for 1024"):
        load(str(folder))


CHANGES = {
    "config is no JSON": ("config.json", "{ not json", "not a valid JSON file"),
    "config of nothing": ("config.json", "{}", "Should have a `model_type` key"),
    "tokenizer is no JSON": ("tokenizer.json", "{", "the tokenizer of .* is missing or damaged"),
}


@pytest.mark.parametrize(("file", "content", "words"), CHANGES.values(), ids=CHANGES)
def test_a_damaged_text_file_is_named(folder, file, content, words):
    (folder / file).write_text(content)
    with pytest.raises(ModelError, match=words):
        load(str(folder))


def test_a_missing_tokenizer_is_named(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"the tokenizer of .* is missing or damaged.*Copy its files again"):
        load(str(folder))


def test_weights_of_other_sizes_are_refused(folder):
    edit(folder / "config.json", hidden_size=128)
    with pytest.raises(ModelError, match=r"have other sizes than its config\.json says"):
        load(str(folder))


SAID = {
    "You are trying to access a gated repo.": "accept a licence.*hf auth login",
    "401 Client Error": "accept a licence",
    "Couldn't reach the hub": "cannot be reached",
    "CUDA out of memory. Tried to allocate 2 GiB": "the memory ended while someone/m was loaded",
    "something new\nin two lines": "could not be loaded: something new. Check the name",
}


@pytest.mark.parametrize(("said", "words"), SAID.items())
def test_what_the_libraries_say_is_put_into_words(said, words):
    with pytest.raises(ModelError, match=words), trouble.explained("someone/m", "model"):
        raise OSError(said)


def test_what_is_not_foreseen_stays_the_error_it_is():
    with pytest.raises(KeyError), trouble.explained("someone/m", "model"):
        raise KeyError("surprise")

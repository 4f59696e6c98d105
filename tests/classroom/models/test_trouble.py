"""What is wrong with a model is said in a sentence: what was expected, what came, what to do."""

import json
import os

import pytest
import torch
from transformers import AutoConfig, LlamaConfig

from classroom.models import trouble
from classroom.models.load import TINY, load
from classroom.models.sizes import stored_bytes
from classroom.models.trouble import ModelError


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
        ModelError, match=r"need 0\.0 GB, 0\.0 GB are free on cpu\. .*quantization=\"nf4\", or close"
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
    "config is no JSON": ("config.json", "{ not json", "it is not JSON"),
    "config of nothing": ("config.json", "{}", "Should have a `model_type` key"),
    "config a number": ("config.json", "5", "expected an object {...}, it holds 5. Copy it again"),
    "config an array": ("config.json", "[]", r"expected an object {...}, it holds \[\]"),
    "config too deep": ("config.json", "[" * 100_000, "nested too deeply"),
    "tokenizer is no JSON": ("tokenizer.json", "{", "the tokenizer of .* is missing or damaged"),
    "tokenizer an array": ("tokenizer.json", "[]", "the tokenizer of .* is missing or damaged"),
    "tokenizer of nothing": ("tokenizer.json", "{}", "the tokenizer of .* is missing or damaged"),
    "tokenizer's settings an array": (
        "tokenizer_config.json",
        "[]",
        "the tokenizer of .* is missing or damaged",
    ),
    "generation's settings an array": (
        "generation_config.json",
        "[]",
        "could not be loaded: .*copy its files again",
    ),
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


SETTINGS = {
    "hidden_size text": ({"hidden_size": "x"}, r"Field 'hidden_size' expected int, got str \(value: 'x'\)"),
    "no heads": ({"num_attention_heads": 0}, "could not be loaded"),
    "7 heads": ({"num_attention_heads": 7}, r"The hidden size \(256\) is not a multiple of .* heads \(7\)"),
    "no vocabulary": ({"vocab_size": 0}, "could not be loaded"),
    "a negative vocabulary": ({"vocab_size": -1}, "could not be loaded"),
    "hidden_act unknown": (
        {"hidden_act": "nope"},
        "could not be loaded: KeyError 'nope'. Look for that in its config",
    ),
    "dtype unknown": ({"dtype": "float99"}, "no attribute 'float99'"),
    "model_type a list": ({"model_type": ["llama"]}, "could not be loaded: unhashable type"),
    "rope unknown": ({"rope_parameters": {"rope_type": "nope"}}, "could not be loaded: KeyError 'nope'"),
    "padding outside": ({"pad_token_id": 99999}, "Padding_idx must be within"),
    "quantization a number": ({"quantization_config": 5}, "could not be loaded"),
    "10^9 layers": ({"num_hidden_layers": 10**9}, "asks for 1000000000 layers; 10,000 are the most"),
    "fewer layers": (
        {"num_hidden_layers": 2},
        r"18 weights in the files of .* have no place in the model, .*layers\.2\.",
    ),
    "no layers": ({"num_hidden_layers": 0}, "36 weights in the files of .* have no place in the model"),
    "layers below zero": (
        {"num_hidden_layers": -1},
        "36 weights in the files of .* have no place in the model",
    ),
}


@pytest.mark.parametrize(("changes", "words"), SETTINGS.values(), ids=SETTINGS)
def test_a_config_that_no_model_can_have_is_explained(folder, changes, words):
    edit(folder / "config.json", **changes)
    with pytest.raises(ModelError, match=words):
        load(str(folder))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_what_is_no_regular_file_is_not_opened(folder, name):
    """A pipe would be waited for, without end; where there are no pipes, a link to nothing stands for it."""
    (folder / name).unlink()
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to(folder / "nothing")
    with pytest.raises(ModelError, match=r"is not a regular file or a link to one"):
        load(str(folder))


def with_weights(folder, change):
    """The folder, with its weights changed and well written again."""
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


@pytest.mark.parametrize("quantization", [None, "nf4", "int8"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(folder, number, quantization):
    name = "model.layers.0.mlp.up_proj.weight"
    place = with_weights(folder, lambda weights: weights[name].view(-1)[5:6].fill_(number))
    with pytest.raises(ModelError, match=r"layers\.0\.mlp\.up_proj\..* numbers that are not finite"):
        load(place, quantization=quantization)


def test_a_weight_that_the_config_does_not_know_is_named(folder):
    """A bias in the file of a model without biases: left out, the model would compute something else."""
    place = with_weights(
        folder, lambda w: w.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(256)})
    )
    with pytest.raises(ModelError, match=r"1 weights in the files .*q_proj\.bias the first"):
        load(place)


def test_flipped_bytes_of_the_embedded_model_are_found(folder, monkeypatch):
    """One bit of one weight: no header says anything of it."""
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    trouble.check_own()
    data[-1000] ^= 1
    file.write_bytes(data)
    monkeypatch.setattr(trouble, "TINY", folder)
    with pytest.raises(ModelError, match=r"some of its bytes have changed\. Get it back with: git checkout"):
        load("tiny")


SAID = {
    "You are trying to access a gated repo.": "accept a licence.*hf auth login",
    "401 Client Error": "accept a licence",
    "Couldn't reach the hub": "cannot be reached",
    "CUDA out of memory. Tried to allocate 2 GiB": "ran out of memory while loading someone/m",
    "something new\nin two lines": "could not be loaded: something new. Check the name",
}


@pytest.mark.parametrize(("said", "words"), SAID.items())
def test_what_the_libraries_say_is_put_into_words(said, words):
    with pytest.raises(ModelError, match=words), trouble.explained("someone/m", "model"):
        raise OSError(said)


def test_what_is_not_foreseen_stays_the_error_it_is():
    with pytest.raises(KeyError), trouble.explained("someone/m", "model"):
        raise KeyError("surprise")


def test_from_a_folder_every_error_is_about_its_files():
    words = r"KeyError 'surprise'\. Look for that in its config\.json"
    with pytest.raises(ModelError, match=words), trouble.explained("my-model", "model", local=True):
        raise KeyError("surprise")
    with pytest.raises(KeyboardInterrupt), trouble.explained("my-model", "model", local=True):
        raise KeyboardInterrupt


def test_numbers_in_the_error_of_a_folder_are_not_the_hubs():
    """401 is also a size."""
    words = "could not be loaded: bad size 401"
    with pytest.raises(ModelError, match=words), trouble.explained("my-model", "model", local=True):
        raise ValueError("bad size 401")


def test_a_model_of_the_hub_may_carry_parts_that_are_not_used():
    """A vision encoder, say. In a folder the same is a config that belongs to other weights."""
    loading = {"missing_keys": [], "unexpected_keys": ["vision.weight"]}
    with pytest.warns(UserWarning, match=r"vision\.weight the first; they are left out"):
        trouble.check_complete(loading, "some/model", local=False)
    with pytest.raises(ModelError, match="do not belong together"):
        trouble.check_complete(loading, "some/model", local=True)

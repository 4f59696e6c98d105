"""One call loads any model; what is wrong is said in a sentence, and nothing is half loaded."""

import json

import pytest
import torch

from coursekit.models import load as module
from coursekit.models.load import TINY, load
from coursekit.models.trouble import ModelError

DEFAULT_DEVICE = module.default_device  # before the session's fixture puts the CPU in its place


def edit(path, **changes):
    settings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**settings, **changes}), encoding="utf-8")


def test_the_embedded_model_is_small_and_whole():
    model, tokenizer = load("tiny")
    assert sum(p.numel() for p in model.parameters()) < 4_000_000 and model.dtype == torch.float32
    assert sum(file.stat().st_size for file in TINY.iterdir()) < 12_000_000
    assert tokenizer.decode(tokenizer("The young knight.")["input_ids"]) == "The young knight."
    assert not model.training


@pytest.mark.parametrize("gpu", [True, False])
def test_the_first_gpu_is_the_default_but_not_in_tests(gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert DEFAULT_DEVICE() == ("cuda" if gpu else "cpu")
    assert module.default_device() == "cpu"


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


def test_a_missing_bitsandbytes_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"needs bitsandbytes, which is not installed: pip install"):
        load("tiny", quantization="nf4")


def test_a_damaged_folder_is_refused_before_anything_is_loaded(folder, monkeypatch):
    monkeypatch.setattr(module, "_load", lambda *_: pytest.fail("it was loaded"))
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1_000_000])
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged.*1,000,000 bytes.*Copy it again"):
        load(str(folder))


def test_weights_of_another_model_are_refused(folder):
    """transformers would fill two layers with random numbers, print a table and go on."""
    edit(folder / "config.json", num_hidden_layers=6)
    with pytest.raises(
        ModelError, match=r"18 weights of .* are not in its files, model\.layers\.4\..* the first"
    ):
        load(str(folder))


def test_a_model_larger_than_the_memory_is_refused_before_it_is_read(folder, monkeypatch):
    monkeypatch.setattr("coursekit.models.trouble.free_bytes", lambda device: 1_000_000)
    monkeypatch.setattr(module, "_load_model", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(ModelError, match=r"the weights of .* take 0\.0 GB.*quantization=\"nf4\""):
        load(str(folder))


def test_offline_is_explained():
    """The tests run with HF_HUB_OFFLINE=1."""
    with pytest.raises(ModelError, match=r"cannot be reached.*MODEL = \"tiny\""):
        load("someone/not-on-this-machine")


def test_a_hub_that_does_not_answer_is_asked_once_and_briefly(monkeypatch):
    """The hub's own client would try five times for each file, most of a minute."""
    asked = []

    def refuse(address, timeout):
        asked.append((address, timeout))
        raise OSError("Network is unreachable")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr("socket.create_connection", refuse)
    with pytest.raises(ModelError, match="cannot be reached"):
        load("someone/not-on-this-machine")
    assert asked == [(("huggingface.co", 443), 3.0)]


def test_behind_a_proxy_the_hub_is_not_asked_directly(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("urllib.request.getproxies", lambda: {"https": "http://proxy.example:3128"})
    monkeypatch.setattr("socket.create_connection", lambda *_, **__: pytest.fail("it was asked"))
    assert module.hub_answers()


@pytest.mark.parametrize("arguments", [{"dtype": "float8"}, {"quantization": "nf3"}])
def test_unknown_options_are_refused(arguments):
    with pytest.raises(ValueError, match="got"):
        load("tiny", **arguments)

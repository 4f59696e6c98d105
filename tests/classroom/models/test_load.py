"""One call loads any model; what is wrong is said in a sentence, and nothing is half loaded."""

import json
import sys

import pytest
import torch

from classroom.models import load as module
from classroom.models.load import TINY, load
from classroom.models.trouble import ModelError

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


@pytest.mark.parametrize("quantization", ["nf4", "fp4", "int8"])
def test_a_missing_bitsandbytes_is_named_with_what_to_install(monkeypatch, quantization):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # its import then fails as if it were not there
    words = (
        r"needs bitsandbytes, which is not installed: pip install bitsandbytes \(in a notebook %pip install"
    )
    with pytest.raises(ModelError, match=words):
        load("tiny", quantization=quantization)
    assert load("tiny")  # and nothing else needs it


def test_a_bitsandbytes_that_does_not_start_is_named(monkeypatch, tmp_path):
    """A wheel of another platform: its library cannot be opened."""
    (tmp_path / "bitsandbytes.py").write_text("raise OSError('libbitsandbytes.so: wrong ELF class')")
    monkeypatch.delitem(sys.modules, "bitsandbytes", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ModelError, match=r"does not work on cpu: libbitsandbytes\.so: wrong ELF class\. Install it again"
    ):
        load("tiny", quantization="nf4")


@pytest.mark.parametrize(
    ("quantization", "first"), [("nf4", "quantize_4bit"), ("int8", "int8_vectorwise_quant")]
)
def test_a_bitsandbytes_without_a_backend_is_named(monkeypatch, quantization, first):
    """What its releases for some machines, which have no library of their own, answer to the first call."""

    def refuse(*arguments, **options):
        raise RuntimeError(
            "Attempted to use bitsandbytes native library functionality but it's not available."
        )

    monkeypatch.setattr(f"bitsandbytes.functional.{first}", refuse)
    with pytest.raises(ModelError, match=r"does not work on cpu: Attempted to use .* with quantization=None"):
        load("tiny", quantization=quantization)


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
    monkeypatch.setattr("classroom.models.trouble.free_bytes", lambda device: 1_000_000)
    monkeypatch.setattr(module, "_load_model", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(ModelError, match=r"the weights of .* need 0\.0 GB.*quantization=\"nf4\""):
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


@pytest.mark.parametrize("device", ["nope", 5, "cuda:x", ["cpu"]])
def test_an_unknown_device_is_refused(device):
    with pytest.raises(ModelError, match="device must be a text such as"):
        load("tiny", device=device)


@pytest.mark.parametrize("name", [None, 5, "", " ", b"tiny", ["tiny"], "a\0b"])
def test_what_is_no_name_is_refused(name):
    with pytest.raises(ModelError, match=r"name must be a text .* got .*MODEL = \"tiny\""):
        load(name)


def test_a_path_is_a_name(folder):
    assert load(folder)[0].num_parameters() == load(str(folder))[0].num_parameters()

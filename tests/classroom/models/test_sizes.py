"""Bytes are counted on tensors: four a parameter in FP32, sixteen with gradients and Adam, and every scale of NF4."""

import pytest
import torch
from safetensors.torch import load_file

from classroom.models import finetune, sizes, task
from classroom.models.load import load


@pytest.fixture(scope="module")
def tiny():
    return load("tiny")


def test_stored_bytes_are_those_of_the_layers(tiny):
    """FP32: four bytes a parameter. NF4 with double quantisation: 4.127 bits a weight of the linear layers."""
    full, _ = tiny
    small, _ = load("tiny", quantization="nf4")
    parameters = sum(p.numel() for p in full.parameters())
    linear = sum(m.weight.numel() for m in full.model.modules() if isinstance(m, torch.nn.Linear))
    assert sizes.stored_bytes(full) == 4 * parameters
    others = 4 * (parameters - linear)
    assert sizes.stored_bytes(small) - others == pytest.approx(linear * 4.127 / 8, rel=0.01)


def test_nf4_holds_what_bitsandbytes_writes_to_disk(tmp_path):
    """Its file has the same tensors, and for each layer two tables of levels and a record of settings (the mean of the
    scales, four bytes, is in there)."""
    small, _ = load("tiny", quantization="nf4")
    small.save_pretrained(tmp_path)
    written = load_file(tmp_path / "model.safetensors")
    tensors = [t for name, t in written.items() if "quant_map" not in name and "quant_state" not in name]
    layers = sum("quant_state" in name for name in written)
    on_disk = sum(t.numel() * t.element_size() for t in tensors)
    assert layers == 28 and sizes.stored_bytes(small) == on_disk + 4 * layers


def test_full_training_holds_sixteen_bytes_a_parameter(tiny):
    model, tokenizer = tiny
    run = finetune.training(model, tokenizer, task.pairs("train", 8), steps=1, rate=1e-5, size=8)
    run.go()
    parameters = sum(p.numel() for p in model.parameters())
    assert sizes.training_bytes(run) == {
        "weights": 4 * parameters,
        "gradients": 4 * parameters,
        "Adam": 8 * parameters,
    }

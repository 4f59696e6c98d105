"""Every kind of GPU is told the truth about: torch's answers are put in place of the hardware that is not here."""

from types import SimpleNamespace

import pytest
import torch

from classroom.machine import gpu
from classroom.machine import host as machine


@pytest.fixture
def nothing(monkeypatch):
    """A machine whose torch sees no GPU at all; `nothing.setattr` puts one there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.xpu, "is_available", lambda: False)
    monkeypatch.setattr(machine, "answer_of", lambda *command: None)
    monkeypatch.setattr(gpu.os.path, "exists", lambda path: False)
    return monkeypatch


def test_no_gpu(nothing):
    assert gpu.find_gpu() is None
    assert gpu.unused_card() is None


@pytest.mark.parametrize(("hip", "kind"), [(None, "cuda"), ("6.4", "rocm")])
def test_nvidia_and_amd_are_used(nothing, hip, kind):
    card = SimpleNamespace(name="Card", total_memory=8 * 2**30, major=9, minor=0)
    nothing.setattr(torch.cuda, "is_available", lambda: True)
    nothing.setattr(torch.cuda, "get_device_properties", lambda index: card)
    nothing.setattr(torch.version, "hip", hip)
    found = gpu.find_gpu()
    assert (found.kind, found.used, found.compute_capability) == (kind, True, "9.0")


def test_an_apple_gpu_is_named_and_not_used(nothing):
    nothing.setattr(torch.backends.mps, "is_available", lambda: True)
    nothing.setattr(machine, "answer_of", lambda *command: "Apple M2 Pro")
    found = gpu.find_gpu()
    assert (found.name, found.used) == ("GPU of the Apple M2 Pro", False)


def test_an_intel_gpu_is_named_and_not_used(nothing):
    nothing.setattr(torch.xpu, "is_available", lambda: True)
    nothing.setattr(torch.xpu, "get_device_name", lambda index: "Arc B580")
    assert gpu.find_gpu().words() == (
        "Arc B580 (Intel, xpu): the course does not use it; everything runs on the processor"
    )


@pytest.mark.parametrize(
    ("cuda", "words"),
    [
        (None, "but this torch is the CPU build"),
        ("13.0", "(Some Card, driver 470.1), but this torch, built for CUDA 13.0, cannot use it"),
    ],
)
def test_an_nvidia_card_that_torch_cannot_use(nothing, cuda, words):
    nothing.setattr(machine, "answer_of", lambda *command: "Some Card, 470.1\nOther Card, 470.1")
    nothing.setattr(torch.version, "cuda", cuda)
    assert words in gpu.unused_card()


def test_an_amd_card_that_torch_cannot_use(nothing):
    nothing.setattr(gpu.os.path, "exists", lambda path: path == "/dev/kfd")
    nothing.setattr(torch.version, "hip", None)
    assert "not built for ROCm" in gpu.unused_card()

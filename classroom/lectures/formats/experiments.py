"""Weights, activations and gradients of a small network, for the histograms of lecture 1.

A network of four layers learns to guess the next letter of sentences that a small grammar makes: a few seconds on
one core. It computes in FP64 on one thread, so that processors differ in the last digits only. It stands in for the
course's own model until lecture 2 has one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from coursekit.formats.spec import FloatSpec
from coursekit.formats.tensor import round_to

CONTEXT, WIDTH, STEPS, BATCH = 12, 192, 150, 512
WORDS = (
    ["young", "old", "small", "green", "wise", "brave", "quiet", "clever"],
    ["knight", "master", "farmer", "robot", "pilot", "teacher"],
    ["found", "lost", "sold", "hid", "saw", "carried"],
    ["silver", "wooden", "broken", "golden"],
    ["key", "sword", "map", "lantern", "ship", "book"],
)


def train_briefly(seed: int) -> dict[str, Tensor]:
    """{"weights", "activations", "gradients"}: all numbers of each kind after training, float32, one dimension each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the work is small: on a busy machine threads would wait for each other
    try:
        return _train(_text(seed), seed)
    finally:
        torch.set_num_threads(threads)


def _train(letters: Tensor, seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    model = _network(vocabulary=int(letters.max()) + 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(STEPS):
        window = _batch(letters)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(window[:, :-1]), window[:, -1]).backward()
        optimizer.step()
    return {
        "weights": _joined(p.detach() for p in model.parameters() if p.ndim == 2),
        "activations": _joined(_outputs(model, window[:, :-1])),
        "gradients": _joined(p.grad for p in model.parameters()),
    }


def _network(vocabulary: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Embedding(vocabulary, 24), nn.Flatten(), nn.Linear(24 * CONTEXT, WIDTH), nn.LayerNorm(WIDTH), nn.GELU(),
        nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.GELU(), nn.Linear(WIDTH, vocabulary),
    ).double()  # fmt: skip


def _batch(letters: Tensor) -> Tensor:
    """int64 [BATCH, CONTEXT + 1]: stretches of the text; the last letter is the one to guess."""
    start = torch.randint(len(letters) - CONTEXT, (BATCH,))
    return letters[start[:, None] + torch.arange(CONTEXT + 1)]


@torch.no_grad()
def _outputs(model: nn.Sequential, x: Tensor) -> list[Tensor]:
    """What every layer from the first linear one on gives."""
    outputs = []
    for layer in model:
        x = layer(x)
        outputs.append(x)
    return outputs[2:]


def _joined(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([t.flatten() for t in tensors]).float()


def flushed(values: Tensor, fmt: FloatSpec) -> float:
    """Share of the nonzero values that the format rounds to zero."""
    values = values[values != 0]
    return (round_to(values, fmt) == 0).double().mean().item()


def _text(seed: int) -> Tensor:
    """Letters of 4,000 sentences as whole numbers, int64."""
    dice = random.Random(seed)
    sentences = ("The {} {} {} a {} {}. ".format(*map(dice.choice, WORDS)) for _ in range(4000))
    text = "".join(sentences)
    letters = sorted(set(text))
    return torch.tensor([letters.index(letter) for letter in text])

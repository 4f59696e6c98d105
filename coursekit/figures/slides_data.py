"""Weights, activations and gradients of a small network, for the histograms of lecture 1.

A network of four layers learns to guess the next letter of sentences that a small grammar makes: a few seconds on one
core, the same numbers for the same seed. It stands in for the course's own model until lecture 2 has one.
"""

from __future__ import annotations

import random

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
    """{"weights", "activations", "gradients"}: all numbers of each kind after training, one dimension each."""
    letters = _text(seed)
    torch.manual_seed(seed)
    vocabulary = int(letters.max()) + 1
    model = nn.Sequential(
        nn.Embedding(vocabulary, 24), nn.Flatten(), nn.Linear(24 * CONTEXT, WIDTH), nn.LayerNorm(WIDTH), nn.GELU(),
        nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.GELU(), nn.Linear(WIDTH, vocabulary),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    seen: list[Tensor] = []
    for step in range(STEPS):
        start = torch.randint(len(letters) - CONTEXT, (BATCH,))
        window = letters[start[:, None] + torch.arange(CONTEXT + 1)]
        if step == STEPS - 1:
            hooks = [
                layer.register_forward_hook(lambda _, __, out: seen.append(out.detach()))
                for layer in model[2:]
            ]
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(window[:, :-1]), window[:, -1]).backward()
        optimizer.step()
    for hook in hooks:
        hook.remove()
    return {
        "weights": torch.cat([p.detach().flatten() for p in model.parameters() if p.ndim == 2]),
        "activations": torch.cat([out.flatten() for out in seen]),
        "gradients": torch.cat([p.grad.flatten() for p in model.parameters()]),
    }


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

"""What notebook and deck of lecture 1 both compute: sums in two accumulators, and the numbers of a small network.

    draws, sums = accumulated(seed=0)
    flushed(train_briefly(seed=0)["gradients"], E4M3)

The network has four layers and learns to guess the next letter of sentences from a small grammar, in a few seconds on
one core. It computes in FP64 on one thread, so that processors differ in the last digits only. It stands in for the
embedded language model of the other lectures.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from coursekit.formats import summation
from coursekit.formats.spec import FP16, FP32, FloatSpec
from coursekit.formats.tensor import round_to

CONTEXT, WIDTH, STEPS, BATCH = 12, 192, 150, 512
WORDS = (
    ["young", "old", "small", "green", "wise", "brave", "quiet", "clever"],
    ["knight", "master", "farmer", "robot", "pilot", "teacher"],
    ["found", "lost", "sold", "hid", "saw", "carried"],
    ["silver", "wooden", "broken", "golden"],
    ["key", "sword", "map", "lantern", "ship", "book"],
)


def accumulated(seed: int, numbers: int = 8000) -> tuple[Tensor, dict[str, Tensor]]:
    """Add random FP16 numbers from [0, 1) in two accumulators: (the numbers, {accumulator: its partial sums}).

    Numbers and partial sums are float64 [numbers]; every partial sum is rounded to the accumulator's format.
    """
    draws = torch.rand(numbers, generator=torch.Generator().manual_seed(seed)).half().double()
    formats = {"FP16 accumulator": FP16, "FP32 accumulator": FP32}
    return draws, {name: summation.partial_sums(draws, fmt) for name, fmt in formats.items()}


def train_briefly(seed: int) -> dict[str, Tensor]:
    """Train the small network and return all its numbers: {"weights", "activations", "gradients"}, float32 [count]."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # little work: on a busy machine several threads would wait for each other
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


def _network(vocabulary: int) -> nn.Sequential:  # int64 [batch, CONTEXT] -> float64 [batch, vocabulary]
    return nn.Sequential(
        nn.Embedding(vocabulary, 24), nn.Flatten(), nn.Linear(24 * CONTEXT, WIDTH), nn.LayerNorm(WIDTH), nn.GELU(),
        nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.GELU(), nn.Linear(WIDTH, vocabulary),
    ).double()  # fmt: skip


def _batch(letters: Tensor) -> Tensor:
    """Draw random stretches of the text, int64 [BATCH, CONTEXT + 1]; the last letter is the one to guess."""
    start = torch.randint(len(letters) - CONTEXT, (BATCH,))
    return letters[start[:, None] + torch.arange(CONTEXT + 1)]


@torch.no_grad()
def _outputs(model: nn.Sequential, x: Tensor) -> list[Tensor]:
    """The output of every layer from the first linear one on."""
    outputs = []
    for layer in model:
        x = layer(x)
        outputs.append(x)
    return outputs[2:]  # embedding and flatten only copy weights


def _joined(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([t.flatten() for t in tensors]).float()


def flushed(values: Tensor, fmt: FloatSpec) -> float:
    """The share of the nonzero values that the format rounds to zero; NaN if all values are zero."""
    values = values[values != 0]
    return (round_to(values, fmt) == 0).double().mean().item()


def _text(seed: int) -> Tensor:
    """Make 4,000 sentences and return their letters as numbers of the alphabet, int64 [letters]."""
    dice = random.Random(seed)
    sentences = ("The {} {} {} a {} {}. ".format(*map(dice.choice, WORDS)) for _ in range(4000))
    text = "".join(sentences)
    letters = sorted(set(text))
    return torch.tensor([letters.index(letter) for letter in text])

"""Measure how much of a batch is padding, and make batches of similar lengths, which hold less of it.

    >>> lengths = [2, 9, 3, 8]
    >>> waste(lengths, [[0, 1], [2, 3]]).share, waste(lengths, [[0, 2], [1, 3]]).share
    (0.3529411764705882, 0.08333333333333337)

A batch is a rectangle, texts are not: each row is padded to the longest, and padding costs as much as text. Bucketing
puts texts of similar length into one batch. Sorting all texts would waste least, but then every epoch goes from short
to long texts, and gradients with it; so texts are shuffled, cut into pools, sorted within a pool only, and the batches
are shuffled again. What it leaves out: joining several texts in one row (`packing`).

Source: the "smart batching" of Khomenko et al., Accelerating recurrent neural network training using sequence bucketing
and multi-GPU data parallelization, 2016 (arXiv:1708.05604), section III.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Waste:
    """Tokens of text in padded batches, and slots in all."""

    tokens: int
    slots: int

    @property
    def share(self) -> float:
        """Share of the slots that is padding, from 0 to 1; 0 if there are no slots."""
        if self.slots == 0:
            return 0.0
        return 1 - self.tokens / self.slots


def waste(lengths: Sequence[int], batches: Iterable[Sequence[int]]) -> Waste:
    """Count the padding if every batch is padded to its own longest text.

    lengths  tokens of every text
    batches  each a list of indices into `lengths`

    >>> waste([2, 8], [[0, 1]]).share
    0.375
    """
    tokens = slots = 0
    for batch in batches:
        tokens += sum(lengths[i] for i in batch)
        slots += len(batch) * max((lengths[i] for i in batch), default=0)
    return Waste(tokens, slots)


def shuffled(count: int, size: int, seed: int | str = 0) -> list[list[int]]:
    """Batches in random order: `count` indices shuffled and cut. The last batch may be smaller."""
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return _cut(order, size)


def bucketed(lengths: Sequence[int], size: int, seed: int | str = 0, pool: int = 50) -> list[list[int]]:
    """Batches of `size` texts of similar length, in random order; every index exactly once.

    pool  number of batches that are sorted together: 1 does not sort at all, very many sort everything

    Raises ValueError if size or pool is below 1.
    """
    if pool < 1:
        raise ValueError(f"pool must be a number of batches, 1 or more; got {pool}.")
    batches = []
    for indices in shuffled(len(lengths), size * pool, seed):
        # The sort is stable and the pool shuffled, so texts of one length meet others in every epoch.
        batches += _cut(sorted(indices, key=lengths.__getitem__), size)
    random.Random(seed).shuffle(batches)  # or every pool would end with its longest texts
    return batches


def _cut(order: list[int], size: int) -> list[list[int]]:
    if size < 1:
        raise ValueError(f"a batch needs 1 text or more; got size={size}.")
    return [order[start : start + size] for start in range(0, len(order), size)]


class BucketSampler:
    """`bucketed` as a `batch_sampler` of torch's DataLoader: new batches every epoch, the same for one seed.

    Call set_epoch(epoch) before each epoch, as with torch's DistributedSampler; without it every epoch is the first.
    """

    def __init__(self, lengths: Sequence[int], size: int, seed: int = 0, pool: int = 50):
        self.lengths = list(lengths)
        self.size = size
        self.seed = seed
        self.pool = pool
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.size)  # rounded up: the last batch may be smaller

    def __iter__(self) -> Iterator[list[int]]:
        # A text, not a sum: seed 0 in epoch 1 must not be seed 1 in epoch 0.
        return iter(bucketed(self.lengths, self.size, f"{self.seed} {self.epoch}", self.pool))

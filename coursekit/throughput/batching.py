"""Padding: how much of a batch is filler, and batches of equal lengths that hold less of it.

A batch is a rectangle, texts are not: each row is filled up to the longest, and the filler costs as much as text.
Bucketing puts texts of like length into one batch. Sorting all texts would waste least, but then every epoch walks from
short to long, and the gradient with it; so texts are shuffled, cut into pools, sorted within a pool only, and the
batches are shuffled again. What it leaves out: joining several texts in a row (`packing`).

Source: the "smart batching" of Khomenko et al., Accelerating recurrent neural network training using sequence bucketing
and multi-GPU data parallelization, 2016 (arXiv:1708.05604), section III.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Waste:
    """Of all places in padded batches, how many hold text."""

    tokens: int
    slots: int

    @property
    def share(self) -> float:
        """Part of the slots that is filler, from 0 to 1; 0 for no slots."""
        return 1 - self.tokens / self.slots if self.slots else 0.0


def waste(lengths: Sequence[int], batches: Iterable[Sequence[int]]) -> Waste:
    """What is filler if every batch is padded to its own longest text.

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
    """Batches as they come: `count` indices shuffled and cut. The last one may be smaller."""
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return _cut(order, size)


def bucketed(lengths: Sequence[int], size: int, seed: int | str = 0, pool: int = 50) -> list[list[int]]:
    """Batches of `size` texts of like length, in random order; every index exactly once.

    pool  batches that are sorted together: 1 is no bucketing, very many is sorting everything

    Raises ValueError if size or pool is below 1.
    """
    if pool < 1:
        raise ValueError(f"pool is a number of batches, 1 or more; got {pool}.")
    dice, batches = random.Random(seed), []
    for indices in shuffled(len(lengths), size * pool, seed):
        # the sort is stable and the pool shuffled, so texts of one length meet others in every epoch
        batches += _cut(sorted(indices, key=lengths.__getitem__), size)
    dice.shuffle(batches)
    return batches


def _cut(order: list[int], size: int) -> list[list[int]]:
    if size < 1:
        raise ValueError(f"a batch needs 1 text or more; got size={size}.")
    return [order[start : start + size] for start in range(0, len(order), size)]


class BucketSampler:
    """`bucketed` as a `batch_sampler` of torch's DataLoader: other batches every epoch, the same for one seed.

    Like torch's DistributedSampler it is told the epoch; without `set_epoch` every epoch is the first.
    """

    def __init__(self, lengths: Sequence[int], size: int, seed: int = 0, pool: int = 50):
        self.lengths, self.size, self.seed, self.pool, self.epoch = list(lengths), size, seed, pool, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.size)

    def __iter__(self) -> Iterator[list[int]]:
        # text, not a sum: seed 0 in epoch 1 must not be seed 1 in epoch 0
        return iter(bucketed(self.lengths, self.size, f"{self.seed} {self.epoch}", self.pool))

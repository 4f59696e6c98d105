"""Padding counted by hand, and buckets that lose no text."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from coursekit.throughput.batching import BucketSampler, Waste, bucketed, shuffled, waste

LENGTHS = st.lists(st.integers(1, 60), max_size=80)


def flat(batches):
    return [index for batch in batches for index in batch]


@given(LENGTHS, st.integers(1, 9), st.integers(1, 5), st.integers(0, 3))
def test_every_index_exactly_once(lengths, size, pool, seed):
    """Whatever size, pool and seed: an epoch is every text once, and only the last of a pool may be a small batch."""
    for batches in (bucketed(lengths, size, seed, pool), shuffled(len(lengths), size, seed)):
        assert sorted(flat(batches)) == list(range(len(lengths)))
        assert len(batches) == -(-len(lengths) // size)
        assert sorted(map(len, batches))[1:] == [size] * (len(batches) - 1)


@given(LENGTHS, st.integers(1, 9))
def test_waste_is_that_of_the_padded_tensor(lengths, size):
    """The zeros that torch's pad_sequence puts in, counted."""
    batches = shuffled(len(lengths), size)
    padded = [
        torch.nn.utils.rnn.pad_sequence([torch.ones(lengths[i]) for i in b], batch_first=True)
        for b in batches
    ]
    zeros, slots = sum(int((p == 0).sum()) for p in padded), sum(p.numel() for p in padded)
    assert waste(lengths, batches) == Waste(slots - zeros, slots)


@given(LENGTHS, st.integers(1, 9))
def test_one_pool_of_everything_wastes_least(lengths, size):
    """Sorting everything wastes no more than no bucket, if all batches are full: a small one may be lucky."""
    lengths = lengths[: len(lengths) // size * size]
    everything = waste(lengths, bucketed(lengths, size, pool=100))
    assert everything.slots <= waste(lengths, shuffled(len(lengths), size)).slots


def test_buckets_waste_less_and_stay_random():
    dice = random.Random(0)
    lengths = [dice.randint(10, 100) for _ in range(2000)]
    as_they_come = waste(lengths, shuffled(2000, 16)).share
    in_buckets = waste(lengths, bucketed(lengths, 16)).share
    assert as_they_come > 0.3 and in_buckets < 0.03
    order = [lengths[batch[0]] for batch in bucketed(lengths, 16)]
    correlation = torch.corrcoef(torch.tensor([order, list(range(len(order)))], dtype=torch.float64))[0, 1]
    assert abs(correlation) < 0.3  # not from short to long


def test_same_seed_same_batches_other_epoch_other_batches():
    sampler, again = (BucketSampler(range(1, 101), 8, seed=3) for _ in range(2))
    first = list(sampler)
    assert first == list(again) and len(sampler) == len(first)
    sampler.set_epoch(1)
    assert list(sampler) != first
    other = BucketSampler(range(1, 101), 8, seed=4)
    assert list(sampler) != list(other)  # seed + epoch would be the same


def test_a_data_loader_takes_it():
    loader = torch.utils.data.DataLoader(torch.arange(30), batch_sampler=BucketSampler(range(1, 31), 4))
    assert sorted(int(x) for batch in loader for x in batch) == list(range(30))


def test_nothing_wastes_nothing():
    assert waste([], []).share == 0 and bucketed([], 4) == []


@pytest.mark.parametrize(("size", "pool", "word"), [(0, 1, "a batch needs"), (2, 0, "number of batches")])
def test_impossible_sizes_get_a_sentence(size, pool, word):
    with pytest.raises(ValueError, match=word):
        bucketed([1, 2], size, pool=pool)

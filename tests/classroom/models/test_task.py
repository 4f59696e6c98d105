"""Splits share no sentence and do not move; a score counts exact answers."""

import pytest

from classroom.models import task


def test_splits_share_no_sentence():
    prompts = {split: {pair.prompt for pair in task.pairs(split, 3000)} for split in task.SPLITS}
    assert all(len(found) == 3000 for found in prompts.values())
    assert not prompts["train"] & prompts["test"]
    assert not prompts["train"] & prompts["validation"]
    assert not prompts["validation"] & prompts["test"]


def test_the_first_test_pairs_stay_what_they_are():
    """A change of the grammar or of the split would make every recorded score a score of something else."""
    assert [pair.response for pair in task.pairs("test", 2)] == [
        "A drum, a famous miner hid.",
        "A sword, Mara quietly cleaned in the castle.",
    ]


def test_another_seed_gives_other_pairs():
    assert task.pairs("train", 50, seed=1) != task.pairs("train", 50, seed=2)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="train, validation, test; got 'dev'"):
        task.pairs("dev", 1)


def test_exact_match_forgives_white_space_and_nothing_else():
    pairs = [task.Pair("p", "A key, Anna found."), task.Pair("p", "A map, Ben sold.")]
    assert task.exact_match([" A key, Anna found.\n", "a map, Ben sold."], pairs) == 0.5
    with pytest.raises(ValueError):
        task.exact_match(["one"], pairs)

"""A packed text is the text alone: loss and gradients, in both kinds of attention; without the mask it is not."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel

from classroom.lectures.throughput.experiments import conversations
from classroom.models import finetune
from classroom.models.load import load
from coursekit.throughput.packing import (
    block_causal_mask,
    collate_packed,
    first_fit_decreasing,
    packed_batch,
    split,
)
from coursekit.training import IGNORED, targets


@pytest.fixture(scope="module")
def rows():
    return conversations(9)[1]


@pytest.fixture(scope="module", params=["eager", "sdpa"])
def model(request):
    model, _ = load("tiny")
    model.set_attn_implementation(request.param)
    return model


def loss_and_gradients(model, *batches):
    """Sum over the target tokens, and the gradient of that sum, flat."""
    model.zero_grad()
    total = 0.0
    for batch in batches:
        loss = model(**batch, use_cache=False).loss * targets(batch)
        loss.backward()
        total += loss.item()
    return total, torch.cat([p.grad.flatten() for p in model.parameters()])


def packed(rows, capacity=150):
    return packed_batch(rows, capacity)


def test_packed_equals_one_at_a_time_and_padded(model, rows):
    """Sum of the losses and every gradient; sums in another order, so not bit by bit: float32 has 7 digits."""
    batch = packed(rows)
    assert 1 < len(batch["input_ids"]) < len(rows)
    loss, gradients = loss_and_gradients(model, batch)
    tokenizer = load("tiny")[1]
    singles = [finetune.collate(tokenizer, [row]) for row in rows]
    for others in (singles, [finetune.collate(tokenizer, rows)]):
        other_loss, other_gradients = loss_and_gradients(model, *others)
        assert loss == pytest.approx(other_loss, rel=1e-6)
        assert (gradients - other_gradients).norm() < 1e-5 * other_gradients.norm()


def test_packed_equals_what_transformers_finds_from_positions(model, rows):
    """Without any mask transformers looks for restarting positions and makes the blocks by itself."""
    batch = packed(rows[:4], 400)
    theirs = {name: tensor for name, tensor in batch.items() if name != "attention_mask"}
    ours = model(**batch, use_cache=False).logits
    assert torch.allclose(ours, model(**theirs, use_cache=False).logits, atol=1e-4)


@pytest.mark.parametrize("planted", ["mask", "first label"])
def test_without_mask_or_label_it_is_another_loss(model, rows, planted):
    """Contamination: the loss rises by a quarter or more, since a text is predicted from one it does not follow."""
    batch = packed(rows)
    right, right_gradients = loss_and_gradients(model, batch)
    if planted == "mask":
        filled = torch.arange(batch["input_ids"].shape[1]) < (batch["input_ids"] != 0).sum(1, keepdim=True)
        batch["attention_mask"] = filled.long()
    else:
        batch["labels"] = torch.where(batch["position_ids"] == 0, batch["input_ids"], batch["labels"])
    wrong, gradients = loss_and_gradients(model, batch)
    assert wrong > 1.2 * right
    assert (gradients - right_gradients).norm() > 0.5 * right_gradients.norm()


def test_positions_must_restart_where_they_are_learned_but_not_where_they_rotate(rows):
    """Rotary embeddings depend on distances only; GPT-2 has a vector for every place."""
    config = GPT2Config(
        n_embd=32, n_layer=1, n_head=2, vocab_size=1024, n_positions=256, initializer_range=0.5
    )
    torch.manual_seed(0)
    for model, same in ((load("tiny")[0], True), (GPT2LMHeadModel(config).eval(), False)):
        batch = packed(rows)
        right = model(**batch, use_cache=False).loss
        batch["position_ids"] = torch.arange(batch["input_ids"].shape[1]).expand_as(batch["input_ids"])
        assert (model(**batch, use_cache=False).loss.item() == pytest.approx(right.item(), rel=1e-5)) is same


def test_targets_are_those_of_the_texts_alone(rows):
    assert targets(packed_batch(rows, 150)) == sum(len(ids) - 1 for ids, _ in rows)


@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=3))
def test_the_mask_is_what_brute_force_says(lengths):
    """A token sees the tokens of its own text up to itself; filler sees filler; nobody sees nothing."""
    width = max(map(sum, lengths))
    of = [[n for n, k in enumerate(row, 1) for _ in range(k)] + [0] * (width - sum(row)) for row in lengths]
    mask = block_causal_mask(torch.tensor(of))
    assert mask.shape == (len(lengths), 1, width, width) and mask.dtype == torch.float32
    for r, q, k in itertools.product(range(len(of)), range(width), range(width)):
        sees = k <= q and of[r][q] == of[r][k]
        assert mask[r, 0, q, k] == (0 if sees else torch.finfo(torch.float32).min)


def test_collate_by_hand():
    batch = collate_packed([[([5, 6], [5, 6]), ([7], [7])], [([8], [8])]], pad_id=9)
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch["position_ids"].tolist() == [[0, 1, 0], [0, 0, 0]]
    assert batch["labels"].tolist() == [[IGNORED, 6, IGNORED], [IGNORED] * 3]


def naive_first_fit(lengths, capacity):
    rows, rooms = [], []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fit = next((r for r, room in enumerate(rooms) if room >= lengths[index]), len(rows))
        if fit == len(rows):
            rows.append([])
            rooms.append(capacity)
        rows[fit].append(index)
        rooms[fit] -= lengths[index]
    return rows


@given(st.integers(1, 30).flatmap(lambda c: st.tuples(st.lists(st.integers(1, c), max_size=40), st.just(c))))
def test_the_tree_packs_as_the_plain_loop_does(drawn):
    lengths, capacity = drawn
    rows = first_fit_decreasing(lengths, capacity)
    assert rows == naive_first_fit(lengths, capacity)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= capacity for row in rows)


def fewest(lengths, capacity):
    """By trying every row for every text, with a bound."""
    best = len(lengths)

    def search(k, rooms):
        nonlocal best
        if len(rooms) >= best and k < len(lengths):
            return
        if k == len(lengths):
            best = min(best, len(rooms))
            return
        for r, room in enumerate(rooms):
            if room >= lengths[k]:
                search(k + 1, [*rooms[:r], room - lengths[k], *rooms[r + 1 :]])
        search(k + 1, [*rooms, capacity - lengths[k]])

    search(0, [])
    return best


@given(st.lists(st.integers(1, 10), min_size=1, max_size=7))
def test_rows_are_within_the_proven_bound(lengths):
    """Dosa 2007: FFD <= 11/9 OPT + 6/9."""
    assert len(first_fit_decreasing(lengths, 10)) <= 11 / 9 * fewest(lengths, 10) + 6 / 9


def test_long_texts_are_refused_or_split(rows):
    long = (list(range(1, 8)), list(range(1, 8)))
    with pytest.raises(ValueError, match="text 1 has 7 tokens; a row holds 1 to 5"):
        packed_batch([([1], [1]), long], 5)
    assert [ids for ids, _ in split(long, 3)] == [[1, 2, 3], [4, 5, 6], [7]]
    batch = packed_batch([long], 5, too_long="split")
    assert sorted(batch["input_ids"].flatten().tolist()) == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7]
    assert batch["input_ids"].shape[1] <= 5
    with pytest.raises(ValueError, match="too_long must be"):
        packed_batch([long], 5, too_long="cut")


def test_an_empty_text_is_refused():
    with pytest.raises(ValueError, match="text 0 has 0 tokens"):
        first_fit_decreasing([0], 4)

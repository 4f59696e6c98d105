"""The truths of lecture 4's exercises, and right answers that are written differently."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import DataCollatorWithFlattening

from classroom.lectures.throughput import exercises as check

# ---------------------------------------------------------------- the oracle


def test_positions_equal_transformers():
    """DataCollatorWithFlattening is what transformers packs with."""
    for case in check.position_ids.cases:
        (lengths,) = case.arguments
        texts = [{"input_ids": [1] * n, "labels": [1] * n} for n in lengths]
        assert DataCollatorWithFlattening()(texts)["position_ids"].tolist() == [case.expected]


def test_a_packed_row_with_the_mask_equals_its_texts_alone():
    """scaled_dot_product_attention of the row is that of each text by itself, causal."""
    attention = torch.nn.functional.scaled_dot_product_attention
    for case in check.may_see.cases:
        (lengths,) = case.arguments
        q, k, v = torch.randn(3, 1, sum(lengths), 8, generator=torch.Generator().manual_seed(0))
        packed = attention(q, k, v, attn_mask=torch.tensor(case.expected))
        parts = zip(*(x.split(lengths, dim=1) for x in (q, k, v)), strict=True)
        alone = [attention(*part, is_causal=True) for part in parts]
        assert torch.allclose(packed, torch.cat(alone, dim=1), atol=1e-6)


def test_the_operations_under_the_roof_are_those_of_torch():
    """The arguments of four cases are the FLOPs and bytes of a BF16 product that torch makes, with no memory."""
    for rows, case in zip((1, 64, 256, 4096), check.roofline.cases[:8:2], strict=True):
        x, w = (torch.ones(n, 4096, dtype=torch.bfloat16, device="meta") for n in (rows, 4096))
        with FlopCounterMode(display=False) as counter:
            y = x @ w
        assert case.arguments[:2] == (counter.get_total_flops(), x.nbytes + w.nbytes + y.nbytes)


def test_the_padding_bound_leaves_room_for_the_best_batches():
    """All ways to cut a handful of texts into batches: the least padding is within the bound."""
    lengths, size = [1, 1, 4, 6, 9, 9], 2
    orders = itertools.permutations(lengths)
    least = min(sum(abs(a - b) for a, b in zip(o[::2], o[1::2], strict=True)) for o in orders)
    assert least == 2 and least <= check.padding_bound(lengths, size)


def test_the_fewest_rows_are_the_fewest():
    """Every way to give the texts to k rows is tried; with one row fewer none fits."""

    def fits(lengths, row_length, rows):
        places = itertools.product(range(rows), repeat=len(lengths))
        return any(max(np.bincount(place, weights=lengths, minlength=1)) <= row_length for place in places)

    for lengths, row_length, fewest in check.FEWEST_BY_TRYING_ALL:
        assert fits(lengths, row_length, fewest) and not fits(lengths, row_length, fewest - 1)


def test_large_cases_of_packing_have_full_rows():
    """The best packing that a large case claims uses no token of padding, so none can be better."""
    for case in check.pack.cases[len(check.FEWEST_BY_TRYING_ALL) :]:
        lengths, row_length = case.arguments
        assert sum(lengths) % row_length == 0
        assert case.expected == (check.WHOLE, check.most_rows(sum(lengths) // row_length))


def test_the_flops_of_llama_7b_are_the_known_ones():
    """Weights of a Llama-2 7B block by its public checkpoint: 202,375,168 in matrices; backward is twice forward."""
    forward, backward = block_by_products(1, 1, 4096, 4096, 11008)
    assert forward == 2 * 202_375_168 + 4 * 4096 and backward == 2 * forward


def test_published_carbon_follows_from_published_hours():
    """Table 2 of the Llama 2 paper (arXiv 2307.09288): from one grid figure follow the tonnes of all four sizes."""
    #        hours of A100, W, t of CO2
    table = [
        (184_320, 400, 31.22),
        (368_640, 400, 62.44),
        (1_038_336, 350, 153.90),
        (1_720_320, 400, 291.42),
    ]
    grams_per_kwh = 539.00e6 / sum(hours * watts / 1000 for hours, watts, _ in table)
    for hours, watts, tonnes in table:
        _, kilograms = energy_in_joules(1, watts, hours, 1.0, grams_per_kwh)
        assert kilograms / 1000 == pytest.approx(tonnes, rel=1e-3)


READINGS = {
    "item": lambda x: x.item(),
    "float": float,
    "tolist": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(),
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu"),
    "to-device": lambda x: x.to(device="cpu"),
    "print": print,
    "format": lambda x: f"{x:.2f}",
    "if": lambda x: bool(x > 0),
    "asarray": np.asarray,
    "is_nonzero": torch.is_nonzero,
}


@pytest.mark.parametrize("read", READINGS.values(), ids=READINGS)
def test_every_way_to_read_a_loss_is_counted(read):
    def students(step, batches, every):
        losses = [step(batch) for batch in batches[:3]]
        read(losses[-1])
        return losses

    assert check.train.ask(students, 0, 12, 4)[0] == [3]


def test_what_does_not_read_is_not_counted():
    def students(step, batches, every):
        total = torch.zeros(())
        for batch in batches:
            total += step(batch).detach().to(torch.float64).float()
        return total.shape, total.dtype

    assert check.train.ask(students, 0, 12, 4)[0] == []


def test_the_wait_is_told_by_its_step():
    verdict = check.train.judge(lambda step, batches, every: [float(step(batch)) for batch in batches])
    assert verdict.misconception == "read at every step"
    assert verdict.expected.startswith("read after steps [4, 8, 12]; losses [")
    assert verdict.got.startswith("read after steps [1, 2, 3, ")


def pack_shortest_first(lengths, row_length):
    rows = []
    for i in np.argsort(lengths, kind="stable"):
        fitting = (row for row in rows if sum(lengths[j] for j in row) + lengths[i] <= row_length)
        row = next(fitting, None)
        if row is None:
            rows.append([i])
        else:
            row.append(i)
    return rows


def test_shortest_first_is_named_too():
    """It needs as many rows as next-fit of sorted texts, so one mistake speaks of both."""
    assert check.pack.judge(pack_shortest_first).misconception == "sorted, and gaps left empty"


def block_with_causal_attention(batch, tokens, hidden, kv_width, inner):
    weights = hidden * (2 * hidden + 2 * kv_width + 3 * inner)
    forward = 2 * batch * tokens * weights + 4 * batch * tokens * tokens * hidden // 2
    return forward, 2 * forward


def test_attention_halved_by_the_mask_is_told_of_all_pairs():
    """A student who has both products is not told that one is missing without a word on the mask."""
    verdict = check.block_flops.judge(block_with_causal_attention)
    assert verdict.misconception == "half of attention counted" and "mask hides" in verdict.words


# ---------------------------------------------------------------- right, but written differently


def padding_by_mask(batches):
    masks = [np.arange(max(b))[None, :] < np.array(b)[:, None] for b in batches]
    return 1 - np.concatenate([m.ravel() for m in masks]).mean()


def padding_by_fraction(batches):
    return 1 - Fraction(sum(map(sum, batches)), sum(len(batch) * max(batch) for batch in batches))


def positions_by_cumsum(lengths):
    starts = torch.tensor([0, *lengths[:-1]]).cumsum(0)
    return torch.arange(sum(lengths)) - starts.repeat_interleave(torch.tensor(lengths))


def positions_by_generator(lengths):
    for length in lengths:
        yield from range(length)


def roofline_by_ridge(flops, bytes_moved, peak_tflops, gb_per_second):
    ridge = peak_tflops * 1e12 / (gb_per_second * 1e9)
    intensity = flops / bytes_moved
    if intensity >= ridge:
        return [peak_tflops, "Compute"]
    return [peak_tflops * intensity / ridge, "Memory"]


def energy_in_joules(cards, watts, hours, pue, grams_per_kwh):
    kwh = cards * watts * (hours * 3600) * pue / 3.6e6
    return [kwh, kwh * grams_per_kwh / 1e3]


def batches_by_numpy(lengths, batch_size, seed):
    """Sorted downwards, so that the small batch holds the shortest; shuffled by torch."""
    order = np.argsort(-np.array(lengths))
    batches = [order[i : i + batch_size].tolist() for i in range(0, len(order), batch_size)]
    shuffled = torch.randperm(len(batches), generator=torch.Generator().manual_seed(seed))
    return [batches[i] for i in shuffled]


def batches_as_a_tuple_of_arrays(lengths, batch_size, seed):
    return tuple(np.array(batch) for batch in batches_by_numpy(lengths, batch_size, seed))


def batches_by_generator(lengths, batch_size, seed):
    yield from batches_by_numpy(lengths, batch_size, seed)


def mask_by_blocks(lengths):
    return torch.block_diag(*(torch.ones(n, n).tril() for n in lengths))


def mask_as_lists(lengths):
    return mask_by_blocks(lengths).bool().tolist()


def train_by_items(step, batches, every):
    """One .item() after the other, all at the same moment: the first waits, the others find the work done."""
    losses = []
    for start in range(0, len(batches), every):
        waiting = [step(batch) for batch in batches[start : start + every]]
        losses.extend(loss.item() for loss in waiting)
    return losses


def train_by_generator(step, batches, every):
    for start in range(0, len(batches), every):
        yield from torch.stack([step(batch) for batch in batches[start : start + every]]).tolist()


def pack_best_fit(lengths, row_length):
    rows = []
    for i in np.argsort(lengths)[::-1]:
        fitting = [row for row in rows if sum(lengths[j] for j in row) + lengths[i] <= row_length]
        best = max(fitting, key=lambda row: sum(lengths[j] for j in row), default=None)
        if best is None:
            rows.append([i])
        else:
            best.append(i)
    return rows


def block_by_products(batch, tokens, hidden, kv_width, inner):
    def product(m, k, n):
        return batch * m * n * 2 * k

    outputs = (hidden, kv_width, kv_width, hidden, inner, inner)
    forward = sum(product(tokens, hidden, n) for n in outputs) + product(tokens, inner, hidden)
    forward += product(tokens, hidden, tokens) + product(tokens, tokens, hidden)
    return [forward, forward + forward]


RIGHT = [
    ("padding_share", padding_by_mask),
    ("padding_share", padding_by_fraction),
    ("position_ids", positions_by_cumsum),
    ("position_ids", positions_by_generator),
    ("roofline", roofline_by_ridge),
    ("energy", energy_in_joules),
    ("length_batches", batches_by_numpy),
    ("length_batches", batches_as_a_tuple_of_arrays),
    ("length_batches", batches_by_generator),
    ("may_see", mask_by_blocks),
    ("may_see", mask_as_lists),
    ("train", train_by_items),
    ("train", train_by_generator),
    ("pack", pack_best_fit),
    ("block_flops", block_by_products),
]


@pytest.mark.parametrize(("name", "function"), RIGHT)
def test_other_right_ways_pass(name, function):
    verdict = getattr(check, name).judge(function)
    assert verdict.passed, verdict

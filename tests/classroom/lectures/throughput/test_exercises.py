"""Lecture 4's exercises: stubs fail kindly, solutions pass however written, typical mistakes are named."""

import inspect
import itertools
import linecache
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from classroom.lectures.throughput import cases
from classroom.lectures.throughput import exercises as check
from classroom.publish.exercises import release
from classroom.publish.sources import read_source

SOURCE = Path(__file__).parents[4] / "solutions" / "src" / "04_throughput.py"
EXERCISES = {exercise.name: exercise for exercise in check.EXERCISES}
MISTAKES = [(e.name, mistake) for e in check.EXERCISES for mistake in e.mistakes]


def functions_of(notebook) -> dict:
    """What the notebook's function cells define, as a kernel would have it (with source for inspect)."""
    names = {"random": random, "torch": torch}
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and re.search(r"^def ", cell.source, re.MULTILINE):
            file = f"<cell {number} of {id(notebook)}>"
            linecache.cache[file] = (len(cell.source), None, cell.source.splitlines(keepends=True), file)
            exec(compile(cell.source, file, "exec"), names)
    return names


@pytest.mark.parametrize("name", EXERCISES)
def test_the_solution_passes_and_the_stub_has_not_started(name):
    source = read_source(SOURCE)
    verdict = EXERCISES[name].judge(functions_of(source)[name])
    assert verdict.passed, verdict
    untouched = EXERCISES[name].judge(functions_of(release(source))[name])
    assert untouched.status == "not started" and f"about {EXERCISES[name].minutes} minutes" in untouched.words


def as_written(name, program):
    """The mistake as a student's function: the names of the exercise's own arguments, nothing of ours to recognise."""
    wanted = inspect.signature(functions_of(read_source(SOURCE))[name]).parameters

    def students(*arguments):
        return program(*arguments)

    students.__signature__ = inspect.Signature(
        [inspect.Parameter(p, inspect.Parameter.POSITIONAL_OR_KEYWORD) for p in wanted]
    )
    return students


@pytest.mark.parametrize(("name", "mistake"), MISTAKES, ids=lambda value: getattr(value, "name", value))
def test_a_typical_mistake_is_named(name, mistake):
    verdict = EXERCISES[name].judge(as_written(name, mistake.program))
    assert verdict.status == "wrong" and verdict.misconception == mistake.name, verdict


def test_shortest_first_is_named_too():
    """It needs as many rows as next-fit of sorted texts, so one mistake speaks of both."""

    def students(lengths, row_length):
        rows = []
        for i in np.argsort(lengths, kind="stable"):
            fitting = (row for row in rows if sum(lengths[j] for j in row) + lengths[i] <= row_length)
            row = next(fitting, None)
            if row is None:
                rows.append([i])
            else:
                row.append(i)
        return rows

    assert EXERCISES["pack"].judge(students).misconception == "sorted, and gaps left empty"


def test_every_exercise_knows_two_mistakes_and_three_hints():
    assert all(len(exercise.mistakes) >= 2 and len(exercise.hints) == 3 for exercise in check.EXERCISES)


def test_minutes_are_those_of_the_exercises():
    text = SOURCE.read_text(encoding="utf-8")
    headings = re.findall(r"^# ## \d+\. (.*) \((\d+) minutes\)$", text, re.MULTILINE)
    assert [(title, int(m)) for title, m in headings] == [(e.title, e.minutes) for e in check.EXERCISES]
    assert f"About {sum(exercise.minutes for exercise in check.EXERCISES)} minutes for all" in text


def test_places_to_look_are_in_the_lecture():
    text = SOURCE.read_text(encoding="utf-8")
    lecture = (SOURCE.parents[2] / "notebooks" / "src" / SOURCE.name).read_text(encoding="utf-8")
    named = re.findall(r'Where to look: "([^"]+)" in lecture 4', text.replace("\n# ", " "))
    assert len(named) == len(EXERCISES)
    assert set(named) <= set(re.findall(r"^# ## (.*)$", lecture, re.MULTILINE))


# ---------------------------------------------------------------- the oracle


def test_positions_equal_transformers():
    """DataCollatorWithFlattening is what transformers packs with."""
    from transformers import DataCollatorWithFlattening

    for case in cases.position_ids():
        (lengths,) = case.arguments
        texts = [{"input_ids": [1] * n, "labels": [1] * n} for n in lengths]
        assert DataCollatorWithFlattening()(texts)["position_ids"].tolist() == [case.expected]


def test_a_packed_row_with_the_mask_equals_its_texts_alone():
    """scaled_dot_product_attention of the row is that of each text by itself, causal."""
    attention = torch.nn.functional.scaled_dot_product_attention
    for case in cases.may_see():
        (lengths,) = case.arguments
        q, k, v = torch.randn(3, 1, sum(lengths), 8, generator=torch.Generator().manual_seed(0))
        packed = attention(q, k, v, attn_mask=torch.tensor(case.expected, dtype=torch.bool))
        parts = zip(*(x.split(lengths, dim=1) for x in (q, k, v)), strict=True)
        alone = [attention(*part, is_causal=True) for part in parts]
        assert torch.allclose(packed, torch.cat(alone, dim=1), atol=1e-6)


def test_the_padding_bound_leaves_room_for_the_best_batches():
    """All ways to cut a handful of texts into batches: the least padding is within the bound."""
    lengths, size = [1, 1, 4, 6, 9, 9], 2
    orders = itertools.permutations(lengths)
    least = min(sum(abs(a - b) for a, b in zip(o[::2], o[1::2], strict=True)) for o in orders)
    assert least == 2 and least <= cases.padding_bound(lengths, size)


def test_the_fewest_rows_are_the_fewest():
    """Every way to give the texts to k rows is tried; with one row fewer none fits."""

    def fits(lengths, row_length, rows):
        places = itertools.product(range(rows), repeat=len(lengths))
        return any(max(np.bincount(place, weights=lengths, minlength=rows)) <= row_length for place in places)

    for lengths, row_length in ([6, 4, 5, 5, 3, 7], 10), ([4, 6, 4, 6, 3, 2], 12), ([7, 7, 7, 2, 2], 10):
        fewest = cases.fewest_rows(lengths, row_length)
        assert fits(lengths, row_length, fewest) and not fits(lengths, row_length, fewest - 1)


def test_large_cases_of_packing_have_full_rows():
    """The best packing that a large case claims uses no token of padding, so none can be better."""
    for case in cases.pack()[4:]:
        lengths, row_length = case.arguments
        assert sum(lengths) % row_length == 0
        allowed = int(case.expected.split()[-2])
        assert allowed == cases.most_rows(sum(lengths) // row_length)


def test_the_flops_of_llama_7b_are_the_known_ones():
    """Weights of a Llama-2 7B block by its public checkpoint: 202,375,168 in matrices; backward is twice forward."""
    (solved,) = (functions_of(read_source(SOURCE))[name] for name in ("block_flops",))
    forward, backward = solved(1, 1, 4096, 4096, 11008)
    assert forward == 2 * 202_375_168 + 4 * 4096 and backward == 2 * forward


def test_published_carbon_follows_from_published_hours():
    """Table 2 of the Llama 2 paper (arXiv 2307.09288): from one grid figure follow the tonnes of all four sizes."""
    solved = functions_of(read_source(SOURCE))["energy"]
    #        hours of A100, W, t of CO2
    table = [
        (184_320, 400, 31.22),
        (368_640, 400, 62.44),
        (1_038_336, 350, 153.90),
        (1_720_320, 400, 291.42),
    ]
    grams_per_kwh = 539.00e6 / sum(hours * watts / 1000 for hours, watts, _ in table)
    for hours, watts, tonnes in table:
        assert solved(1, watts, hours, 1.0, grams_per_kwh)[1] / 1000 == pytest.approx(tonnes, rel=1e-3)


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.item(),
        float,
        lambda x: x.tolist(),
        lambda x: x.numpy(),
        lambda x: x.cpu(),
        lambda x: x.to("cpu"),
        lambda x: x.to(device="cpu"),
        lambda x: print(x),
        lambda x: f"{x:.2f}",
        lambda x: bool(x > 0),
        np.asarray,
    ],
    ids=["item", "float", "tolist", "numpy", "cpu", "to", "to-device", "print", "format", "if", "asarray"],
)
def test_every_way_to_read_a_loss_is_counted(read):
    def students(step, batches, every):
        losses = [step(batch) for batch in batches[:3]]
        read(losses[-1])
        return losses

    assert cases.waits_and_losses(students, 0, 12, 4)[0] == [3]


def test_what_does_not_read_is_not_counted():
    def students(step, batches, every):
        total = torch.zeros(())
        for batch in batches:
            total += step(batch).detach().to(torch.float64).float()
        return total.shape, total.dtype

    assert cases.waits_and_losses(students, 0, 12, 4)[0] == []


# ---------------------------------------------------------------- kind words for odd answers


@pytest.mark.parametrize(
    "answer",
    [None, 3, "rows", [1, 2], [[0.5]], [["a"]], [[99]], [], [[]], {}, torch.ones(2, 2), (1, 2), [None]],
)
@pytest.mark.parametrize("name", EXERCISES)
def test_an_answer_of_the_wrong_kind_is_wrong_and_no_error(name, answer):
    wanted = inspect.signature(functions_of(read_source(SOURCE))[name]).parameters
    students = as_written(name, lambda *arguments: answer)
    assert len(inspect.signature(students).parameters) == len(wanted)
    verdict = EXERCISES[name].judge(students)
    assert verdict.status == "wrong", verdict
    assert "Traceback" not in str(verdict)


@pytest.mark.parametrize("name", EXERCISES)
def test_an_error_of_the_student_is_told_in_words(name):
    verdict = EXERCISES[name].judge(as_written(name, lambda *arguments: 1 / 0))
    assert verdict.status == "error" and "ZeroDivisionError" in verdict.words
    assert "Traceback" not in str(verdict)


def test_the_wait_is_told_by_its_step():
    verdict = EXERCISES["train"].judge(
        as_written("train", lambda step, batches, every: [float(step(batch)) for batch in batches])
    )
    assert verdict.misconception == "read at every step"
    assert verdict.expected.startswith("read after steps 4, 8, 12; 12 losses: ")
    assert verdict.got.startswith("read after steps 1, 2, 3, ")


# ---------------------------------------------------------------- right, but written differently


def padding_by_mask(batches):
    masks = [np.arange(max(b))[None, :] < np.array(b)[:, None] for b in batches]
    return 1 - np.concatenate([m.ravel() for m in masks]).mean()


def positions_by_cumsum(lengths):
    starts = torch.tensor([0, *lengths[:-1]]).cumsum(0)
    return torch.arange(sum(lengths)) - starts.repeat_interleave(torch.tensor(lengths))


def roofline_by_ridge(flops, bytes_moved, peak_tflops, gb_per_second):
    ridge = peak_tflops * 1e12 / (gb_per_second * 1e9)
    intensity = flops / bytes_moved
    if intensity >= ridge:
        return [peak_tflops, "Compute"]
    return [peak_tflops * intensity / ridge, "Memory"]


def batches_by_numpy(lengths, batch_size, seed):
    """Sorted downwards, so that the small batch holds the shortest; shuffled by torch."""
    order = np.argsort(-np.array(lengths))
    batches = [order[i : i + batch_size].tolist() for i in range(0, len(order), batch_size)]
    shuffled = torch.randperm(len(batches), generator=torch.Generator().manual_seed(seed))
    return [batches[i] for i in shuffled]


def mask_by_blocks(lengths):
    return torch.block_diag(*(torch.ones(n, n).tril() for n in lengths))


def train_by_items(step, batches, every):
    """One .item() after the other, all at the same moment: the first waits, the others find the work done."""
    losses = []
    for start in range(0, len(batches), every):
        waiting = [step(batch) for batch in batches[start : start + every]]
        losses.extend(loss.item() for loss in waiting)
    return losses


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


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("padding_share", padding_by_mask),
        ("position_ids", positions_by_cumsum),
        ("roofline", roofline_by_ridge),
        ("length_batches", batches_by_numpy),
        ("may_see", mask_by_blocks),
        ("train", train_by_items),
        ("pack", pack_best_fit),
        ("block_flops", block_by_products),
    ],
)
def test_other_right_ways_pass(name, function):
    verdict = EXERCISES[name].judge(function)
    assert verdict.passed, verdict

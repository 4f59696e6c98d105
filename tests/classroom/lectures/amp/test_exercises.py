"""Lecture 2's exercises: stubs fail kindly, solutions pass however written, typical mistakes are named."""

import inspect
import linecache
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from classroom.lectures.amp import cases
from classroom.lectures.amp import exercises as check
from classroom.publish.exercises import release
from classroom.publish.sources import read_source

SOURCE = Path(__file__).parents[4] / "solutions" / "src" / "02_amp.py"
EXERCISES = {exercise.name: exercise for exercise in check.EXERCISES}
MISTAKES = [(e.name, mistake) for e in check.EXERCISES for mistake in e.mistakes]


def functions_of(notebook) -> dict:
    """What the notebook's function cells define, as a kernel would have it (with source for inspect)."""
    names = {"math": math, "torch": torch}
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


def test_every_exercise_knows_two_mistakes_and_three_hints():
    assert all(len(exercise.mistakes) >= 2 and len(exercise.hints) == 3 for exercise in check.EXERCISES)


def test_minutes_and_places_to_look_are_those_of_the_lecture():
    text = SOURCE.read_text(encoding="utf-8")
    headings = re.findall(r"^# ## \d+\. .*\((\d+) minutes\)$", text, re.MULTILINE)
    assert [int(minutes) for minutes in headings] == [exercise.minutes for exercise in check.EXERCISES]
    assert f"About {sum(exercise.minutes for exercise in check.EXERCISES)} minutes for all" in text
    lecture = (SOURCE.parents[2] / "notebooks" / "src" / SOURCE.name).read_text(encoding="utf-8")
    named = re.findall(r'Where to look: "([^"]+)" in lecture 2', text.replace("\n# ", " "))
    assert len(named) == len(EXERCISES)
    assert set(named) <= set(re.findall(r"^# ## (.*)$", lecture, re.MULTILINE))


# ---------------------------------------------------------------- the oracle


def test_flushed_shares_equal_what_the_limit_says():
    """numpy casts in the cases; here the same from the smallest subnormal number: up to half of it goes to zero."""
    for case in cases.share_flushed()[:4]:
        x, scale = case.arguments
        alive = x[x != 0].double() * scale
        assert case.expected == pytest.approx((alive.abs() <= 2.0**-25).double().mean().item(), abs=1e-7)


def test_a_safe_scale_fits_and_twice_as_much_does_not():
    for case in cases.largest_safe_scale():
        (gradients,), scale = case.arguments, case.expected
        largest = max(abs(g) for g in gradients)
        assert largest * scale <= torch.finfo(torch.float16).max < largest * scale * 2


def test_the_operations_of_cuda_are_those_that_the_hint_names():
    """The praise says that four rules differ on CUDA: our table, which a GPU test holds against torch, agrees."""
    from coursekit.amp.autocast_policy import policy_of

    cpu, cuda = policy_of("cpu"), policy_of("cuda")
    differing = [op for op in cases.OPERATIONS if (op in cpu) != (op in cuda)]
    assert differing == ["softmax", "layer_norm", "exp", "sum"]


# ---------------------------------------------------------------- right, but written differently


def share_by_numpy(gradients, scale):
    g = gradients.numpy()
    g = g[g != 0] * np.float32(scale)
    return float(np.mean(g.astype(np.float16) == 0)) if g.size else 0.0


def scale_by_halving(gradients):
    scale = 2.0**60
    while max(abs(g) for g in gradients) * scale > 65504:
        scale /= 2
    return scale


def trajectory_from_the_end(broken, growth_interval):
    scales, scale, since = [], 65536, 0
    for number, bad in enumerate(broken, start=1):
        if bad:
            scale, since = scale * 0.5, number
        elif number - since == growth_interval:
            scale, since = scale * 2, number
        scales.append(scale)
    return tuple(scales)


def step_by_hand(scaler, optimizer, model, loss, limit):
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    for p in model.parameters():
        p.grad *= min(1.0, limit / norm.item())
    scaler.step(optimizer)
    scaler.update()


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("share_flushed", share_by_numpy),
        ("largest_safe_scale", scale_by_halving),
        ("scale_trajectory", trajectory_from_the_end),
        ("training_step", step_by_hand),
    ],
)
def test_other_right_ways_pass(name, function):
    assert EXERCISES[name].judge(function).passed

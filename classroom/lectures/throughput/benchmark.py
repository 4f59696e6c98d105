"""Lecture 4: tokens a second of one training step, done in several ways, on the embedded model.

    python -m classroom.lectures.throughput.benchmark            tables on the screen, about two minutes
    python -m classroom.lectures.throughput.benchmark --write    and into benchmarks/results/throughput.md

Contestants take turns (harness.py). Tokens are those of the texts; filler is not counted, so a way that computes less
filler is faster for the same work. The same texts, the same weights at the start, one thread. Compiling is timed apart.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import torch
import torch._inductor.config

from classroom.lectures.throughput import experiments
from classroom.records.race import Race, environment, run
from coursekit.throughput.batching import bucketed, shuffled, waste
from coursekit.throughput.meter import Timing
from coursekit.throughput.packing import first_fit_decreasing, packed_batch

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "throughput.md"
HEADER = (
    "| task | who | tokens/s (median) | (best) | ms (median) | times the first | goal |\n"
    "|---|---|---|---|---|---|---|"
)
TEXTS, SIZE, CAPACITY = 96, 16, 256


def rows_of(race: Race, timings: dict[str, Timing]) -> list[str]:
    """Rates by the median and the best round; `goals` says what a contestant's median should reach of the first's."""
    first, lines = next(iter(timings.values())), []
    for name, t in timings.items():
        ratio, goal = first.median / t.median, race.goals.get(name)
        verdict = "" if goal is None else f"{goal:g}x: " + ("met" if ratio >= goal else "missed")
        lines.append(
            f"| {race.task} | {name} | {race.elements / t.median:,.0f} | {race.elements / t.minimum:,.0f} "
            f"| {t.median * 1e3:.1f} | {ratio:.2f}x | {verdict} |"
        )
    return lines


def batching_race() -> tuple[Race, str]:
    """An epoch of steps over conversations of 1 to 5 pairs."""
    tokenizer, rows = experiments.conversations(TEXTS, most=5)
    plans = experiments.padded_bucketed_packed(tokenizer, rows, SIZE, CAPACITY)
    tokens = sum(len(ids) for ids, _ in rows)
    share = {name: 1 - tokens / sum(b["input_ids"].numel() for b in plan) for name, plan in plans.items()}
    contestants = {f"{name}, {share[name]:.0%} filler": _epoch(plan) for name, plan in plans.items()}
    goals = dict(zip(contestants, (None, 1.2, 1.2), strict=True))
    return Race(f"an epoch of {TEXTS} texts", tokens, contestants, goals), _same_plans(rows)


def _epoch(batches: list[dict]) -> Callable[[], object]:
    step = experiments.TrainStep(batches)
    return lambda: [step() for _ in batches]


def _same_plans(rows) -> str:
    """How much each way pads on many texts, where a single batch no longer decides."""
    lengths = [len(ids) for ids, _ in rows] * 20
    shares = [waste(lengths, plan(lengths)).share for plan in (_as_they_come, _in_buckets)]
    packed = 1 - sum(lengths) / (CAPACITY * len(first_fit_decreasing(lengths, CAPACITY)))
    return (
        f"Filler of {len(lengths)} texts, batches of {SIZE}: padded {shares[0]:.1%}, bucketed {shares[1]:.1%}, "
        f"packed in rows of {CAPACITY} {packed:.1%}."
    )


def _as_they_come(lengths):
    return shuffled(len(lengths), SIZE)


def _in_buckets(lengths):
    return bucketed(lengths, SIZE)


def attention_race() -> tuple[Race, str]:
    """Rows of 256 tokens, where attention weighs most in this model."""
    _, rows = experiments.conversations(1)
    ids = torch.tensor([(rows[0][0] * 256)[:256]] * 4)
    batches = [{"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}]
    contestants = {kind: experiments.TrainStep(batches, attention=kind) for kind in ("eager", "sdpa")}
    note = experiments.no_compiler()
    if not note:
        contestants["sdpa, compiled"] = experiments.TrainStep(batches, compiled=True)
        start = time.perf_counter()
        contestants["sdpa, compiled"]()
        note = f"Compiling took {time.perf_counter() - start:.0f} s."
    return Race("a step of 4 x 256", ids.numel(), contestants, {"sdpa": 1.0, "sdpa, compiled": 1.0}), note


def optimizer_race() -> tuple[Race, str]:
    """Only the optimizer: the unit is a weight instead of a token."""
    contestants = experiments.optimizer_steps()
    count = sum(p.numel() for p in experiments.TrainStep().model.parameters())
    return Race("AdamW, weights for tokens", count, contestants, {"fused": 1.0}), ""


def packing_race() -> tuple[Race, str]:
    """10,000 lengths; the loop is what one writes first, and finds the same rows."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(10, CAPACITY, (10_000,), generator=generator).tolist()
    assert loop(lengths, CAPACITY) == first_fit_decreasing(lengths, CAPACITY), "rows differ: nothing is timed"
    contestants = {
        "loop": lambda: loop(lengths, CAPACITY),
        "tree (ours)": lambda: first_fit_decreasing(lengths, CAPACITY),
    }
    return Race("packing 10,000 texts", sum(lengths), contestants, {"tree (ours)": 5.0}), ""


def loop(lengths: list[int], capacity: int) -> list[list[int]]:
    rows, rooms = [], []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fit = next((r for r, room in enumerate(rooms) if room >= lengths[index]), len(rows))
        if fit == len(rows):
            rows.append([])
            rooms.append(capacity)
        rows[fit].append(index)
        rooms[fit] -= lengths[index]
    return rows


def tensors_race() -> tuple[Race, str]:
    """Making the packed batch itself, mask included, beside the step that uses it."""
    _, rows = experiments.conversations(SIZE, most=5)
    batch = packed_batch(rows, CAPACITY)
    contestants = {
        "a step on it": experiments.TrainStep([batch]),
        "packed_batch": lambda: packed_batch(rows, CAPACITY),
    }
    tokens = sum(len(ids) for ids, _ in rows)
    return Race("one packed batch", tokens, contestants, {"packed_batch": 10.0}), ""


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--rounds", default=9, show_default=True, help="rounds in which all take turns")
@click.option("--write", is_flag=True, help=f"write {RESULTS.name} in benchmarks/results")
def main(rounds: int, write: bool) -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    # or compiling would seem to cost nothing the second time
    torch._inductor.config.force_disable_caches = True
    lines, notes = [environment(("torch", "transformers")), "", HEADER], []
    click.echo("\n".join(lines))
    for make in (batching_race, attention_race, optimizer_race, packing_race, tensors_race):
        race, note = make()
        new = rows_of(race, run(race, rounds))
        click.echo("\n".join(new))
        lines, notes = lines + new, notes + [note] * bool(note)
    click.echo("\n".join(notes))
    if write:
        RESULTS.parent.mkdir(exist_ok=True)
        text = "# Lecture 4, measured\n\n" + "\n".join([*lines, "", *notes]) + "\n"
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

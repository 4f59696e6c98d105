"""Measure lecture 4: tokens per second of one training step, done in several ways, on the embedded model.

    python -m classroom.lectures.throughput.benchmark            tables on the screen, about two minutes
    python -m classroom.lectures.throughput.benchmark --write    and into benchmarks/results/throughput.md

Contestants take turns (`meter.in_turns`). Tokens are those of the texts; padding is not counted, so a way that computes
less padding is faster for the same work. All have the same texts, the same weights at the start, and one thread.
Compiling is timed apart.
"""

from __future__ import annotations

import logging
import time
import warnings
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
TEXTS = 96
SIZE = 16
CAPACITY = 256


def rows_of(race: Race, timings: dict[str, Timing]) -> list[str]:
    """Rates by the median and the best round; `goals` says what a contestant's median should reach of the first's."""
    first = next(iter(timings.values()))
    lines = []
    for name, t in timings.items():
        ratio = first.median / t.median
        goal = race.goals.get(name)
        verdict = ""
        if goal is not None:
            verdict = f"{goal:g}x: met" if ratio >= goal else f"{goal:g}x: missed"
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
    titles = {f"{name}, {share[name]:.0%} padding": plan for name, plan in plans.items()}
    contestants = experiments.batch_epochs(titles)
    goals = dict(zip(contestants, (None, 1.2, 1.2), strict=True))
    return Race(f"an epoch of {TEXTS} texts", tokens, contestants, goals), _padding_of_many(rows)


def _padding_of_many(rows) -> str:
    """How much padding each way has on many texts, where a single batch no longer decides."""
    lengths = [len(ids) for ids, _ in rows] * 20
    padded = waste(lengths, shuffled(len(lengths), SIZE)).share
    in_buckets = waste(lengths, bucketed(lengths, SIZE)).share
    packed = 1 - sum(lengths) / (CAPACITY * len(first_fit_decreasing(lengths, CAPACITY)))
    return (
        f"Padding of {len(lengths)} texts, batches of {SIZE}: padded {padded:.1%}, bucketed {in_buckets:.1%}, "
        f"packed in rows of {CAPACITY} {packed:.1%}."
    )


def attention_race() -> tuple[Race, str]:
    """Rows of 256 tokens, where attention weighs most in this model."""
    batches = [experiments.four_long_rows()]
    contestants = experiments.attention_steps(batches)
    note = experiments.no_compiler()
    if not note:
        contestants["sdpa, compiled"] = experiments.TrainStep(batches, compiled=True)
        start = time.perf_counter()
        contestants["sdpa, compiled"]()
        note = f"Compiling took {time.perf_counter() - start:.0f} s."
    tokens = batches[0]["input_ids"].numel()
    return Race("a step of 4 x 256", tokens, contestants, {"sdpa": 1.0, "sdpa, compiled": 1.0}), note


def optimizer_race() -> tuple[Race, str]:
    """Only the optimizer; the unit is a weight instead of a token."""
    contestants = experiments.optimizer_steps()
    count = sum(p.numel() for p in experiments.TrainStep().model.parameters())
    return Race("AdamW, weights for tokens", count, contestants, {"fused": 1.0}), ""


def packing_race() -> tuple[Race, str]:
    """10,000 lengths. The loop is what one writes first; it finds the same rows."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(10, CAPACITY, (10_000,), generator=generator).tolist()
    assert loop(lengths, CAPACITY) == first_fit_decreasing(lengths, CAPACITY), "rows differ: nothing is timed"
    contestants = {
        "loop": lambda: loop(lengths, CAPACITY),
        "tree (ours)": lambda: first_fit_decreasing(lengths, CAPACITY),
    }
    return Race("packing 10,000 texts", sum(lengths), contestants, {"tree (ours)": 5.0}), ""


def loop(lengths: list[int], capacity: int) -> list[list[int]]:
    """First fit decreasing by looking at every row: the definition, quadratic in the number of rows."""
    rows = []
    rooms = []
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
    # with the cache, compiling would seem to cost nothing the second time
    torch._inductor.config.force_disable_caches = True
    lines = [environment(("torch", "transformers")), "", HEADER]
    notes = []
    click.echo("\n".join(lines))
    for make in (batching_race, attention_race, optimizer_race, packing_race, tensors_race):
        race, note = make()
        new = rows_of(race, run(race, rounds))
        click.echo("\n".join(new))
        lines += new
        if note:
            notes.append(note)
    click.echo("\n".join(notes))
    if write:
        RESULTS.parent.mkdir(exist_ok=True)
        text = "# Lecture 4, measured\n\n" + "\n".join([*lines, "", *notes]) + "\n"
        RESULTS.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""Time our loss scaling (lecture 2) beside torch's, on gradients of the embedded model's shapes.

    python -m classroom.lectures.amp.benchmark            table on the screen, a few seconds
    python -m classroom.lectures.amp.benchmark --write    and into benchmarks/results/amp.md

"native" is torch's own kernel (_amp_foreach_non_finite_check_and_unscale_), "naive" the first loop that one would
write: tensor by tensor, isfinite, then the product. All work in place, each on its own gradients; they divide by 2 and
by 1/2 in turns, so that the numbers do not drift. Before anything is timed, results are compared bit by bit.
"""

from __future__ import annotations

import logging
import warnings
from itertools import cycle
from pathlib import Path

import click
import torch
from torch import Tensor

from classroom.records.race import HEADER, Race, environment, rows, run
from coursekit.amp.grad_scaler import GradScaler
from coursekit.amp.unscale import unscale_and_check

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "amp.md"
GOAL = {"native": 0.4}  # ours may take 2.5 times as long
INTEGERS = {2: torch.int16, 4: torch.int32}


def native(grads: list[Tensor], scale: float) -> bool:
    found = torch.zeros(())
    torch._amp_foreach_non_finite_check_and_unscale_(grads, found, torch.tensor(1 / scale))
    return bool(found)


def naive(grads: list[Tensor], scale: float) -> bool:
    found = False
    for grad in grads:
        found |= not bool(grad.isfinite().all())
        grad.mul_(1 / scale)
    return found


def same(grads: list[Tensor]) -> None:
    """Assert that all three leave the same bits and find the same inf or NaN."""
    results = []
    for contestant in (unscale_and_check, native, naive):
        copies = [grad.clone() for grad in grads]
        results.append((contestant(copies, 2.0), [c.view(INTEGERS[c.element_size()]) for c in copies]))
    (found, bits), *others = results
    for other_found, other_bits in others:
        assert other_found == found, "results differ: one contestant finds an inf or NaN, another does not"
        assert all(map(torch.equal, bits, other_bits)), "results differ"


def unscale_race(task: str, grads: list[Tensor], goals: dict[str, float]) -> Race:
    same(grads)
    contestants = {"ours": unscale_and_check, "native": native, "naive": naive}
    timed = {name: _in_turns(contestant, grads) for name, contestant in contestants.items()}
    return Race(task, sum(g.numel() for g in grads), {**timed, "copy_": _copy(grads)}, goals)


def _in_turns(contestant, grads: list[Tensor]):
    own = [grad.clone() for grad in grads]
    scales = cycle((2.0, 0.5))
    return lambda: contestant(own, next(scales))


def _copy(grads: list[Tensor]):
    target = [torch.empty_like(grad) for grad in grads]
    return lambda: torch._foreach_copy_(target, grads)


def iteration_race(task: str, grads: list[Tensor]) -> Race:
    """Time scale, unscale_, step and update around an optimizer that does nothing: what the scaler adds to a step."""

    def iteration(scaler):
        weights = [grad.clone().requires_grad_() for grad in grads]
        loss = torch.ones(())
        optimizer = torch.optim.SGD(weights, lr=0.0)
        optimizer.step = lambda: None
        for weight, grad in zip(weights, grads, strict=True):
            weight.grad = grad.clone()
        scales = cycle((2.0, 0.5))

        def once():
            scaler.scale(loss)
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update(next(scales))

        return once

    contestants = {
        "ours": iteration(GradScaler(init_scale=0.5)),
        "torch": iteration(torch.amp.GradScaler("cpu", init_scale=0.5)),
        "copy_": _copy(grads),
    }
    return Race(task, sum(g.numel() for g in grads), contestants)


def shapes_of_tiny() -> list[torch.Size]:
    from classroom.models.load import load

    model, _ = load("tiny", device="cpu")
    return [p.shape for p in model.parameters()]


def races() -> list[Race]:
    generator = torch.Generator().manual_seed(0)

    def random(shapes) -> list[Tensor]:
        return [torch.randn(shape, generator=generator) for shape in shapes]

    tiny = random(shapes_of_tiny())
    return [
        unscale_race("tiny, FP32", tiny, GOAL),
        unscale_race("tiny, BF16", [grad.bfloat16() for grad in tiny], {}),
        unscale_race("tiny, every sum of squares overflows", [grad * 1e30 for grad in tiny], {}),
        unscale_race("one matrix 4096 x 4096, FP32", random([(4096, 4096)]), {}),
        iteration_race("tiny, a whole iteration of the scaler", tiny),
    ]


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--rounds", default=25, show_default=True, help="rounds in which all take turns")
@click.option("--write", is_flag=True, help=f"write {RESULTS.name} in benchmarks/results")
def main(rounds: int, write: bool) -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    lines = [environment(("torch",)), "", HEADER]
    click.echo("\n".join(lines))
    for race in races():
        new = rows(race, run(race, rounds))
        click.echo("\n".join(new))
        lines += new
    if write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("# Lecture 2, measured\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

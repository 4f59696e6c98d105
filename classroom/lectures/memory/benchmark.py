"""Measure lecture 3: the time that 8-bit states cost, against bitsandbytes, torchao and torch.

    python -m classroom.lectures.memory.benchmark            tables on the screen, a minute
    python -m classroom.lectures.memory.benchmark --write    and into benchmarks/results/memory.md

Each section is a function that yields races. All contestants of a race have the same inputs, and results are compared
before anything is timed. Quantising and dequantising make new tensors, as in the other libraries; steps work in place.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click
import torch
from torch import Tensor

from classroom.models import finetune, task
from classroom.models.load import load
from classroom.records.race import HEADER, Race, environment, rows, run
from coursekit.optim.adafactor import Adafactor
from coursekit.optim.adamw import AdamW
from coursekit.optim.adamw8bit import AdamW8bit
from coursekit.optim.paged import PagedAdamW
from coursekit.optim.per_parameter import state_bytes
from coursekit.quantization.blockwise import dequantize, quantize
from coursekit.quantization.nearest import dynamic_map

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "memory.md"
SIZES = (1 << 20, 1 << 22, 1 << 24)


def quantize_races() -> Iterator[Race]:
    """Block-wise 8 bits, block 256: quantise and dequantise."""
    from bitsandbytes import functional as theirs

    code = dynamic_map()
    for elements in SIZES:
        x = torch.randn(elements, generator=torch.Generator().manual_seed(0))
        codes, absmax = quantize(x)
        other = theirs.quantize_blockwise(x, code=code, blocksize=256)
        assert (codes == other[0]).float().mean() > 0.998, "codes differ by more than its kernel's errors"
        back = theirs.dequantize_blockwise(codes, absmax=absmax, code=code, blocksize=256)
        assert torch.equal(dequantize(codes, absmax), back), "numbers differ: nothing is timed"
        quantizers = {
            "ours": partial(quantize, x),
            "bitsandbytes": partial(theirs.quantize_blockwise, x, code=code, blocksize=256),
            "copy_": copying([x]),
        }
        yield Race("quantise", elements, quantizers, {"bitsandbytes": 3})
        dequantize_theirs = partial(theirs.dequantize_blockwise, absmax=absmax, code=code, blocksize=256)
        dequantizers = {
            "ours": partial(dequantize, codes, absmax),
            "bitsandbytes": partial(dequantize_theirs, codes),
            "copy_": copying([x]),
        }
        yield Race("dequantise", elements, dequantizers)


def step_races() -> Iterator[Race]:
    """Time one step of 8-bit AdamW (ours and other libraries') and of 32-bit optimizers, on a tensor and on a model."""
    for elements in SIZES:
        yield step_race("step, one tensor", [torch.Size([elements])])
    yield step_race("step, tiny", shapes_of_tiny())


def step_race(task: str, shapes: list[torch.Size]) -> Race:
    import bitsandbytes

    makers = {
        "ours": AdamW8bit,
        "bitsandbytes": bitsandbytes.optim.AdamW8bit,
        "AdamW, plain": AdamW,
        "AdamW, torch foreach": partial(torch.optim.AdamW, foreach=True),
        "AdamW, torch fused": partial(torch.optim.AdamW, fused=True),
        "AdamW, paged": partial(PagedAdamW, budget_bytes=3 << 18),
        "Adafactor": Adafactor,
    }
    parameters = {name: parameters_with_gradients(shapes) for name in makers}
    optimizers = {name: make(parameters[name]) for name, make in makers.items()}
    for optimizer in optimizers.values():
        optimizer.step()
    first = {name: torch.cat([p.detach().view(-1) for p in ps]) for name, ps in parameters.items()}
    for name in first.keys() - {"Adafactor"}:
        assert torch.allclose(first[name], first["AdamW, torch foreach"], rtol=1e-4, atol=1e-6), (
            f"{name} differs"
        )
    contestants = {name: optimizer.step for name, optimizer in optimizers.items()}
    elements = sum(p.numel() for p in parameters["ours"])
    return Race(task, elements, {**contestants, "copy_": copying(parameters["ours"])}, {"bitsandbytes": 2})


def torchao_race() -> Race:
    """torchao's AdamW8bit, eager. It is meant for torch.compile, but compiling takes longer than this race."""
    from torchao.optim import AdamW8bit as TorchaoAdamW8bit

    shapes = [torch.Size([1 << 20])]
    ours, theirs = parameters_with_gradients(shapes), parameters_with_gradients(shapes)
    contestants = {
        "ours": AdamW8bit(ours).step,
        "torchao": TorchaoAdamW8bit(theirs).step,
        "copy_": copying(ours),
    }
    for name in ("ours", "torchao"):
        contestants[name]()
    assert torch.allclose(ours[0], theirs[0], rtol=1e-4, atol=1e-5), "first steps differ: nothing is timed"
    return Race("step, one tensor", 1 << 20, contestants)


def parameters_with_gradients(shapes: list[torch.Size]) -> list[Tensor]:
    """Parameters with gradients, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    for p in parameters:
        p.grad = torch.randn(p.shape, generator=generator) * 0.01
    return parameters


def copying(tensors: list[Tensor]):
    """A call that copies all tensors once: the least time in which memory can be read and written."""
    target = [torch.empty_like(tensor) for tensor in tensors]
    sources = [tensor.detach() for tensor in tensors]
    return lambda: torch._foreach_copy_(target, sources)


def shapes_of_tiny() -> list[torch.Size]:
    model, _ = load("tiny", device="cpu")
    return [p.shape for p in model.parameters()]


def bytes_table() -> list[str]:
    """Bytes of optimizer state of the embedded model, measured after one step."""
    lines = ["| optimizer, tiny | bytes of state | per parameter |", "|---|---|---|"]
    for make in (AdamW, AdamW8bit, Adafactor):
        parameters = parameters_with_gradients(shapes_of_tiny())
        optimizer = make(parameters)
        optimizer.step()
        stored = state_bytes(optimizer)
        lines.append(f"| {make.__name__} | {stored:,} | {stored / sum(p.numel() for p in parameters):.3f} |")
    return lines


def deviation_table(steps: int = 30) -> list[str]:
    """How far the 8-bit weights of the embedded model are from torch's AdamW, on the gradients of that run."""
    import bitsandbytes

    model, tokenizer = load("tiny", device="cpu")
    makers = {"ours": AdamW8bit, "bitsandbytes": bitsandbytes.optim.AdamW8bit}
    copies = {name: [torch.nn.Parameter(p.detach().clone()) for p in model.parameters()] for name in makers}
    optimizers = [torch.optim.AdamW(model.parameters()), *(makers[name](copies[name]) for name in makers)]
    for optimizer in optimizers:
        optimizer.param_groups[0].update(lr=1e-3)
    batches = finetune.batches(tokenizer, task.pairs("train", 400), size=4)
    for _, batch in zip(range(steps), batches, strict=False):
        model.zero_grad()
        model(**batch).loss.backward()
        for parameters in copies.values():
            for p, copy in zip(model.parameters(), parameters, strict=True):
                copy.grad = p.grad
        for optimizer in optimizers:
            optimizer.step()
    exact = torch.cat([p.detach().view(-1) for p in model.parameters()])
    lines = [f"| tiny after {steps} steps at lr 1e-3 | mean deviation | largest |", "|---|---|---|"]
    for name, parameters in copies.items():
        away = (torch.cat([p.detach().view(-1) for p in parameters]) - exact).abs()
        lines.append(f"| {name} | {away.mean():.3e} | {away.max():.3e} |")
    return lines


def races() -> Iterator[Race]:
    yield from quantize_races()
    yield from step_races()
    yield torchao_race()


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--rounds", default=9, show_default=True, help="rounds in which all take turns")
@click.option("--write", is_flag=True, help=f"write {RESULTS.name} in benchmarks/results")
def main(rounds: int, write: bool) -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    lines = [environment(("torch", "bitsandbytes", "torchao")), "", HEADER]
    click.echo("\n".join(lines))
    for race in races():
        new = rows(race, run(race, rounds))
        click.echo("\n".join(new))
        lines += new
    tables = ["", *bytes_table(), "", *deviation_table()]
    click.echo("\n".join(tables))
    lines += tables
    if write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text("# Lecture 3, measured\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

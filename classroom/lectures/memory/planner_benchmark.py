"""Measure lecture 3: the error of the planned peak, ours and others', against the allocator and torch's MemTracker.

    python -m classroom.lectures.memory.planner_benchmark            tables on the screen, a few minutes
    python -m classroom.lectures.memory.planner_benchmark --write    and into benchmarks/results/planner.md

The embedded model really runs; the allocator's events are the truth. Whole models of the hub run on fake tensors, which
have shapes and no memory, under `torch.distributed._tools.mem_tracker.MemTracker`. The formulas of others are in the
same rows. This needs neither weights nor a network.
"""

from __future__ import annotations

import itertools
import logging
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median

import click
import torch

from classroom.models.load import checkpointing, load, quiet
from classroom.records.race import environment
from coursekit.memory.architecture import architecture_of, presets
from coursekit.memory.fit import fits
from coursekit.memory.formulas import FORMULAS
from coursekit.memory.measure import measure
from coursekit.memory.planner import Plan, estimate

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "planner.md"
SHAPES = ((1, 128), (4, 256), (2, 1024))
HUB = ("gpt2", "smollm2-135m", "qwen2-0.5b", "qwen3-0.6b", "llama-3.2-1b")
LARGE = ("phi-3-mini", "mistral-7b", "llama-3-8b")  # one shape each: the tracker takes a minute per model
HEADER = "| truth | plan | measured, bytes | ours, error % | " + " | ".join(FORMULAS) + " |"


def row(truth: str, name: str, plan: Plan, peak: int) -> str:
    """One line of the table: what measured the peak, the plan, the peak, and everyone's error in percent."""
    ours = 100 * (estimate(plan).peak_bytes / peak - 1)
    others = [f"{100 * (formula(plan) / peak - 1):+.0f}" for formula in FORMULAS.values()]
    if plan.lora_rank:  # the formulas know no adapters
        others = [""] * len(FORMULAS)
    return f"| {truth} | {name} | {peak:,} | {ours:+.4f} | {' | '.join(others)} |"


def embedded() -> Iterator[str]:
    """The embedded model, trained in every way of the lecture, at three shapes."""
    for batch, sequence in ((2, 64), (8, 96), (4, 256)):
        base = Plan("tiny", batch, sequence, ledger="fp32", device="cpu")
        adapters = replace(base, lora_rank=16)
        plans = {
            "plain": base,
            "eager attention": replace(base, attention="eager"),
            "3 micro-batches": replace(base, accumulation=3),
            "checkpointed": replace(base, checkpointing=True),
            "LoRA": adapters,
            "LoRA, checkpointed": replace(adapters, checkpointing=True),
            "QLoRA": replace(adapters, quantization="nf4"),
            "QLoRA, checkpointed": replace(adapters, quantization="nf4", checkpointing=True),
        }
        for name, plan in plans.items():
            yield row("allocator", f"tiny {batch} x {sequence}, {name}", plan, run(plan))


def run(plan: Plan) -> int:
    """The peak of a real step on the CPU."""
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    model, _ = load(plan.model, device="cpu", quantization=plan.quantization)
    with quiet():
        if plan.quantization:
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        if plan.lora_rank:
            config = LoraConfig(r=plan.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM")
            model = get_peft_model(model, config)
        if plan.checkpointing:
            checkpointing(model)
            model.enable_input_require_grads()
    model.config._attn_implementation = plan.attention
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    batches = []
    for _ in range(plan.accumulation):
        ids = torch.randint(0, 1000, (plan.batch, plan.sequence))
        batches.append({"input_ids": ids, "labels": ids.clone()})
    return measure(model.train(), optimizer, batches).peak


def hub() -> Iterator[str]:
    """Whole models on fake tensors: FP32, BF16 and checkpointed in rotation."""
    for number, name in enumerate(HUB):
        for shape, (batch, sequence) in enumerate(SHAPES):
            kind = ("fp32", "bf16", "checkpointed")[(number + shape) % 3]
            peak, plan = track(name, batch, sequence, kind)
            yield row("MemTracker", f"{name} {batch} x {sequence}, {kind}", plan, peak)
    for name, (batch, sequence), kind in zip(LARGE, SHAPES, ("bf16", "checkpointed", "bf16"), strict=True):
        peak, plan = track(name, batch, sequence, kind)
        yield row("MemTracker", f"{name} {batch} x {sequence}, {kind}", plan, peak)


def track(name: str, batch: int, sequence: int, kind: str) -> tuple[int, Plan]:
    """(peak by MemTracker, the plan). Dropout is off: on a CPU it would also switch off GPT-2's fused attention."""
    from torch._subclasses import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    values = dict(presets()[name])
    off = {"resid_pdrop": 0.0, "attn_pdrop": 0.0, "embd_pdrop": 0.0} if "n_embd" in values else {}
    config = CONFIG_MAPPING[values.pop("model_type")](**values, **off)
    dtype = torch.bfloat16 if kind == "bf16" else torch.float32
    with FakeTensorMode(allow_non_fake_inputs=True), quiet():
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).train()
        if kind == "checkpointed":
            checkpointing(model)
        optimizer = torch.optim.AdamW(model.parameters())
        ids, labels = torch.randint(0, 100, (2, batch, sequence))
        tracker = MemTracker()
        tracker.track_external(model, optimizer, ids, labels)
        with tracker:
            for _ in range(2):  # the first step creates the states
                tracker.reset_mod_stats()
                model(input_ids=ids, labels=labels).loss.backward()
                optimizer.step()
                optimizer.zero_grad()
        snapshot = next(iter(tracker.get_tracker_snapshot("peak").values()))
    peak = next(size for key, size in snapshot.items() if "Total" in str(key))
    ledger = "bf16" if kind == "bf16" else "fp32"
    return peak, Plan(
        config, batch, sequence, ledger=ledger, checkpointing=kind == "checkpointed", device="cpu"
    )


def speed() -> str:
    """A sentence with the CPU time of an estimate and of a verdict with its ways out, over all presets."""
    plans = [Plan(name, sequence=1024, checkpointing=True) for name in presets()]
    estimates = sorted(milliseconds(partial(estimate, plan)) for plan in plans)
    verdicts = sorted(milliseconds(partial(fits, plan, 4)) for plan in plans)
    many = Plan(replace(architecture_of("llama-3-8b"), layers=10_000), sequence=1024)
    return (
        f"An estimate takes {median(estimates):.1f} ms in the median of {len(plans)} presets, at most "
        f"{estimates[-1]:.1f}; the verdict on a card of 4 GB with all ways out {median(verdicts):.0f} ms, at most "
        f"{verdicts[-1]:.0f}; for a model of 10,000 layers {milliseconds(partial(fits, many, 4)):.0f} ms."
    )


def milliseconds(function) -> float:
    """CPU time of the second call; the first also reads the presets."""
    function()
    start = time.process_time()
    function()
    return 1000 * (time.process_time() - start)


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--write", is_flag=True, help=f"write {RESULTS.name} in benchmarks/results")
def main(write: bool) -> None:
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    lines = [environment(("torch", "transformers", "peft", "bitsandbytes")), "", speed(), "", HEADER]
    lines.append("|---" * HEADER.count(" | ") + "|---|")
    click.echo("\n".join(lines))
    for line in itertools.chain(embedded(), hub()):
        click.echo(line)
        lines.append(line)
    if write:
        RESULTS.write_text("# The planner, measured\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

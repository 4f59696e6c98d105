"""Fine-tune the embedded model on the course's task with the libraries: full, LoRA, QLoRA; and prove that it works.

    python -m classroom.models.finetune --method qlora

The adapters are peft's and the 4-bit layers bitsandbytes'. Lectures 7 to 9 write both by hand and compare them with
these. Left out: saving (`adapter`).
"""

from __future__ import annotations

import json
import random
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from classroom.models import task
from classroom.models.load import load, quiet
from coursekit.training import IGNORED, Step, Training, warmup_then_line

METHODS = ("full", "lora", "qlora")
RANK, ALPHA = 16, 32
STEPS, BATCH = 300, 16
RATES = {"full": 5e-4, "lora": 1e-3, "qlora": 1e-3}


def encode_pair(tokenizer, pair: task.Pair) -> tuple[list[int], list[int]]:
    """(input ids, labels) of one pair in the chat template; only the response and its end token are targets."""
    messages = task.messages(pair)
    prompt = tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template(messages, tokenize=False).rstrip("\n")
    prompt_ids = tokenizer(prompt)["input_ids"]
    ids = tokenizer(whole)["input_ids"]
    return ids, [IGNORED] * len(prompt_ids) + ids[len(prompt_ids) :]


def collate(tokenizer, rows: Sequence[tuple[list[int], list[int]]], device: str | None = None) -> dict:
    """Rows padded on the right to the longest: int64 [batch, length] each, on the CPU unless a device is named."""
    import torch

    longest = max(len(ids) for ids, _ in rows)

    def padded(lists, value):
        return torch.tensor([row + [value] * (longest - len(row)) for row in lists], device=device)

    ids, labels = zip(*rows, strict=True)
    return {
        "input_ids": padded(ids, tokenizer.pad_token_id),
        "attention_mask": padded([[1] * len(row) for row in ids], 0),
        "labels": padded(labels, IGNORED),
    }


def batches(
    tokenizer, pairs: Sequence[task.Pair], size: int = BATCH, seed: int = 0, device: str | None = None
) -> Iterator[dict]:
    """Endless micro-batches of `size` pairs, shuffled again in every epoch; tensors and `device` as in collate.

    Fewer pairs than `size`, as in a student's own short file, are one batch, which every step uses; a warning says so.
    Pairs that do not fill a batch at the end of an epoch wait for the next shuffle.

    `Training` moves a batch to its model's device. To call a model directly, name that device here.

    Raises ValueError if there is no pair or `size` is below 1.
    """
    if not pairs:
        raise ValueError("there is no pair to train on; give at least one.")
    if size < 1:
        raise ValueError(f"size must be a whole number of at least 1, the pairs of a batch; got {size!r}.")
    if len(pairs) < size:
        message = f"{len(pairs)} pairs do not fill a batch of {size}: every step takes all {len(pairs)}."
        warnings.warn(message, stacklevel=2)
    rows = [encode_pair(tokenizer, pair) for pair in pairs]
    groups = shuffled_groups(rows, min(size, len(rows)), random.Random(seed))
    return (collate(tokenizer, group, device) for group in groups)


def shuffled_groups(rows: list, size: int, dice: random.Random) -> Iterator[list]:
    """Endless groups of `size` rows, each row at most once per epoch. `rows` are shuffled in place."""
    while True:
        dice.shuffle(rows)
        for start in range(0, len(rows) - size + 1, size):
            yield rows[start : start + size]


def trainable(
    method: str, name: str = "tiny", seed: int = 0, *, device: str | None = None, dtype: str | None = None
):
    """(model, tokenizer) ready to train: all weights, or a LoRA adapter on a full or a 4-bit base.

    device, dtype   as in load.load; but if all weights are trained, the default is float32 on every device: BF16 is
                    too coarse for their small updates

    Raises ValueError for an unknown method.
    """
    import torch

    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}; got {method!r}.")
    dtype = dtype or ("float32" if method == "full" else None)
    quantization = "nf4" if method == "qlora" else None
    model, tokenizer = load(name, device=device, dtype=dtype, quantization=quantization)
    torch.manual_seed(seed)
    if method == "full":
        return model, tokenizer
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    with quiet():
        if method == "qlora":
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        return get_peft_model(model, config), tokenizer


def training(
    model,
    tokenizer,
    pairs: Sequence[task.Pair],
    *,
    steps: int = STEPS,
    rate: float,
    size: int = BATCH,
    seed: int = 0,
) -> Training:
    """A run of the course's loop with AdamW on the trainable parameters, `size` pairs per step."""
    import torch

    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    return Training(
        model,
        optimizer,
        batches(tokenizer, pairs, size, seed),
        steps,
        schedule=warmup_then_line(steps, warmup=min(50, steps // 5)),
    )


@dataclass(frozen=True)
class Result:
    """One row of the proof."""

    method: str
    steps: int
    seconds: float
    trainable_parameters: int
    loss: float
    exact_match_before: float
    exact_match: float
    test_sentences: int


def prove(
    method: str, steps: int = STEPS, rate: float | None = None, seed: int = 0, tests: int = 200, on_step=None
) -> Result:
    """Fine-tune by one method and score it on held-out sentences, before and after."""
    held_out = task.pairs("test", tests)
    model, tokenizer = trainable(method, seed=seed)
    before = task.exact_match(task.answers(model, tokenizer, held_out), held_out)
    run = training(
        model, tokenizer, task.pairs("train", 8000, seed), steps=steps, rate=rate or RATES[method], seed=seed
    )
    started = time.perf_counter()
    run.go(on_step or (lambda step: None))
    seconds = time.perf_counter() - started
    after = task.exact_match(task.answers(model, tokenizer, held_out), held_out)
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    loss = sum(step.loss for step in run.history[-50:]) / len(run.history[-50:])
    return Result(method, len(run.history), round(seconds, 1), count, round(loss, 4), before, after, tests)


@click.command()
@click.option("--method", type=click.Choice([*METHODS, "all"]), default="all", show_default=True)
@click.option("--steps", default=STEPS, show_default=True)
@click.option("--rate", type=float, help="Peak learning rate; default by method.")
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Add the results to this JSONL file.")
def main(method: str, steps: int, rate: float | None, seed: int, file: Path | None) -> None:
    """Fine-tune the embedded model on the rewriting task and score it on 200 held-out sentences."""
    from tqdm import tqdm

    for name in METHODS if method == "all" else (method,):
        with tqdm(total=steps, desc=name, unit="step", mininterval=1) as bar:

            def tick(step: Step, bar=bar) -> None:
                bar.update()
                bar.set_postfix(loss=f"{step.loss:.3f}", refresh=False)

            result = prove(name, steps, rate, seed, on_step=tick)
        print(json.dumps(asdict(result)))
        if file:
            with file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(asdict(result)) + "\n")


if __name__ == "__main__":
    main()

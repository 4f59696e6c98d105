"""One training step of the embedded model, with one thing done otherwise each time: what does it cost or save?

    step = TrainStep(attention="sdpa", optimizer="fused")
    race(attention_steps(), rounds=5)                # {"eager": Timing, "sdpa": Timing}

Every function returns contestants for `meter.in_turns`: a name and a call that does one step (or one epoch of loading).
All contestants of one race start from the same weights and see the same batches. On a CPU some of it makes no
difference, since nothing runs ahead of Python there: that is to be seen, not hidden.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from itertools import cycle, islice

import torch

from classroom.models import task
from classroom.models.finetune import collate, encode_pair
from classroom.models.load import load
from coursekit.throughput import packing
from coursekit.throughput.batching import bucketed, shuffled
from coursekit.throughput.meter import Timing, in_turns
from coursekit.throughput.packing import Text, first_fit_decreasing

Contestants = dict[str, Callable[[], object]]
OPTIMIZERS = {"for-loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}


def conversations(count: int = 64, seed: int = 0, most: int = 1) -> tuple[object, list[Text]]:
    """(tokenizer, texts) of the course's task: ids and labels, every token a target.

    most  a text is a conversation of 1 to `most` pairs, drawn at random: lengths as uneven as real ones
    """
    tokenizer, dice = load("tiny", device="cpu")[1], random.Random(seed)
    turns = [dice.randint(1, most) for _ in range(count)]
    pairs = iter(task.pairs("train", sum(turns), seed))
    rows = [[i for pair in islice(pairs, n) for i in encode_pair(tokenizer, pair)[0]] for n in turns]
    return tokenizer, [(ids, list(ids)) for ids in rows]


class TrainStep:
    """Forward, backward and AdamW on the next batch, again and again; a call is one step and returns the loss.

    attention    "eager" or "sdpa"
    optimizer    "for-loop", "foreach" or "fused": one kernel a tensor, a group of tensors, or everything
    set_to_none  free the gradients after a step; False: fill them with zeros
    item_every   ask for the loss as a number every so many steps, which waits for the device; 0: never
    device       where the model and its batches are
    dtype        as in models.load.load: default float32 on a CPU, bfloat16 on a GPU
    """

    def __init__(
        self,
        batches: list[dict] | None = None,
        *,
        attention: str = "sdpa",
        optimizer: str = "foreach",
        set_to_none: bool = True,
        item_every: int = 0,
        compiled: bool = False,
        name: str = "tiny",
        device: str = "cpu",
        dtype: str | None = None,
    ):
        self.model, tokenizer = load(name, device=device, dtype=dtype)
        self.model.train().set_attn_implementation(attention)
        batches = batches or default_batches(tokenizer)
        self.batches = cycle([moved(b, self.model) for b in batches])
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, **OPTIMIZERS[optimizer])
        self.set_to_none, self.item_every, self.number = set_to_none, item_every, 0
        self.forward = torch.compile(self.model) if compiled else self.model

    def __call__(self):
        loss = self.forward(**next(self.batches), use_cache=False).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=self.set_to_none)
        self.number += 1
        if self.item_every and self.number % self.item_every == 0:
            return loss.item()
        return loss.detach()


def moved(batch: dict, model) -> dict:
    """The batch on the model's device; a mask of numbers in the model's dtype, as fused attention on a GPU wants it."""
    return {
        name: tensor.to(model.device, model.dtype if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in batch.items()
    }


def default_batches(tokenizer, size: int = 8, count: int = 4) -> list[dict]:
    """The same for everyone: `count` padded batches of `size` pairs, all padded to one length."""
    rows = [encode_pair(tokenizer, pair) for pair in task.pairs("train", size * count)]
    whole = collate(tokenizer, rows)
    return [{k: t[n * size : (n + 1) * size] for k, t in whole.items()} for n in range(count)]


def race(contestants: Contestants, rounds: int = 7, warmup: int = 2) -> dict[str, Timing]:
    return in_turns(contestants, rounds, warmup)


def attention_steps(device: str = "cpu") -> Contestants:
    """Scores written out and read back, or one fused kernel."""
    return {kind: TrainStep(attention=kind, device=device) for kind in ("eager", "sdpa")}


def optimizer_steps(device: str = "cpu") -> Contestants:
    """Only the optimizer's step, on gradients that are there."""
    return {kind: _optimizer_step(kind, device) for kind in OPTIMIZERS}


def _optimizer_step(kind: str, device: str) -> Callable[[], object]:
    step = TrainStep(optimizer=kind, device=device)
    step.forward(**next(step.batches), use_cache=False).loss.backward()
    return step.optimizer.step


def zero_grad(device: str = "cpu") -> Contestants:
    """Free the gradients, or fill them with zeros and add to them."""
    ways = {"set_to_none": True, "zeros": False}
    return {name: TrainStep(set_to_none=free, device=device) for name, free in ways.items()}


def item_steps(every: int = 10, device: str = "cpu") -> Contestants:
    """The loss as a number in every step, every so many, or never."""
    ways = {"item() every step": 1, f"item() every {every}": every, "never": 0}
    return {name: TrainStep(item_every=count, device=device) for name, count in ways.items()}


def no_compiler(device: str = "cpu") -> str:
    """Why torch.compile cannot work here, "" if it can: for a CPU it writes C++ and needs a compiler for it."""
    if device != "cpu" or any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        return ""
    return "torch.compile writes C++ for a CPU, and there is no compiler (g++, clang++ or cl) on the PATH."


def compiled_steps(device: str = "cpu") -> Contestants:
    """As it is written, or compiled; the compiled one's first steps take tens of seconds, so run it once before.

    Raises RuntimeError with the reason where it cannot be compiled.
    """
    if reason := no_compiler(device):
        raise RuntimeError(reason)
    return {
        name: TrainStep(compiled=name == "compiled", device=device) for name in ("as written", "compiled")
    }


def made_on(device: str, shape: tuple[int, ...] = (64, 1024)) -> Contestants:
    """Random numbers made on the CPU and moved, or made where they are needed."""
    return {
        "made on the CPU, moved": lambda: torch.randn(shape).to(device),
        "made on the device": lambda: torch.randn(shape, device=device),
    }


def padded_bucketed_packed(
    tokenizer, rows: list[Text], size: int = 16, capacity: int = 256, seed: int = 0
) -> dict[str, list[dict]]:
    """The same texts as batches: padded as they come, padded in buckets, packed. For TrainStep, or to count slots.

    All have the same number of batches, so that an epoch is the same number of steps.
    """
    lengths = [len(ids) for ids, _ in rows]
    plans = {"padded": shuffled(len(rows), size, seed), "bucketed": bucketed(lengths, size, seed)}
    found = {name: [collate(tokenizer, [rows[i] for i in b]) for b in plan] for name, plan in plans.items()}
    packed = first_fit_decreasing(lengths, capacity)
    random.Random(seed).shuffle(packed)  # the first rows hold the longest texts
    steps = min(len(plans["padded"]), len(packed))
    cuts = [[[rows[i] for i in row] for row in packed[k::steps]] for k in range(steps)]
    return found | {"packed": [packing.collate_packed(cut, pad_id=tokenizer.pad_token_id) for cut in cuts]}


class Encode(torch.utils.data.Dataset):
    """Texts that are tokenised when asked for; at the top of the module, so that a worker can unpickle it."""

    def __init__(self, count: int = 512):
        self.tokenizer, self.pairs = load("tiny", device="cpu")[1], task.pairs("train", count)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[list[int], list[int]]:
        return encode_pair(self.tokenizer, self.pairs[index])


def loading_epochs(workers: tuple[int, ...] = (0, 1, 2), count: int = 512, size: int = 16) -> Contestants:
    """One epoch of a DataLoader that tokenises, with so many helper processes; they stay between epochs."""
    data = Encode(count)
    return {f"{n} workers": _epoch(data, n, size) for n in workers}


def _epoch(data: Encode, workers: int, size: int) -> Callable[[], int]:
    loader = torch.utils.data.DataLoader(
        data, size, num_workers=workers, collate_fn=list, persistent_workers=workers > 0
    )
    return lambda: sum(len(batch) for batch in loader)

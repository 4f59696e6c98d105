"""The experiments of lecture 4, each written once: its notebook, its deck and its benchmark call them.

    step = TrainStep(batches, attention="sdpa", optimizer="fused")
    in_turns(attention_steps(), rounds=5)                # {"eager": Timing, "sdpa": Timing}

Functions named `..._steps` or `..._epochs` return contestants for `meter.in_turns`: names, and calls that do one step
(or one epoch). All contestants of one race start from the same weights and see the same batches. On a CPU some of them
make no difference, since Python does the work itself there: that is shown, not hidden.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterable, Mapping
from itertools import cycle, islice

import torch

from classroom.models import task
from classroom.models.finetune import collate, encode_pair
from classroom.models.load import load
from coursekit.throughput import packing
from coursekit.throughput.batching import bucketed, shuffled
from coursekit.throughput.packing import Text, first_fit_decreasing
from coursekit.training import targets

Contestants = dict[str, Callable[[], object]]
# as torch.optim.AdamW wants them: one kernel per tensor, per group of tensors, or for everything
OPTIMIZERS = {"for-loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}


def conversations(count: int = 64, seed: int = 0, most: int = 1) -> tuple[object, list[Text]]:
    """(tokenizer, texts) of the course's task. A text is (ids, labels); every token is a target.

    most  a text is a conversation of 1 to `most` pairs, drawn at random, so that lengths are uneven
    """
    tokenizer = load("tiny", device="cpu")[1]
    dice = random.Random(seed)
    turns = [dice.randint(1, most) for _ in range(count)]
    pairs = iter(task.pairs("train", sum(turns), seed))
    rows = [_conversation(tokenizer, islice(pairs, n)) for n in turns]
    return tokenizer, [(ids, list(ids)) for ids in rows]


def _conversation(tokenizer, pairs: Iterable[task.Pair]) -> list[int]:
    ids = []
    for pair in pairs:
        ids += encode_pair(tokenizer, pair)[0]
    return ids


def four_long_rows(length: int = 256) -> dict:
    """One batch without padding: int64 [4, length], the same text again and again, every token a target."""
    ids = conversations(1)[1][0][0]
    rows = torch.tensor([(ids * length)[:length]] * 4)
    return {"input_ids": rows, "attention_mask": torch.ones_like(rows), "labels": rows}


@torch.no_grad()
def loss_per_target(model, batches: Iterable[dict]) -> float:
    """The mean loss over the targets of all batches together."""
    total = count = 0
    for batch in batches:
        n = targets(batch)
        total += model(**batch, use_cache=False).loss.item() * n
        count += n
    return total / count


class TrainStep:
    """A call is one step, forward, backward and AdamW, on the next of the batches, and returns the loss.

    attention    "eager" or "sdpa"
    optimizer    a key of OPTIMIZERS
    set_to_none  free the gradients after a step; False: fill them with zeros, and add to them
    item_every   return the loss as a number every so many steps, which waits for the device; 0: never
    device       of the model and its batches
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
        self.set_to_none = set_to_none
        self.item_every = item_every
        self.number = 0
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
    return {name: _moved(tensor, model) for name, tensor in batch.items()}


def _moved(tensor, model):
    if tensor.is_floating_point():
        return tensor.to(model.device, model.dtype)
    return tensor.to(model.device)


def default_batches(tokenizer, size: int = 8, count: int = 4) -> list[dict]:
    """The same batches at every call: `count` of `size` pairs each, all padded to one length."""
    rows = [encode_pair(tokenizer, pair) for pair in task.pairs("train", size * count)]
    whole = collate(tokenizer, rows)
    return [{k: t[n * size : (n + 1) * size] for k, t in whole.items()} for n in range(count)]


def batch_epochs(batchings: Mapping[str, list[dict]], **options) -> Contestants:
    """An epoch of steps on each of several batchings; options as TrainStep's."""
    return {
        name: _batch_epoch(TrainStep(batches, **options), len(batches)) for name, batches in batchings.items()
    }


def _batch_epoch(step: TrainStep, count: int) -> Callable[[], object]:
    return lambda: [step() for _ in range(count)]


def attention_steps(batches: list[dict] | None = None, **options) -> Contestants:
    """Attention scores written to memory and read back, or one fused kernel."""
    return {kind: TrainStep(batches, attention=kind, **options) for kind in ("eager", "sdpa")}


def optimizer_steps(device: str = "cpu") -> Contestants:
    """Return contestants that run only the optimizer's step, on the gradients of one backward pass."""
    return {kind: _optimizer_step(kind, device) for kind in OPTIMIZERS}


def _optimizer_step(kind: str, device: str) -> Callable[[], object]:
    step = TrainStep(optimizer=kind, device=device)
    step.forward(**next(step.batches), use_cache=False).loss.backward()
    return step.optimizer.step


def item_steps(every: int = 10, device: str = "cpu") -> Contestants:
    """The loss read as a number in every step, every so many steps, or never."""
    ways = {"item() every step": 1, f"item() every {every}": every, "never": 0}
    return {name: TrainStep(item_every=count, device=device) for name, count in ways.items()}


def no_compiler(device: str = "cpu") -> str:
    """Say why torch.compile cannot work here, or "": for a CPU it writes C++ and needs a compiler for it."""
    if device != "cpu" or any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        return ""
    return "torch.compile writes C++ for a CPU, and there is no compiler (g++, clang++ or cl) on the PATH."


def compiled_steps(device: str = "cpu") -> Contestants:
    """The step as written, or compiled. The first compiled step takes tens of seconds, so run it once before.

    Raises RuntimeError with the reason where nothing can be compiled.
    """
    if reason := no_compiler(device):
        raise RuntimeError(reason)
    return {
        name: TrainStep(compiled=name == "compiled", device=device) for name in ("as written", "compiled")
    }


def padded_bucketed_packed(
    tokenizer, rows: list[Text], size: int = 16, capacity: int = 256, seed: int = 0
) -> dict[str, list[dict]]:
    """The same texts in three batchings: padded in random order, padded in buckets of like length, packed.

    All three have the same number of batches, so that an epoch is the same number of steps.
    """
    lengths = [len(ids) for ids, _ in rows]
    plans = {"padded": shuffled(len(rows), size, seed), "bucketed": bucketed(lengths, size, seed)}
    batchings = {
        name: [collate(tokenizer, [rows[i] for i in indices]) for indices in plan]
        for name, plan in plans.items()
    }
    packed = first_fit_decreasing(lengths, capacity)
    random.Random(seed).shuffle(packed)  # the first rows hold the longest texts
    steps = min(len(plans["padded"]), len(packed))
    batchings["packed"] = []
    for k in range(steps):
        batch = [[rows[i] for i in row] for row in packed[k::steps]]
        batchings["packed"].append(packing.collate_packed(batch, pad_id=tokenizer.pad_token_id))
    return batchings


class Encode(torch.utils.data.Dataset):
    """Texts that are tokenised on demand. At the top of the module, so that a worker process can unpickle it."""

    def __init__(self, count: int = 512):
        self.tokenizer = load("tiny", device="cpu")[1]
        self.pairs = task.pairs("train", count)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[list[int], list[int]]:
        return encode_pair(self.tokenizer, self.pairs[index])


def loading_epochs(workers: tuple[int, ...] = (0, 1, 2), count: int = 512, size: int = 16) -> Contestants:
    """One epoch of a DataLoader that tokenises, by number of worker processes; they stay between epochs."""
    data = Encode(count)
    return {f"{n} workers": _loading_epoch(data, n, size) for n in workers}


def _loading_epoch(data: Encode, workers: int, size: int) -> Callable[[], int]:
    loader = torch.utils.data.DataLoader(
        data, size, num_workers=workers, collate_fn=list, persistent_workers=workers > 0
    )
    return lambda: sum(len(batch) for batch in loader)


# A toy of a GPU's queue, in units of time
LAUNCH = 1.0  # Python launches one kernel
WORK = 1.6  # the GPU computes one kernel
PREPARE = 4.0  # Python prepares a batch
KERNELS = 4  # per step
STEPS = 4

Box = tuple[float, float, int]  # start, width, step


def launch_queue(read_loss: bool) -> tuple[list[Box], list[Box]]:
    """(boxes of Python, boxes of the GPU) of the toy; with `read_loss` Python waits for the GPU after every step."""
    now = free = 0.0  # of Python, and when the GPU is free
    python, gpu = [], []
    for step in range(STEPS):
        python.append((now, PREPARE + KERNELS * LAUNCH, step))
        now += PREPARE
        for _ in range(KERNELS):
            now += LAUNCH
            start = max(now, free)
            gpu.append((start, WORK, step))
            free = start + WORK
        if read_loss:
            now = max(now, free)
    return python, gpu


def idle_share(boxes: list[Box]) -> float:
    """The share of the time until the end of the last box in which there is none."""
    start, width, _ = boxes[-1]
    return 1 - sum(width for _, width, _ in boxes) / (start + width)

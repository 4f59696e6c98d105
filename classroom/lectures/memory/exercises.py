"""The exercises of lecture 3, easy to hard: `check.state_size(state_size)` answers with a Verdict.

What belongs to an exercise stands together: the question's data, its truth, its typical mistakes. No truth comes from
the packages that the exercises train: it comes from the bytes of torch's tensors, the parameters of transformers'
models, a list of the tensors that a layer keeps, autograd on the whole batch, and search through all possibilities.

Mistakes do one thing wrong and everything else right, so the right way can be read here too: look after you have tried.
"""

from __future__ import annotations

import inspect
import itertools
import math
import random
from contextlib import contextmanager
from fractions import Fraction
from unittest import mock

import numpy as np
import torch
import torch.utils.checkpoint
from torch import nn
from torch.nn import functional as F

from classroom.checking.answers import AnyOrder, AtMost, Close, Exact, Fields, show_short
from classroom.checking.exercise import Case, Exercise


def show_norms(gradients) -> str:
    if gradients is None:
        return "None"
    return f"of norms {show_short([g and math.hypot(*g) for g in gradients])}"


# FP32 sums in another order round differently
NUMBERS = Close(1e-4, 1e-6, show=show_short)
GRADIENTS = Close(1e-4, 1e-6, show=show_norms)

# ---------------------------------------------------------------- state_size

state_size = Exercise(
    "state_size",
    "Bytes per parameter",
    minutes=5,
    answer=Close(1e-9),
    hints=(
        "Each tensor has `parameters` elements. How many bytes does one element of each dtype take?",
        "An 8-bit state takes one byte per element plus 4 bytes per block of 256; a partial block counts: "
        "`-(-n // 256)` blocks.",
        "Add up 4, 2, 2 or 1 times `parameters` (and the blocks), then divide by 10**9 for GB, by 2**30 for GiB.",
    ),
    praise="16, 18 or 20 bytes per parameter: the ledger decides, so always name it.",
)

LEDGERS = {
    "pure FP32 + Adam": ["fp32"] * 4,
    "torch.amp + Adam": ["fp32"] * 4,  # what is stored is FP32; only operations are cast
    "16-bit, FP32 master, Adam": ["bf16", "bf16", "fp32", "fp32", "fp32"],
    "the same, gradients in FP32": ["bf16", "fp32", "fp32", "fp32", "fp32"],
    "the same, both gradients": ["bf16", "bf16", "fp32", "fp32", "fp32", "fp32"],
    "16-bit, FP32 master, 8-bit Adam": ["bf16", "bf16", "fp32", "8-bit", "8-bit"],
    "everything in FP16": ["fp16"] * 4,
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "8-bit": torch.uint8}
UNITS = {"GB": 10**9, "GiB": 2**30}


@state_size.truth
def _():
    sizes = ((8_030_261_248, "GB"), (8_030_261_248, "GiB"), (1000, "GB"))
    for (ledger, dtypes), (parameters, unit) in itertools.product(LEDGERS.items(), sizes):
        expected = bytes_of_tensors(parameters, dtypes) / UNITS[unit]
        yield Case((parameters, dtypes, unit), expected, f"state_size({parameters}, {ledger}, {unit!r})")


def bytes_of_tensors(parameters: int, dtypes: list[str]) -> int:
    """Ask torch for the bytes of such tensors, on the meta device, where they take no memory."""
    blocks = len(range(0, parameters, 256))
    tensors = [torch.empty(parameters, dtype=DTYPES[name], device="meta") for name in dtypes]
    tensors += [torch.empty(blocks, dtype=torch.float32, device="meta")] * dtypes.count("8-bit")
    return sum(tensor.nbytes for tensor in tensors)


@state_size.mistake("bytes, not GB")
def _(parameters, dtypes, unit):
    """That is the number of bytes. Divide it by 10^9 for GB, by 2^30 for GiB."""
    return bytes_of_tensors(parameters, dtypes)


@state_size.mistake("GB and GiB exchanged")
def _(parameters, dtypes, unit):
    """GB is the smaller unit, 10^9 bytes; GiB is 2^30. You have them the other way round."""
    return bytes_of_tensors(parameters, dtypes) / {"GB": 2**30, "GiB": 10**9}[unit]


@state_size.mistake("GiB is not GB")
def _(parameters, dtypes, unit):
    """A GiB is 2^30 bytes, 7 % more than a GB. Look at `unit`."""
    return bytes_of_tensors(parameters, dtypes) / 10**9


@state_size.mistake("the scales of the blocks forgotten")
def _(parameters, dtypes, unit):
    """An 8-bit state takes more than one byte per parameter: each block of 256 has an FP32 number too."""
    return sum(parameters * DTYPES[name].itemsize for name in dtypes) / UNITS[unit]


# ---------------------------------------------------------------- count_parameters

count_parameters = Exercise(
    "count_parameters",
    "Count a Llama's parameters",
    minutes=10,
    hints=(
        "Write down the shape of every matrix of one layer: Q, K, V, O, gate, up, down. Then the norms.",
        "Q and O: hidden x (heads x head_dim). K and V: hidden x (KV heads x head_dim). Three MLP matrices: hidden x "
        "intermediate. Two norms of hidden.",
        "Layers times that, plus one last norm, plus the embedding, plus a head of the same size unless it is tied.",
    ),
    praise="Exactly the number that transformers counts.",
)

KEYS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "tie_word_embeddings",
)
LLAMAS = {
    "the course's tiny model": (1024, 256, 704, 4, 8, 4, 32, True),
    "Llama 2 7B": (32000, 4096, 11008, 32, 32, 32, 128, False),
    "Llama 3 8B": (128256, 4096, 14336, 32, 32, 8, 128, False),
    "SmolLM2 135M": (49152, 576, 1536, 30, 9, 3, 64, True),
    "a 12B with narrow heads": (131072, 5120, 14336, 40, 32, 8, 128, False),
}


@count_parameters.truth
def _():
    for name, values in LLAMAS.items():
        config = dict(zip(KEYS, values, strict=True))
        yield Case((config,), parameters_in_transformers(config), f"count_parameters({name})")


def parameters_in_transformers(config: dict) -> int:
    """Build the model with transformers on the meta device and count its parameters, tied ones once."""
    from classroom.models.load import quiet

    with quiet(), torch.device("meta"):
        from transformers import LlamaConfig, LlamaForCausalLM

        return sum(p.numel() for p in LlamaForCausalLM(LlamaConfig(**config)).parameters())


@count_parameters.mistake("every head with keys of its own")
def _(config):
    """Llama groups its heads: only Q has `num_attention_heads`; K and V have `num_key_value_heads`."""
    return llama_formula({**config, "num_key_value_heads": config["num_attention_heads"]})


@count_parameters.mistake("the tied head counted twice")
def _(config):
    """With `tie_word_embeddings` the head *is* the embedding: one matrix, counted once."""
    return llama_formula({**config, "tie_word_embeddings": False})


@count_parameters.mistake("head_dim assumed")
def _(config):
    """head_dim is often hidden_size / num_attention_heads, but not always: take it from the config."""
    return llama_formula({**config, "head_dim": config["hidden_size"] // config["num_attention_heads"]})


@count_parameters.mistake("12 L h^2 + V h")
def _(config):
    """That rule is for GPT-2: K and V as large as Q, two matrices in the MLP, a tied head. Count a Llama's matrices."""
    h = config["hidden_size"]
    return 12 * config["num_hidden_layers"] * h**2 + config["vocab_size"] * h


def llama_formula(config: dict) -> int:
    """Count matrix by matrix: right, if the config is."""
    v, h, i, layers, heads, kv_heads, head_dim, tied = (config[key] for key in KEYS)
    layer = 2 * h * heads * head_dim + 2 * h * kv_heads * head_dim + 3 * h * i + 2 * h
    return v * h * (1 if tied else 2) + layers * layer + h


# ---------------------------------------------------------------- activation_bytes

activation_bytes = Exercise(
    "activation_bytes",
    "What a layer keeps for backward",
    minutes=10,
    answer=Close(1e-9),
    hints=(
        "Multiplied out: 34 s b h bytes for tensors of tokens, and 5 a s s b for tables of scores.",
        "Without checkpointing: layers times that. With it: an input of 2 s b h per layer, and one layer in full.",
        "`layer = 34 * s * b * h + 5 * a * s * s * b`; checkpointed: `layers * 2 * s * b * h + layer`.",
    ),
    praise="Twice the sequence, four times the scores: that is why FlashAttention does not keep them.",
)

#   layers, s, b, h, a: small shapes, then those of a 175B model at one and two thousand tokens
SHAPES = (
    (1, 16, 2, 32, 4),
    (3, 16, 2, 32, 4),
    (2, 10, 3, 48, 6),
    (96, 2048, 1, 12288, 96),
    (96, 1024, 4, 12288, 96),
)


@activation_bytes.truth
def _():
    for shape, checkpointed in itertools.product(SHAPES, (False, True)):
        yield Case((*shape, checkpointed), sum_of_kept(*shape, checkpointed))


def sum_of_kept(layers: int, s: int, b: int, h: int, a: int, checkpointed: bool) -> int:
    kept = kept_by_a_layer(s, b, h, a)
    one_layer = sum(kept.values())
    if not checkpointed:
        return layers * one_layer
    return layers * kept["input of the first norm"] + one_layer


def kept_by_a_layer(s: int, b: int, h: int, a: int) -> dict[str, int]:
    """List the bytes of each tensor that a layer keeps for backward: 2 per element, 1 in a dropout mask."""
    tokens = s * b * h
    scores = b * a * s * s
    return {
        "input of the first norm": 2 * tokens,
        "input of Q, K and V": 2 * tokens,
        "Q": 2 * tokens,
        "K": 2 * tokens,
        "V": 2 * tokens,
        "softmax": 2 * scores,
        "dropout mask of the softmax": scores,
        "softmax after dropout": 2 * scores,
        "input of the output projection": 2 * tokens,
        "dropout mask after attention": tokens,
        "input of the second norm": 2 * tokens,
        "input of the first MLP matrix": 2 * tokens,
        "input of the GELU": 2 * 4 * tokens,  # the MLP is four times as wide
        "input of the second MLP matrix": 2 * 4 * tokens,
        "dropout mask after the MLP": tokens,
    }


@activation_bytes.mistake("inputs only")
def _(layers, s, b, h, a, checkpointed):
    """While a layer is recomputed for its backward, all tensors of *that* layer are held: add one layer in full."""
    if checkpointed:
        return layers * 2 * s * b * h
    return sum_of_kept(layers, s, b, h, a, False)


@activation_bytes.mistake("one layer only")
def _(layers, s, b, h, a, checkpointed):
    """The inputs of all layers stay: 2 s b h bytes per layer, in addition to the one layer in full."""
    return sum_of_kept(1 if checkpointed else layers, s, b, h, a, False)


@activation_bytes.mistake("b forgotten in the scores")
def _(layers, s, b, h, a, checkpointed):
    """Each sequence of the micro-batch has scores of its own: multiplied out, their term is 5 a s s b."""
    layer = 34 * s * b * h + 5 * a * s * s
    return layers * 2 * s * b * h + layer if checkpointed else layers * layer


# ---------------------------------------------------------------- peak_memory

peak_memory = Exercise(
    "peak_memory",
    "Where is the peak?",
    minutes=10,
    answer=Fields(peak=Close(), phase=Exact(), shares=NUMBERS),
    hints=(
        "Keep a dictionary of the bytes that each category holds now, and go through the events in order.",
        "After each event, compare the sum of the dictionary with the largest so far; if it is larger, note the phase "
        "and *copy* the dictionary.",
        "At the end divide the noted bytes of each category by the peak. `>` and not `>=` keeps the first of equals.",
    ),
    praise="A category's own peak says little: what counts is what is held at the same time.",
)


@peak_memory.truth
def _():
    start = [("load", "weights", 4), ("forward", "activations", 6)]
    freed = [("backward", "activations", -6), ("backward", "gradients", 4)]
    again = [("forward", "activations", -2), ("backward", "gradients", 2)]
    histories = {
        "four events": start + freed,
        "four, the height reached twice": start + again,
        "one step of SGD, many activations": training_events(1, 12, 1100, temporary=300, states=0),
        "two steps, the states come with the first": training_events(2, 6, 300, temporary=100),
        "two steps, a large temporary in the optimizer": training_events(2, 6, 20, temporary=1500),
        "forty at random": random_events(40),
    }
    for name, events in histories.items():
        yield Case((events,), peak_by_cumsum(events), f"peak_memory({name})")


def training_events(steps, layers, activation, temporary, weights=1000, states=2) -> list[tuple]:
    """Gradients come layer by layer as activations go; the optimizer's states come with the first step."""
    events = [("load", "weights", weights * layers)]
    for step in range(steps):
        events += [("forward", "activations", activation)] * layers
        events += [("loss", "temporary", 2 * activation), ("loss", "temporary", -2 * activation)]
        for _ in range(layers):
            events += [("backward", "gradients", weights), ("backward", "activations", -activation)]
        if step == 0 and states:
            events.append(("optimizer", "states", states * weights * layers))
        events += [("optimizer", "temporary", temporary), ("optimizer", "temporary", -temporary)]
        events.append(("optimizer", "gradients", -weights * layers))
    return events


def random_events(count: int) -> list[tuple]:
    """Each event allocates some bytes of a category, or frees some of what it holds."""
    dice = random.Random(0)
    held = {"weights": 0, "activations": 0, "temporary": 0}
    events = []
    for number in range(count):
        name = dice.choice(list(held))
        size = dice.choice((500, 300, 200, -held[name], -held[name] // 2))
        held[name] += size
        events.append((f"phase {number // 8}", name, size))
    return events


def peak_by_cumsum(events) -> tuple[int, str, dict[str, float]]:
    """Sum every category up to every moment; numpy's argmax is the first of equal peaks."""
    names = sorted({category for _, category, _ in events})
    sizes = np.array([[size if category == name else 0 for name in names] for _, category, size in events])
    held = sizes.cumsum(axis=0)
    at = int(held.sum(axis=1).argmax())
    peak = int(held[at].sum())
    shares = {name: float(size) / peak for name, size in zip(names, held[at], strict=True) if size}
    return peak, events[at][0], shares


@peak_memory.mistake("the maxima added up")
def _(events):
    """Activations are at their highest before the gradients exist. The peak is the highest *sum* at one moment, not the
    sum of each category's own peak."""
    held, most = {}, {}
    for _phase, category, size in events:
        held[category] = held.get(category, 0) + size
        most[category] = max(held[category], most.get(category, 0))
    return sum(most.values()), ..., ...  # whatever is said of phase and shares


@peak_memory.mistake("the last of equal peaks")
def _(events):
    """The peak is reached more than once here, and the exercise asks where it is reached first: `>`, not `>=`."""
    heights = list(itertools.accumulate(size for *_, size in events))
    peak = max(heights)
    last = max(at for at, height in enumerate(heights) if height == peak)
    return peak, events[last][0], {name: size / peak for name, size in held_after(events, last).items()}


@peak_memory.mistake("the dictionary not copied")
def _(events):
    """The peak is right, but its dictionary went on changing with later events. Note a copy: `dict(held)`."""
    peak, phase, _ = peak_by_cumsum(events)
    return peak, phase, {name: size / peak for name, size in held_after(events, len(events)).items()}


def held_after(events, at: int) -> dict[str, int]:
    """Sum the bytes of each category up to the event at this place."""
    held = {}
    for _phase, category, size in events[: at + 1]:
        held[category] = held.get(category, 0) + size
    return held


# ---------------------------------------------------------------- accumulate

accumulate = Exercise(
    "accumulate",
    "Accumulate gradients correctly",
    minutes=15,
    answer=Fields(gradients=GRADIENTS, most_rows_in_a_graph=AtMost()),
    hints=(
        "The whole batch's loss is one sum over all targets that count, divided by how many count. Which part of it "
        "belongs to a micro-batch?",
        "Count the targets that are not -100 in *all* micro-batches first. Then each micro-batch gives its sum divided "
        "by that number.",
        '`reduction="sum"`, divided by the number of all targets that count, and `.backward()` per micro-batch.',
    ),
    praise="Same gradients as the whole batch, in the memory of one micro-batch.",
)

#   per micro-batch: targets, and how many of them are ignored
BATCHES = {
    "four micro-batches of 6 targets": ((6, 0), (6, 0), (6, 0), (6, 0)),
    "micro-batches of 3, 12 and 6 targets": ((3, 0), (12, 0), (6, 0)),
    "three of 8, in which 8, 3 and 6 targets count": ((8, 0), (8, 5), (8, 2)),
    "two of 6, in which 4 and 0 targets count": ((6, 2), (6, 6)),
}


@accumulate.truth
def _():
    """Autograd on the whole batch at once, torch's cross entropy over all targets that count."""
    for words, sizes in BATCHES.items():
        torch.manual_seed(len(words))
        model = nn.Sequential(nn.Embedding(16, 8), nn.Linear(8, 16))
        micro_batches = [random_micro_batch(*size) for size in sizes]
        gradients = torch.autograd.grad(whole_batch_loss(model, micro_batches), list(model.parameters()))
        expected = as_lists(gradients), max(count for count, _ in sizes)
        yield Case((model, micro_batches), expected, f"accumulate(model, {words})")


def random_micro_batch(count: int, ignored: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw inputs and targets; the first targets are the ignored ones."""
    targets = torch.randint(16, (count,))
    targets[:ignored] = -100
    return torch.randint(16, (count,)), targets


def whole_batch_loss(model, micro_batches) -> torch.Tensor:
    inputs, targets = (torch.cat(parts) for parts in zip(*micro_batches, strict=True))
    return F.cross_entropy(model(inputs), targets)


@accumulate.probe
def gradients_and_rows(function, model, micro_batches):
    """Return the gradients after the call, and the largest number of rows of logits whose graphs existed together."""
    alive = most = 0

    def freed(gradient):
        nonlocal alive
        alive -= len(gradient)

    def watch(module, arguments, logits):
        nonlocal alive, most
        if logits.requires_grad:
            alive += len(logits)
            most = max(most, alive)
            logits.register_hook(freed)

    handle = model.register_forward_hook(watch)
    try:
        if function(model, micro_batches) is ...:
            return ...
    finally:
        handle.remove()
    return as_lists(p.grad for p in model.parameters()), most


def as_lists(gradients) -> list[list[float] | None]:
    return [None if g is None else g.flatten().tolist() for g in gradients]


@accumulate.mistake("a mean of means")
def _(model, micro_batches):
    """Each micro-batch counts alike here, though some have fewer targets: those weigh too much. Add up sums, and divide
    by the number of targets of all micro-batches."""
    for inputs, targets in micro_batches:
        (F.cross_entropy(model(inputs), targets) / len(micro_batches)).backward()


@accumulate.mistake("means added up")
def _(model, micro_batches):
    """The means of all micro-batches are added and never divided: the gradient grows with their number."""
    for inputs, targets in micro_batches:
        F.cross_entropy(model(inputs), targets).backward()


@accumulate.mistake("ignored targets counted")
def _(model, micro_batches):
    """A target of -100 adds nothing to the loss, so the divisor must not count it either."""
    total = sum(len(targets) for _, targets in micro_batches)
    for inputs, targets in micro_batches:
        (F.cross_entropy(model(inputs), targets, reduction="sum") / total).backward()


@accumulate.mistake("one backward at the end")
def _(model, micro_batches):
    """The gradients are right, but all graphs lived until the end, as with the whole batch: nothing is saved. Call
    `backward` in the loop."""
    whole_batch_loss(model, micro_batches).backward()


# ---------------------------------------------------------------- quantize_blockwise

quantize_blockwise = Exercise(
    "quantize_blockwise",
    "8-bit states, block by block",
    minutes=15,
    answer=Fields(codes=Exact(show=show_short), absmax=NUMBERS, restored=NUMBERS),
    hints=(
        "`x.split(blocksize)` gives the blocks, the short one at the end too. Each has its own `block.abs().max()`.",
        "A table of distances, one row per value, one column per code: `(block / scale)[:, None] - code[None, :]`. "
        "The smallest absolute value in each row is the nearest.",
        "`.abs().argmin(dim=1)` of that table are the codes; `code[codes] * scale` restores. Where scale is 0, do not "
        "divide.",
    ),
    praise="One byte per number and four per block: that is 8-bit Adam's memory.",
)

MAPS = {
    "5 values": [-1.0, -0.5, 0.0, 0.5, 1.0],
    # dense near zero, as the map of 8-bit Adam is
    "256 values": [-((k / 127) ** 3) for k in range(127, 0, -1)] + [(k / 128) ** 3 for k in range(129)],
}


@quantize_blockwise.truth
def _():
    noise = torch.randn(100, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 1, 100)
    zeros_first = torch.tensor([0.0] * 4 + [1e-4, -3e-4, 5e-5, 2e-4, -7.0])
    tensors = {
        "7 values": (torch.tensor([0.1, -0.9, 0.4, 3.0, 2.5, -8.0, 0.02]), "5 values", 3),
        "100 values": (noise, "256 values", 32),
        "64 values": (noise[20:84].clone(), "256 values", 64),
        "9 values, the first 4 are zero": (zeros_first, "256 values", 4),
    }
    for words, (x, name, blocksize) in tensors.items():
        code = torch.tensor(MAPS[name])
        expected = by_brute_force(x.tolist(), code.tolist(), blocksize)
        words = f"quantize_blockwise({words}, a map of {name}, blocks of {blocksize})"
        yield Case((x, code, blocksize), expected, words)


def by_brute_force(values: list[float], code: list[float], blocksize: int) -> tuple[list, list, list]:
    """Hold every value against every entry of the map, in Python's floats."""
    codes, scales, restored = [], [], []
    for start in range(0, len(values), blocksize):
        block = values[start : start + blocksize]
        absmax = max(abs(value) for value in block)
        scales.append(absmax)
        for value in block:
            distances = [abs(entry * (absmax or 1.0) - value) for entry in code]
            nearest = distances.index(min(distances))
            codes.append(nearest)
            restored.append(code[nearest] * absmax)
    return codes, scales, restored


@quantize_blockwise.probe
def three_lists(function, x, code, blocksize):
    """Flatten the parts: absmax may come as [blocks, 1]. Anything else is returned as it came."""
    answer = function(x, code, blocksize)
    if not isinstance(answer, (tuple, list)):
        return answer
    return tuple(part.flatten() if hasattr(part, "flatten") else part for part in answer)


@quantize_blockwise.mistake("the code above")
def _(x, code, blocksize):
    """`searchsorted` gives the first value of the map that is not smaller. The nearest may be the one below."""

    def first_above(y):
        return torch.searchsorted(code, y).clamp(max=len(code) - 1)

    return quantize(x, code, blocksize, nearest=first_above)


@quantize_blockwise.mistake("the sign of the scale")
def _(x, code, blocksize):
    """The scale is the largest *absolute* value of the block, `block.abs().max()`: otherwise a large negative number is
    cut off."""
    return quantize(x, code, blocksize, scale_of=torch.max)


@quantize_blockwise.mistake("zero divided by zero")
def _(x, code, blocksize):
    """In a block of zeros absmax is 0, and 0 / 0 is NaN, which has no nearest code. Zeros get the code of 0."""
    return quantize(x, code, blocksize, skip_zeros=False)


def absolute_maximum(block: torch.Tensor) -> torch.Tensor:
    return block.abs().max()


def quantize(x, code, blocksize, nearest=None, scale_of=absolute_maximum, skip_zeros=True):
    """Quantize x: [n] -> codes [n], absmax [blocks], restored [n]. A mistake brings one step of its own."""
    codes, scales, restored = [], [], []
    for block in x.split(blocksize):
        scale = scale_of(block)
        y = block if skip_zeros and scale == 0 else block / scale
        chosen = nearest(y) if nearest else (y[:, None] - code).abs().argmin(dim=1)
        codes.append(chosen)
        scales.append(scale)
        restored.append(code[chosen] * scale)
    return torch.cat(codes), torch.stack(scales), torch.cat(restored)


# ---------------------------------------------------------------- cheapest_fit

cheapest_fit = Exercise(
    "cheapest_fit",
    "Make it fit",
    minutes=15,
    answer=AnyOrder(),
    hints=(
        "Eight changes have 256 combinations: a computer tries them all. `itertools.combinations(changes, n)` for "
        "every n, 0 too.",
        "Drop combinations in which a group comes twice, and those that still need more than the card has.",
        "Of what is left take the smallest `math.prod` of the time factors; if nothing is left, return None.",
    ),
    too_slow="256 combinations take milliseconds. Do you go through orders (permutations) instead of combinations?",
    praise="The planner of the lecture does the same, with bytes that it computes.",
)

#   change, group, GB saved, time factor: invented but realistic
CHANGES = (
    ("8-bit Adam", "optimizer", 48, 1.02),
    ("Adafactor", "optimizer", 60, 1.06),
    ("Adam on the CPU", "optimizer", 64, 1.6),
    ("checkpoint every second layer", "activations", 15, 1.17),
    ("checkpoint every layer", "activations", 28, 1.33),
    ("half the micro-batch", "batch", 16, 1.1),
    ("a quarter of the micro-batch", "batch", 20, 1.28),
    ("weights on the CPU", "weights", 14, 2.0),
)
PAIR_OR_ONE = (("slow", "a", 10, 2.0), ("first", "b", 6, 1.4), ("second", "c", 4, 1.5))
SAME_GROUP = (("some", "a", 6, 1.05), ("more", "a", 8, 1.1), ("other", "b", 4, 1.5), ("last", "c", 5, 1.7))


@cheapest_fit.truth
def _():
    runs = [(128, card, CHANGES) for card in (141, 80, 64, 52, 48, 36, 30, 24, 12, 8)]
    runs += [(200, 40, CHANGES), (30, 20, PAIR_OR_ONE), (30, 20, SAME_GROUP), (30, 17, SAME_GROUP)]
    for needed, card, table in runs:
        changes = [(name, group, saved * 10**9, factor) for name, group, saved, factor in table]
        call = (needed * 10**9, card * 10**9, changes)
        yield Case(call, by_trying(*call), f"cheapest_fit({needed} GB, {card} GB, {len(changes)} changes)")


def by_trying(needed: int, card: int, changes, counts=range(9), one_per_group=True) -> list[str] | None:
    """Try all subsets of that many changes (eight at most); multiply their factors as exact fractions."""
    best = None
    for count in counts:
        for chosen in itertools.combinations(changes, count):
            groups = {group for _, group, _, _ in chosen}
            left = needed - sum(saved for _, _, saved, _ in chosen)
            if left > card or (one_per_group and len(groups) < count):
                continue
            time = math.prod(Fraction(str(factor)) for *_, factor in chosen)
            if best is None or time < best[0]:
                best = time, [name for name, *_ in chosen]
    return best and best[1]


@cheapest_fit.mistake("the largest saving first")
def _(needed, card, changes):
    """Taking the largest saving until the run fits can cost more time than needed. Compare whole combinations."""
    chosen = {}
    for name, group, saved, _factor in sorted(changes, key=lambda change: -change[2]):
        if needed > card and group not in chosen:
            chosen[group] = name
            needed -= saved
    return list(chosen.values()) if needed <= card else None


@cheapest_fit.mistake("the fewest changes")
def _(needed, card, changes):
    """Two changes can cost less time than one. Do not stop at the first number of changes that fits: compare all."""
    for count in range(len(changes) + 1):
        names = by_trying(needed, card, changes, counts=[count])
        if names is not None:
            return names
    return None


@cheapest_fit.mistake("two changes of one group")
def _(needed, card, changes):
    """Changes of one group exclude each other: there is only one optimizer, and one way to checkpoint."""
    return by_trying(needed, card, changes, one_per_group=False)


@cheapest_fit.mistake("an empty list where nothing helps")
def _(needed, card, changes):
    """An empty list says that the run fits without changes. Return None if no combination makes it fit."""
    return by_trying(needed, card, changes) or []


# ---------------------------------------------------------------- checkpointed

checkpointed = Exercise(
    "checkpointed",
    "A checkpoint by hand",
    minutes=20,
    answer=Fields(output=NUMBERS, gradients=GRADIENTS, numbers_kept=AtMost(), library_used=Exact()),
    hints=(
        "`forward` saves x with `ctx.save_for_backward(x)`, the random state and the layer as attributes of ctx, and "
        "returns `layer(x)`; autograd is off there by itself.",
        "`backward` detaches x, asks for its gradient (`requires_grad_()`), sets the random state, and computes "
        "`layer(x)` again under `torch.enable_grad()`.",
        "`torch.autograd.grad(y, (x, *layer.parameters()), gradient)` gives all gradients. Return None for the layer, "
        "then those.",
    ),
    praise="This is the core of torch.utils.checkpoint.",
)


@checkpointed.truth
def _():
    """Plain autograd through the layer, with the same random numbers; of what is kept, only the input."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8))
    norm = nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 24), nn.SiLU(), nn.Linear(24, 6))
    dropout = nn.Sequential(nn.Linear(8, 32), nn.Dropout(0.5), nn.Linear(32, 8))
    layers = {
        "a layer": (plain, (4, 8)),
        "a layer with a norm": (norm, (2, 3, 6)),
        "a layer with dropout": (dropout, (4, 8)),
    }
    for words, (layer, shape) in layers.items():
        x = torch.randn(shape)
        output, gradients, _, _ = run_and_count(lambda layer, x: layer(x), layer, x)
        yield Case((layer, x), (output, gradients, x.numel(), False), f"checkpointed({words}, x)")


@checkpointed.probe
def run_and_count(function, layer, x):
    """Run `function` in place of the layer, forward and backward.

    Returns the output, the gradients of x and of each parameter (None without a graph), how many numbers autograd kept,
    and whether torch.utils.checkpoint was called. What is not a tensor is returned as it came.
    """
    torch.manual_seed(1)
    x = x.clone().requires_grad_()
    with library_calls() as calls:
        output = function(layer, x)
        if not isinstance(output, torch.Tensor):
            return output
        kept = numbers_kept(function, layer, x.detach().clone().requires_grad_())
    layer.zero_grad()
    weights = torch.linspace(-1, 2, output.numel()).view(output.shape)
    torch.rand(3)  # between forward and backward other layers draw random numbers
    try:
        (output * weights).sum().backward()
    except RuntimeError as error:
        if "does not require grad" not in str(error):
            raise
        return output.flatten().tolist(), None, kept, bool(calls)
    gradients = as_lists(tensor.grad for tensor in (x, *layer.parameters()))
    return output.flatten().tolist(), gradients, kept, bool(calls)


def numbers_kept(function, layer, x) -> int:
    """Count what autograd packs away during forward, each storage once, without the parameters."""
    sizes = {}
    kept_alive = []  # a freed address would be used again by the next tensor

    def pack(tensor):
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        kept_alive.append(tensor)
        return tensor

    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        function(layer, x)
    weights = {p.untyped_storage().data_ptr() for p in layer.parameters()}
    return sum(size for place, size in sizes.items() if place not in weights)


@contextmanager
def library_calls():
    """Make torch.utils.checkpoint run the plain layer, and list its calls, also if it was imported under another name.

    Each call of it looks for `__dynamo_disable`; where that is missing it imports torch's compiler, for seconds.
    """
    calls = []

    def plain(function, *arguments, **options):
        calls.append(function)
        return function(*arguments)

    library = inspect.unwrap(torch.utils.checkpoint.checkpoint)
    with mock.patch.object(library, "__dynamo_disable", plain, create=True):
        yield calls


@checkpointed.mistake("torch.utils.checkpoint")
def _(layer, x):
    """Your function calls torch.utils.checkpoint. Here you write it yourself, with a `torch.autograd.Function`."""
    return torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)


@checkpointed.mistake("nothing recomputed")
def _(layer, x):
    """Output and gradients are right, but every activation inside is kept. Keep the input and compute again."""
    return layer(x)


@checkpointed.mistake("no graph at all")
def _(layer, x):
    """Under `torch.no_grad()` nothing is kept, but there is no backward either. Write a `torch.autograd.Function`: its
    `forward` records nothing, and its `backward` gives the gradients."""
    with torch.no_grad():
        return layer(x)


@checkpointed.mistake("recomputed without a graph")
def _(layer, x):
    """Inside `backward` of a Function autograd records nothing. Compute again under `torch.enable_grad()`, from a
    detached input that requires a gradient."""
    return Recompute.apply(layer, "enable_grad", x, *layer.parameters())


@checkpointed.mistake("another dropout")
def _(layer, x):
    """The second time dropout drew another mask, so these are the gradients of another function. Save
    `torch.get_rng_state()`, and set it before computing again."""
    return Recompute.apply(layer, "set_rng_state", x, *layer.parameters())


class Recompute(torch.autograd.Function):
    """A checkpoint that leaves out one step of its backward."""

    @staticmethod
    def forward(ctx, layer, left_out, x, *parameters):
        ctx.layer = layer
        ctx.left_out = left_out
        ctx.random_state = torch.get_rng_state()
        ctx.save_for_backward(x)
        return layer(x)

    @staticmethod
    def backward(ctx, gradient):
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.random.fork_rng(devices=[]), torch.set_grad_enabled(ctx.left_out != "enable_grad"):
            if ctx.left_out != "set_rng_state":
                torch.set_rng_state(ctx.random_state)
            y = ctx.layer(x)
        return None, None, *torch.autograd.grad(y, (x, *ctx.layer.parameters()), gradient)


EXERCISES = (
    state_size,
    count_parameters,
    activation_bytes,
    peak_memory,
    accumulate,
    quantize_blockwise,
    cheapest_fit,
    checkpointed,
)

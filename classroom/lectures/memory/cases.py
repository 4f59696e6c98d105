"""The cases of lecture 3's exercises and their right answers, none of them from the code that the exercises train.

The truth comes from the bytes of torch's tensors, from the parameters of transformers' LlamaForCausalLM, from a list
of the tensors that a layer keeps, from autograd on the whole batch, and from trying everything.
"""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction
from functools import cache
from typing import NamedTuple

from classroom.checking.answers import plain, show_value
from classroom.checking.check import Case


def near(expected, got, rel_tol: float = 1e-9, abs_tol: float = 0.0) -> bool:
    """Numbers, or lists of them, that agree but for the rounding of a float64. NaN equals NaN, None equals None."""
    expected, got = plain(expected), plain(got)
    if isinstance(expected, (list, tuple)):
        same_length = isinstance(got, (list, tuple)) and len(got) == len(expected)
        return same_length and all(near(a, b, rel_tol, abs_tol) for a, b in zip(expected, got, strict=True))
    if not all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (expected, got)):
        return expected is None and got is None
    both_nan = math.isnan(expected) and math.isnan(got)
    return both_nan or math.isclose(expected, got, rel_tol=rel_tol, abs_tol=abs_tol)


def close(expected, got) -> bool:
    """As near, to a few digits: FP32 sums in another order round differently."""
    return near(expected, got, rel_tol=1e-4, abs_tol=1e-6)


# ---------------------------------------------------------------- bytes of the training state

LEDGERS = {
    "pure FP32 + Adam": ["fp32"] * 4,
    "torch.amp + Adam": ["fp32"] * 4,  # what is stored is FP32; only operations are cast
    "16-bit, FP32 master, Adam": ["bf16", "bf16", "fp32", "fp32", "fp32"],
    "the same, gradients in FP32": ["bf16", "fp32", "fp32", "fp32", "fp32"],
    "the same, both gradients": ["bf16", "bf16", "fp32", "fp32", "fp32", "fp32"],
    "16-bit, FP32 master, 8-bit Adam": ["bf16", "bf16", "fp32", "8-bit", "8-bit"],
    "everything in FP16": ["fp16"] * 4,
}


@cache
def state_size() -> list[Case]:
    """Counted: the bytes of torch's own tensors, on the meta device, where they take no room."""
    sizes = ((8_030_261_248, "GB"), (8_030_261_248, "GiB"), (1000, "GB"))
    return [
        Case(
            (parameters, dtypes, unit),
            _counted(parameters, dtypes) / divisor,
            f"state_size({parameters}, {ledger}, {unit!r})",
        )
        for ledger, dtypes in LEDGERS.items()
        for (parameters, unit), divisor in zip(sizes, (1e9, 1024**3, 1e9), strict=True)
    ]


def _counted(parameters: int, dtypes: list[str]) -> int:
    import torch

    torch_names = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "8-bit": torch.uint8}
    tensors = [torch.empty(parameters, dtype=torch_names[name], device="meta") for name in dtypes]
    blocks = len(range(0, parameters, 256))
    for _ in range(dtypes.count("8-bit")):
        tensors.append(torch.empty(blocks, device="meta"))
    return sum(tensor.nbytes for tensor in tensors)


# ---------------------------------------------------------------- parameters of a Llama

#        vocabulary, hidden, intermediate, layers, heads, KV heads, head_dim, tied
LLAMAS = {
    "the course's tiny model": (1024, 256, 704, 4, 8, 4, 32, True),
    "Llama 2 7B": (32000, 4096, 11008, 32, 32, 32, 128, False),
    "Llama 3 8B": (128256, 4096, 14336, 32, 32, 8, 128, False),
    "SmolLM2 135M": (49152, 576, 1536, 30, 9, 3, 64, True),
    "a 12B with narrow heads": (131072, 5120, 14336, 40, 32, 8, 128, False),
}
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


@cache
def count_parameters() -> list[Case]:
    """transformers builds each model on the meta device; its parameters are counted, tied ones once."""
    configs = {name: dict(zip(KEYS, values, strict=True)) for name, values in LLAMAS.items()}
    return [Case((config,), _numel(config), f"count_parameters({name})") for name, config in configs.items()]


def _numel(config: dict) -> int:
    import torch

    from classroom.models.load import quiet

    with quiet(), torch.device("meta"):
        from transformers import LlamaConfig, LlamaForCausalLM

        return sum(p.numel() for p in LlamaForCausalLM(LlamaConfig(**config)).parameters())


# ---------------------------------------------------------------- activations of a layer


def kept_by_a_layer(s: int, b: int, h: int, a: int) -> list[tuple[str, tuple[int, ...], int]]:
    """What a layer keeps for backward: name, shape, bytes an element (2, a dropout mask 1)."""
    tokens, scores = (s, b, h), (b, a, s, s)
    return [
        ("input of the first norm", tokens, 2),
        ("input of Q, K and V", tokens, 2),
        ("Q", tokens, 2),
        ("K", tokens, 2),
        ("V", tokens, 2),
        ("softmax", scores, 2),
        ("dropout mask of the softmax", scores, 1),
        ("softmax after dropout", scores, 2),
        ("input of the output projection", tokens, 2),
        ("dropout mask after attention", tokens, 1),
        ("input of the second norm", tokens, 2),
        ("input of the first MLP matrix", tokens, 2),
        ("input of the GELU", (s, b, 4 * h), 2),
        ("input of the second MLP matrix", (s, b, 4 * h), 2),
        ("dropout mask after the MLP", tokens, 1),
    ]


@cache
def activation_bytes() -> list[Case]:
    """Summed over the list of kept tensors; small shapes, and those of a 175B model at one and two thousand tokens."""
    shapes = [
        (1, 16, 2, 32, 4),
        (3, 16, 2, 32, 4),
        (2, 10, 3, 48, 6),
        (96, 2048, 1, 12288, 96),
        (96, 1024, 4, 12288, 96),
    ]
    return [Case((*shape, full), _summed(*shape, full)) for shape in shapes for full in (False, True)]


def _summed(layers: int, s: int, b: int, h: int, a: int, checkpointed: bool) -> int:
    sizes = {name: math.prod(shape) * size for name, shape, size in kept_by_a_layer(s, b, h, a)}
    if not checkpointed:
        return sum(sum(sizes.values()) for _ in range(layers))
    return sum(sizes["input of the first norm"] for _ in range(layers)) + sum(sizes.values())


# ---------------------------------------------------------------- where the peak is


@cache
def peak_memory() -> list[Case]:
    """Histories of a run; numpy sums every category up to every moment and takes the first highest one."""
    histories = {
        "four events": [
            ("load", "weights", 4),
            ("forward", "activations", 6),
            ("backward", "activations", -6),
            ("backward", "gradients", 4),
        ],
        "four, the height reached twice": [
            ("load", "weights", 4),
            ("forward", "activations", 6),
            ("forward", "activations", -2),
            ("backward", "gradients", 2),
        ],
        "one step of SGD, many activations": _steps(1, 12, activation=1100, temporary=300, states=0),
        "two steps, the states come with the first": _steps(2, layers=6, activation=300, temporary=100),
        "two steps, a large temporary in the optimizer": _steps(2, layers=6, activation=20, temporary=1500),
        "forty at random": _at_random(40),
    }
    return [Case((events,), _by_cumsum(events), f"peak_memory({name})") for name, events in histories.items()]


def _steps(
    count: int, layers: int, activation: int, temporary: int, weights: int = 1000, states: int = 2
) -> list[tuple[str, str, int]]:
    """Training: gradients come layer by layer as activations go, the optimizer's states with the first step."""
    events = [("load", "weights", weights * layers)]
    for step in range(count):
        events += [("forward", "activations", activation)] * layers
        events += [("loss", "temporary", 2 * activation), ("loss", "temporary", -2 * activation)]
        for _ in range(layers):
            events += [("backward", "gradients", weights), ("backward", "activations", -activation)]
        if step == 0 and states:
            events += [("optimizer", "states", states * weights * layers)]
        events += [("optimizer", "temporary", temporary), ("optimizer", "temporary", -temporary)]
        events += [("optimizer", "gradients", -weights * layers)]
    return events


def _at_random(count: int) -> list[tuple[str, str, int]]:
    """Each category takes some bytes, or gives back some of what it holds."""
    dice, held, events = random.Random(0), {"weights": 0, "activations": 0, "temporary": 0}, []
    for number in range(count):
        name = dice.choice(list(held))
        size = dice.choice((500, 300, 200, -held[name], -held[name] // 2))
        held[name] += size
        events.append((f"phase {number // 8}", name, size))
    return events


def _by_cumsum(events) -> tuple[int, str, dict[str, float]]:
    import numpy as np

    names = sorted({category for _, category, _ in events})
    rows = np.array([[size * (category == name) for name in names] for _, category, size in events])
    held = rows.cumsum(axis=0)
    at = int(held.sum(axis=1).argmax())
    peak = int(held[at].sum())
    return peak, events[at][0], {n: float(x) / peak for n, x in zip(names, held[at], strict=True) if x}


def same_peak(expected, got) -> bool:
    """Peak, phase and shares; a category of share 0 may be left out."""
    return (
        _is_peak(got) and near(expected[0], got[0]) and expected[1] == got[1] and _same_shares(expected, got)
    )


def like_peak(mistaken, got) -> bool:
    """The mistake's three answers; where it says None for the phase and {} for the shares, its peak is enough."""
    if not _is_peak(got) or not near(mistaken[0], got[0]):
        return False
    return mistaken[1:] == (None, {}) or (mistaken[1] == got[1] and _same_shares(mistaken, got))


def _is_peak(answer) -> bool:
    return isinstance(answer, (tuple, list)) and len(answer) == 3 and isinstance(answer[2], dict)


def _same_shares(expected, got) -> bool:
    shares, others = expected[2], got[2]
    return all(close(shares.get(name, 0.0), others.get(name, 0.0)) for name in shares.keys() | others.keys())


def show_peak(answer) -> str:
    if not _is_peak(answer):
        return show_value(answer)
    parts = ", ".join(
        f"{name}: {_short(share)}" for name, share in sorted(answer[2].items(), key=lambda x: str(x[0]))
    )
    return f"{plain(answer[0])} in {answer[1]!r}, {{{parts}}}"


def _short(number) -> str:
    number = plain(number)
    return f"{number:.4g}" if isinstance(number, (int, float)) else show_value(number)


# ---------------------------------------------------------------- gradient accumulation


@cache
def accumulate() -> list[Case]:
    """Autograd on the whole batch at once, torch's cross entropy over all targets that count."""
    batches = {
        "four micro-batches of 6 targets": ((6, 0), (6, 0), (6, 0), (6, 0)),
        "micro-batches of 3, 12 and 6 targets": ((3, 0), (12, 0), (6, 0)),
        "three of 8, in which 8, 3 and 6 targets count": ((8, 0), (8, 5), (8, 2)),
        "two of 6, in which 4 and 0 targets count": ((6, 2), (6, 6)),
    }
    return [_accumulation(words, sizes) for words, sizes in batches.items()]


def _accumulation(words: str, sizes) -> Case:
    import torch
    from torch.nn import functional as F

    torch.manual_seed(len(words))
    model = torch.nn.Sequential(torch.nn.Embedding(16, 8), torch.nn.Linear(8, 16))
    micro_batches = []
    for size, ignored in sizes:
        targets = torch.randint(16, (size,))
        targets[:ignored] = -100
        micro_batches.append((torch.randint(16, (size,)), targets))
    inputs, targets = (torch.cat(parts) for parts in zip(*micro_batches, strict=True))
    wanted = torch.autograd.grad(F.cross_entropy(model(inputs), targets), list(model.parameters()))
    truth = torch.cat([g.flatten() for g in wanted]).tolist()
    return Case(
        (model, micro_batches), (truth, max(size for size, _ in sizes)), f"accumulate(model, {words})"
    )


def gradients_and_rows(function, model, micro_batches):
    """(the gradients that are there afterwards, the most rows whose graph was alive at one time)."""
    import torch

    alive = [0, 0]  # rows now, the most so far

    def watch(module, arguments, logits):
        if logits.requires_grad:
            alive[0] += len(logits)
            alive[1] = max(alive)
            logits.register_hook(lambda gradient: alive.__setitem__(0, alive[0] - len(gradient)))

    handle = model.register_forward_hook(watch)
    try:
        if function(model, micro_batches) is ...:
            return ...
    finally:
        handle.remove()
    gradients = [p.grad for p in model.parameters()]
    if any(g is None for g in gradients):
        return None, alive[1]
    return torch.cat([g.flatten() for g in gradients]).tolist(), alive[1]


def same_accumulation(expected, got) -> bool:
    """The gradients of the whole batch, and no more rows alive than the largest micro-batch has."""
    return isinstance(got, tuple) and close(expected[0], got[0]) and got[1] <= expected[1]


def like_accumulation(mistaken, got) -> bool:
    return isinstance(got, tuple) and close(mistaken[0], got[0]) and mistaken[1] == got[1]


def show_accumulation(answer) -> str:
    if not isinstance(answer, tuple):
        return show_value(answer)
    gradients, rows = answer
    if gradients is None:
        return "no gradients"
    norm = math.sqrt(sum(g * g for g in gradients))
    return f"gradients of norm {norm:.5f}, at most {rows} rows in a graph at one time"


# ---------------------------------------------------------------- blockwise 8-bit


def maps() -> dict[str, list[float]]:
    """Code maps: five even steps, and 256 values that crowd at zero as those of 8-bit Adam do."""
    below = [-((k / 127) ** 3) for k in range(127, 0, -1)]
    return {
        "5 values": [-1.0, -0.5, 0.0, 0.5, 1.0],
        "256 values": [*below, 0.0, *((k / 128) ** 3 for k in range(1, 129))],
    }


@cache
def quantize_blockwise() -> list[Case]:
    """Every value held against every entry of the map, in Python's floats."""
    import torch

    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(100, generator=generator) * torch.logspace(-3, 1, 100)
    tensors = {
        "7 values": (torch.tensor([0.1, -0.9, 0.4, 3.0, 2.5, -8.0, 0.02]), "5 values", 3),
        "100 values": (noise, "256 values", 32),
        "64 values": (noise[20:84].clone(), "256 values", 64),
        "9 values, the first 4 are zero": (
            torch.tensor([0.0] * 4 + [1e-4, -3e-4, 5e-5, 2e-4, -7.0]),
            "256 values",
            4,
        ),
    }
    return [
        Case(
            (x, torch.tensor(maps()[of]), size),
            by_brute_force(x.tolist(), torch.tensor(maps()[of]).tolist(), size),
            f"quantize_blockwise({words}, a map of {of}, blocks of {size})",
        )
        for words, (x, of, size) in tensors.items()
    ]


def by_brute_force(values: list[float], code: list[float], blocksize: int) -> tuple[list, list, list]:
    codes, scales, restored = [], [], []
    for start in range(0, len(values), blocksize):
        block = values[start : start + blocksize]
        scale = max(abs(v) for v in block)
        nearest = [
            min(range(len(code)), key=lambda i, v=v: abs(code[i] * scale - v) if scale else abs(code[i]))
            for v in block
        ]
        codes += nearest
        scales.append(scale)
        restored += [code[i] * scale for i in nearest]
    return codes, scales, restored


def three_lists(function, x, code, blocksize):
    """The codes, the scales and the restored tensor as lists; anything else as it came."""
    answer = function(x, code, blocksize)
    if not isinstance(answer, (tuple, list)):
        return answer
    return tuple(plain(part.flatten() if hasattr(part, "flatten") else part) for part in answer)


def same_quantized(expected, got) -> bool:
    return isinstance(got, tuple) and len(got) == 3 and all(map(close, expected, got))


def show_quantized(answer) -> str:
    if not isinstance(answer, tuple) or len(answer) != 3:
        return show_value(answer)
    names = ("codes", "absmax", "restored")
    return "; ".join(f"{name} {_some(part)}" for name, part in zip(names, answer, strict=True))


def _some(values, count: int = 7) -> str:
    if not isinstance(values, list):
        return show_value(values)
    more = f", ... {len(values)} in all" if len(values) > count else ""
    return f"[{', '.join(map(_short, values[:count]))}{more}]"


# ---------------------------------------------------------------- make it fit

#             change, group, GB saved, time factor: made up, of the size that one meets
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


@cache
def cheapest_fit() -> list[Case]:
    """All subsets tried, their factors multiplied as exact fractions."""
    giga = 10**9
    table = [(name, group, saved * giga, factor) for name, group, saved, factor in CHANGES]
    tables = [(128, card, table) for card in (141, 80, 64, 52, 48, 36, 30, 24, 12, 8)]
    tables += [
        (200, 40, table),
        (30, 20, _in_bytes(PAIR_OR_ONE)),
        (30, 20, _in_bytes(SAME_GROUP)),
        (30, 17, _in_bytes(SAME_GROUP)),
    ]
    return [
        Case(
            (needed * giga, card * giga, changes),
            by_trying(needed * giga, card * giga, changes),
            f"cheapest_fit({needed} GB, {card} GB, {len(changes)} changes)",
        )
        for needed, card, changes in tables
    ]


def _in_bytes(changes):
    return [(name, group, saved * 10**9, factor) for name, group, saved, factor in changes]


def by_trying(needed: int, card: int, changes) -> tuple[str, ...] | None:
    best = None
    for chosen in itertools.chain.from_iterable(
        itertools.combinations(changes, n) for n in range(len(changes) + 1)
    ):
        groups = [group for _, group, _, _ in chosen]
        if len(set(groups)) == len(groups) and needed - sum(saved for _, _, saved, _ in chosen) <= card:
            time = math.prod(Fraction(str(factor)) for *_, factor in chosen)
            if best is None or time < best[0]:
                best = (time, tuple(sorted(name for name, *_ in chosen)))
    return best and best[1]


def names_in_order(function, needed, card, changes):
    """The names, sorted: in which order they were found does not matter."""
    answer = function(needed, card, changes)
    if isinstance(answer, (list, tuple, set, frozenset)) and all(isinstance(name, str) for name in answer):
        return tuple(sorted(answer))
    return answer


def same_names(expected, got) -> bool:
    return type(expected) is type(got) and expected == got


# ---------------------------------------------------------------- a checkpoint by hand


class Run(NamedTuple):
    """One pass forward and backward: the gradients are those of x and of each parameter; kept counts numbers."""

    output: list[float]
    gradients: list[list[float] | None] | None
    kept: int


@cache
def checkpointed() -> list[Case]:
    """Plain autograd through the layer, with the same random numbers; of what is kept, the input alone."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers = {
        "a layer": (nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8)), (4, 8)),
        "a layer with a norm": (
            nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 24), nn.SiLU(), nn.Linear(24, 6)),
            (2, 3, 6),
        ),
        "a layer with dropout": (nn.Sequential(nn.Linear(8, 32), nn.Dropout(0.5), nn.Linear(32, 8)), (4, 8)),
    }
    cases = []
    for words, (layer, shape) in layers.items():
        x = torch.randn(shape)
        plain_run = run_and_count(lambda layer, x: layer(x), layer, x)
        cases.append(Case((layer, x), plain_run._replace(kept=x.numel()), f"checkpointed({words}, x)"))
    return cases


def run_and_count(function, layer, x):
    """A Run of `function` instead of the layer; what is no tensor comes back as it is."""
    import torch

    torch.manual_seed(1)
    x = x.clone().requires_grad_()
    output = function(layer, x)
    if not isinstance(output, torch.Tensor):
        return output
    kept = _numbers_kept(function, layer, x.detach().clone().requires_grad_())
    layer.zero_grad()
    weights = torch.linspace(-1, 2, output.numel()).view(output.shape)
    torch.rand(3)  # between forward and backward other layers draw random numbers
    try:
        (output * weights).sum().backward()
    except RuntimeError as error:
        if "does not require grad" not in str(error):
            raise
        return Run(_flat(output), None, kept)  # nothing to go back through
    gradients = [None if t.grad is None else _flat(t.grad) for t in (x, *layer.parameters())]
    return Run(_flat(output), gradients, kept)


def _numbers_kept(function, layer, x) -> int:
    """What autograd packs away during forward, each storage once; parameters are there anyway."""
    import torch

    sizes = {}

    def pack(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = (
            tensor.untyped_storage().nbytes() // tensor.element_size()
        )
        kept_alive.append(tensor)
        return tensor

    kept_alive: list = []
    with torch.random.fork_rng(devices=[]), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        function(layer, x)
    weights = {p.untyped_storage().data_ptr() for p in layer.parameters()}
    return sum(size for place, size in sizes.items() if place not in weights)


def _flat(tensor) -> list[float]:
    return tensor.detach().flatten().tolist()


def same_checkpoint(expected, got) -> bool:
    """The output and all gradients of plain autograd, and no more kept than the input."""
    return isinstance(got, Run) and all(map(close, expected[:2], got[:2])) and got[2] <= expected[2]


def like_checkpoint(mistaken, got) -> bool:
    return isinstance(got, Run) and all(map(close, mistaken[:2], got[:2])) and mistaken[2] == got[2]


def show_checkpoint(answer) -> str:
    if not isinstance(answer, Run):
        return show_value(answer)
    start = f"output {_some(answer.output, 2)}; {answer.kept} numbers kept"
    if answer.gradients is None:
        return f"{start}; no graph to go back through"
    x, *others = answer.gradients
    norm = None if None in others else math.sqrt(sum(g * g for part in others for g in part))
    return f"{start}; gradient of x {_some(x, 2)}, norm of the parameters' {_short(norm)}"

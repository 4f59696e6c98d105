"""The cases of lecture 4's exercises and their right answers, none of them from the code that the exercises train.

The truth comes from tensors that torch really pads, from torch.utils.flop_counter on real modules (transformers'
LlamaDecoderLayer among them), from joules in exact fractions, and from definitions checked one pair at a time. Where
many answers are right (batches, rows), the answer is judged by what it must keep and by a bound.
"""

from __future__ import annotations

import math
import random
from fractions import Fraction
from functools import cache
from itertools import pairwise

from classroom.checking.answers import plain
from classroom.checking.check import Case


def close(expected, got) -> bool:
    """Numbers to six digits, words without regard to case, lists or tuples of both."""
    expected, got = plain(expected), plain(got)
    if isinstance(expected, (list, tuple)):
        if not isinstance(got, (list, tuple)) or len(got) != len(expected):
            return False
        return all(close(a, b) for a, b in zip(expected, got, strict=True))
    if isinstance(expected, str):
        return isinstance(got, str) and got.strip().lower() == expected.lower()
    if not isinstance(got, (int, float)) or isinstance(got, bool):
        return False
    return math.isclose(expected, got, rel_tol=1e-6, abs_tol=1e-9)


# ---------------------------------------------------------------- padding, batches, rows


@cache
def padding_share() -> list[Case]:
    """Real tensors of ones, padded with zeros by torch.nn.utils.rnn; the zeros are counted."""
    dice = random.Random(0)
    drawn = [[dice.randint(1, 200) for _ in range(8)] for _ in range(5)]
    several = [
        [[3, 5], [2, 2]],
        [[10, 1], [1, 1, 1]],
        [[7, 7, 7]],
        [[5], [100, 20, 30], [8, 9]],
        drawn,
    ]
    return [
        Case(
            (batches,), _zeros_in(batches), "padding_share(5 batches of 8 texts)" if batches is drawn else ""
        )
        for batches in several
    ]


def _zeros_in(batches) -> float:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    padded = [pad_sequence([torch.ones(n) for n in batch], batch_first=True) for batch in batches]
    return sum(int((x == 0).sum()) for x in padded) / sum(x.numel() for x in padded)


def _lengths(seed: int, count: int, longest: int) -> list[int]:
    dice = random.Random(seed)
    return [1 + int((longest - 1) * dice.random() ** 2) for _ in range(count)]


@cache
def length_batches() -> list[Case]:
    """What the batches must keep, in words; the bound on padding follows from neighbours in the order of lengths."""
    several = [([9, 2, 7, 3, 8], 2, 0), (_lengths(1, 100, 300), 8, 1), (_lengths(2, 64, 500), 4, 2)]
    return [
        Case(
            (lengths, size, seed),
            _batches_right(lengths, size),
            "" if len(lengths) < 10 else f"length_batches({len(lengths)} lengths, {size}, seed={seed})",
        )
        for lengths, size, seed in several
    ]


def padding_bound(lengths: list[int], batch_size: int) -> int:
    """Most padding tokens of batches cut from the sorted order.

    In a batch at most batch_size - 1 texts are padded, each by longest minus shortest of the batch; these
    spans do not overlap, so together they are no wider than the span of all lengths.
    """
    return (batch_size - 1) * (max(lengths) - min(lengths))


def _batches_right(lengths, batch_size) -> str:
    bound = padding_bound(lengths, batch_size)
    return (
        f"every index once in {-(-len(lengths) // batch_size)} batches, padding at most {bound:,}, shuffled"
    )


ENOUGH_TO_JUDGE_ORDER = 8  # batches: by chance a shuffle of eight keeps their order once in 40,320 times


def report_on_batches(function, lengths, batch_size, seed):
    """What the student's batches are like: the words of the right answer, or the first fault, `kind: details`."""
    batches = plain(function(list(lengths), batch_size, seed))
    if batches is None or batches is ...:
        return batches
    fault = _index_fault(batches, len(lengths)) or _batches_fault(batches, lengths, batch_size)
    if fault is None and len(batches) >= ENOUGH_TO_JUDGE_ORDER:
        fault = _order_fault(function, batches, lengths, batch_size, seed)
    return fault or _batches_right(lengths, batch_size)


def _index_fault(groups, count: int) -> str | None:
    """Is it a list of lists that holds each index from 0 to count - 1 once?"""
    if not isinstance(groups, (list, tuple)) or not all(isinstance(g, (list, tuple)) for g in groups):
        return f"not a list of lists: {type(groups).__name__}"
    indices = [plain(i) for group in groups for i in group]
    if not all(isinstance(i, int) and 0 <= i < count for i in indices):
        return f"not indices: {next(i for i in indices if not isinstance(i, int) or not 0 <= i < count)!r}"
    twice = sorted({i for i in indices if indices.count(i) > 1})
    if twice:
        return f"an index more than once: {twice[0]}"
    missing = sorted(set(range(count)) - set(indices))
    return f"indices left out: {len(missing)}, the first is {missing[0]}" if missing else None


def _batches_fault(batches, lengths, batch_size) -> str | None:
    if max(map(len, batches)) > batch_size:
        return f"a batch too large: {max(map(len, batches))} texts"
    if len(batches) > -(-len(lengths) // batch_size):
        return f"too many batches: {len(batches)}"
    padding = sum(max(lengths[i] for i in b) - lengths[j] for b in batches for j in b)
    return f"too much padding: {padding:,} tokens" if padding > padding_bound(lengths, batch_size) else None


def _order_fault(function, batches, lengths, batch_size, seed) -> str | None:
    longest = [max(lengths[i] for i in batch) for batch in batches]
    if longest in (sorted(longest), sorted(longest, reverse=True)):
        return "batches in order of length: not shuffled"
    if plain(function(list(lengths), batch_size, seed)) != batches:
        return "the same seed, another order: not repeatable"
    if plain(function(list(lengths), batch_size, seed + 1)) == batches:
        return "another seed, the same order: the seed is not used"
    return None


def same_fault(one, other) -> bool:
    """The same kind of fault; where rows are counted, the same count too."""
    if not isinstance(one, str) or not isinstance(other, str):
        return False
    return one == other if one.startswith("too many rows") else one.split(":")[0] == other.split(":")[0]


@cache
def pack() -> list[Case]:
    """Small cases whose best packing is found by trying all; large ones cut from full rows, so the best is known."""
    small = [
        ([6, 4, 5, 5, 3, 7], 10),
        ([2, 9, 3, 8, 4, 7, 5, 6], 11),
        ([4, 6, 4, 6, 3, 7, 2, 5], 12),
        ([5, 5], 10),
    ]
    cases = [Case(arguments, _rows_right(*arguments, fewest_rows(*arguments))) for arguments in small]
    for seed, rows in ((0, 12), (5, 30)):
        lengths = _cut_from_full_rows(seed, rows, 128)
        right = _rows_right(lengths, 128, rows)
        cases.append(Case((lengths, 128), right, f"pack({len(lengths)} lengths, 128)"))
    thirds = [15] * 18 + [34] * 18 + [51] * 18  # 15 + 34 + 51 = 100: eighteen full rows, if sorted
    cases.append(Case((thirds, 100), _rows_right(thirds, 100, 18), f"pack({len(thirds)} lengths, 100)"))
    return cases


def fewest_rows(lengths, row_length: int) -> int:
    """By trying every place for every text: for a dozen texts."""

    def place(left, room, best):
        if len(room) >= best:
            return best
        if not left:
            return len(room)
        for r in range(len(room)):
            if room[r] >= left[0]:
                best = place(left[1:], [*room[:r], room[r] - left[0], *room[r + 1 :]], best)
        return place(left[1:], [*room, row_length - left[0]], best)

    return place(list(lengths), [], len(lengths) + 1)


def _cut_from_full_rows(seed: int, rows: int, row_length: int) -> list[int]:
    dice = random.Random(seed)
    lengths = []
    for _ in range(rows):
        cuts = sorted(dice.sample(range(1, row_length), dice.randint(1, 4)))
        lengths += [b - a for a, b in pairwise([0, *cuts, row_length])]
    dice.shuffle(lengths)
    return lengths


def most_rows(fewest: int) -> int:
    """First-fit decreasing never needs more than 11/9 of the fewest rows and 6/9 (Dósa 2007)."""
    return (11 * fewest + 6) // 9


def _rows_right(lengths, row_length: int, fewest: int) -> str:
    return (
        f"each of {len(lengths)} texts in one row, none over {row_length}, at most {most_rows(fewest)} rows"
    )


def report_on_rows(function, lengths, row_length):
    """What the student's rows are like: the words of the right answer, or the first fault, `kind: details`."""
    rows = plain(function(list(lengths), row_length))
    if rows is None or rows is ...:
        return rows
    (case,) = (case for case in pack() if case.arguments == (lengths, row_length))
    fault = _index_fault(rows, len(lengths))
    if fault:
        return fault
    fullest = max(sum(lengths[i] for i in row) for row in rows)
    if fullest > row_length:
        return f"a row too long: {fullest} tokens"
    allowed = int(case.expected.split()[-2])
    return f"too many rows: {len(rows)}" if len(rows) > allowed else case.expected


# ---------------------------------------------------------------- a packed row

PACKED = ([3, 2], [1, 1, 1], [4], [2, 1, 3], [1, 4, 2])


@cache
def position_ids() -> list[Case]:
    """By definition: a token's position is how many tokens of its own text stand before it."""
    cases = []
    for lengths in PACKED:
        owner = _owners(lengths)
        cases.append(Case((lengths,), [owner[:t].count(owner[t]) for t in range(len(owner))]))
    return cases


@cache
def may_see() -> list[Case]:
    """By definition, one pair of tokens at a time: the same text, and not later."""
    return [Case((lengths,), _pairs(_owners(lengths))) for lengths in PACKED]


def _owners(lengths) -> list[int]:
    """The number of its text for each token, found by walking the row."""
    owners: list[int] = []
    for text, length in enumerate(lengths):
        owners.extend([text] * length)
    return owners


def _pairs(owner) -> list[list[int]]:
    n = len(owner)
    return [[1 if owner[q] == owner[k] and k <= q else 0 for k in range(n)] for q in range(n)]


def mask_as_numbers(function, lengths):
    """The student's mask as lists of 0 and 1, whether it came as bool or numbers, tensor or lists."""
    mask = plain(function(list(lengths)))
    if not isinstance(mask, (list, tuple)):
        return mask
    rows = [plain(row) for row in mask]
    return [
        [int(x) if isinstance(x, bool) else x for x in map(plain, row)]
        if isinstance(row, (list, tuple))
        else row
        for row in rows
    ]


# ---------------------------------------------------------------- FLOPs


def counted(run) -> int:
    """The FLOPs that torch.utils.flop_counter sees in run()."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        run()
    return counter.get_total_flops()


def _forward_and_backward(module, x) -> tuple[int, int]:
    """Counted FLOPs of module(x) and of its backward; x wants a gradient, as it does inside a network."""
    x.requires_grad_()
    out = []
    forward = counted(lambda: out.append(module(x)))
    return forward, counted(out[0].sum().backward)


@cache
def linear_flops() -> list[Case]:
    """A real torch.nn.Linear, counted."""
    return [
        Case((tokens, inputs, outputs, frozen), _linear(tokens, inputs, outputs, frozen))
        for tokens, inputs, outputs in ((1, 8, 8), (16, 64, 32), (128, 96, 256))
        for frozen in (False, True)
    ]


def _linear(tokens: int, inputs: int, outputs: int, frozen: bool) -> tuple[int, int]:
    import torch

    layer = torch.nn.Linear(inputs, outputs, bias=False).requires_grad_(not frozen)
    return _forward_and_backward(layer, torch.ones(tokens, inputs))


@cache
def block_flops() -> list[Case]:
    """transformers' LlamaDecoderLayer with eager attention, counted."""
    shapes = ((1, 16, 64, 64, 128), (2, 24, 64, 32, 96), (3, 8, 128, 32, 352), (1, 256, 64, 16, 160))
    return [Case(shape, _llama_block(*shape)) for shape in shapes]


def _llama_block(batch: int, tokens: int, hidden: int, kv_width: int, inner: int) -> tuple[int, int]:
    import torch

    from classroom.models.load import quiet

    with quiet():
        from transformers import LlamaConfig
        from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=inner,
        num_attention_heads=hidden // 16,
        num_key_value_heads=kv_width // 16,
        attn_implementation="eager",
    )
    layer, x = LlamaDecoderLayer(config, layer_idx=0), torch.ones(batch, tokens, hidden)
    angles = LlamaRotaryEmbedding(config)(x, torch.arange(tokens)[None])

    def block(x):
        out = layer(x, position_embeddings=angles)
        return out[0] if isinstance(out, tuple) else out

    return _forward_and_backward(block, x)


@cache
def mfu() -> list[Case]:
    """FLOPs for one token, counted on stacks of linear layers without memory (device "meta"), some of them frozen."""
    block = [(4096, 4096), (4096, 4096), (4096, 11008), (11008, 4096)]
    adapter = [(4096, 16), (16, 4096)]
    several = [
        (9500.0, 989.0, block * 54, []),
        (1700.0, 312.0, block * 27, []),
        (4100.0, 312.0, adapter * 108, block * 54),
        (2600.0, 148.0, block * 9, block * 18),
    ]
    return [_run_at(*one) for one in several]


def _run_at(speed: float, peak: float, trained, frozen) -> Case:
    flops = sum(_of_a_token(*shape, True) for shape in trained)
    flops += sum(_of_a_token(*shape, False) for shape in frozen)
    sizes = [sum(a * b for a, b in shapes) for shapes in (trained, frozen)]
    share = Fraction(flops) * Fraction(speed) / (Fraction(peak) * 10**12)
    return Case((speed, *sizes, peak), float(share))


@cache
def _of_a_token(inputs: int, outputs: int, learns: bool) -> int:
    import torch

    layer = torch.nn.Linear(inputs, outputs, bias=False, device="meta").requires_grad_(learns)
    return sum(_forward_and_backward(layer, torch.ones(1, inputs, device="meta")))


@cache
def roofline() -> list[Case]:
    """Real operations on tensors without memory: bytes from nbytes, FLOPs counted; the slower of two times decides."""
    return [
        Case((flops, moved, peak, bandwidth), _slower(flops, moved, peak, bandwidth))
        for flops, moved in (_product(1), _product(64), _product(256), _product(4096), _sum_of_vectors())
        for peak, bandwidth in ((312.0, 2039.0), (0.5, 40.0))
    ]


def _product(rows: int) -> tuple[int, int]:
    import torch

    x, w = (torch.ones(n, 4096, dtype=torch.bfloat16, device="meta") for n in (rows, 4096))
    return counted(lambda: x @ w), x.nbytes + w.nbytes + (x @ w).nbytes


def _sum_of_vectors() -> tuple[int, int]:
    import torch

    a = torch.ones(2**20, dtype=torch.bfloat16, device="meta")
    return a.numel(), a.nbytes * 2 + (a + a).nbytes  # the counter leaves additions out: one for each number


def _slower(flops: int, moved: int, peak: float, bandwidth: float) -> tuple[float, str]:
    computing = Fraction(flops) / (Fraction(peak) * 10**12)
    moving = Fraction(moved) / (Fraction(bandwidth) * 10**9)
    tflops = float(flops / max(computing, moving) / 10**12)
    return tflops, "memory" if moving > computing else "compute"


# ---------------------------------------------------------------- a loop that does not wait


@cache
def train() -> list[Case]:
    """The losses of the loop that waits at each step, and the only steps after which a loss may be read."""
    return [
        Case((seed, steps, every), (_moments(steps, every), _plain_losses(seed, steps)), words)
        for seed, steps, every in ((0, 12, 4), (1, 10, 4), (2, 5, 8))
        for words in (f"train(step, {steps} batches, every={every})",)
    ]


def _moments(steps: int, every: int) -> list[int]:
    return [n for n in range(1, steps + 1) if n % every == 0 or n == steps]


def _plain_losses(seed: int, steps: int) -> list[float]:
    step, batches = _small_run(seed, steps)
    return [step(batch).item() for batch in batches]


def _small_run(seed: int, steps: int):
    """A step function that trains a small network, and its batches. A step changes the weights: each counts once."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(3, generator=generator).requires_grad_()
    batches = list(torch.randn(steps, 8, 4, generator=generator))

    def step(batch):
        loss = (batch[:, :3] @ weight - batch[:, 3]).square().mean()
        (gradient,) = torch.autograd.grad(loss, weight)
        with torch.no_grad():
            weight.sub_(gradient, alpha=0.1)
        return loss.detach()

    return step, batches


def waits_and_losses(function, seed: int, steps: int, every: int):
    """After how many steps a tensor was read, each moment once, and the list that came back."""
    step, batches = _small_run(seed, steps)
    done, moments = [0], set()

    def counting(batch):
        loss = step(batch)
        done[0] += 1
        return loss

    first, second = _readers(lambda: moments.add(done[0]))
    with first, second:
        losses = function(counting, batches, every)
    if losses is None or losses is ...:
        return losses
    return sorted(moments), _numbers(losses)


def _numbers(losses):
    if not isinstance(losses, (list, tuple)):
        return type(losses).__name__
    return [loss if isinstance(loss, (int, float)) else "a " + type(loss).__name__ for loss in losses]


READING = {
    "tolist",
    "numpy",
    "cpu",
    "__array__",
    "__repr__",
}  # besides what ends in aten::_local_scalar_dense


def _readers(told):
    """Two modes that call told() when a tensor's value is read, as .item(), float(), if, print and .tolist() do.

    On a GPU each of them waits until all work before it is done. Inside `step` nothing is read.
    """
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

    class Scalars(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if "_local_scalar_dense" in str(function):
                told()
            return function(*args, **(kwargs or {}))

    class Whole(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            name, targets = getattr(function, "__name__", ""), [*args[1:], *(kwargs or {}).values()]
            if name in READING or (name == "to" and any(str(target) == "cpu" for target in targets)):
                told()
            return function(*args, **(kwargs or {}))

    return Scalars(), Whole()


def same_reading(expected, got) -> bool:
    """The same moments and the same losses."""
    return isinstance(got, tuple) and len(got) == 2 and got[0] == expected[0] and close(expected[1], got[1])


def show_reading(value) -> str:
    """(moments, losses) in words."""
    if not isinstance(value, tuple) or len(value) != 2:
        return repr(value)[:120]
    moments, losses = value
    when = "read after steps " + ", ".join(map(str, moments)) if moments else "never read"
    if not isinstance(losses, list):
        return f"{when}; returned a {losses}, not a list"
    first = ", ".join(f"{x:.4f}" if isinstance(x, float) else str(x) for x in losses[:3])
    return f"{when}; {len(losses)} losses: {first}{', ...' if len(losses) > 3 else ''}"


# ---------------------------------------------------------------- energy


@cache
def energy() -> list[Case]:
    """In joules, exactly: watts times seconds; 3,600,000 of them are one kilowatt hour."""
    several = [
        (1, 1000.0, 1.0, 1.0, 400.0),
        (8, 400.0, 24.0, 1.2, 380.0),
        (1, 65.0, 0.5, 1.0, 50.0),
        (64, 700.0, 72.0, 1.1, 30.0),
    ]
    return [Case(one, _by_joules(*one)) for one in several]


def _by_joules(cards: int, watts: float, hours: float, pue: float, grams: float) -> tuple[float, float]:
    joules = sum(Fraction(str(watts)) * Fraction(str(hours)) * 3600 for _ in range(cards))
    kwh = joules * Fraction(str(pue)) / 3_600_000
    return float(kwh), float(kwh * Fraction(str(grams)) / 1000)

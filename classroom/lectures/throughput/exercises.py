"""The exercises of lecture 4, easy to hard: `check.padding_share(padding_share)` answers with a Verdict.

The truth never comes from the code that the exercises train. It comes from tensors that torch pads, from torch's FLOP
counter on real modules (one is transformers' LlamaDecoderLayer), from joules in exact fractions, and from definitions
applied pair by pair. Where many answers are right (batches, rows), an answer is judged by its properties and a bound.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from classroom.checking.answers import AtMost, Close, Exact, Fields, Report, plain, show_short, show_value
from classroom.checking.exercise import Case, Exercise

# ---------------------------------------------------------------- padding_share

padding_share = Exercise(
    "padding_share",
    "What padding costs",
    minutes=5,
    answer=Close(1e-6, 1e-9),
    hints=(
        "A batch is a rectangle: as many rows as texts, as wide as its longest text. How many tokens is that?",
        "Add up the rectangles of all batches, and add up the real lengths. Divide once, at the very end.",
        "`computed = sum(len(b) * max(b) for b in batches)`, `real = sum(map(sum, batches))`; the answer: "
        "`1 - real / computed`.",
    ),
    praise="Every one of those tokens is computed, and the model learns from none of them.",
)


@padding_share.truth
def _():
    """Tensors of ones, padded with zeros by torch.nn.utils.rnn; the zeros are counted."""
    for batches in ([[3, 5], [2, 2]], [[10, 1], [1, 1, 1]], [[7, 7, 7]], [[5], [100, 20, 30], [8, 9]]):
        yield Case((batches,), _zeros_in(batches))
    dice = random.Random(0)
    drawn = [[dice.randint(1, 200) for _ in range(8)] for _ in range(5)]
    yield Case((drawn,), _zeros_in(drawn), "padding_share(5 batches of 8 texts)")


def _zeros_in(batches) -> float:
    padded = [pad_sequence([torch.ones(n) for n in batch], batch_first=True) for batch in batches]
    return sum(int((x == 0).sum()) for x in padded) / sum(x.numel() for x in padded)


def _useful_share(batches) -> float:
    return sum(map(sum, batches)) / sum(len(batch) * max(batch) for batch in batches)


@padding_share.mistake("the mean of the batches' shares")
def _(batches):
    """In that mean a small batch counts as much as a large one. Add up tokens over all batches, then divide once."""
    return sum(1 - _useful_share([batch]) for batch in batches) / len(batches)


@padding_share.mistake("padding over real tokens")
def _(batches):
    """The share is of all tokens that are computed: divide by real tokens *and* padding."""
    return 1 / _useful_share(batches) - 1


@padding_share.mistake("the useful share")
def _(batches):
    """That is the share of real tokens. The share of padding is 1 minus that."""
    return _useful_share(batches)


# ---------------------------------------------------------------- position_ids

position_ids = Exercise(
    "position_ids",
    "Positions in a packed row",
    minutes=5,
    hints=(
        "Each text counts as if it stood alone: its first token is at position 0.",
        "What does one text of length n contribute? The numbers from 0 to n - 1.",
        "`[position for length in lengths for position in range(length)]`.",
    ),
    praise="transformers' DataCollatorWithFlattening gives the model the same positions.",
)

PACKED = ([3, 2], [1, 1, 1], [4], [2, 1, 3], [1, 4, 2])


@position_ids.truth
def _():
    """By definition: a token's position is the number of tokens of its own text before it."""
    for lengths in PACKED:
        owner = _owners(lengths)
        yield Case((lengths,), [owner[:t].count(owner[t]) for t in range(len(owner))])


def _owners(lengths) -> list[int]:
    """Return, for each token of the row, the number of the text that it belongs to."""
    return [text for text, length in enumerate(lengths) for _ in range(length)]


@position_ids.mistake("positions run on")
def _(lengths):
    """The second text goes on counting where the first one ended. Each text starts from 0 again."""
    return list(range(sum(lengths)))


@position_ids.mistake("counted from 1")
def _(lengths):
    """Positions start at 0, as in a row that is not packed."""
    return [position for length in lengths for position in range(1, length + 1)]


@position_ids.mistake("the number of the text")
def _(lengths):
    """That says which text a token belongs to (useful for the mask), not where in its text it stands."""
    return _owners(lengths)


# ---------------------------------------------------------------- roofline

roofline = Exercise(
    "roofline",
    "Under which roof?",
    minutes=5,
    answer=Close(1e-6, 1e-9),
    hints=(
        "Two things take time: computing and moving bytes. The slower of the two decides.",
        "FLOPs per byte, times bytes per second, is what the memory allows. It never exceeds the peak.",
        "In TFLOP/s: `slope = flops / bytes_moved * gb_per_second / 1000`. The answer is "
        '`min(slope, peak_tflops)`, and "memory" where the slope is the lower one.',
    ),
    praise="Now you know which of the two a faster kernel could help.",
)


@roofline.truth
def _():
    """The slower of two times decides: that of computing and that of moving bytes, as exact fractions."""
    products = [
        (2 * rows * 4096**2, 2 * (4096**2 + 2 * rows * 4096)) for rows in (1, 64, 256, 4096)
    ]  # in BF16
    sum_of_vectors = 2**20, 3 * 2 * 2**20
    for flops, moved in (*products, sum_of_vectors):
        for peak, bandwidth in ((312.0, 2039.0), (0.5, 40.0)):
            computing = Fraction(flops) / (Fraction(peak) * 10**12)
            moving = Fraction(moved) / (Fraction(bandwidth) * 10**9)
            tflops = float(flops / max(computing, moving) / 10**12)
            limit = "memory" if moving > computing else "compute"
            yield Case((flops, moved, peak, bandwidth), (tflops, limit))


def _under_roof(slope: float, peak: float) -> tuple[float, str]:
    return min(slope, peak), "memory" if slope < peak else "compute"


@roofline.mistake("GFLOP/s as TFLOP/s")
def _(flops, moved, peak, bandwidth):
    """FLOPs per byte times *GB* per second are *GFLOP* per second: 1,000 of them make one TFLOP/s."""
    return _under_roof(flops / moved * bandwidth, peak)


@roofline.mistake("no roof")
def _(flops, moved, peak, bandwidth):
    """What the memory could feed is more than the card can compute: the peak is the upper limit."""
    slope = flops / moved * bandwidth / 1000
    return slope, _under_roof(slope, peak)[1]


@roofline.mistake("the two names swapped")
def _(flops, moved, peak, bandwidth):
    """An operation whose lower limit is the memory's *waits for memory*: the answer is "memory"."""
    tflops, name = _under_roof(flops / moved * bandwidth / 1000, peak)
    return tflops, "compute" if name == "memory" else "memory"


# ---------------------------------------------------------------- energy

energy = Exercise(
    "energy",
    "The energy of a run",
    minutes=5,
    answer=Close(1e-6, 1e-9),
    hints=(
        "A card of 1,000 W that runs for one hour takes 1 kWh. What do eight of them take?",
        "PUE multiplies the energy: a PUE of 1.2 adds a fifth, mostly for cooling. CO2 follows from that.",
        "`kwh = cards * watts * hours / 1000 * pue`, and `kwh * grams_per_kwh / 1000` kilograms.",
    ),
    praise="PUE and grid differ from place to place: always say which you assumed.",
)


@energy.truth
def _():
    """In joules, exactly: watts times seconds; 3,600,000 of them are one kilowatt hour."""
    for run in (
        (1, 1000.0, 1.0, 1.0, 400.0),
        (8, 400.0, 24.0, 1.2, 380.0),
        (1, 65.0, 0.5, 1.0, 50.0),
        (64, 700.0, 72.0, 1.1, 30.0),
    ):
        cards, watts, hours, pue, grams = (Fraction(str(x)) for x in run)
        joules = cards * watts * hours * 3600
        kwh = joules * pue / 3_600_000
        yield Case(run, (float(kwh), float(kwh * grams / 1000)))


def _energy(cards, watts, hours, pue, grams, watts_in_kw=1000, grams_in_kg=1000):
    kwh = cards * watts * hours / watts_in_kw * pue
    return kwh, kwh * grams / grams_in_kg


@energy.mistake("watts as kilowatts")
def _(*run):
    """Watts times hours are watt hours: 1,000 of them make one kWh."""
    return _energy(*run, watts_in_kw=1)


@energy.mistake("PUE forgotten")
def _(cards, watts, hours, pue, grams):
    """The data centre takes more than its cards: multiply the energy by the PUE."""
    return _energy(cards, watts, hours, 1.0, grams)


@energy.mistake("PUE in the energy only")
def _(cards, watts, hours, pue, grams):
    """The energy of the cooling has to be generated too: CO2 follows from the kWh *with* PUE."""
    kwh, kilograms = _energy(cards, watts, hours, pue, grams)
    return kwh, kilograms / pue


@energy.mistake("grams as kilograms")
def _(*run):
    """The grid's figure is in grams per kWh; the answer is in kilograms."""
    return _energy(*run, grams_in_kg=1)


# ---------------------------------------------------------------- linear_flops

linear_flops = Exercise(
    "linear_flops",
    "The FLOPs of a linear layer",
    minutes=10,
    hints=(
        "Every number of the result is a dot product: `inputs` multiplications and as many additions.",
        "Backward has up to two products of the same size: one gives the gradient of x, one that of the weight.",
        "Forward `2 * tokens * inputs * outputs`; backward the same once if the weight is frozen, else twice.",
    ),
    praise="Freezing a weight saves a third of its FLOPs, not all of them.",
)


@linear_flops.truth
def _():
    """A real torch.nn.Linear, counted."""
    for tokens, inputs, outputs in ((1, 8, 8), (16, 64, 32), (128, 96, 256)):
        for frozen in (False, True):
            flops = _flops_of_linear(tokens, inputs, outputs, learns=not frozen)
            yield Case((tokens, inputs, outputs, frozen), flops)


def _flops_of_linear(tokens: int, inputs: int, outputs: int, learns: bool) -> tuple[int, int]:
    """Counted on device "meta", so that a layer of any size needs no memory."""
    layer = torch.nn.Linear(inputs, outputs, bias=False, device="meta").requires_grad_(learns)
    return _forward_and_backward(layer, torch.ones(tokens, inputs, device="meta"))


def _forward_and_backward(module, x) -> tuple[int, int]:
    """Counted FLOPs of module(x) and of its backward; x needs a gradient, as it does inside a network."""
    x.requires_grad_()
    out = []
    forward = _counted(lambda: out.append(module(x)))
    return forward, _counted(out[0].sum().backward)


def _counted(run) -> int:
    """The FLOPs that torch.utils.flop_counter sees in run()."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def _linear(tokens, inputs, outputs, each=2, backward=2):
    forward = each * tokens * inputs * outputs
    return forward, backward * forward


@linear_flops.mistake("the factor 2 forgotten")
def _(tokens, inputs, outputs, frozen):
    """A multiplication and an addition are two FLOPs. What you counted are multiply-adds (MACs)."""
    return _linear(tokens, inputs, outputs, each=1, backward=1 if frozen else 2)


@linear_flops.mistake("backward as much as forward")
def _(tokens, inputs, outputs, frozen):
    """Backward has two products if the weight is trained: one for the gradient of x, one for the weight's."""
    return _linear(tokens, inputs, outputs, backward=1)


@linear_flops.mistake("a frozen weight's gradient counted")
def _(tokens, inputs, outputs, frozen):
    """The gradient of a frozen weight is not needed, so that product is never computed."""
    return _linear(tokens, inputs, outputs, backward=2)


@linear_flops.mistake("nothing flows through a frozen layer")
def _(tokens, inputs, outputs, frozen):
    """The layers below still need their gradient, and it passes through the frozen weight: one product stays."""
    return _linear(tokens, inputs, outputs, backward=0 if frozen else 2)


# ---------------------------------------------------------------- mfu

mfu = Exercise(
    "mfu",
    "From tokens per second to MFU",
    minutes=10,
    answer=Close(1e-6, 1e-9),
    hints=(
        "Per token and parameter: 2 FLOPs forward, 2 for the gradient that travels on, 2 for the weight's own.",
        "Trained parameters need all six. Which of the three parts does a frozen one not need?",
        "`(6 * trained + 4 * frozen) * tokens_per_second / (peak_tflops * 1e12)`.",
    ),
    praise="A number that can be compared between models and cards.",
)


@mfu.truth
def _():
    """FLOPs per token, counted on one linear layer of all trained weights and one of all frozen ones."""
    block = 2 * 4096 * 4096 + 2 * 4096 * 11008
    adapter = 2 * 4096 * 16
    for speed, trained, frozen, peak in (
        (9500.0, 54 * block, 0, 989.0),
        (1700.0, 27 * block, 0, 312.0),
        (4100.0, 108 * adapter, 54 * block, 312.0),
        (2600.0, 9 * block, 18 * block, 148.0),
    ):
        flops = sum(_flops_of_linear(1, trained // 4096, 4096, learns=True))
        if frozen:
            flops += sum(_flops_of_linear(1, frozen // 4096, 4096, learns=False))
        share = Fraction(flops) * Fraction(speed) / (Fraction(peak) * 10**12)
        yield Case((speed, trained, frozen, peak), float(share))


def _mfu(speed, trained, frozen, peak, each_frozen):
    return speed * (6 * trained + each_frozen * frozen) / (peak * 1e12)


@mfu.mistake("6N with a frozen base")
def _(*run):
    """A frozen parameter needs no gradient of its own: 4 FLOPs per token, not 6."""
    return _mfu(*run, each_frozen=6)


@mfu.mistake("trained parameters only")
def _(*run):
    """Frozen parameters are multiplied with too: forward, and backward for the gradient that passes through them."""
    return _mfu(*run, each_frozen=0)


@mfu.mistake("frozen parameters forward only")
def _(*run):
    """The gradient travels back through frozen layers to reach what is trained: 2 FLOPs more."""
    return _mfu(*run, each_frozen=2)


# ---------------------------------------------------------------- length_batches

length_batches = Exercise(
    "length_batches",
    "Batches of similar length",
    minutes=10,
    answer=Report(),
    hints=(
        "Texts of similar length are neighbours once the *indices* are sorted by length.",
        "Cut the sorted indices into batches first, and shuffle the finished batches, not what is in them.",
        "`order = sorted(range(len(lengths)), key=lambda i: lengths[i])`, slices of `batch_size`, "
        "then `random.Random(seed).shuffle(batches)`.",
    ),
    praise="Little padding, and the model still meets short and long texts in turn.",
)

ENOUGH_TO_JUDGE_ORDER = 8  # batches: by chance a shuffle of eight keeps their order once in 40,320 times


@length_batches.truth
def _():
    """What the batches must satisfy, in words."""
    small = [9, 2, 7, 3, 8]
    yield Case((small, 2, 0), _good_batches(small, 2))
    for seed, count, longest, size in ((1, 100, 300, 8), (2, 64, 500, 4)):
        dice = random.Random(seed)
        lengths = [1 + int((longest - 1) * dice.random() ** 2) for _ in range(count)]
        words = f"length_batches({count} lengths, {size}, seed={seed})"
        yield Case((lengths, size, seed), _good_batches(lengths, size), words)


def padding_bound(lengths: list[int], batch_size: int) -> int:
    """Most tokens of padding in batches cut from the sorted order.

    In a batch at most batch_size - 1 texts are padded, each by at most the longest minus the shortest of the batch.
    These spans do not overlap, so together they are no wider than the span of all lengths.
    """
    return (batch_size - 1) * (max(lengths) - min(lengths))


def _good_batches(lengths, batch_size) -> str:
    batches = math.ceil(len(lengths) / batch_size)
    bound = padding_bound(lengths, batch_size)
    return f"every index once in {batches} batches, padding at most {bound:,}, shuffled"


@length_batches.probe
def report_on_batches(function, lengths, batch_size, seed):
    """The words of a right answer, or the first fault of the student's batches, `kind: details`."""
    batches = _as_lists(function(list(lengths), batch_size, seed))
    if batches is None or batches is ...:
        return batches
    fault = _index_fault(batches, len(lengths)) or _batches_fault(batches, lengths, batch_size)
    if not fault and len(batches) >= ENOUGH_TO_JUDGE_ORDER:
        fault = _order_fault(function, batches, lengths, batch_size, seed)
    return fault or _good_batches(lengths, batch_size)


def _as_lists(groups, depth: int = 1):
    """Lists of Python numbers, from lists, tuples, arrays or generators of them; anything else unchanged."""
    groups = plain(groups)
    if isinstance(groups, (Iterator, range)):
        groups = list(groups)
    if not isinstance(groups, (list, tuple)):
        return groups
    return [_as_lists(group, depth - 1) if depth else plain(group) for group in groups]


def _index_fault(groups, count: int) -> str:
    """Empty if it is a list of lists that holds each index from 0 to count - 1 once."""
    if not isinstance(groups, list) or not all(isinstance(group, list) for group in groups):
        return f"not a list of lists: {show_value(groups)}"
    indices = [i for group in groups for i in group]
    foreign = [i for i in indices if not isinstance(i, int) or not 0 <= i < count]
    if foreign:
        return f"not indices: {show_value(foreign[0])}"
    twice = {i for i in indices if indices.count(i) > 1}
    if twice:
        return f"an index more than once: {min(twice)}"
    missing = set(range(count)) - set(indices)
    return f"indices left out: {len(missing)}, the first is {min(missing)}" if missing else ""


def _batches_fault(batches, lengths, batch_size) -> str:
    if max(map(len, batches)) > batch_size:
        return f"a batch too large: {max(map(len, batches))} texts"
    if len(batches) > math.ceil(len(lengths) / batch_size):
        return f"too many batches: {len(batches)}"
    padding = sum(max(lengths[i] for i in batch) - lengths[j] for batch in batches for j in batch)
    return f"too much padding: {padding:,} tokens" if padding > padding_bound(lengths, batch_size) else ""


def _order_fault(function, batches, lengths, batch_size, seed) -> str:
    longest = [max(lengths[i] for i in batch) for batch in batches]
    if longest in (sorted(longest), sorted(longest, reverse=True)):
        return "batches in order of length: not shuffled"
    if _as_lists(function(list(lengths), batch_size, seed)) != batches:
        return "the same seed, another order: not repeatable"
    if _as_lists(function(list(lengths), batch_size, seed + 1)) == batches:
        return "another seed, the same order: the seed is not used"
    return ""


def _cut(order, size):
    return [order[i : i + size] for i in range(0, len(order), size)]


def _shuffled(items, seed):
    random.Random(seed).shuffle(items)
    return items


def _by_length(lengths):
    return sorted(range(len(lengths)), key=lambda i: lengths[i])


@length_batches.mistake("batches in order of length")
def _(lengths, size, seed):
    """The model would meet all short texts first and all long ones last. Shuffle the finished batches."""
    return _cut(_by_length(lengths), size)


@length_batches.mistake("texts shuffled instead of batches")
def _(lengths, size, seed):
    """Shuffling the texts after sorting undoes the sorting. Cut first, then shuffle the batches."""
    return _cut(_shuffled(_by_length(lengths), seed), size)


@length_batches.mistake("lengths instead of indices")
def _(lengths, size, seed):
    """The batches hold lengths. They must hold the *places* of the texts in the list: sort `range(len(lengths))`."""
    return _shuffled(_cut(sorted(lengths), size), seed)


# ---------------------------------------------------------------- may_see


class ZeroOrOne(Exact):
    """A mask may hold bools or the numbers 0 and 1."""

    def same(self, expected, got) -> bool:
        return isinstance(got, (bool, int, float)) and got == expected


may_see = Exercise(
    "may_see",
    "Who may see whom in a packed row",
    minutes=10,
    answer=ZeroOrOne(),
    hints=(
        "Two conditions, and both must hold: the same text, and not later in the row.",
        "Give each token the number of its text: [3, 2] becomes 0, 0, 0, 1, 1. Compare all with all: "
        "`text[:, None] == text[None, :]`.",
        "`.tril()` keeps what is on and below the diagonal: `(text[:, None] == text[None, :]).tril()`.",
    ),
    praise="With this mask and those positions a packed text gives the same logits as alone.",
)


@may_see.truth
def _():
    """By definition, one pair of tokens at a time: the same text, and not later."""
    for lengths in PACKED:
        yield Case((lengths,), _mask(lengths, lambda same, q, k: same and k <= q))


def _mask(lengths, allowed) -> list[list[bool]]:
    owner = _owners(lengths)
    places = range(len(owner))
    return [[allowed(owner[q] == owner[k], q, k) for k in places] for q in places]


@may_see.mistake("causal over all texts")
def _(lengths):
    """A later text sees the earlier ones of its row. Only tokens of the same text may be seen."""
    return _mask(lengths, lambda same, q, k: k <= q)


@may_see.mistake("no causality")
def _(lengths):
    """Within a text every token sees those after it, and so the answer. Forbid what comes later."""
    return _mask(lengths, lambda same, q, k: same)


@may_see.mistake("transposed")
def _(lengths):
    """Rows are the tokens that look, columns those looked at: the triangle below the diagonal is True."""
    return _mask(lengths, lambda same, q, k: same and k >= q)


@may_see.mistake("True for what is forbidden")
def _(lengths):
    """Here, as in scaled_dot_product_attention, True means *may be seen*. Yours is the opposite."""
    return _mask(lengths, lambda same, q, k: not (same and k <= q))


# ---------------------------------------------------------------- train

train = Exercise(
    "train",
    "A loop that does not wait",
    minutes=10,
    answer=Fields(read_after_steps=Exact(), losses=Close(1e-6, 1e-9, show=show_short)),
    hints=(
        "Keeping a tensor in a list does not wait. Reading its *value* does: `.item()`, `float()`, `print`, `if`.",
        "Two lists: losses that are numbers already, and tensors still waiting. Empty the second every so many steps.",
        "After `every` steps, and after the last one: `losses += torch.stack(waiting).tolist()` and `waiting = []`.",
    ),
    praise="The same list, and the GPU waits far less often.",
)


@train.truth
def _():
    """The losses of the loop that waits at each step, and the only steps after which a loss may be read."""
    for seed, steps, every in ((0, 12, 4), (1, 10, 4), (2, 5, 8)):
        step, batches = _small_run(seed, steps)
        losses = [step(batch).item() for batch in batches]
        moments = [n for n in range(1, steps + 1) if n % every == 0 or n == steps]
        yield Case((seed, steps, every), (moments, losses), f"train(step, {steps} batches, every={every})")


def _small_run(seed: int, steps: int):
    """A step function that trains a small network, and its batches. A step changes the weights: each counts once."""
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


@train.probe
def moments_and_losses(function, seed, steps, every):
    """After how many steps a value was read, each moment once, and the list that came back."""
    step, batches = _small_run(seed, steps)
    done, moments = 0, set()

    def counted_step(batch):
        nonlocal done
        loss = step(batch)
        done += 1
        return loss

    numbers, tensors = _readers(lambda: moments.add(done))
    with numbers, tensors:
        losses = function(counted_step, batches, every)
        if isinstance(losses, Iterator):
            losses = list(losses)  # a generator reads only now
    if losses is None or losses is ...:
        return losses
    return sorted(moments), _numbers(losses)


COPYING = {"tolist", "numpy", "cpu", "__array__", "__repr__"}  # a CPU tensor, unseen by the dispatcher


def _readers(told):
    """Two modes that call told() when a value is read. On a GPU each reading waits until all work before it is done."""

    class Numbers(TorchDispatchMode):  # .item(), float(), print, if
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if "_local_scalar_dense" in str(function):
                told()
            return function(*args, **(kwargs or {}))

    class Tensors(TorchFunctionMode):  # .tolist(), .numpy(), .to("cpu")
        def __torch_function__(self, function, types, args=(), kwargs=None):
            name = getattr(function, "__name__", "")
            targets = [*args[1:], *(kwargs or {}).values()]
            if name in COPYING or (name == "to" and "cpu" in map(str, targets)):
                told()
            return function(*args, **(kwargs or {}))

    return Numbers(), Tensors()


def _numbers(losses):
    """The list with the type in place of what is not a Python number, as a tensor still to be read."""
    if not isinstance(losses, (list, tuple)):
        return f"not a list but a {type(losses).__name__}"
    return [loss if isinstance(loss, (int, float)) else f"a {type(loss).__name__}" for loss in losses]


@train.mistake("read at every step")
def _(step, batches, every):
    """`.item()`, `float(loss)`, `if loss > ...` and `print(loss)` wait for the GPU, every time. Keep the tensor."""
    return [step(batch).item() for batch in batches]


@train.mistake("read at the end only")
def _(step, batches, every):
    """The curve cannot be seen before the run is over. Read after each `every` steps too."""
    return [loss.item() for loss in [step(batch) for batch in batches]]


@train.mistake("the last ones forgotten")
def _(step, batches, every):
    """Where `every` does not divide the number of steps, some losses are still waiting at the end. Read those too."""
    losses = []
    waiting = []
    for batch in batches:
        waiting.append(step(batch))
        if len(waiting) == every:
            losses += [loss.item() for loss in waiting]
            waiting = []
    return losses


@train.mistake("losses left out")
def _(step, batches, every):
    """The list holds only the losses of the steps at which you read. Keep the tensors of the others until then."""
    losses = []
    for number, batch in enumerate(batches, start=1):
        loss = step(batch)
        if number % every == 0 or number == len(batches):
            losses.append(loss.item())
    return losses


# ---------------------------------------------------------------- pack

pack = Exercise(
    "pack",
    "Pack texts into rows",
    minutes=15,
    answer=Fields(found=Report(), rows=AtMost()),
    hints=(
        "Long texts are hard to place and short ones fill gaps: begin with the longest.",
        "For each text look through the rows *from the first on*, and take the first where it still fits. "
        "Exactly full is full, not too full.",
        "Keep `rows` and the `room` left in each. No row with `room[r] >= lengths[i]`? Then open a new one.",
    ),
    praise="A greedy rule of five lines that is never far from the best.",
)

WHOLE = "every text whole, in one row"
FEWEST_BY_TRYING_ALL = (
    ([6, 4, 5, 5, 3, 7], 10, 3),
    ([2, 9, 3, 8, 4, 7, 5, 6], 11, 4),
    ([4, 6, 4, 6, 3, 7, 2, 5], 12, 4),
    ([5, 5], 10, 1),
)


@pack.truth
def _():
    """The most rows allowed. The fewest are found by trying all, or known where texts are cut from full rows."""
    for lengths, row_length, fewest in FEWEST_BY_TRYING_ALL:
        yield Case((lengths, row_length), (WHOLE, most_rows(fewest)))
    for seed, rows in ((0, 12), (5, 30)):
        lengths = _cut_from_full_rows(seed, rows, 128)
        yield Case((lengths, 128), (WHOLE, most_rows(rows)), f"pack({len(lengths)} lengths, 128)")
    thirds = [15] * 18 + [34] * 18 + [51] * 18  # 15 + 34 + 51 = 100: eighteen full rows, if sorted
    yield Case((thirds, 100), (WHOLE, most_rows(18)), f"pack({len(thirds)} lengths, 100)")


def most_rows(fewest: int) -> int:
    """First-fit decreasing never needs more than 11/9 of the fewest rows and 6/9 (Dósa 2007)."""
    return (11 * fewest + 6) // 9


def _cut_from_full_rows(seed: int, rows: int, row_length: int) -> list[int]:
    """Texts of two to five pieces per full row, shuffled."""
    dice = random.Random(seed)
    lengths = []
    for _ in range(rows):
        cuts = sorted(dice.sample(range(1, row_length), dice.randint(1, 4)))
        lengths += [b - a for a, b in pairwise([0, *cuts, row_length])]
    dice.shuffle(lengths)
    return lengths


@pack.probe
def report_on_rows(function, lengths, row_length):
    """What was found, WHOLE or the first fault as `kind: details`, and the number of rows."""
    rows = _as_lists(function(list(lengths), row_length))
    if rows is None or rows is ...:
        return rows
    fault = _index_fault(rows, len(lengths))
    if fault:
        return fault, len(rows) if isinstance(rows, list) else 0
    fullest = max(sum(lengths[i] for i in row) for row in rows)
    if fullest > row_length:
        return f"a row too long: {fullest} tokens", len(rows)
    return WHOLE, len(rows)


def _first_fit(lengths, row_length, order, last_row_only=False, spare=0):
    """Each text into the first row that has room, or the last row only. spare: tokens that stay free in a row."""
    rows = []
    room = []
    for i in order:
        tried = range(len(rows))[-1:] if last_row_only else range(len(rows))
        r = next((r for r in tried if lengths[i] + spare <= room[r]), len(rows))
        if r == len(rows):
            rows.append([])
            room.append(row_length)
        rows[r].append(i)
        room[r] -= lengths[i]
    return rows


@pack.mistake("only the last row tried")
def _(lengths, row_length):
    """That is next-fit: once a row is left, its gap stays empty. Look through all rows from the first on."""
    return _first_fit(lengths, row_length, range(len(lengths)), last_row_only=True)


@pack.mistake("sorted, and gaps left empty")
def _(lengths, row_length):
    """Begin with the *longest*, and look through *all* rows from the first on. Beginning with the shortest, or trying
    only the last row, needs the same number of rows: too many.
    """
    return _first_fit(lengths, row_length, _by_length(lengths)[::-1], last_row_only=True)


@pack.mistake("not sorted")
def _(lengths, row_length):
    """First-fit in the order given: short texts take the places that long ones need. Begin with the longest."""
    return _first_fit(lengths, row_length, range(len(lengths)))


@pack.mistake("full rows refused")
def _(lengths, row_length):
    """A row may be exactly full: compare with `<=`, not `<`."""
    return _first_fit(lengths, row_length, _by_length(lengths)[::-1], spare=1)


# ---------------------------------------------------------------- block_flops

block_flops = Exercise(
    "block_flops",
    "The FLOPs of a Llama block",
    minutes=15,
    hints=(
        "Nine products: q, k, v, o; queries times keys; probabilities times values; gate, up, down.",
        "Seven of them are linear layers. The other two cost `2 * batch * tokens**2 * hidden` each, "
        "whatever the number of heads.",
        "Weights: `2 * hidden**2 + 2 * hidden * kv_width + 3 * hidden * inner`, times "
        "`2 * batch * tokens`; plus attention. Backward is twice forward.",
    ),
    praise="torch's FlopCounterMode counts the same in transformers' LlamaDecoderLayer.",
)


@block_flops.truth
def _():
    """transformers' LlamaDecoderLayer with eager attention, counted."""
    for shape in ((1, 16, 64, 64, 128), (2, 24, 64, 32, 96), (3, 8, 128, 32, 352), (1, 256, 64, 16, 160)):
        yield Case(shape, _llama_block(*shape))


def _llama_block(batch: int, tokens: int, hidden: int, kv_width: int, inner: int) -> tuple[int, int]:
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
        return out[0] if isinstance(out, tuple) else out  # the type depends on transformers' version

    return _forward_and_backward(block, x)


def _block(batch, tokens, hidden, kv_width, inner, attention):
    """attention: the widths of its products together, 2 * hidden if they are right."""
    weights = 2 * hidden * hidden + 2 * hidden * kv_width + 3 * hidden * inner
    forward = 2 * batch * tokens * (weights + tokens * attention)
    return forward, 2 * forward


@block_flops.mistake("attention's own products forgotten")
def _(*shape):
    """Queries times keys, and probabilities times values: two products that grow with tokens squared."""
    return _block(*shape, attention=0)


@block_flops.mistake("half of attention counted")
def _(batch, tokens, hidden, kv_width, inner):
    """Attention has two products, queries times keys and probabilities times values, and eager attention computes
    both for *all* pairs of tokens: those that the mask hides are computed too.
    """
    return _block(batch, tokens, hidden, kv_width, inner, attention=hidden)


@block_flops.mistake("attention with kv_width")
def _(batch, tokens, hidden, kv_width, inner):
    """Heads share keys and values, but each head has queries of its own and multiplies them: attention's two products
    are `hidden` wide, not `kv_width`.
    """
    return _block(batch, tokens, hidden, kv_width, inner, attention=2 * kv_width)


@block_flops.mistake("keys and values as wide as queries")
def _(batch, tokens, hidden, kv_width, inner):
    """With grouped heads k and v have `kv_width` columns, which may be fewer than `hidden`."""
    return _block(batch, tokens, hidden, hidden, inner, attention=2 * hidden)


EXERCISES = (
    padding_share,
    position_ids,
    roofline,
    energy,
    linear_flops,
    mfu,
    length_batches,
    may_see,
    train,
    pack,
    block_flops,
)

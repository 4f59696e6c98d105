"""The typical mistakes of lecture 3's exercises: small wrong programs, beside the words that name what went wrong.

Each does one thing wrong and everything else right, so the right way can be read here too: look here after you have
tried.
"""

from __future__ import annotations

import itertools
import math

from classroom.checking.check import Mistake

BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "8-bit": 1}


def _size(parameters, dtypes, unit, bytes_of=BYTES, blocks=True, giga=None):
    held = sum(parameters * bytes_of[dtype] for dtype in dtypes)
    if blocks:
        held += dtypes.count("8-bit") * 4 * -(-parameters // 256)
    return held / (giga or {"GB": 10**9, "GiB": 2**30})[unit]


SIZE = (
    Mistake(
        "GB and GiB exchanged",
        "GB is the smaller unit, 10^9 bytes; GiB is 2^30. You have them the other way round.",
        lambda *call: _size(*call, giga={"GiB": 10**9, "GB": 2**30}),
    ),
    Mistake(
        "GB is not GiB",
        "A card's label and the driver differ by 7 %: GB is 10^9 bytes, GiB is 2^30. Look at `unit`.",
        lambda *call: _size(*call, giga={"GB": 2**30, "GiB": 2**30}),
    ),
    Mistake(
        "GiB is not GB",
        "A GiB is 2^30 bytes, not 10^9. Look at `unit`.",
        lambda *call: _size(*call, giga={"GB": 10**9, "GiB": 10**9}),
    ),
    Mistake(
        "bits taken for bytes",
        "fp32 has 32 bits, and these are 4 bytes: divide by 8.",
        lambda *call: 8 * _size(*call),
    ),
    Mistake(
        "the scales of the blocks forgotten",
        "8-bit states are not one byte a parameter: each block of 256 brings an FP32 number too.",
        lambda *call: _size(*call, blocks=False),
    ),
    Mistake(
        "8-bit states in four bytes",
        "An element of an 8-bit state takes one byte. The FP32 number is one for the whole block.",
        lambda *call: _size(*call, bytes_of={**BYTES, "8-bit": 4}, blocks=False),
    ),
    Mistake(
        "the last block rounded down",
        "1,000 parameters are three full blocks and a short one, and the short one has a scale of its own.",
        lambda n, dtypes, unit: (
            _size(n, dtypes, unit, blocks=False)
            + dtypes.count("8-bit") * 4 * (n // 256) / {"GB": 10**9, "GiB": 2**30}[unit]
        ),
    ),
)


def _llama(config, grouped=True, tied=True, gated=True, norms=2, last=1, narrow=True):
    v, h, i, layers, heads, kv, d = (config[key] for key in list(config)[:7])
    d = d if narrow else h // heads
    kv = kv if grouped else heads
    attention = 2 * h * heads * d + 2 * h * kv * d
    layer = attention + (3 if gated else 2) * h * i + norms * h
    heads_out = 0 if tied and config["tie_word_embeddings"] else v * h
    return v * h + heads_out + layers * layer + last * h


COUNT = (
    Mistake(
        "every head with keys of its own",
        "Llama groups its heads: K and V have `num_key_value_heads` heads, only Q has `num_attention_heads`.",
        lambda config: _llama(config, grouped=False),
    ),
    Mistake(
        "the tied head counted twice",
        "With `tie_word_embeddings` the head *is* the embedding: one matrix, counted once.",
        lambda config: _llama(config, tied=False),
    ),
    Mistake(
        "an MLP of two matrices",
        "SwiGLU has three: gate and up go from hidden to intermediate, down comes back.",
        lambda config: _llama(config, gated=False),
    ),
    Mistake(
        "the norms of the layers forgotten",
        "Every layer has two norms, each with one weight for a hidden unit.",
        lambda config: _llama(config, norms=0),
    ),
    Mistake(
        "one norm a layer",
        "A layer has two norms: one before attention, one before the MLP.",
        lambda config: _llama(config, norms=1),
    ),
    Mistake(
        "the last norm forgotten",
        "After the last layer, before the head, there is one more norm: `hidden_size` weights.",
        lambda config: _llama(config, last=0),
    ),
    Mistake(
        "all norms forgotten",
        "Two norms a layer and one after the last: `hidden_size` weights each. Small, but this is a count to the unit.",
        lambda config: _llama(config, norms=0, last=0),
    ),
    Mistake(
        "head_dim assumed",
        "hidden_size / num_attention_heads is the usual head_dim and no law: the config says what it is.",
        lambda config: _llama(config, narrow=False),
    ),
)


def _activations(layers, s, b, h, a, checkpointed, linear=34, scores=5, inputs=True, one=True):
    layer = linear * s * b * h + scores * a * s * s * b
    if not checkpointed:
        return layers * layer
    return (2 * s * b * h * layers if inputs else 0) + (layer if one else 0)


ACTIVATIONS = (
    Mistake(
        "the scores forgotten",
        "Attention keeps tables of s x s for each of a heads: the term 5 a s / h. Long texts are made of it.",
        lambda *call: _activations(*call, scores=0),
    ),
    Mistake(
        "b forgotten",
        "The scores too are there for every sequence of the micro-batch: everything is multiplied by b.",
        lambda layers, s, b, h, a, checkpointed: _activations(layers, s, 1, h, a, checkpointed),
    ),
    Mistake(
        "numbers for bytes",
        "34 and 5 count bytes already: 2 for each number, 1 for each element of a dropout mask.",
        lambda *call: 2 * _activations(*call),
    ),
    Mistake(
        "masks of two bytes",
        "A dropout mask takes one byte an element: 34 and 5, not 36 and 6.",
        lambda *call: _activations(*call, linear=36, scores=6),
    ),
    Mistake(
        "inputs only",
        "While a layer is recomputed for its backward, all of *that* layer is there: add one layer in full.",
        lambda *call: _activations(*call, one=False),
    ),
    Mistake(
        "one layer only",
        "The inputs of all layers stay: 2 s b h bytes for each of them, beside the one layer in full.",
        lambda *call: _activations(*call, inputs=False),
    ),
    Mistake(
        "checkpointing changes nothing",
        "With checkpointing a layer keeps its input only, and one layer at a time is there in full.",
        lambda layers, s, b, h, a, checkpointed: _activations(layers, s, b, h, a, False),
    ),
    Mistake(
        "the shared input counted once",
        "Sharper than the rule, and true of torch: but the rule counts the recomputed layer's input in both terms.",
        lambda layers, s, b, h, a, full: (
            _activations(layers, s, b, h, a, full) - (2 * s * b * h if full else 0)
        ),
    ),
)


def _moments(events):
    """After each event: its phase, and the bytes of each category."""
    held: dict[str, int] = {}
    for phase, category, size in events:
        held[category] = held.get(category, 0) + size
        yield phase, dict(held)


def _told(phase, held, total=None):
    total = total or sum(held.values())
    return total, phase, {name: size / total for name, size in held.items()}


def _at_the_peak(events):
    return max(_moments(events), key=lambda moment: sum(moment[1].values()))


def _maxima(events) -> dict:
    most: dict = {}
    for _, held in _moments(events):
        most = {name: max(size, most.get(name, 0)) for name, size in held.items()}
    return most


def _last_of_equals(events):
    moments = list(_moments(events))
    return _told(*max(reversed(moments), key=lambda moment: sum(moment[1].values())))


def _end(events):
    return sum(size for *_, size in events), None, {}


def _never_freed(events):
    return sum(size for *_, size in events if size > 0), None, {}


def _peak_with_shares_of_maxima(events):
    phase, held = _at_the_peak(events)
    return _told(phase, _maxima(events), total=sum(held.values()))


def _bytes_for_shares(events):
    phase, held = _at_the_peak(events)
    return sum(held.values()), phase, held


PEAK = (
    Mistake(
        "the maxima added up",
        "Activations are highest when gradients are not there yet. The peak is the highest *sum* at one moment, not "
        "the sum of each category's own peak.",
        lambda events: (sum(_maxima(events).values()), None, {}),
    ),
    Mistake(
        "the end instead of the peak",
        "That is what is held after the last event. The peak is somewhere on the way.",
        _end,
    ),
    Mistake(
        "nothing is ever freed",
        "You added what came and never took off what went: events of negative size give memory back.",
        _never_freed,
    ),
    Mistake(
        "the last of equal peaks",
        "The highest value is reached more than once here, and the exercise asks where it is reached first: `>`.",
        _last_of_equals,
    ),
    Mistake(
        "shares of each category's own peak",
        "The peak is right. Its shares are of what is held at that moment, so that they add up to 1.",
        _peak_with_shares_of_maxima,
    ),
    Mistake(
        "bytes instead of shares",
        "The peak is right. Divide the bytes of each category by it.",
        _bytes_for_shares,
    ),
)


def _accumulating(loss_of, clear=False):
    """A loop over micro-batches: loss_of(logits, targets, micro_batches) is what goes backward."""

    def program(model, micro_batches):
        for inputs, targets in micro_batches:
            if clear:
                model.zero_grad()
            loss_of(model(inputs), targets, micro_batches).backward()

    return program


def _entropy(logits, targets, reduction="mean"):
    from torch.nn import functional as F

    return F.cross_entropy(logits, targets, reduction=reduction)


def _counting(micro_batches) -> int:
    return sum(int((targets != -100).sum()) for _, targets in micro_batches)


def _right(logits, targets, micro_batches):
    return _entropy(logits, targets, "sum") / _counting(micro_batches)


def _mean_of_means(logits, targets, micro_batches):
    return _entropy(logits, targets) / len(micro_batches)


def _all_targets(logits, targets, micro_batches):
    return _entropy(logits, targets, "sum") / sum(len(targets) for _, targets in micro_batches)


def _sums_by_micro_batches(logits, targets, micro_batches):
    return _entropy(logits, targets, "sum") / len(micro_batches)


def _all_at_the_end(model, micro_batches):
    losses = [_entropy(model(inputs), targets, "sum") for inputs, targets in micro_batches]
    (sum(losses) / _counting(micro_batches)).backward()


ACCUMULATE = (
    Mistake(
        "a mean of means",
        "Each micro-batch counts alike here, though some have fewer targets: those weigh too much. Add up sums, and "
        "divide by the number of targets of all micro-batches.",
        _accumulating(_mean_of_means),
    ),
    Mistake(
        "means added up",
        "Means of all micro-batches are added and never divided: the gradient grows with their number.",
        _accumulating(lambda logits, targets, all_of_them: _entropy(logits, targets)),
    ),
    Mistake(
        "sums never divided",
        "Sums are right, and the division is missing: by the number of targets that count, over all micro-batches.",
        _accumulating(lambda logits, targets, all_of_them: _entropy(logits, targets, "sum")),
    ),
    Mistake(
        "sums divided by the number of micro-batches",
        "Divide sums by the number of *targets* that count in all micro-batches, not by the number of micro-batches.",
        _accumulating(_sums_by_micro_batches),
    ),
    Mistake(
        "ignored targets counted",
        "A target of -100 gives no loss, so it must not be in the divisor either.",
        _accumulating(_all_targets),
    ),
    Mistake(
        "gradients cleared in between",
        "What earlier micro-batches left in `.grad` is gone: only the last one is there. Clear before the first only.",
        _accumulating(_right, clear=True),
    ),
    Mistake(
        "one backward at the end",
        "The gradients are right, but all graphs lived until the end, as with the whole batch: nothing is saved. Call "
        "`backward` in the loop.",
        _all_at_the_end,
    ),
    Mistake(
        "no backward",
        "No parameter has a gradient afterwards. Call `.backward()` on the loss of each micro-batch.",
        lambda model, micro_batches: None,
    ),
)


def _quantize(x, code, blocksize, scale_of=lambda block: block.abs().max(), choose=None, whole=False):
    import torch

    choose = choose or (lambda distances, y: distances.abs().argmin(dim=1))
    codes, scales, restored = [], [], []
    for block in x.split(blocksize):
        scale = scale_of(x if whole else block)
        y = block / scale if scale else block
        chosen = choose(code[None, :] - y[:, None], y)
        codes.append(chosen)
        scales.append(scale)
        restored.append(code[chosen] * scale)
    scales = torch.stack(scales)
    return torch.cat(codes), scales[:1] if whole else scales, torch.cat(restored)


def _below(distances, y):
    return ((distances <= 0).sum(dim=1) - 1).clamp(min=0)


def _above(distances, y):
    return (distances < 0).sum(dim=1).clamp(max=distances.shape[1] - 1)


def _short_block_lost(x, code, blocksize):
    return _quantize(x[: len(x) // blocksize * blocksize], code, blocksize)


def _not_multiplied_back(x, code, blocksize):
    codes, scales, _ = _quantize(x, code, blocksize)
    return codes, scales, code[codes]


def _zero_by_zero(x, code, blocksize):
    import torch

    codes, scales, restored = _quantize(x, code, blocksize)
    for number, block in enumerate(x.split(blocksize)):
        if not block.any():
            here = slice(number * blocksize, number * blocksize + len(block))
            codes[here] = torch.full((len(block), len(code)), math.nan).argmin(dim=1)
            restored[here] = code[codes[here]] * 0.0
    return codes, scales, restored


QUANTIZE = (
    Mistake(
        "one absmax for the whole tensor",
        "One large number anywhere then makes all others coarse. Each block has an absmax of its own.",
        lambda *call: _quantize(*call, whole=True),
    ),
    Mistake(
        "the code below",
        "You take the last value of the map that is not larger. The nearest may be the one above.",
        lambda *call: _quantize(*call, choose=_below),
    ),
    Mistake(
        "the code above",
        "`searchsorted` gives the first value of the map that is not smaller. The nearest may be the one below.",
        lambda *call: _quantize(*call, choose=_above),
    ),
    Mistake(
        "the short last block lost",
        "The last block may be shorter than the others: it belongs to the tensor all the same.",
        _short_block_lost,
    ),
    Mistake(
        "the sign of the scale",
        "The scale is the largest *size* of the block, `block.abs().max()`: otherwise a large negative number is "
        "cut off.",
        lambda *call: _quantize(*call, scale_of=lambda block: block.max()),
    ),
    Mistake(
        "not multiplied back",
        "Codes and absmax are right. To restore, look the codes up in the map and multiply by the block's absmax.",
        _not_multiplied_back,
    ),
    Mistake(
        "zero divided by zero",
        "In a block of zeros absmax is 0, and 0 / 0 is NaN, which is nearest to nothing. Zeros get the code of 0.",
        _zero_by_zero,
    ),
)


def _greedy(key):
    """Take changes in the order of `key`, one of a group, until it fits."""

    def program(needed, card, changes):
        chosen, groups = [], set()
        for name, group, saved, _factor in sorted(changes, key=key):
            if needed > card and group not in groups:
                chosen.append(name)
                groups.add(group)
                needed -= saved
        return chosen if needed <= card else None

    return program


def _search(needed, card, changes, cost=None, same_group=False, exactly=True):
    """The cheapest of all subsets, by a cost of our choice."""
    cost = cost or (lambda chosen: math.prod(factor for *_, factor in chosen))
    fitting = []
    for chosen in itertools.chain.from_iterable(
        itertools.combinations(changes, n) for n in range(len(changes) + 1)
    ):
        groups = {group for _, group, _, _ in chosen}
        left = needed - sum(saved for _, _, saved, _ in chosen)
        if (same_group or len(groups) == len(chosen)) and (left < card or (exactly and left == card)):
            fitting.append(chosen)
    return [name for name, *_ in min(fitting, key=cost)] if fitting else None


def _fewest(chosen):
    return len(chosen), math.prod(factor for *_, factor in chosen)


FIT = (
    Mistake(
        "the largest saving first",
        "Taking what saves most until it fits can end with more time than needed. Compare whole combinations.",
        _greedy(lambda change: -change[2]),
    ),
    Mistake(
        "the cheapest change first",
        "Small changes pile up: one larger change may do alone what they do together. Compare whole combinations.",
        _greedy(lambda change: change[3]),
    ),
    Mistake(
        "the best bargain first",
        "Most bytes for the time is a good guess, and only a guess: the last step may save far more than is needed.",
        _greedy(lambda change: (change[3] - 1) / change[2]),
    ),
    Mistake(
        "the fewest changes",
        "One change is not cheaper than two because it is one. Compare the products of the time factors.",
        lambda *call: _search(*call, cost=_fewest),
    ),
    Mistake(
        "factors added up",
        "Two changes of 1.4 and 1.5 make a step 2.1 times as long: factors multiply.",
        lambda *call: _search(*call, cost=lambda chosen: sum(factor - 1 for *_, factor in chosen)),
    ),
    Mistake(
        "two changes of one group",
        "Changes of one group exclude each other: there is one optimizer only, and one way to checkpoint.",
        lambda *call: _search(*call, same_group=True),
    ),
    Mistake(
        "an exact fit refused",
        "What needs exactly as much as the card has does fit: `<=`.",
        lambda *call: _search(*call, exactly=False),
    ),
)


def _recompute(layer, x, grad=True, dice=True, weights=True, upstream=True, output=False):
    """Keep the input, compute again in backward; the flags leave one thing out."""
    import torch

    class Recompute(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, *parameters):
            ctx.dice = torch.get_rng_state()
            y = layer(x)
            ctx.save_for_backward(*((x, y) if output else (x,)))
            return y

        @staticmethod
        def backward(ctx, gradient):
            leaf = ctx.saved_tensors[0].detach().requires_grad_()
            with torch.random.fork_rng(devices=[]), torch.set_grad_enabled(grad):
                if dice:
                    torch.set_rng_state(ctx.dice)
                y = layer(leaf)
            wanted = (leaf, *layer.parameters()) if weights else (leaf,)
            gradients = torch.autograd.grad(y, wanted, gradient if upstream else torch.ones_like(y))
            return gradients if weights else (*gradients, *(None for _ in layer.parameters()))

    return Recompute.apply(x, *layer.parameters())


def _doubled(layer, x):
    import torch

    class Doubled(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, *parameters):
            ctx.dice = torch.get_rng_state()
            ctx.save_for_backward(x)
            return layer(x)

        @staticmethod
        def backward(ctx, gradient):
            leaf = ctx.saved_tensors[0].detach().requires_grad_()
            with torch.random.fork_rng(devices=[]), torch.enable_grad():
                torch.set_rng_state(ctx.dice)
                layer(leaf).backward(gradient)
            return leaf.grad, *(p.grad.clone() for p in layer.parameters())

    return Doubled.apply(x, *layer.parameters())


CHECKPOINT = (
    Mistake(
        "nothing recomputed",
        "Output and gradients are right, but every activation inside is kept. Keep the input and compute again.",
        lambda layer, x: layer(x),
    ),
    Mistake(
        "the output kept as well",
        "Only the input is needed to compute again; the output is what the next layer keeps.",
        lambda layer, x: _recompute(layer, x, output=True),
    ),
    Mistake(
        "recomputed without a graph",
        "Inside `backward` of a Function autograd records nothing. Compute again under `torch.enable_grad()`, from a "
        "detached input that requires a gradient.",
        lambda layer, x: _recompute(layer, x, grad=False),
    ),
    Mistake(
        "no gradients for the parameters",
        "The input gets its gradient and the parameters None, so they never learn. Hand them to `apply`, and return a "
        "gradient for each.",
        lambda layer, x: _recompute(layer, x, weights=False),
    ),
    Mistake(
        "another dropout",
        "The second time dropout drew another mask, so these are the gradients of another function. Keep "
        "`torch.get_rng_state()`, and set it before computing again.",
        lambda layer, x: _recompute(layer, x, dice=False),
    ),
    Mistake(
        "the incoming gradient ignored",
        "The chain rule: what comes into `backward` goes on through the layer. Give it to `torch.autograd.grad`.",
        lambda layer, x: _recompute(layer, x, upstream=False),
    ),
    Mistake(
        "parameters' gradients counted twice",
        "`.backward()` inside adds to the parameters' `.grad`, and then you return them too. Do one of the two: "
        "`torch.autograd.grad` only returns.",
        _doubled,
    ),
)

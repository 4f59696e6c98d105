"""The typical mistakes of lecture 4's exercises: small wrong programs, beside the words that name what went wrong.

Each does one thing wrong and everything else right, so the right way can be read here too: look here after you have
tried.
"""

from __future__ import annotations

import random

from classroom.checking.check import Mistake


def _real(batches):
    return sum(map(sum, batches))


def _computed(batches):
    return sum(len(batch) * max(batch) for batch in batches)


def _mean_of_shares(batches):
    return sum(1 - sum(batch) / (len(batch) * max(batch)) for batch in batches) / len(batches)


def _widest_everywhere(batches):
    widest = max(map(max, batches))
    return 1 - _real(batches) / (widest * sum(map(len, batches)))


PADDING = (
    Mistake(
        "the mean of the batches' shares",
        "A small batch counts as much as a large one in that mean. Add up tokens over all batches, divide once.",
        _mean_of_shares,
    ),
    Mistake(
        "padded to the longest text of all",
        "Each batch is padded to its *own* longest text, so a batch of short texts stays narrow.",
        _widest_everywhere,
    ),
    Mistake(
        "padding over real tokens",
        "The share is of all tokens that are computed: divide by real tokens *and* padding.",
        lambda batches: _computed(batches) / _real(batches) - 1,
    ),
    Mistake(
        "the useful share",
        "That is the share of real tokens. The wasted one is what is missing to 1.",
        lambda batches: _real(batches) / _computed(batches),
    ),
)

POSITIONS = (
    Mistake(
        "positions run on",
        "The second text goes on counting where the first one ended. Each text starts from 0 again.",
        lambda lengths: list(range(sum(lengths))),
    ),
    Mistake(
        "counted from 1",
        "Positions start at 0, as in every row that is not packed.",
        lambda lengths: [p for n in lengths for p in range(1, n + 1)],
    ),
    Mistake(
        "the number of the text",
        "That tells which text a token belongs to (useful for the mask), not where in its text it stands.",
        lambda lengths: [text for text, n in enumerate(lengths) for _ in range(n)],
    ),
)


def _roof(slope, peak):
    return min(slope, peak), "memory" if slope < peak else "compute"


def _names_swapped(flops, moved, peak, bandwidth):
    tflops, name = _roof(flops / moved * bandwidth / 1000, peak)
    return tflops, "compute" if name == "memory" else "memory"


def _no_roof(flops, moved, peak, bandwidth):
    slope = flops / moved * bandwidth / 1000
    return slope, _roof(slope, peak)[1]


def _always_peak(flops, moved, peak, bandwidth):
    return peak, _roof(flops / moved * bandwidth / 1000, peak)[1]


ROOFLINE = (
    Mistake(
        "GFLOP/s as TFLOP/s",
        "FLOPs a byte times *GB* a second are *GFLOP* a second: 1,000 of them make one TFLOP/s.",
        lambda flops, moved, peak, bandwidth: _roof(flops / moved * bandwidth, peak),
    ),
    Mistake(
        "intensity upside down",
        "Arithmetic intensity is FLOPs for each byte, not bytes for each FLOP.",
        lambda flops, moved, peak, bandwidth: _roof(moved / flops * bandwidth / 1000, peak),
    ),
    Mistake(
        "no roof",
        "What the memory could feed is more than the card can compute: the peak is the upper limit.",
        _no_roof,
    ),
    Mistake(
        "always the peak",
        "The peak is reached only if the bytes arrive in time. Compare it with what the memory allows.",
        _always_peak,
    ),
    Mistake(
        "the two names swapped",
        'Memory-bound is what *waits for memory*: the memory\'s limit is the lower one. Then say "memory".',
        _names_swapped,
    ),
)


def _energy(cards, watts, hours, pue, grams, watts_in_kw=1000, grams_in_kg=1000):
    kwh = cards * watts * hours / watts_in_kw * pue
    return kwh, kwh * grams / grams_in_kg


def _pue_left_out_of_co2(cards, watts, hours, pue, grams):
    kwh, kilograms = _energy(cards, watts, hours, pue, grams)
    return kwh, kilograms / pue


ENERGY = (
    Mistake(
        "watts as kilowatts",
        "Watts times hours are watt hours: 1,000 of them make one kWh.",
        lambda *a: _energy(*a, watts_in_kw=1),
    ),
    Mistake(
        "PUE forgotten",
        "The data centre takes more than its cards: multiply the energy by the PUE.",
        lambda cards, watts, hours, pue, grams: _energy(cards, watts, hours, 1.0, grams),
    ),
    Mistake(
        "PUE in the energy only",
        "The power station makes the energy of the cooling too: CO2 follows from the kWh *with* PUE.",
        _pue_left_out_of_co2,
    ),
    Mistake(
        "grams as kilograms",
        "The grid's figure is in grams for each kWh; asked are kilograms.",
        lambda *a: _energy(*a, grams_in_kg=1),
    ),
    Mistake(
        "one card only",
        "The watts are those of one card: multiply by their number.",
        lambda cards, watts, hours, pue, grams: _energy(1, watts, hours, pue, grams),
    ),
)


def _linear(tokens, inputs, outputs, frozen, each=2, products=None):
    forward = each * tokens * inputs * outputs
    return forward, forward * ((1 if frozen else 2) if products is None else products)


LINEAR = (
    Mistake(
        "the factor 2 forgotten",
        "A multiplication and an addition are two FLOPs. What you counted are multiply-adds (MACs).",
        lambda *a: _linear(*a, each=1),
    ),
    Mistake(
        "backward as much as forward",
        "Backward has two products where the weight is trained: one for the gradient of x, one for the weight's.",
        lambda *a: _linear(*a, products=1),
    ),
    Mistake(
        "a frozen weight's gradient counted",
        "Nobody needs the gradient of a frozen weight, so that product is never computed.",
        lambda *a: _linear(*a, products=2),
    ),
    Mistake(
        "nothing flows through a frozen layer",
        "The layers below still need their gradient, and it passes through the frozen weight: one product stays.",
        lambda tokens, inputs, outputs, frozen: _linear(
            tokens, inputs, outputs, frozen, products=0 if frozen else 2
        ),
    ),
    Mistake(
        "one token only",
        "Each token goes through the weight by itself: multiply by the number of tokens.",
        lambda tokens, inputs, outputs, frozen: _linear(1, inputs, outputs, frozen),
    ),
)


def _mfu(speed, trained, frozen, peak, each=6, each_frozen=4, unit=1e12):
    return speed * (each * trained + each_frozen * frozen) / (peak * unit)


MFU = (
    Mistake(
        "6N with a frozen base",
        "A frozen parameter has no gradient of its own to compute: 4 FLOPs for each token, not 6.",
        lambda *a: _mfu(*a, each_frozen=6),
    ),
    Mistake(
        "forward only",
        "2 FLOPs for each parameter are inference. Training goes backward too.",
        lambda *a: _mfu(*a, each=2, each_frozen=2),
    ),
    Mistake(
        "trained parameters only",
        "The frozen ones compute too: forward, and backward for the gradient that passes through them.",
        lambda *a: _mfu(*a, each_frozen=0),
    ),
    Mistake(
        "frozen parameters forward only",
        "The gradient travels back through frozen layers to reach what is trained: 2 FLOPs more.",
        lambda *a: _mfu(*a, each_frozen=2),
    ),
    Mistake(
        "GFLOP as TFLOP",
        "One TFLOP/s is 10^12 FLOP a second, not 10^9.",
        lambda *a: _mfu(*a, unit=1e9),
    ),
    Mistake(
        "in per cent",
        "Asked is a share: 0.4, not 40.",
        lambda *a: _mfu(*a, unit=1e10),
    ),
)


def _cut(order, size):
    return [order[i : i + size] for i in range(0, len(order), size)]


def _by_length(lengths):
    return sorted(range(len(lengths)), key=lambda i: lengths[i])


def _shuffled(items, seed):
    random.Random(seed).shuffle(items)
    return items


def _last_dropped(lengths, size, seed):
    """With no short batch to drop, the last whole one goes, as in `range(0, len - size, size)`."""
    return _shuffled(_cut(_by_length(lengths), size)[:-1], seed)


def _one_length_each(lengths, size, seed):
    alike = {n: [i for i, m in enumerate(lengths) if m == n] for n in set(lengths)}
    return _shuffled([batch for group in alike.values() for batch in _cut(group, size)], seed)


BATCHES = (
    Mistake(
        "batches in order of length",
        "The model would meet all short texts first and all long ones last. Shuffle the finished batches.",
        lambda lengths, size, seed: _cut(_by_length(lengths), size),
    ),
    Mistake(
        "texts shuffled instead of batches",
        "Whoever shuffles the texts after sorting them has undone the sorting. Cut first, then shuffle the batches.",
        lambda lengths, size, seed: _cut(_shuffled(_by_length(lengths), seed), size),
    ),
    Mistake(
        "the last batch dropped",
        "Texts that do not fill a batch make a smaller one; every index comes exactly once.",
        _last_dropped,
    ),
    Mistake(
        "lengths instead of indices",
        "The batches hold lengths. Asked are the *places* of the texts in the list: sort `range(len(lengths))`.",
        lambda lengths, size, seed: _shuffled(_cut(sorted(lengths), size), seed),
    ),
    Mistake(
        "only equal lengths together",
        "Lengths need to be similar, not equal: with one bucket for each length most batches stay nearly empty.",
        _one_length_each,
    ),
    Mistake(
        "not repeatable",
        "Two calls with one seed give two orders. Shuffle with a generator of your own: `random.Random(seed)`.",
        lambda lengths, size, seed: _shuffled(_cut(_by_length(lengths), size), None),
    ),
    Mistake(
        "the seed not used",
        "Another seed must give another order, or every epoch meets the batches in the same one.",
        lambda lengths, size, seed: _shuffled(_cut(_by_length(lengths), size), 0),
    ),
)


def _mask(lengths, allowed):
    text = [t for t, n in enumerate(lengths) for _ in range(n)]
    places = range(len(text))
    return [[allowed(text[q] == text[k], q, k) for k in places] for q in places]


MASK = (
    Mistake(
        "causal over all texts",
        "A later text sees the earlier ones of its row. Only tokens of the same text may be seen.",
        lambda lengths: _mask(lengths, lambda same, q, k: k <= q),
    ),
    Mistake(
        "no causality",
        "Within a text every token sees those after it, and so the answer. Forbid what comes later.",
        lambda lengths: _mask(lengths, lambda same, q, k: same),
    ),
    Mistake(
        "blind to itself",
        "A token may see itself: the diagonal is True.",
        lambda lengths: _mask(lengths, lambda same, q, k: same and k < q),
    ),
    Mistake(
        "transposed",
        "Rows are the tokens that look, columns those looked at: the triangle below the diagonal is True.",
        lambda lengths: _mask(lengths, lambda same, q, k: same and k >= q),
    ),
    Mistake(
        "True for what is forbidden",
        "Here, as in scaled_dot_product_attention, True means *may be seen*. Yours is the opposite.",
        lambda lengths: _mask(lengths, lambda same, q, k: not (same and k <= q)),
    ),
    Mistake(
        "numbers to add",
        "Zero and minus infinity are the mask to *add* to the scores. Asked is True where a token may be seen.",
        lambda lengths: _mask(lengths, lambda same, q, k: 0.0 if same and k <= q else float("-inf")),
    ),
)


def _tail_forgotten(step, batches, every):
    losses, waiting = [], []
    for batch in batches:
        waiting.append(step(batch))
        if len(waiting) == every:
            losses += [loss.item() for loss in waiting]
            waiting = []
    return losses


def _only_some(step, batches, every):
    losses = []
    for number, batch in enumerate(batches, start=1):
        loss = step(batch)
        if number % every == 0 or number == len(batches):
            losses.append(loss.item())
    return losses


TRAIN = (
    Mistake(
        "read at every step",
        "`.item()`, `float(loss)`, `if loss > ...`, and printing a loss wait for the GPU, every time. Keep the tensor.",
        lambda step, batches, every: [step(batch).item() for batch in batches],
    ),
    Mistake(
        "tensors returned",
        "The list holds tensors; whoever prints it has to wait for each of them. Turn them into numbers in time.",
        lambda step, batches, every: [step(batch) for batch in batches],
    ),
    Mistake(
        "read at the end only",
        "Nobody would see the curve before the run is over. Read after each `every` steps too.",
        lambda step, batches, every: [loss.item() for loss in [step(batch) for batch in batches]],
    ),
    Mistake(
        "the last ones forgotten",
        "Where the steps do not divide by `every`, some losses are still waiting at the end. Read those too.",
        _tail_forgotten,
    ),
    Mistake(
        "losses left out",
        "Only the losses of the steps at which you read are in the list. Keep the tensors of the others till then.",
        _only_some,
    ),
)


def _first_fit(lengths, row_length, order, fits=lambda length, room: length <= room):
    rows, room = [], []
    for i in order:
        r = next((r for r in range(len(rows)) if fits(lengths[i], room[r])), None)
        if r is None:
            rows.append([])
            room.append(row_length)
            r = len(rows) - 1
        rows[r].append(i)
        room[r] -= lengths[i]
    return rows


def _longest_first(lengths):
    return sorted(range(len(lengths)), key=lambda i: -lengths[i])


def _next_fit(lengths, row_length, order):
    rows, room = [], 0
    for i in order:
        if not rows or lengths[i] > room:
            rows.append([])
            room = row_length
        rows[-1].append(i)
        room -= lengths[i]
    return rows


def _split(lengths, row_length):
    """All texts in one long line, cut every row_length tokens: which texts each piece touches."""
    line = [i for i, n in enumerate(lengths) for _ in range(n)]
    return [sorted(set(piece)) for piece in _cut(line, row_length)]


PACK = (
    Mistake(
        "a text in two rows",
        "Is it cut where a row ends, or put into every row where it fits? Each text stands whole in one row, once.",
        _split,
    ),
    Mistake(
        "only the last row tried",
        "That is next-fit: once a row is left, its gap stays empty. Look through all rows from the first on.",
        lambda lengths, n: _next_fit(lengths, n, range(len(lengths))),
    ),
    Mistake(
        "sorted, and gaps left empty",
        "Begin with the *longest*, and look through *all* rows from the first on. Shortest first, or only the last "
        "row tried, need the same number of rows: too many.",
        lambda lengths, n: _next_fit(lengths, n, _longest_first(lengths)),
    ),
    Mistake(
        "not sorted",
        "First-fit in the order given: short texts take the places that long ones need. Begin with the longest.",
        lambda lengths, n: _first_fit(lengths, n, range(len(lengths))),
    ),
    Mistake(
        "full rows refused",
        "A row may be exactly full: compare with `<=`, not `<`.",
        lambda lengths, n: _first_fit(lengths, n, _longest_first(lengths), lambda a, room: a < room),
    ),
    Mistake(
        "the limit looked at too late",
        "A row takes a text while there is any room at all, and becomes too long. Ask whether the text fits *before*.",
        lambda lengths, n: _first_fit(lengths, n, _longest_first(lengths), lambda a, room: room > 0),
    ),
    Mistake(
        "one text a row",
        "Nothing is packed: a text goes into an open row if it fits, and opens a new one only if not.",
        lambda lengths, n: [[i] for i in range(len(lengths))],
    ),
)


def _block(batch, tokens, hidden, kv_width, inner, each=2, matrices=3, scores=2, backward=2):
    weights = 2 * hidden * hidden + 2 * hidden * kv_width + matrices * hidden * inner
    forward = each * batch * tokens * (weights + scores * tokens * hidden)
    return forward, backward * forward


BLOCK = (
    Mistake(
        "attention's own products forgotten",
        "Queries times keys, and probabilities times values: two products that grow with tokens squared.",
        lambda *a: _block(*a, scores=0),
    ),
    Mistake(
        "attention counted once",
        "There are two products: queries times keys, and probabilities times values.",
        lambda *a: _block(*a, scores=1),
    ),
    Mistake(
        "keys and values as wide as queries",
        "With grouped heads k and v have `kv_width` columns, which may be less than `hidden`.",
        lambda batch, tokens, hidden, kv_width, inner: _block(batch, tokens, hidden, hidden, inner),
    ),
    Mistake(
        "two matrices in the MLP",
        "SwiGLU has three: gate, up and down.",
        lambda *a: _block(*a, matrices=2),
    ),
    Mistake(
        "the factor 2 forgotten",
        "A multiplication and an addition are two FLOPs. What you counted are multiply-adds (MACs).",
        lambda *a: _block(*a, each=1),
    ),
    Mistake(
        "backward as much as forward",
        "Each product of two tensors that both need a gradient has two products backward.",
        lambda *a: _block(*a, backward=1),
    ),
)

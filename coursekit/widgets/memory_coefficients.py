"""The bytes of a training step as integer coefficients, for a page that can only multiply, add, divide and compare.

Every tensor of a step holds c0 + c1 s + c2 b s + c3 b s s bytes (b batch, s sequence): weights are c0, tables of
positions c1, activations c2, attention scores c3. So the tape is played once for each model, method, attention and
checkpointing, with b and s so large that their powers do not overlap. The coefficients are then read off like digits.
A step has about a thousand moments. A moment that another one covers cannot be the highest of its phase; two or three
moments per phase are left, and the page takes the largest of them.

What stays (weights, states, gradients) is a constant of the plan; the page divides it by the ranks for ZeRO. Bare
Python. On the grid of `BATCHES` and `SEQUENCES` the result equals `planner.estimate`.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import product

from coursekit.memory.architecture import architecture_of, parameter_count
from coursekit.memory.ledger import OPTIMIZERS
from coursekit.memory.plan import Plan
from coursekit.memory.planner import SIMULATED, played, shared
from coursekit.memory.tape import ACTIVATIONS, GRADIENTS, TEMPORARY, Event
from coursekit.memory.totals import CATEGORIES, END_OF_BACKWARD, FORWARD, PHASES, START_OF_BACKWARD, totals
from coursekit.memory.validate import reject_impossible

BATCHES, SEQUENCES = tuple(range(1, 65)), tuple(2**n for n in range(7, 14))
COMING = (ACTIVATIONS, TEMPORARY, GRADIENTS)  # the categories that a tape changes
DIGIT = 56  # bits kept for a coefficient: bytes of a model are far fewer than 2**56
SEQUENCE, BATCH = 1 << DIGIT, 1 << 3 * DIGIT
PLACES = (0, 1, 4, 5)  # powers of 2**DIGIT for 1, s, b*s, b*s*s; 2 would be s*s, 3 b, which no tensor has

Polynomial = tuple[int, int, int, int]  # coefficients of 1, s, b*s, b*s*s
Point = tuple[Polynomial, ...]  # one for each category of COMING
# all bytes, and those of the gradients, which ranks may share; those of each category of COMING, not yet read as digits
Moment = tuple[tuple[Polynomial, Polynomial], tuple[int, ...]]
RANKS = (1, 2, 4, 8, 16, 32, 64)


def value(polynomial: Polynomial, batch: int, sequence: int) -> int:
    """Bytes for one batch and sequence.

    >>> value((1, 10, 100, 1000), batch=2, sequence=3)
    18631
    """
    c0, c1, c2, c3 = polynomial
    return c0 + sequence * (c1 + batch * (c2 + sequence * c3))


def digits(nbytes: int) -> Polynomial:
    """The coefficients of a number of bytes that was computed with BATCH and SEQUENCE.

    >>> digits(7 + 3 * BATCH * SEQUENCE)
    (7, 0, 3, 0)
    """
    places = [nbytes >> DIGIT * place & SEQUENCE - 1 for place in range(6)]
    known = sum(places[place] << DIGIT * place for place in PLACES)
    assert known == nbytes, "a tensor has bytes that are not a sum of 1, s, b*s and b*s*s"
    return tuple(places[place] for place in PLACES)


def points(plan: Plan) -> dict[str, list[Point]]:
    """phase -> the points that are the highest somewhere on the grid, in order of time.

    Batch, sequence, optimizer and ZeRO of `plan` do not matter. Raises as `estimate`; ValueError if one tape cannot
    stand for the plan.
    """
    if plan.device != "cuda" or plan.accumulation != 1:
        raise ValueError("coefficients are for one micro-batch on a GPU: device='cuda' and accumulation=1.")
    a = architecture_of(plan.model)
    reject_impossible(plan, a)
    events = played(replace(plan, batch=BATCH, sequence=SEQUENCE), a)
    moments: dict[str, list[Moment]] = {phase: [] for phase in PHASES[:3]}
    for phase, terms in peaks(events, a.layers):
        moments[phase].append(((digits(sum(terms)), digits(terms[COMING.index(GRADIENTS)])), terms))
    fronts = {phase: highest_somewhere(uncovered(found)) for phase, found in moments.items()}
    return {phase: [tuple(map(digits, terms)) for _, terms in front] for phase, front in fronts.items()}


def peaks(events: list[Event], layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(phase, bytes by category of COMING) at each moment between a rise and a fall, and at both ends of each place.

    As in `planner.highest`, the change of the middle block counts for all like it.
    """
    now, net = dict.fromkeys(COMING, 0), Counter()
    last, repeats = f"layer {min(layers, SIMULATED) - 1}", max(0, layers - SIMULATED)
    for before, event, after in zip([None, *events], events, [*events[1:], None], strict=False):
        enters, leaves = moved(before, event), moved(event, after)
        if enters and before and before.place == "layer 1":
            for name, change in net.items():
                now[name] += repeats * change
            net.clear()
        if event.place == "layer 1":
            net[event.category] += event.bytes
        now[event.category] += event.bytes
        if leaves or (after.bytes < 0 and (enters or event.bytes > 0)):
            yield phase_of(event, last), tuple(now.values())


def moved(before: Event | None, after: Event | None) -> bool:
    """Whether another place or another pass begins between two events."""
    return None in (before, after) or before[:2] != after[:2]


def phase_of(event, last: str) -> str:
    if event.phase == "forward":
        return FORWARD
    return START_OF_BACKWARD if event.place in ("loss", "head", last) else END_OF_BACKWARD


def uncovered(found: Iterable[Moment]) -> list[Moment]:
    """Drop the moments that another one covers, coefficient by coefficient; of equal ones keep the first."""
    front: list[Moment] = []
    for new in found:
        if not any(covers(old, new) for old in front):
            front = [*(old for old in front if not covers(new, old)), new]
    return front


def covers(high: Moment, low: Moment) -> bool:
    """Whether `high` is at least as high everywhere, whatever share of the gradients a rank holds."""
    (all_high, some_high), (all_low, some_low) = high[0], low[0]
    rest = map(operator.sub, all_high, some_high), map(operator.sub, all_low, some_low)
    return all(map(operator.ge, all_high, all_low)) and all(map(operator.ge, *rest))


def highest_somewhere(found: list[Moment]) -> list[Moment]:
    """Keep the moments that are the peak somewhere on the grid; ties go to the earlier."""
    if len(found) == 1:
        return found
    used = set()
    for batch, sequence in product(BATCHES, SEQUENCES):
        sizes = [(value(total, batch, sequence), value(some, batch, sequence)) for (total, some), _ in found]
        for ranks in RANKS:
            heights = [total - some + shared(some, ranks) for total, some in sizes]
            used.add(heights.index(max(heights)))
    return [moment for i, moment in enumerate(found) if i in used]


def standing(plan: Plan, optimizers: Iterable[str]) -> dict:
    """Bytes of what stays, undivided, by name; for each optimizer [states on the GPU, the most within its step]."""
    a = architecture_of(plan.model)
    whole, each = totals(plan, a), {}
    for name in optimizers:
        other = totals(replace(plan, optimizer=name), a)
        each[name] = [0 if OPTIMIZERS[name].paged else other.states, other.step]
    return {
        "trainable": whole.trained,
        "weights": whole.weights,
        "master": whole.master,
        "gradients": whole.gradients,
        "gradient copy": whole.gradient_copy,
        "blocks": (whole.gathered, whole.block_gradients),
        "optimizers": each,
    }


def table(models: Iterable[str], methods: Mapping[str, Mapping], optimizers: Iterable[str]) -> dict:
    """Everything that a page needs, as plain data. methods: name -> values of `Plan`.

    Equal tapes are stored once. A method's "tapes" are indices into the list "tapes", for each attention without and
    with checkpointing. A tape is a list of points for each of the first three phases.
    """
    tapes: dict[str, int] = {}
    kept, found = [], {}
    for model in models:
        rows = {}
        for method, values in methods.items():
            plan = Plan(model, **values)
            rows[method] = standing(plan, optimizers) | {"tapes": {}}
            for attention in ("sdpa", "eager"):
                both = [replace(plan, attention=attention, checkpointing=c) for c in (False, True)]
                played = [list(points(p).values()) for p in both]
                for tape in played:
                    if tapes.setdefault(str(tape), len(kept)) == len(kept):
                        kept.append(tape)
                rows[method]["tapes"][attention] = [tapes[str(tape)] for tape in played]
        parameters = parameter_count(architecture_of(model))
        found[model] = {"parameters": parameters, "methods": rows}
    return {"categories": CATEGORIES, "phases": PHASES, "coming": COMING, "models": found, "tapes": kept}

"""The bytes of a training step as whole coefficients, for a page that can only multiply, add, divide and compare.

Every tensor of a step holds c0 + c1 s + c2 b s + c3 b s s bytes (b batch, s sequence): weights and scalars are c0, tables
of positions c1, activations c2, attention scores c3. So the tape is played once for each model, method, attention and
checkpointing, with b and s so large that their powers do not overlap, and the four coefficients are read off the sum
like digits. Of the thousand points of a step only those can be the highest of their phase that no other covers;
two or three are left, and a page takes the largest of them.

What stays (weights, states, gradients) is a constant of the plan; ZeRO divides it by the ranks. One rank's division is left
to the page. Bare Python. Exact on the grid of `BATCHES` and `SEQUENCES`: equal to `planner.estimate`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from coursekit.memory import architecture
from coursekit.memory.ledger import OPTIMIZERS
from coursekit.memory.planner import CATEGORIES, PHASES, SIMULATED, Parts, Plan, replayed
from coursekit.memory.tape import ACTIVATIONS, GRADIENTS, TEMPORARY
from coursekit.memory.validate import checked

BATCHES, SEQUENCES = tuple(range(1, 65)), tuple(2**n for n in range(7, 14))
COMING = (ACTIVATIONS, TEMPORARY, GRADIENTS)  # the categories that a tape changes
DIGIT = 56  # bits kept for a coefficient: bytes of a model are far fewer than 2**56
SEQUENCE, BATCH = 1 << DIGIT, 1 << 3 * DIGIT
PLACES = {0: "1", 1: "s", 4: "b*s", 5: "b*s*s"}  # powers of 2**DIGIT; 2 would be s*s, 3 b, which no tensor has

Polynomial = tuple[int, int, int, int]  # coefficients of 1, s, b*s, b*s*s
Point = tuple[Polynomial, ...]  # one for each category of COMING


def value(polynomial: Polynomial, batch: int, sequence: int) -> int:
    """Bytes for one batch and sequence.

    >>> value((1, 10, 100, 1000), batch=2, sequence=3)
    18631
    """
    c0, c1, c2, c3 = polynomial
    return c0 + sequence * (c1 + batch * (c2 + sequence * c3))


def digits(nbytes: int) -> Polynomial:
    """The coefficients of a number of bytes that was computed with BATCH and SEQUENCE."""
    places = [nbytes >> DIGIT * place & SEQUENCE - 1 for place in range(6)]
    known = sum(places[place] << DIGIT * place for place in PLACES)
    assert known == nbytes, "a tensor whose bytes are not a sum of 1, s, b*s and b*s*s"
    return tuple(places[place] for place in PLACES)


def points(plan: Plan) -> dict[str, list[Point]]:
    """phase -> the points that are the highest somewhere on the grid, in order of time. Batch and sequence of `plan` do not
    matter, nor do optimizer and ZeRO. Raises as `estimate`; ValueError if the plan is one that a tape cannot
    stand for."""
    if plan.device != "cuda" or plan.accumulation != 1:
        raise ValueError("coefficients are for one micro-batch on a GPU: device='cuda' and accumulation=1.")
    a = architecture.find(plan.model)
    checked(plan, a)
    events = list(replayed(Parts(replace(plan, batch=BATCH, sequence=SEQUENCE), a)))
    candidates: dict[str, list[Point]] = {phase: [] for phase in PHASES[:3]}
    for phase, terms in peaks(events, a.layers):
        candidates[phase].append(tuple(map(digits, terms)))
    return {phase: highest_somewhere(uncovered(found)) for phase, found in candidates.items()}


def peaks(events, layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """(phase, bytes by category of COMING) at each moment after which something goes. As in `planner.highest`, the change
    of the block in the middle counts for all like it."""
    now, net, before = dict.fromkeys(COMING, 0), Counter(), None
    last, repeats = f"layer {min(layers, SIMULATED) - 1}", max(0, layers - SIMULATED)
    for event, after in zip(events, [*events[1:], None], strict=True):
        if before == "layer 1" != event.place:
            for name, change in net.items():
                now[name] += repeats * change
            net.clear()
        before = event.place
        if event.place == "layer 1":
            net[event.category] += event.bytes
        now[event.category] += event.bytes
        phase = phase_of(event, last)
        if after is None or after.bytes < 0 or event.place != after.place or phase != phase_of(after, last):
            yield phase, tuple(now.values())


def phase_of(event, last: str) -> str:
    if event.phase == "forward":
        return PHASES[0]
    return PHASES[1] if event.place in ("loss", "head", last) else PHASES[2]


def total(point: Point) -> Polynomial:
    return tuple(map(sum, zip(*point, strict=True)))


def uncovered(found: Iterable[Point]) -> list[Point]:
    """Without the points that another one covers, coefficient by coefficient; of equals the first stays."""
    front: list[tuple[Polynomial, Point]] = []
    for point in found:
        new = total(point)
        if any(covers(old, new) for old, _ in front):
            continue
        front = [(old, kept) for old, kept in front if not covers(new, old)] + [(new, point)]
    return [point for _, point in front]


def covers(high: Polynomial, low: Polynomial) -> bool:
    return all(a >= b for a, b in zip(high, low, strict=True))


def highest_somewhere(found: list[Point]) -> list[Point]:
    """Without the points that are nowhere on the grid the first of the highest."""
    if len(found) == 1:
        return found
    totals = [total(point) for point in found]
    used = set()
    for batch in BATCHES:
        for sequence in SEQUENCES:
            heights = [value(polynomial, batch, sequence) for polynomial in totals]
            used.add(heights.index(max(heights)))
    return [point for i, point in enumerate(found) if i in used]


def standing(plan: Plan, optimizers: Iterable[str]) -> dict:
    """What stays, whole (a rank's part is the page's to compute): bytes by name, and for each optimizer the bytes of its
    states on the GPU and of what comes and goes in its step."""
    a = architecture.find(plan.model)
    parts, each = Parts(plan, a), {}
    for name in optimizers:
        parts.optimizer = OPTIMIZERS[name]
        states = 0 if parts.optimizer.paged else parts.states_bytes()
        parts.plan = replace(plan, optimizer=name)
        each[name] = [states, parts.step_bytes()]
    return {
        "trainable": sum(parts.trained),
        "weights": parts.weights_bytes(),
        "master": parts.master_bytes(),
        "gradients": parts.gradient_bytes(),
        "gradient copy": parts.gradient_copy_bytes(),
        "optimizers": each,
    }


def table(models: Iterable[str], methods: Mapping[str, Mapping], optimizers: Iterable[str]) -> dict:
    """Everything a page needs, as plain data. methods: name -> values of `Plan`.

    Equal tapes are stored once: a method's "tapes" are places in the list "tapes", for each attention without and with
    checkpointing; a tape is a list of points for each of the first three phases.
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
        found[model] = {"parameters": architecture.count(architecture.find(model)), "methods": rows}
    return {"categories": CATEGORIES, "phases": PHASES, "coming": COMING, "models": found, "tapes": kept}

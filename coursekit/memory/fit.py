"""Does a plan fit a card, which term breaks it, and what is the cheapest way out?

`fits(plan, card)` tries the changes of the table below, cheapest first, on top of each other, until the plan fits; then
it takes back each that turns out not to be needed. Four ways are tried: without touching what is trained, with LoRA,
with QLoRA, and with the states sharded over more GPUs. What a way costs is counted, not guessed: FLOPs of a step
against those of the plan, bytes sent to other GPUs, bytes moved to the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from coursekit.memory.architecture import architecture_of, parameter_count
from coursekit.memory.cards import Card, find_card
from coursekit.memory.ledger import LEDGERS, OPTIMIZERS
from coursekit.memory.planner import CATEGORIES, Estimate, Plan, estimate


@dataclass(frozen=True)
class Change:
    """One step that saves memory. `apply` returns the changed plan, or None where there is nothing to change."""

    name: str
    cost: str
    apply: Callable[[Plan], Plan | None]


@dataclass(frozen=True)
class Way:
    """Changes that make a plan fit, in the order of their cost.

    flops_factor  of a step, as a multiple of the plan's
    sent_bytes    to other GPUs, each rank and step: what DDP sends is not counted, only what sharding adds or replaces
    host_bytes    between host and card, each step
    same_training False if fewer parameters learn
    """

    changes: tuple[Change, ...]
    plan: Plan
    estimate: Estimate
    flops_factor: float
    sent_bytes: int
    host_bytes: int
    same_training: bool

    @property
    def name(self) -> str:
        return " + ".join(change.name for change in self.changes) or "as it is"


@dataclass(frozen=True)
class Fit:
    """The verdict. `breaks`: the term at which the sum passes the card's memory, None if it fits."""

    plan: Plan
    card: Card
    estimate: Estimate
    breaks: str | None
    ways: tuple[Way, ...]

    @property
    def fits(self) -> bool:
        return self.breaks is None

    @property
    def spare_bytes(self) -> int:
        """Negative: so much is missing."""
        return self.card.bytes - self.estimate.peak_bytes


def _when(condition: Callable[[Plan], bool], **values) -> Callable[[Plan], Plan | None]:
    return lambda plan: replace(plan, **values) if condition(plan) else None


def _smaller_batch(plan: Plan) -> Plan | None:
    if plan.batch == 1:
        return None
    return replace(plan, batch=1, accumulation=plan.accumulation * plan.batch)


SDPA = Change(
    "SDPA attention", "nothing; it is faster", _when(lambda p: p.attention == "eager", attention="sdpa")
)
FUSED = Change(
    "fused optimizer",
    "nothing; it is faster",
    _when(lambda p: p.implementation != "fused", implementation="fused"),
)
ACCUMULATE = Change("batch 1 and accumulation", "smaller products keep a GPU less busy", _smaller_batch)
EIGHT_BIT = Change(
    "8-bit AdamW",
    "states rounded to 8 bits",
    _when(lambda p: p.optimizer == "adamw", optimizer="adamw-8bit"),
)
CHECKPOINT = Change(
    "checkpointing", "one more forward pass", _when(lambda p: not p.checkpointing, checkpointing=True)
)
PAGED = Change(
    "paged 8-bit AdamW",
    "states travel to the host and back",
    _when(lambda p: not OPTIMIZERS[p.optimizer].paged, optimizer="paged-adamw-8bit"),
)
LORA = Change(
    "LoRA r=16",
    "only adapters learn",
    _when(lambda p: not p.lora_rank, lora_rank=16, ledger="bf16"),
)
QLORA = Change(
    "QLoRA r=16",
    "only adapters learn; each product unpacks its weight",
    _when(lambda p: not p.quantization, lora_rank=16, quantization="nf4", ledger="bf16", zero_stage=0),
)
RANKS = (2, 4, 8)  # one machine
SINGLE = (SDPA, FUSED, ACCUMULATE, EIGHT_BIT, CHECKPOINT)


def fits(plan: Plan, card) -> Fit:
    """Verdict for `plan` on `card` (a Card, a name, or GB), and the ways that make it fit, cheapest first.

    Raises ValueError for an impossible plan or an unknown card.
    """
    card, found = find_card(card), estimate(plan)
    if found.peak_bytes <= card.bytes:
        return Fit(plan, card, found, None, ())
    ways = {way.name: way for way in _ways(plan, card)}  # two ladders may end in the same way
    ranked = sorted(ways.values(), key=lambda way: (not way.same_training, *cost(way)))
    return Fit(plan, card, found, breaking_term(found, card.bytes), tuple(ranked))


def cost(way: Way) -> tuple:
    return way.plan.world_size, way.flops_factor, way.sent_bytes + way.host_bytes, len(way.changes)


def breaking_term(found: Estimate, capacity: int) -> str:
    """The category at which the sum passes `capacity`: first what stays, then what comes and goes."""
    total = 0
    for name in CATEGORIES:
        total += found.at_peak[name]
        if total > capacity:
            return name
    return CATEGORIES[-1]


def _ways(plan: Plan, card: Card) -> Iterator[Way]:
    yield from _ladder(plan, card, (*SINGLE, PAGED))
    if not plan.quantization:
        if not plan.lora_rank:
            yield from _ladder(plan, card, (LORA, *SINGLE))
        if not architecture_of(plan.model).experts:
            yield from _ladder(plan, card, (QLORA, *SINGLE))
        yield from _sharded(plan, card)


def _sharded(plan: Plan, card: Card) -> Iterator[Way]:
    """The fewest GPUs with which the plan fits, at the lowest stage that does it."""
    for ranks in RANKS:
        for stage in (1, 2, 3):
            if ranks <= plan.world_size or stage < plan.zero_stage:
                continue
            values = {"zero_stage": stage, "world_size": ranks}
            shard = Change(
                f"ZeRO-{stage} on {ranks} GPUs", "collectives", lambda p, v=values: replace(p, **v)
            )
            found = list(_ladder(plan, card, (shard, *SINGLE)))
            if found:
                yield from found
                return


def _ladder(plan: Plan, card: Card, rungs: tuple[Change, ...]) -> Iterator[Way]:
    """Add change after change until the plan fits; then drop those that are not needed, the last one first."""
    used: list[Change] = []
    for rung in rungs:
        changed = applied(plan, [*used, rung])
        if changed is None:
            continue
        used.append(rung)
        if estimate(changed).peak_bytes <= card.bytes:
            break
    else:
        return
    for rung in reversed(used):
        fewer = [change for change in used if change is not rung]
        changed = applied(plan, fewer)
        if changed is not None and estimate(changed).peak_bytes <= card.bytes:
            used = fewer
    yield way(plan, used)


def applied(plan: Plan, changes) -> Plan | None:
    for change in changes:
        plan = change.apply(plan)
        if plan is None:
            return None
    return plan


def way(plan: Plan, changes) -> Way:
    after = applied(plan, changes)
    return Way(
        tuple(changes), after, estimate(after), step_flops(after) / step_flops(plan), sent_bytes(after),
        moved_bytes(after), bool(plan.lora_rank) == bool(after.lora_rank),
    )  # fmt: skip


def step_flops(plan: Plan) -> float:
    """Of a training step, in units of a forward pass: backward is two, one of them for the weights' gradients, which a
    frozen base does without; checkpointing adds another forward."""
    return 1 + 1 + (not plan.lora_rank) + plan.checkpointing


def sent_bytes(plan: Plan) -> int:
    """What sharding makes each rank send a step: 2 P of gradients and weights for stages 1 and 2, 3 P for stage 3,
    times
    (N - 1) / N (ZeRO paper, section 7); 16-bit messages. With accumulation stages 2 and 3 pay it each micro-batch."""
    if not plan.zero_stage or plan.world_size == 1:
        return 0
    parameters = estimate(plan).trainable if plan.lora_rank else parameter_count(architecture_of(plan.model))
    size, ranks = min(2, LEDGERS[plan.ledger].gradient), plan.world_size
    reduce = plan.accumulation if plan.zero_stage >= 2 else 1
    gather = 2 * plan.accumulation if plan.zero_stage == 3 else 1
    return round((reduce + gather) * parameters * size * (ranks - 1) / ranks)


def moved_bytes(plan: Plan) -> int:
    """What a step carries between host and card: states in and out."""
    return 2 * estimate(plan).host_bytes


RUNGS = ("as it is", "full, with changes", "LoRA", "QLoRA", "more GPUs", "nothing here")


def cheapest(plan: Plan, card) -> tuple[str, int]:
    """(words, place in RUNGS): the cheapest way to train that model on that card; the decision chart's cell.

    One GPU comes before several, and all weights before adapters. Raises as `fits`.
    """
    verdict = fits(plan, card)
    if verdict.fits:
        return RUNGS[0], 0
    single = [way for way in verdict.ways if way.plan.world_size == 1]
    for way in single or verdict.ways:
        short = [change.name for change in way.changes]
        if way.plan.world_size > 1:
            return short[0].replace(" on ", "\n"), 4
        if way.same_training:
            return " +\n".join(ABBREVIATED.get(name, name) for name in short), 1
        rung = 3 if way.plan.quantization else 2
        return RUNGS[rung] + " + ckpt" * way.plan.checkpointing, rung
    return RUNGS[5], 5


ABBREVIATED = {
    "batch 1 and accumulation": "batch 1",
    "checkpointing": "ckpt",
    "8-bit AdamW": "8-bit Adam",
    "paged 8-bit AdamW": "paged 8-bit",
    "fused optimizer": "fused",
    "SDPA attention": "SDPA",
}

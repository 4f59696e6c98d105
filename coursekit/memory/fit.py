"""Does a plan fit a card, which term breaks it, and what is the cheapest way to make it fit?

>>> verdict = fits(Plan("llama-3-8b", quantization="nf4", lora_rank=16, sequence=2048), 16)
>>> verdict.fits, verdict.breaks, [way.name for way in verdict.ways]
(False, 'activations', ['checkpointing'])

`fits` applies the changes of the table below on top of each other, cheapest first, until the plan fits. Then it takes
back each change that is not needed. It tries four ways: without touching what is trained, with LoRA, with QLoRA, and
with the states sharded over more GPUs. The price of a way is counted: the FLOPs of a step against those of the plan,
bytes sent to other GPUs, bytes moved between host and card.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from coursekit.memory.architecture import architecture_of
from coursekit.memory.cards import Card, find_card
from coursekit.memory.ledger import LEDGERS, OPTIMIZERS
from coursekit.memory.plan import Plan
from coursekit.memory.planner import Estimate, estimate
from coursekit.memory.totals import CATEGORIES


@dataclass(frozen=True)
class Change:
    """One step that saves memory.

    values   fields of the plan, as the change sets them; the first of them decides whether it applies
    only     values of that field that it changes; default: all others than its own
    """

    name: str
    cost: str
    values: Mapping[str, object]
    only: Sequence | None = None

    def apply(self, plan: Plan) -> Plan | None:
        """The changed plan; None if there is nothing to change."""
        name, value = next(iter(self.values.items()))
        now = getattr(plan, name)
        if now == value or (self.only is not None and now not in self.only):
            return None
        return replace(plan, **self.values)


class SmallerBatch(Change):
    """Batch 1 with as many micro-batches as it takes to train on the same sequences."""

    def apply(self, plan: Plan) -> Plan | None:
        if plan.batch == 1:
            return None
        return replace(plan, batch=1, accumulation=plan.accumulation * plan.batch)


FASTER = "nothing; it is faster"
UNPAGED = [name for name, optimizer in OPTIMIZERS.items() if not optimizer.paged]
SDPA = Change("SDPA attention", FASTER, {"attention": "sdpa"})
FUSED = Change("fused optimizer", FASTER, {"implementation": "fused"})
ACCUMULATE = SmallerBatch("batch 1 and accumulation", "smaller products keep a GPU less busy", {})
EIGHT_BIT = Change("8-bit AdamW", "states rounded to 8 bits", {"optimizer": "adamw-8bit"}, only=["adamw"])
CHECKPOINT = Change("checkpointing", "one more forward pass", {"checkpointing": True})
TRANSFERRED = "states are transferred to the host and back"
PAGED = Change("paged 8-bit AdamW", TRANSFERRED, {"optimizer": "paged-adamw-8bit"}, only=UNPAGED)
LORA = Change("LoRA r=16", "only adapters learn", {"lora_rank": 16, "ledger": "bf16"}, only=[0])
QLORA = Change(
    "QLoRA r=16",
    "only adapters learn; each product dequantises its weight",
    {"quantization": "nf4", "lora_rank": 16, "ledger": "bf16", "zero_stage": 0},
)
RANKS = (2, 4, 8)  # GPUs of one machine
SINGLE = (SDPA, FUSED, ACCUMULATE, EIGHT_BIT, CHECKPOINT)  # in the order of their cost


@dataclass(frozen=True)
class Way:
    """Changes that make a plan fit, in the order of their cost.

    flops_factor  FLOPs of a step, as a multiple of the plan's
    sent_bytes    to other GPUs, per rank and step: only what sharding adds or replaces; what DDP sends is not counted
    host_bytes    between host and card, per step
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
    """The verdict. `breaks`: the term at which the sum passes the card's memory; None if the plan fits."""

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
        """Bytes left on the card; negative if they are missing."""
        return self.card.bytes - self.estimate.peak_bytes


def fits(plan: Plan, card) -> Fit:
    """Verdict for `plan` on `card` (a Card, a name, or GB), and the ways that make it fit, cheapest first.

    Raises ValueError for an impossible plan or an unknown card.
    """
    card, found = find_card(card), estimate(plan)
    if found.peak_bytes <= card.bytes:
        return Fit(plan, card, found, None, ())  # nothing to search
    ways = {way.name: way for way in Search(card, found).ways()}  # two ladders may end in the same way
    ranked = sorted(ways.values(), key=cost)
    return Fit(plan, card, found, breaking_term(found, card.bytes), tuple(ranked))


def cost(way: Way) -> tuple:
    """Whether fewer parameters learn, GPUs, FLOPs, bytes sent and moved, changes; compared in this order."""
    moved = way.sent_bytes + way.host_bytes
    return not way.same_training, way.plan.world_size, way.flops_factor, moved, len(way.changes)


def breaking_term(found: Estimate, capacity: int) -> str:
    """The category at which the sum passes `capacity` bytes: first what stays, then what comes and goes."""
    total = 0
    for name in CATEGORIES:
        total += found.at_peak[name]
        if total > capacity:
            return name
    return CATEGORIES[-1]


class Search:
    """The ways that make one plan fit one card. Each plan that it tries is estimated once."""

    def __init__(self, card: Card, found: Estimate):
        self.card, self.plan = card, found.plan
        self.known = {key(found.plan): found}

    def estimate(self, plan: Plan) -> Estimate:
        if key(plan) not in self.known:
            self.known[key(plan)] = estimate(plan)
        return self.known[key(plan)]

    def fits(self, plan: Plan) -> bool:
        return self.estimate(plan).peak_bytes <= self.card.bytes

    def ways(self) -> Iterator[Way]:
        yield from self.ladder((*SINGLE, PAGED))
        if self.plan.quantization:
            return  # the smallest base already, and ZeRO-3 cannot shard it
        if not self.plan.lora_rank:
            yield from self.ladder((LORA, *SINGLE))
        if not architecture_of(self.plan.model).experts:
            yield from self.ladder((QLORA, *SINGLE))
        yield from self.sharded()

    def sharded(self) -> Iterator[Way]:
        """The fewest GPUs with which the plan fits, at the lowest stage that makes it fit."""
        for ranks in RANKS:
            for stage in (1, 2, 3):
                if ranks <= self.plan.world_size or stage < self.plan.zero_stage:
                    continue
                values = {"world_size": ranks, "zero_stage": stage}
                shard = Change(f"ZeRO-{stage} on {ranks} GPUs", "collectives", values)
                found = list(self.ladder((shard, *SINGLE)))
                if found:
                    yield from found
                    return

    def ladder(self, rungs: Sequence[Change]) -> Iterator[Way]:
        """Add change after change until the plan fits; then drop those that are not needed, the last one first."""
        used: list[Change] = []
        for rung in rungs:
            changed = applied(self.plan, [*used, rung])
            if changed is None:
                continue
            used.append(rung)
            if self.fits(changed):
                break
        else:
            return
        for rung in reversed(used):  # a later change may have made an earlier one unnecessary
            fewer = [change for change in used if change is not rung]
            changed = applied(self.plan, fewer)
            if changed is not None and self.fits(changed):
                used = fewer
        yield self.way(used)

    def way(self, changes: Sequence[Change]) -> Way:
        found = self.estimate(applied(self.plan, changes))
        return Way(
            tuple(changes),
            found.plan,
            found,
            flops_factor=forward_passes(found.plan) / forward_passes(self.plan),
            sent_bytes=sent_bytes(found),
            host_bytes=moved_bytes(found),
            same_training=bool(self.plan.lora_rank) == bool(found.plan.lora_rank),
        )


def key(plan: Plan) -> Plan:
    """What tells the plans of a search apart. Model and targets may have no hash, and no change touches them."""
    return replace(plan, model=None, lora_targets=())


def applied(plan: Plan, changes: Sequence[Change]) -> Plan | None:
    """The plan after all changes; None if one of them has nothing to change."""
    for change in changes:
        plan = change.apply(plan)
        if plan is None:
            return None
    return plan


def forward_passes(plan: Plan) -> int:
    """FLOPs of a training step, in forward passes.

    Backward takes one for the gradients of results and one for those of weights, which a frozen base does without.
    Checkpointing adds a forward pass.
    """
    passes = 2 if plan.lora_rank else 3
    return passes + 1 if plan.checkpointing else passes


def sent_bytes(found: Estimate) -> int:
    """Bytes that sharding makes each rank send per step, in 16-bit messages.

    Stages 1 and 2 send 2 P of gradients and weights, stage 3 sends 3 P, times (N - 1) / N. With accumulation stages 2
    and 3 pay it for each micro-batch. Source: Rajbhandari et al. 2020 (ZeRO), section 7.
    """
    plan = found.plan
    if not plan.zero_stage or plan.world_size == 1:
        return 0
    size, ranks = min(2, LEDGERS[plan.ledger].gradient), plan.world_size
    # From stage 2 on no rank keeps a whole sum between micro-batches.
    reduced = plan.accumulation if plan.zero_stage >= 2 else 1
    gathered = 2 * plan.accumulation if plan.zero_stage == 3 else 1  # in forward and again in backward
    return round((reduced + gathered) * found.trainable * size * (ranks - 1) / ranks)


def moved_bytes(found: Estimate) -> int:
    """Bytes that a step moves between host and card: states in and out."""
    return 2 * found.host_bytes


RUNGS = ("as it is", "full, with changes", "LoRA", "QLoRA", "more GPUs", "nothing here")


def cheapest(plan: Plan, card) -> tuple[str, int]:
    """(words, place in RUNGS): the cheapest way to train that model on that card; a cell of the decision chart.

    One GPU comes before several, and all weights before adapters. Raises as `fits`.
    """
    verdict = fits(plan, card)
    if verdict.fits:
        return RUNGS[0], 0
    if not verdict.ways:
        return RUNGS[5], 5
    single = [way for way in verdict.ways if way.plan.world_size == 1]
    way = single[0] if single else verdict.ways[0]
    names = [change.name for change in way.changes]
    if not single:  # the first change is the sharding
        return names[0].replace(" on ", "\n"), 4
    if way.same_training:  # on a slide's chart, so in short words
        return " +\n".join(ABBREVIATED.get(name, name) for name in names), 1
    rung = 3 if way.plan.quantization else 2
    if way.plan.checkpointing:
        return f"{RUNGS[rung]} + ckpt", rung
    return RUNGS[rung], rung


ABBREVIATED = {
    "batch 1 and accumulation": "batch 1",
    "checkpointing": "ckpt",
    "8-bit AdamW": "8-bit Adam",
    "paged 8-bit AdamW": "paged 8-bit",
    "fused optimizer": "fused",
    "SDPA attention": "SDPA",
}

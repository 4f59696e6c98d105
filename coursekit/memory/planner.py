"""Will it fit? The bytes of a training step, by category and phase, before anything is allocated.

>>> found = estimate(Plan("llama-3-8b", quantization="nf4", lora_rank=16, sequence=2048))
>>> found.peak_bytes, found.peak_phase
(33511867528, 'start of backward')

What stays (weights, gradients, states) is arithmetic on shapes, and exact (`totals`). What comes and goes is played
through on shadows of tensors (`activations`), so the peak is that of a real step. The sum of all terms would be too
high: they are never all in memory at once. Three blocks are played, the first, one in the middle and the last; the
others are like the middle.

Bare Python: no torch, some milliseconds. What it leaves out: the CUDA context (0.3 to 0.5 GB), fragmentation of the
allocator, buffers of a communication library, and the memory of other programs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from math import ceil

from coursekit.memory import activations
from coursekit.memory.architecture import Architecture, architecture_of, parameter_count
from coursekit.memory.ledger import LEDGERS
from coursekit.memory.plan import Plan
from coursekit.memory.tape import GRADIENTS, Event, Tape
from coursekit.memory.totals import (
    CATEGORIES,
    END_OF_BACKWARD,
    FORWARD,
    OPTIMIZER_STEP,
    PHASES,
    START_OF_BACKWARD,
    collective_buffers,
    gradient_ranks,
    host_bytes,
    optimizer_step,
    resident,
    target_names,
    totals,
)
from coursekit.memory.validate import reject_impossible

SIMULATED = 3  # blocks that are played: the first, one in the middle, the last


@dataclass(frozen=True)
class Estimate:
    """Bytes on each rank. `phases`: at the highest point of each phase, by category."""

    plan: Plan
    parameters: int
    trainable: int
    phases: dict[str, dict[str, int]]
    host_bytes: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def peaks(self) -> dict[str, int]:
        return {phase: sum(terms.values()) for phase, terms in self.phases.items()}

    @property
    def peak_bytes(self) -> int:
        return max(self.peaks.values())

    @property
    def peak_phase(self) -> str:
        return max(PHASES, key=self.peaks.__getitem__)

    @property
    def at_peak(self) -> dict[str, int]:
        return self.phases[self.peak_phase]

    def to_dict(self) -> dict:
        """Everything as plain data, for JSON."""
        # a config or an Architecture has no name, but a family
        plan = asdict(self.plan) | {"model": str(getattr(self.plan.model, "family", self.plan.model))}
        return {
            "plan": plan,
            "parameters": self.parameters,
            "trainable": self.trainable,
            "peak_bytes": self.peak_bytes,
            "peak_phase": self.peak_phase,
            "phases": self.phases,
            "host_bytes": self.host_bytes,
            "notes": list(self.notes),
        }


def estimate(plan: Plan) -> Estimate:
    """The bytes of a step under `plan`, on each rank.

    Raises ValueError (UnknownModel for the model) with the reason if the plan is impossible.
    """
    a = architecture_of(plan.model)
    reject_impossible(plan, a)
    whole = totals(plan, a)
    phases = highest(resident(plan, whole), played(plan, a), a.layers, gradient_ranks(plan))
    # The buffers stay the same throughout a phase, so its highest point stays where it is.
    for phase, terms in phases.items():
        for name, nbytes in collective_buffers(plan, whole, phase).items():
            terms[name] += nbytes
    phases[OPTIMIZER_STEP] = optimizer_step(plan, whole)
    found = tuple(notes(plan, a))
    return Estimate(plan, parameter_count(a), whole.trained, phases, host_bytes(plan, whole), found)


def notes(plan: Plan, a: Architecture) -> Iterator[str]:
    """What the estimate assumes, where it may not be so."""
    if a.experts:
        yield "experts are planned as grouped products, the default of transformers; its loop over experts takes more"
    if a.attention_dropout and plan.device == "cpu" and plan.attention == "sdpa":
        yield "on a CPU, attention with dropout is not fused and keeps its scores; this plan assumes a fused kernel"
    if plan.zero_stage and plan.world_size == 1:
        yield "one rank shards nothing: ZeRO saves no memory here"


def played(plan: Plan, a: Architecture) -> list[Event]:
    """The events of one micro-batch; with accumulation those of the last one, which finds the gradients of others."""
    return events_of(plan, model_of(plan, a), min(a.layers, SIMULATED))


def events_of(plan: Plan, model: activations.Model, layers: int) -> list[Event]:
    """The events of one micro-batch through the first `layers` blocks."""
    tape = Tape()
    tape.accumulates = plan.accumulation > 1
    activations.step(tape, model, range(layers))
    return list(tape.events)  # a copy: freeing the model's gradients would add events to the tape's own list


def model_of(plan: Plan, a: Architecture) -> activations.Model:
    """The model of shadows that computes as `plan` says."""
    ledger, lora = LEDGERS[plan.ledger], bool(plan.lora_rank)
    quantised = plan.quantization is not None
    weight = 4 if quantised and plan.prepared else ledger.weight
    targets = tuple(target_names(plan, a)) if lora else ()
    return activations.Model(
        a,
        plan.batch,
        plan.sequence,
        activations.Numerics(weight, ledger.autocast, gradient=0 if lora else ledger.gradient),
        activations.Lora(
            plan.lora_rank, targets, plan.lora_dropout, quantised=quantised, whole=ledger.weight
        ),
        attention=plan.attention,
        checkpointing=plan.checkpointing,
        padded=plan.padded,
        trainable=not lora,
        cpu=plan.device == "cpu",
        # a checkpointed block passes gradients on only if its input wants one, and the frozen embedding's does not
        input_gradients=lora and plan.checkpointing,
    )


def timeline(plan: Plan, at_least: int = 1) -> list[tuple[str, str, dict[str, int]]]:
    """(phase, place, bytes by category) after every event of `at_least` bytes of one micro-batch, all blocks played,
    and in the optimizer's step: for pictures of small models. Raises as `estimate`.
    """
    a = architecture_of(plan.model)
    reject_impossible(plan, a)
    whole, ranks = totals(plan, a), gradient_ranks(plan)
    now, moments, total = Terms(resident(plan, whole)), [], 0
    for phase, place, _, category, nbytes in events_of(plan, model_of(plan, a), a.layers):
        now.add(category, nbytes)
        if abs(now.total(ranks) - total) < at_least:
            continue  # too small, or only a change of category
        total = now.total(ranks)
        terms = now.held(ranks)
        buffers = collective_buffers(plan, whole, START_OF_BACKWARD if phase == "backward" else FORWARD)
        moments.append((phase, place, {name: terms[name] + buffers.get(name, 0) for name in terms}))
    return [*moments, ("optimizer", "optimizer", optimizer_step(plan, whole))]


class Terms:
    """Bytes by category while events are played.

    Gradients that come are counted whole. `ranks` share their sum; with 0 ranks the host holds all of them.
    """

    def __init__(self, resident: dict[str, int]):
        self.here = dict.fromkeys(CATEGORIES, 0) | resident
        self.others = sum(self.here.values())
        self.gradients = 0

    def add(self, category: str, nbytes: int) -> None:
        if category == GRADIENTS:
            self.gradients += nbytes
        else:
            self.here[category] += nbytes
            self.others += nbytes

    def total(self, ranks: int) -> int:
        return self.others + shared(self.gradients, ranks)

    def held(self, ranks: int) -> dict[str, int]:
        return self.here | {GRADIENTS: self.here[GRADIENTS] + shared(self.gradients, ranks)}


def shared(nbytes: int, ranks: int) -> int:
    return ceil(nbytes / ranks) if ranks else 0


def highest(
    resident: dict[str, int], events: Iterable[Event], layers: int, ranks: int = 1
) -> dict[str, dict[str, int]]:
    """Play the events back: the bytes by category at the highest point of each phase, gradients shared by `ranks`.

    If the model has more blocks than were played, the net change of the middle one counts for all like it. Their
    highest points lie between those of their neighbours, since the change from block to block is constant.
    """
    now, phases = Terms(resident), {}
    best = dict.fromkeys(PHASES[:3], -1)
    last, repeats = f"layer {min(layers, SIMULATED) - 1}", max(0, layers - SIMULATED)
    net = dict.fromkeys(CATEGORIES, 0)
    before = None
    for phase, place, _, category, nbytes in events:
        if before == "layer 1" != place and repeats:  # the middle block has ended, so the others like it have
            for name, change in net.items():
                now.add(name, repeats * change)
            net = dict.fromkeys(CATEGORIES, 0)
        before = place
        if place == "layer 1":
            net[category] += nbytes
        now.add(category, nbytes)
        if phase == "backward":
            phase = START_OF_BACKWARD if place in ("loss", "head", last) else END_OF_BACKWARD
        total = now.total(ranks)
        if total > best[phase]:
            best[phase] = total
            phases[phase] = now.held(ranks)
    for phase in PHASES[:3]:
        phases.setdefault(phase, now.held(ranks))  # a model of one block has no end of backward below it
    return phases

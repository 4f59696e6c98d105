"""Will it fit? The bytes of a training step, by category and phase, before anything is allocated.

    estimate(Plan("llama-3-8b", quantization="nf4", lora_rank=16, sequence=2048))

The parts that stay (weights, gradients, states) are arithmetic on shapes: exact. The parts that come and go are played
through on shadows of tensors (`activations`), so the peak is that of a real step and not the sum of all terms, which
never live at once. Three blocks are played, the first, one in the middle and the last; the others are like the middle.

Bare Python: no torch, a few milliseconds. What it does not know: the context of CUDA (0.3 to 0.5 GB), fragmentation of
the allocator, buffers of a communication library, and what other programs hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import ceil, prod

from coursekit.memory import activations, architecture
from coursekit.memory.ledger import LEDGERS, OPTIMIZERS, Ledger, Optimizer, nf4_bytes, nf4_tables
from coursekit.memory.tape import ACTIVATIONS, GATHERED, GRADIENTS, TEMPORARY, Event, Tape
from coursekit.memory.validate import reject_impossible

WEIGHTS, STATES, MASTER, INPUTS = "weights", "optimizer states", "master weights", "inputs"
CATEGORIES = (WEIGHTS, GATHERED, MASTER, STATES, GRADIENTS, ACTIVATIONS, TEMPORARY, INPUTS)
PHASES = ("forward", "start of backward", "end of backward", "optimizer step")
SIMULATED = 3


@dataclass(frozen=True)
class Plan:
    """One way to train one model. Everything has the field's default; `validate` rejects impossible plans.

    model               a preset, a config.json, a config, an Architecture
    batch, sequence     of one micro-batch on one rank
    ledger              a name of ledger.LEDGERS; what the weights that are trained, or the base of adapters, are made
    of optimizer           a name of ledger.OPTIMIZERS
    implementation      "for-loop", "foreach" or "fused"; default: torch's choice for the device
    attention           "sdpa" or "eager"
    padded              some text is shorter than the batch: attention gets a mask, and shares no keys among queries
    checkpointing       recompute each block in backward
    accumulation        micro-batches a step
    lora_rank           0: all weights are trained; else only adapters are
    lora_targets        "all-linear" or names of linear layers, as in PEFT
    quantization        None or "nf4": the base, without embedding, head and norms
    kbit_preparation    what is not quantised becomes FP32, as prepare_model_for_kbit_training does
    zero_stage          0 to 3; world_size ranks
    offload             None, "optimizer" (stages 1 to 3) or "parameters" (stage 3): to the host's memory
    device              "cuda" or "cpu": only decides the defaults of `implementation`
    """

    model: object
    batch: int = 1
    sequence: int = 2048
    ledger: str = "bf16"
    optimizer: str = "adamw"
    implementation: str | None = None
    attention: str = "sdpa"
    padded: bool = False
    checkpointing: bool = False
    accumulation: int = 1
    lora_rank: int = 0
    lora_targets: str | tuple[str, ...] = "all-linear"
    lora_dropout: float = 0.0
    quantization: str | None = None
    double_quantization: bool = True
    kbit_preparation: bool | None = None
    zero_stage: int = 0
    world_size: int = 1
    offload: str | None = None
    device: str = "cuda"


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
    a = architecture.architecture_of(plan.model)
    reject_impossible(plan, a)
    parts = Parts(plan, a)
    phases = highest(parts.resident(), replayed(parts), a.layers, parts.gradient_ranks())
    for phase, terms in phases.items():
        for name, nbytes in parts.passing(phase).items():
            terms[name] += nbytes
    phases["optimizer step"] = after_backward(parts)
    return Estimate(
        plan, architecture.parameter_count(a), parts.trained, phases, parts.host_bytes(), tuple(parts.notes())
    )


class Parts:
    """What a plan says, in the terms that the tape and the arithmetic need."""

    def __init__(self, plan: Plan, a: architecture.Architecture):
        self.plan, self.a = plan, a
        self.ledger: Ledger = LEDGERS[plan.ledger]
        self.optimizer: Optimizer = OPTIMIZERS[plan.optimizer]
        self.adapters = adapter_shapes(plan, a)
        self.quantised = plan.quantization is not None
        self.prepared = self.quantised if plan.kbit_preparation is None else plan.kbit_preparation

    @property
    def trained_shapes(self) -> Mapping[tuple[int, ...], int]:
        """shape -> how many trained weights have it."""
        return self.adapters if self.plan.lora_rank else architecture.shapes(self.a)

    @cached_property
    def trained(self) -> int:
        """Elements of all weights that are trained."""
        return sum(number * prod(shape) for shape, number in self.trained_shapes.items())

    def trained_in_order(self) -> Iterator[int]:
        """Elements of the weights that are trained, in order; of equal blocks only as many as show all neighbours."""
        plan, a = self.plan, self.a
        if not plan.lora_rank:
            yield from (weight.numel for weight in architecture.before_blocks(a))
        for first, number in architecture.pattern(a):
            yield from [prod(shape) for shape in trained_of_block(plan, a, first)] * number
        if not plan.lora_rank:
            yield from (weight.numel for weight in architecture.after_blocks(a))

    @property
    def state_size(self) -> int:
        return 4 if self.plan.lora_rank else self.ledger.state

    def shard(self, nbytes: int, stage: int) -> int:
        """Bytes of a rank: divided if the stage shards this."""
        return ceil(nbytes / self.plan.world_size) if self.plan.zero_stage >= stage else nbytes

    def base_bytes(self) -> int:
        """The weights as the model holds them, whole."""
        a, size, double = self.a, self.ledger.weight, self.plan.double_quantization
        if not self.quantised:
            return size * architecture.parameter_count(a)
        codes, rest = 0, architecture.parameter_count(a)
        for first, number in architecture.kinds(a):
            for linear in architecture.linear_layers(a, first):  # what Linear4bit replaces
                codes += number * (nf4_bytes(linear.numel, double=double) + nf4_tables(double))
                rest -= number * linear.numel
        return codes + (4 if self.prepared else size) * rest

    def weights_bytes(self) -> int:
        """With the frequencies of the rotary embedding, which transformers keeps twice."""
        return self.base_bytes() + 4 * self.trained * bool(self.plan.lora_rank) + 4 * self.a.rotary

    def states_bytes(self) -> int:
        return sum(
            number * self.optimizer.state_bytes(shape, self.state_size)
            for shape, number in self.trained_shapes.items()
        )

    def master_bytes(self) -> int:
        return 0 if self.plan.lora_rank else self.ledger.master * self.trained

    def gradient_bytes(self) -> int:
        """Of all trained weights, where they are kept; whole."""
        size = 4 if self.plan.lora_rank else self.ledger.gradient
        return size * self.trained

    def gradient_copy_bytes(self) -> int:
        return 0 if self.plan.lora_rank else self.ledger.gradient_copy * self.trained

    def host_bytes(self) -> int:
        """What offloading keeps in the host's memory, for each rank."""
        moved = 0
        if self.optimizer.paged or self.plan.offload:
            moved += self.shard(self.states_bytes(), 1)
        if self.plan.offload:
            moved += self.shard(self.master_bytes(), 1)
        if self.plan.offload == "parameters":
            moved += self.shard(self.weights_bytes(), 3)
        return moved

    def resident(self) -> dict[str, int]:
        """What is there before the step begins."""
        plan = self.plan
        here = not plan.offload
        return {
            WEIGHTS: self.shard(self.weights_bytes(), 3) * (plan.offload != "parameters"),
            MASTER: self.shard(self.master_bytes(), 1) * here,
            STATES: self.shard(self.states_bytes(), 1) * (here and not self.optimizer.paged),
            GRADIENTS: self.standing_gradients(),
            INPUTS: 2 * 8 * plan.batch * plan.sequence * plan.accumulation,
        }

    def standing_gradients(self) -> int:
        """Those of earlier micro-batches, and the second copy that the ledger keeps."""
        earlier = self.gradient_bytes() if self.plan.accumulation > 1 else 0
        here = self.gradient_ranks() > 0
        return self.shard(earlier + self.gradient_copy_bytes(), 2) * here

    def passing(self, phase: str) -> dict[str, int]:
        """What sharding needs in a phase: from stage 2 the gradients of one block before they are shared out, in stage
        3 also the whole weights of the block that computes, and of the next, which is fetched ahead."""
        stage = self.plan.zero_stage if self.plan.world_size > 1 else 0
        if phase == PHASES[3]:
            return {}
        gathered, gradients = self.of_blocks()
        return {GATHERED: gathered * (stage == 3), TEMPORARY: gradients * (stage >= 2 and phase != PHASES[0])}

    def of_blocks(self) -> tuple[int, int]:
        """Bytes of the weights of two blocks, and of the gradients of one."""
        block = self.ledger.weight * sum(
            w.numel for w in architecture.layer_weights(self.a, self.a.layers - 1)
        )
        return min(2, self.a.layers) * block, 0 if self.plan.lora_rank else block

    def gradient_ranks(self) -> int:
        if self.plan.zero_stage < 2:
            return 1
        return 0 if self.plan.offload else self.plan.world_size

    def model(self) -> activations.Model:
        plan, lora = self.plan, bool(self.plan.lora_rank)
        weight = 4 if self.quantised and self.prepared else self.ledger.weight
        gradient = 0 if lora else self.ledger.gradient
        numerics = activations.Numerics(weight, self.ledger.autocast, gradient)
        targets = tuple(target_names(plan, self.a)) if lora else ()
        adapters = activations.Lora(
            plan.lora_rank, targets, plan.lora_dropout, quantised=self.quantised, whole=self.ledger.weight
        )
        return activations.Model(
            self.a,
            plan.batch,
            plan.sequence,
            numerics,
            adapters,
            attention=plan.attention,
            checkpointing=plan.checkpointing,
            padded=plan.padded,
            trainable=not lora,
            cpu=plan.device == "cpu",
            input_gradients=lora and plan.checkpointing,
        )

    def step_bytes(self) -> int:
        """Most that comes and goes in the optimizer's step, on each rank."""
        implementation = self.plan.implementation or ("for-loop" if self.plan.device == "cpu" else "foreach")
        if self.plan.offload or self.optimizer.paged:
            return 0
        own = self.optimizer.step_bytes(
            self.trained_in_order(), implementation, self.state_size, total=self.trained
        )
        copies = 0 if self.plan.lora_rank else self.ledger.step_copy * self.trained
        return self.shard(own + copies, 1)

    def notes(self) -> Iterator[str]:
        if self.a.experts:
            yield "experts are planned as grouped products, transformers' default; its loop over them takes more"
        if self.a.attention_dropout and self.plan.device == "cpu" and self.plan.attention == "sdpa":
            yield "on a CPU attention with dropout is not fused, and keeps its scores; the plan is for a fused kernel"
        if self.plan.zero_stage and self.plan.world_size == 1:
            yield "one rank shards nothing: ZeRO saves no memory here"


def adapter_shapes(plan: Plan, a: architecture.Architecture) -> Mapping[tuple[int, int], int]:
    """shape -> how many adapter matrices have it; none without LoRA."""
    found: Counter[tuple[int, int]] = Counter()
    for first, number in architecture.kinds(a) if plan.lora_rank else ():
        for shape in trained_of_block(plan, a, first):
            found[shape] += number
    return found


def trained_of_block(plan: Plan, a: architecture.Architecture, index: int) -> Iterator[tuple[int, ...]]:
    """Shapes of what is trained in block `index`: its weights, or A (rank x inputs) and B (outputs x rank) of every
    adapted layer."""
    if not plan.lora_rank:
        yield from (weight.shape for weight in architecture.layer_weights(a, index))
        return
    names = target_names(plan, a)
    for name, (outputs, inputs) in architecture.linear_layers(a, index):
        if name.split(".")[-2] in names:
            yield from ((plan.lora_rank, inputs), (outputs, plan.lora_rank))


def target_names(plan: Plan, a: architecture.Architecture) -> list[str]:
    """Short names of the layers that get an adapter."""
    names = [w.name.split(".")[-2] for w in architecture.linear_layers(a, a.layers - 1)]
    if plan.lora_targets == "all-linear":
        return list(dict.fromkeys(names))
    return list(plan.lora_targets)


def replayed(parts: Parts) -> list[Event]:
    """The events of one micro-batch; the last one of a step, where earlier ones left gradients."""
    model, a = parts.model(), parts.a
    tape = Tape()
    tape.accumulates = parts.plan.accumulation > 1
    activations.step(tape, model, range(min(a.layers, SIMULATED)))
    return list(tape.events)  # a copy: the gradients go with the model, when this function returns


def timeline(plan: Plan, at_least: int = 1) -> list[tuple[str, str, dict[str, int]]]:
    """(phase, place, bytes by category) after every event of `at_least` bytes of one micro-batch, all blocks played,
    and in the optimizer's step: for pictures of small models. The same ValueErrors as `estimate`.
    """
    a = architecture.architecture_of(plan.model)
    reject_impossible(plan, a)
    parts, tape = Parts(plan, a), Tape()
    tape.accumulates = plan.accumulation > 1
    model = parts.model()
    activations.step(tape, model, range(a.layers))
    now, ranks, moments, total = Terms(parts.resident()), parts.gradient_ranks(), [], 0
    for phase, place, _, category, nbytes in list(tape.events):
        now.add(category, nbytes)
        if abs(now.total(ranks) - total) >= at_least:  # not where bytes only change their category
            total, passing = now.total(ranks), parts.passing(PHASES[phase == "backward"])
            moments.append((phase, place, {k: v + passing.get(k, 0) for k, v in now.held(ranks).items()}))
    return [*moments, ("optimizer", "optimizer", after_backward(parts))]


class Terms:
    """Bytes by category while events are played. Gradients that come are counted whole; of their sum each of so many
    ranks holds its share, and with 0 ranks the host holds all."""

    def __init__(self, resident: dict[str, int]):
        self.here = dict.fromkeys(CATEGORIES, 0) | resident
        self.others, self.gradients = sum(self.here.values()), 0

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


def highest(resident: dict[str, int], events, layers: int, ranks: int = 1) -> dict[str, dict[str, int]]:
    """Play the events back: the bytes by category at the highest point of each phase, gradients shared by `ranks`.

    Where more blocks are than were played, the net change of the one in the middle counts for all like it. Its own
    highest point lies between those of its neighbours, since the change from block to block is constant.
    """
    now, best, phases = Terms(resident), dict.fromkeys(PHASES[:3], -1), {}
    last, repeats = f"layer {min(layers, SIMULATED) - 1}", max(0, layers - SIMULATED)
    net, before = dict.fromkeys(CATEGORIES, 0), None
    for phase, place, _, category, nbytes in events:
        if before == "layer 1" != place and repeats:
            for name, change in net.items():
                now.add(name, repeats * change)
            net = dict.fromkeys(CATEGORIES, 0)
        before = place
        if place == "layer 1":
            net[category] += nbytes
        now.add(category, nbytes)
        if phase == "backward":
            phase = PHASES[1] if place in ("loss", "head", last) else PHASES[2]
        if (total := now.total(ranks)) > best[phase]:
            best[phase], phases[phase] = total, now.held(ranks)
    for phase in PHASES[:3]:
        phases.setdefault(phase, now.held(ranks))  # nothing happens there: one block, and none below it
    return phases


def after_backward(parts: Parts) -> dict[str, int]:
    """The optimizer's step: every gradient is there, no activation is."""
    terms = dict.fromkeys(CATEGORIES, 0) | parts.resident()
    whole = parts.gradient_bytes() + parts.gradient_copy_bytes()
    terms[GRADIENTS] = parts.shard(whole, 2) * (parts.gradient_ranks() > 0)
    terms[TEMPORARY] = parts.step_bytes()
    return terms

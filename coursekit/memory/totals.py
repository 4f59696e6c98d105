"""The bytes of a plan that follow from shapes alone: weights, gradients, states; whole, and the share of each rank.

    whole = totals(plan, architecture)    # as if one rank held everything
    resident(plan, whole)                 # what a rank holds on its device before the step begins
    optimizer_step(plan, whole)           # and while the optimizer works

Exact, and independent of the number of layers: one block stands for all blocks of its kind. What it leaves out is what
comes and goes in forward and backward (`planner`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil, prod

from coursekit.memory import architecture
from coursekit.memory.ledger import LEDGERS, OPTIMIZERS, nf4_bytes, nf4_tables
from coursekit.memory.plan import Plan
from coursekit.memory.tape import ACTIVATIONS, GATHERED, GRADIENTS, TEMPORARY

WEIGHTS, STATES, MASTER, INPUTS = "weights", "optimizer states", "master weights", "inputs"
CATEGORIES = (WEIGHTS, GATHERED, MASTER, STATES, GRADIENTS, ACTIVATIONS, TEMPORARY, INPUTS)
PHASES = FORWARD, START_OF_BACKWARD, END_OF_BACKWARD, OPTIMIZER_STEP = (
    "forward", "start of backward", "end of backward", "optimizer step",
)  # fmt: skip
ADAPTER = 4  # bytes per element of an adapter's weights, gradients and states: PEFT keeps them in FP32


@dataclass(frozen=True)
class Totals:
    """What a plan takes before ranks share it. `trained` counts elements, all others bytes.

    weights          with the frequencies of the rotary embedding, which transformers keeps twice
    gradients        of all trained weights
    gradient_copy    a second copy of them that stays (ledger "master-20")
    step             the most that comes and goes while the optimizer works
    gathered         the weights of two blocks: the one that computes, and the next one, which is fetched ahead
    block_gradients  the gradients of one block
    """

    trained: int
    weights: int
    master: int
    states: int
    gradients: int
    gradient_copy: int
    step: int
    gathered: int
    block_gradients: int


def totals(plan: Plan, a: architecture.Architecture) -> Totals:
    """The bytes of `plan` for a model of this architecture, undivided."""
    ledger, optimizer, lora = LEDGERS[plan.ledger], OPTIMIZERS[plan.optimizer], bool(plan.lora_rank)
    shapes = trained_shapes(plan, a)
    trained = sum(number * prod(shape) for shape, number in shapes.items())
    state_size = ADAPTER if lora else ledger.state  # states have the precision of what is trained
    block = ledger.weight * sum(weight.numel for weight in architecture.layer_weights(a, a.layers - 1))
    return Totals(
        trained=trained,
        weights=base_bytes(plan, a) + (ADAPTER * trained if lora else 0) + 4 * a.rotary,
        master=0 if lora else ledger.master * trained,  # adapters are in FP32 already
        states=sum(number * optimizer.state_bytes(shape, state_size) for shape, number in shapes.items()),
        gradients=(ADAPTER if lora else ledger.gradient) * trained,
        gradient_copy=0 if lora else ledger.gradient_copy * trained,
        step=step_bytes(plan, a, trained),
        gathered=min(2, a.layers) * block,
        block_gradients=0 if lora else block,  # adapters: too few to count
    )


def base_bytes(plan: Plan, a: architecture.Architecture) -> int:
    """Bytes of the model's own weights, without adapters."""
    size, double = LEDGERS[plan.ledger].weight, plan.double_quantization
    if plan.quantization is None:
        return size * architecture.parameter_count(a)
    codes = 0  # bytes of the replaced weights
    rest = architecture.parameter_count(a)  # elements that Linear4bit does not replace
    for first, number in architecture.kinds(a):
        for linear in architecture.linear_layers(a, first):
            codes += number * (nf4_bytes(linear.numel, double=double) + nf4_tables(double))
            rest -= number * linear.numel
    return codes + (4 if plan.prepared else size) * rest


def step_bytes(plan: Plan, a: architecture.Architecture, trained: int) -> int:
    """The most that comes and goes while the optimizer works, undivided. `trained` is the number of elements."""
    ledger, optimizer, lora = LEDGERS[plan.ledger], OPTIMIZERS[plan.optimizer], bool(plan.lora_rank)
    if plan.offload or optimizer.paged:
        return 0  # the host does the step, or bitsandbytes' kernels, which allocate nothing
    implementation = plan.implementation or ("for-loop" if plan.device == "cpu" else "foreach")
    sizes = trained_in_order(plan, a)
    own = optimizer.step_bytes(sizes, implementation, ADAPTER if lora else ledger.state, total=trained)
    return own if lora else own + ledger.step_copy * trained


def trained_shapes(plan: Plan, a: architecture.Architecture) -> Mapping[tuple[int, ...], int]:
    """shape -> how many trained weights have it."""
    if not plan.lora_rank:
        return architecture.shapes(a)
    found: Counter[tuple[int, ...]] = Counter()
    for first, number in architecture.kinds(a):
        for shape in trained_of_block(plan, a, first):
            found[shape] += number
    return found


def trained_in_order(plan: Plan, a: architecture.Architecture) -> Iterator[int]:
    """Elements of the trained weights, in order; of equal blocks only as many as show all pairs of neighbours."""
    if not plan.lora_rank:
        yield from (weight.numel for weight in architecture.before_blocks(a))
    for first, number in architecture.pattern(a):
        yield from [prod(shape) for shape in trained_of_block(plan, a, first)] * number
    if not plan.lora_rank:
        yield from (weight.numel for weight in architecture.after_blocks(a))


def trained_of_block(plan: Plan, a: architecture.Architecture, index: int) -> Iterator[tuple[int, ...]]:
    """Shapes of what is trained in block `index`: its weights, or A [rank, inputs] and B [outputs, rank] of each
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


def share(plan: Plan, nbytes: int, stage: int) -> int:
    """Bytes of one rank, where ZeRO divides `nbytes` from `stage` on."""
    if plan.zero_stage < stage:
        return nbytes
    return ceil(nbytes / plan.world_size)


def gradient_ranks(plan: Plan) -> int:
    """How many ranks share the gradients; 0 if they leave the device as they come."""
    if plan.zero_stage < 2:
        return 1
    return 0 if plan.offload else plan.world_size


def resident(plan: Plan, whole: Totals) -> dict[str, int]:
    """Bytes by category that a rank holds on its device before the step begins."""
    held = {
        WEIGHTS: share(plan, whole.weights, 3),
        MASTER: share(plan, whole.master, 1),
        STATES: share(plan, whole.states, 1),
        GRADIENTS: standing_gradients(plan, whole),
        INPUTS: 2 * 8 * plan.batch * plan.sequence * plan.accumulation,  # tokens and labels are int64
    }
    if plan.offload == "parameters":
        held[WEIGHTS] = 0
    if plan.offload:
        held[MASTER] = 0
    if plan.offload or OPTIMIZERS[plan.optimizer].paged:
        held[STATES] = 0
    return held


def standing_gradients(plan: Plan, whole: Totals) -> int:
    """Bytes that earlier micro-batches have left, and of the second copy that the ledger keeps."""
    if not gradient_ranks(plan):
        return 0  # they are on the host
    earlier = whole.gradients if plan.accumulation > 1 else 0
    return share(plan, earlier + whole.gradient_copy, 2)


def collective_buffers(plan: Plan, whole: Totals, phase: str) -> dict[str, int]:
    """Bytes by category that sharding adds in a phase: from stage 2 the gradients of a block until they are reduced, in
    stage 3 also the gathered weights."""
    found: dict[str, int] = {}
    if phase == OPTIMIZER_STEP or plan.world_size == 1:
        return found  # each rank updates its own share; one rank exchanges nothing
    if plan.zero_stage == 3:
        found[GATHERED] = whole.gathered
    if plan.zero_stage >= 2 and phase != FORWARD:
        found[TEMPORARY] = whole.block_gradients
    return found


def optimizer_step(plan: Plan, whole: Totals) -> dict[str, int]:
    """Bytes by category while the optimizer works: all gradients are there, and no activation is."""
    held = dict.fromkeys(CATEGORIES, 0) | resident(plan, whole)
    held[TEMPORARY] = share(plan, whole.step, 1)
    held[GRADIENTS] = 0
    if gradient_ranks(plan):  # otherwise the host has them
        held[GRADIENTS] = share(plan, whole.gradients + whole.gradient_copy, 2)
    return held


def host_bytes(plan: Plan, whole: Totals) -> int:
    """Bytes that offloading and paging keep in the host's memory, per rank."""
    moved = 0
    if plan.offload or OPTIMIZERS[plan.optimizer].paged:
        moved += share(plan, whole.states, 1)
    if plan.offload:
        moved += share(plan, whole.master, 1)
    if plan.offload == "parameters":
        moved += share(plan, whole.weights, 3)
    return moved

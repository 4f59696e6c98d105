"""The coefficients stand for the planner: the same bytes, in every phase and category."""

import json
import random

import pytest

from coursekit.memory.architecture import architecture_of
from coursekit.memory.ledger import LEDGERS, OPTIMIZERS
from coursekit.memory.plan import Plan
from coursekit.memory.planner import PHASES, estimate
from coursekit.memory.totals import resident, totals
from coursekit.widgets import memory_coefficients as coefficients
from coursekit.widgets.memory_coefficients import BATCHES, COMING, SEQUENCES, digits, points, table, value

METHODS = {name: {"ledger": name} for name in LEDGERS} | {
    "lora": {"lora_rank": 16},
    "lora qv": {"lora_rank": 4, "lora_targets": ("q_proj", "v_proj"), "lora_dropout": 0.1, "ledger": "amp"},
    "qlora": {"lora_rank": 16, "quantization": "nf4"},
    "qlora raw": {"lora_rank": 16, "quantization": "nf4", "kbit_preparation": False},
}
NO_GRADIENT = (0, 0, 0, 0)
MODELS = ("tiny", "smollm2-135m", "llama-3-8b", "llama-3-70b", "qwen3-0.6b", "gemma-2-2b")


def coming(plan: Plan) -> dict[str, list[int]]:
    """What the planner says that comes and goes, by phase: categories in the order of COMING."""
    standing = resident(plan, totals(plan, architecture_of(plan.model)))
    phases = list(estimate(plan).phases.items())[:3]
    return {phase: [terms[name] - standing.get(name, 0) for name in COMING] for phase, terms in phases}


def highest(found: dict, batch: int, sequence: int) -> dict[str, list[int]]:
    """The same from coefficients: multiply, add, take the largest."""
    rows = {phase: [[value(p, batch, sequence) for p in point] for point in found[phase]] for phase in found}
    return {phase: max(candidates, key=sum) for phase, candidates in rows.items()}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("method", METHODS)
def test_coefficients_equal_the_planner(model, method):
    """Random batches and sequences of the grid, both kinds of attention, with checkpointing and without."""
    rng = random.Random(f"{model} {method}")
    for attention in ("sdpa", "eager"):
        for checkpointing in (False, True):
            plan = {"attention": attention, "checkpointing": checkpointing, **METHODS[method]}
            found = points(Plan(model, **plan))
            for _ in range(4):
                batch, sequence = rng.choice(BATCHES), rng.choice(SEQUENCES)
                expected = coming(Plan(model, batch=batch, sequence=sequence, **plan))
                assert highest(found, batch, sequence) == expected


@pytest.mark.parametrize("model", ["phi-3-mini", "course-100m", "gpt2"])
def test_fused_projections_and_learned_positions(model):
    for checkpointing in (False, True):
        for batch, sequence in ((1, 128), (3, 512), (64, 1024)):
            plan = Plan(model, batch=batch, sequence=sequence, checkpointing=checkpointing)
            assert highest(points(plan), batch, sequence) == coming(plan)


def test_every_place_of_the_grid():
    """448 batches and sequences: no point that is the highest somewhere has been dropped."""
    plan = {"model": "smollm2-135m", "ledger": "amp", "attention": "eager"}
    found = points(Plan(**plan))
    for batch in BATCHES:
        for sequence in SEQUENCES:
            expected = coming(Plan(batch=batch, sequence=sequence, **plan))
            assert highest(found, batch, sequence) == expected


def test_few_points_are_left():
    found = points(Plan("llama-3-8b"))
    assert list(found) == list(PHASES[:3])
    assert all(1 <= len(candidates) <= 6 for candidates in found.values())


def test_a_tie_goes_to_the_first():
    """As in the planner, where a later point must be higher, not as high."""
    low, same, high = (
        ((total, NO_GRADIENT), (place,))
        for total, place in (((0, 0, 5, 0), 1), ((0, 0, 5, 0), 2), ((9, 0, 5, 0), 3))
    )
    assert coefficients.uncovered([low, same]) == [low]
    assert coefficients.uncovered([low, high]) == [high]
    assert coefficients.highest_somewhere([low, same]) == [low]


def test_what_wins_only_for_long_sequences_stays():
    totals = ((0, 0, 1000, 0), (0, 0, 0, 1), (0, 0, 999, 0))
    flat, steep, never = (((total, NO_GRADIENT), (place,)) for place, total in enumerate(totals))
    assert coefficients.highest_somewhere([flat, steep, never]) == [flat, steep]


def test_what_wins_only_when_ranks_share_the_gradients_stays():
    """Whole, the second is higher; with a quarter of its gradients the first is."""
    activations, gradients = ((1000, 0, 0, 0), NO_GRADIENT), ((1200, 0, 0, 0), (1100, 0, 0, 0))
    moments = [(activations, (1,)), (gradients, (2,))]
    assert coefficients.uncovered(moments) == moments
    assert coefficients.highest_somewhere(moments) == moments


def test_a_tensor_of_another_shape_is_caught():
    """b*b, or a count that is negative, cannot pass for coefficients."""
    assert digits(7 + 3 * coefficients.BATCH * coefficients.SEQUENCE) == (7, 0, 3, 0)
    for nbytes in (coefficients.BATCH, coefficients.SEQUENCE**2, -1):
        with pytest.raises(AssertionError, match="not a sum"):
            digits(nbytes)


@pytest.mark.parametrize("values", [{"device": "cpu"}, {"accumulation": 2}])
def test_plans_without_coefficients_are_refused(values):
    with pytest.raises(ValueError, match="one micro-batch on a GPU"):
        points(Plan("tiny", **values))


@pytest.mark.parametrize("method", METHODS)
def test_standing_bytes_equal_the_planner(method):
    """Undivided, and by the ranks' part: what a page computes for a stage is what the planner says."""
    plan = Plan("smollm2-135m", **METHODS[method])
    row = coefficients.standing(plan, OPTIMIZERS)
    for optimizer in OPTIMIZERS:
        phases = estimate(Plan("smollm2-135m", optimizer=optimizer, **METHODS[method])).phases
        terms, (states, step) = phases["optimizer step"], row["optimizers"][optimizer]
        assert (terms["weights"], terms["master weights"]) == (row["weights"], row["master"])
        assert (terms["optimizer states"], terms["temporary"]) == (states, step)
        assert terms["gradients"] == row["gradients"] + row["gradient copy"]


def test_the_table_is_small_plain_data():
    """Equal tapes once: pure 16-bit and 16-bit with a master copy play the same."""
    methods = {name: METHODS[name] for name in ("bf16", "master-16", "qlora")}
    made = table(("tiny", "llama-3-8b"), methods, ("adamw", "sgd"))
    rows = made["models"]["llama-3-8b"]["methods"]
    assert rows["bf16"]["tapes"] == rows["master-16"]["tapes"] != rows["qlora"]["tapes"]
    assert len(json.dumps(made)) < 30_000
    assert made["models"]["llama-3-8b"]["parameters"] == 8_030_261_248

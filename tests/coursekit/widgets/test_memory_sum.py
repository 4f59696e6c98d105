"""The page's arithmetic agrees with the planner to the byte: one run of node over several hundred states."""

import json
import random
import subprocess
from pathlib import Path

import pytest

from coursekit.memory.cards import Card
from coursekit.memory.fit import breaking_term
from coursekit.memory.planner import CATEGORIES, PHASES, Plan, estimate
from coursekit.widgets import memory_picture
from coursekit.widgets.memory_explorer import CHOICES, METHODS, MODELS, table_of

pytestmark = pytest.mark.node

SUM = Path(memory_picture.__file__).with_name("memory_sum.js")
SCRIPT = Path(__file__).with_name("memory_sum_parity.mjs")
SIZES = [
    0,
    1,
    999,
    1000,
    9_994,
    9_996,
    99_949,
    99_951,
    999_499,
    999_501,
    16_060_000_000,
    734_000_000,
    1_234_567_890_123,
]


def states(count, seed=0):
    """Random choices of the page; every method, optimizer, stage and number of GPUs comes up."""
    dice = random.Random(seed)
    for _ in range(count):
        state = {name: dice.choice(values) for name, values in CHOICES.items()}
        state |= {"model": dice.choice(MODELS), "checkpointing": dice.random() < 0.5}
        if state["method"] == "qlora" and state["zero_stage"] == 3:
            state["zero_stage"] = 2
        yield state


def plan_of(state) -> Plan:
    return Plan(
        state["model"], batch=state["batch"], sequence=state["sequence"], optimizer=state["optimizer"],
        attention=state["attention"], checkpointing=state["checkpointing"], zero_stage=state["zero_stage"],
        world_size=state["gpus"], **METHODS[state["method"]][1],
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(states, capacities, what the page computed for each, sizes in words)."""
    folder = tmp_path_factory.mktemp("sum")
    module = folder / "memory_sum.mjs"
    module.write_bytes(SUM.read_bytes())
    chosen = list(states(400))
    capacities = [random.Random(i).choice((4, 24, 80, 141)) * 10**9 for i in range(len(chosen))]
    facts = {"table": table_of(MODELS), "states": chosen, "capacities": capacities, "sizes": SIZES}
    (folder / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
    subprocess.run(["node", SCRIPT, module, folder], check=True, timeout=120)
    found = json.loads((folder / "found.json").read_text())
    return chosen, capacities, found["found"], found["sizes"]


def test_bytes_equal_the_planner(run):
    """Every category of every phase, sharded or not."""
    chosen, _, found, _ = run
    for state, page in zip(chosen, found, strict=True):
        planned = estimate(plan_of(state)).phases
        assert page["phases"] == [[planned[phase][name] for name in CATEGORIES] for phase in PHASES], state


def test_verdicts_equal_the_planners(run):
    chosen, capacities, found, _ = run
    fits = 0
    for state, capacity, page in zip(chosen, capacities, found, strict=True):
        planned = estimate(plan_of(state))
        assert (page["peak"], PHASES[page["phase"]]) == (planned.peak_bytes, planned.peak_phase)
        assert page["spare"] == capacity - planned.peak_bytes
        term = None if page["breaks"] is None else CATEGORIES[page["breaks"]]
        assert term == (None if page["spare"] >= 0 else breaking_term(planned, capacity))
        fits += page["spare"] >= 0
    assert 40 < fits < 360  # both verdicts were tried


def test_sizes_read_alike(run):
    assert run[3] == [memory_picture.size(n) for n in SIZES]


def test_the_table_is_small_enough_for_a_slide():
    assert len(json.dumps(table_of(MODELS), separators=(",", ":"))) < 300_000


def test_a_card_of_any_size_has_a_name():
    assert memory_picture.name_of(Card("H100", 80)) == "H100 (80 GB)"

"""The still of the memory explorer: whole, described, and the planner's numbers."""

from xml.etree import ElementTree

import pytest

from coursekit.memory.cards import find_card
from coursekit.memory.planner import PHASES, Plan, estimate
from coursekit.widgets import memory_picture

SVG = "{http://www.w3.org/2000/svg}"
PLANS = {
    "full": Plan("llama-3-8b", 4, 2048, ledger="master-16"),
    "qlora": Plan("llama-3-8b", lora_rank=16, quantization="nf4", checkpointing=True),
    "zero": Plan("llama-3-8b", ledger="master-20", zero_stage=3, world_size=8),
    "tiny": Plan("tiny", 1, 32, ledger="fp32", device="cpu"),
}


@pytest.mark.parametrize("card", [4, 24, "H200"])
@pytest.mark.parametrize("name", PLANS)
def test_every_picture_is_whole(name, card):
    """Well-formed; a bar for each phase whose parts fill it; nothing reaches over the edge; described."""
    found, card = estimate(PLANS[name]), find_card(card)
    root = ElementTree.fromstring(memory_picture.svg(name, found, card))
    parts = [
        r
        for r in root.iter(f"{SVG}rect")
        if "url(" in r.get("fill", "") and r.get("height") == str(memory_picture.BAR)
    ]
    rows = {float(r.get("y")) for r in parts}
    assert len(rows) == len(PHASES)
    assert all(
        float(r.get("x")) + float(r.get("width")) <= memory_picture.WIDTH - memory_picture.RIGHT + 0.1
        for r in parts
    )
    scale = (memory_picture.WIDTH - memory_picture.LEFT - memory_picture.RIGHT) / max(
        found.peak_bytes, card.bytes
    )
    widths = sum(float(r.get("width")) for r in parts)
    assert widths == pytest.approx(sum(found.peaks.values()) * scale, abs=0.02 * len(parts))
    assert name in root.find(f"{SVG}title").text


@pytest.mark.parametrize("name", PLANS)
def test_the_lines_say_what_the_plan_says(name):
    found, card = estimate(PLANS[name]), find_card(24)
    lines = memory_picture.lines(name, found, card).splitlines()
    assert memory_picture.size(found.peak_bytes) in lines[1] and found.peak_phase in lines[1]
    assert ("to spare" in lines[1]) == (found.peak_bytes <= card.bytes)
    assert lines[-1].split()[0] == "sum"
    assert len({len(line) for line in lines[3:]}) == 1  # columns stand under each other


def test_every_category_has_a_look():
    from classroom.drawing.style import OKABE_ITO
    from classroom.lectures.memory.figures import LOOK
    from coursekit.memory.planner import CATEGORIES

    assert set(memory_picture.LOOKS) == set(CATEGORIES) == set(LOOK)
    for name in set(CATEGORIES) - {"inputs"}:  # the explorer and the figures show one thing in one colour
        assert memory_picture.LOOKS[name][0] == OKABE_ITO[LOOK[name][0]], name

"""The report says what the planner found: every byte once, every unit named, the ways in order."""

import json
from dataclasses import replace

import pytest
from rich.console import Console

from coursekit.memory import plan_report
from coursekit.memory.architecture import presets
from coursekit.memory.cards import cards
from coursekit.memory.fit import fits
from coursekit.memory.planner import CATEGORIES, PHASES, Plan, estimate

PLAN = Plan("llama-3-8b", batch=4)


def printed(parts, width=100) -> str:
    console = Console(width=width, soft_wrap=True)
    with console.capture() as captured:
        for part in parts:
            console.print(part, markup=False, highlight=False)
    return captured.get()


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "-"), (1, "0.000000001"), (123_456, "0.000123"), (99_940_000, "0.0999"), (1_000_000_000, "1.00"),
        (12_345_678_901, "12.3"), (999_000_000_000, "999"), (1_234_567_890_123, "1,235"),
    ],
)  # fmt: skip
def test_three_digits_and_no_exponent(nbytes, text):
    assert plan_report.gb(nbytes) == text


def test_every_category_with_bytes_has_a_row_and_every_phase_a_column():
    found = estimate(PLAN)
    text = printed([plan_report.phase_table(found)])
    shown = [name for name in CATEGORIES if any(found.phases[phase][name] for phase in PHASES)]
    assert [name for name in CATEGORIES if f"  {name}  " in text] == shown
    assert all(phase in text for phase in PHASES) and "GB (1 GB = 10^9 bytes)" in text
    sums = next(line for line in text.splitlines() if line.strip().startswith("sum")).split()[1:]
    assert sums == [plan_report.gb(found.peaks[phase]) for phase in PHASES]


def test_the_table_holds_in_80_columns():
    text = printed(plan_report.parts(estimate(PLAN), []), width=80)
    rows = [line for line in text.splitlines() if line.startswith("  ")]
    assert rows and max(map(len, rows)) <= 80
    assert "optimizer states" in text  # in one line


@pytest.mark.parametrize("width", [20, 40, 71])
def test_in_few_columns_every_number_is_still_whole(width):
    """Lines take the place of the table, whose numbers a terminal would cut to "0…"."""
    found = estimate(PLAN)
    text = printed(plan_report.parts(found, [], width), width=width)
    assert "…" not in text
    for phase, terms in found.phases.items():
        assert f"{phase}: {plan_report.gb(found.peaks[phase])}\n" in text
        assert all(f"  {name}: {plan_report.gb(size)}\n" in text for name, size in terms.items() if size)


@pytest.mark.parametrize("nbytes", [1, 10**9, 999_900_000_000_000])
def test_the_table_does_not_cut_in_the_columns_it_claims(nbytes):
    found = estimate(PLAN)
    phases = {phase: dict.fromkeys(terms, nbytes) for phase, terms in found.phases.items()}
    wide = plan_report.NARROW
    text = printed(plan_report.parts(replace(found, phases=phases), [], wide), width=wide)
    assert "…" not in text and text.count(plan_report.gb(nbytes)) >= len(CATEGORIES) * len(PHASES)


@pytest.mark.parametrize("width", [40, 100])
def test_presets_and_cards_are_listed(width):
    text = "".join(printed(plan_report.known(), width=width).split())
    assert "…" not in text and "gpt2gpt2124" in text and "RTX409024" in text
    assert all(name in text for name in presets()) or width < 80
    assert all(name.replace(" ", "") in text for name in cards())


def test_the_verdict_names_what_breaks_and_the_ways_in_order():
    fit = fits(PLAN, 24)
    text = printed(plan_report.parts(fit.estimate, [fit]))
    assert (
        f"does not fit, {plan_report.gb(-fit.spare_bytes)} GB too much; what breaks it: {fit.breaks}" in text
    )
    places = [text.index(f"{number}. {way.name}") for number, way in enumerate(fit.ways, 1)]
    assert len(places) >= 2 and places == sorted(places)
    assert all(f"FLOPs x {way.flops_factor:.2f}" in text for way in fit.ways)


def test_a_plan_that_fits_says_what_is_left():
    fit = fits(Plan("tiny"), 4)
    text = printed(plan_report.parts(fit.estimate, [fit]))
    assert "fits, 3.86 GB to spare" in text and "Ways" not in text and "close" not in text


def test_a_narrow_fit_warns_of_what_the_planner_leaves_out():
    peak = estimate(PLAN).peak_bytes / 10**9
    assert "close: CUDA itself takes" in plan_report.verdict_line(fits(PLAN, peak + 0.1))


def test_no_way_is_said_too():
    fit = fits(Plan("llama-3-70b", lora_rank=16, quantization="nf4"), 4)
    assert fit.ways == () and plan_report.NO_WAY in printed(plan_report.parts(fit.estimate, [fit]))


def test_the_dictionary_is_json_and_holds_the_same():
    fit = fits(PLAN, 24)
    data = json.loads(json.dumps(plan_report.as_dict(fit.estimate, [fit])))
    assert data["peak_bytes"] == sum(data["phases"][data["peak_phase"]].values())
    (card,) = data["cards"]
    assert (card["fits"], card["breaks"]) == (False, fit.breaks)
    assert [way["changes"] for way in card["ways"]] == [[c.name for c in way.changes] for way in fit.ways]

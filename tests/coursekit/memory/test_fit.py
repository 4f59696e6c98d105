"""Verdicts, the term that breaks a plan, and ways out that are ways out."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coursekit.memory import fit
from coursekit.memory.architecture import presets
from coursekit.memory.fit import RUNGS, applied, cheapest, cost, fits, forward_passes, sent_bytes
from coursekit.memory.planner import CATEGORIES, Plan, estimate

NF4 = {"quantization": "nf4", "lora_rank": 16}
TIGHT = [
    (Plan("llama-3-8b", sequence=2048), 24),
    (Plan("llama-3-8b", sequence=2048), 80),
    (Plan("llama-3-8b", sequence=2048, **NF4), 24),
    (Plan("llama-3-8b", batch=8, sequence=2048, **NF4), 24),
    (Plan("llama-2-7b", sequence=4096, ledger="master-16"), 80),
    (Plan("llama-3-70b", sequence=512, **NF4), 48),
    (Plan("llama-3-70b", sequence=2048), 80),
    (Plan("gpt2-xl", sequence=1024, ledger="fp32", attention="eager"), 24),
    (Plan("course-100m", batch=16, sequence=1024), 4),
    (Plan("course-100m", batch=16, sequence=1024, ledger="fp32", attention="eager"), 16),
    (Plan("qwen2.5-3b", batch=4, sequence=1024, lora_rank=16), 16),
    (Plan("mixtral-8x7b", sequence=1024), 80),
    (Plan("llama-3.2-1b", batch=4, sequence=2048, ledger="amp"), 24),
    (Plan("llama-3.2-1b", batch=4, sequence=4096), 24),
    (Plan("gpt2", batch=16, sequence=1024), 8),
    (Plan("llama-3.2-1b", batch=2, sequence=2048, zero_stage=1, world_size=2), 12),
]


@pytest.fixture(scope="module")
def verdicts():
    return [fits(plan, card) for plan, card in TIGHT]


def test_the_verdict_is_that_of_the_estimate(verdicts):
    """It fits if and only if the peak is within the card's 10^9 bytes a GB."""
    for (plan, card), verdict in zip(TIGHT, verdicts, strict=True):
        peak = estimate(plan).peak_bytes
        assert verdict.fits == (peak <= card * 10**9)
        assert verdict.spare_bytes == card * 10**9 - peak
        assert verdict.fits == (verdict.breaks is None)
    assert not any(verdict.fits for verdict in verdicts)


def test_the_breaking_term_is_where_the_sum_passes_the_cards_memory(verdicts):
    for verdict in verdicts:
        terms, capacity = verdict.estimate.at_peak, verdict.card.bytes
        at = CATEGORIES.index(verdict.breaks)
        before = sum(terms[name] for name in CATEGORIES[:at])
        assert before <= capacity < before + terms[verdict.breaks]


def test_every_way_fits(verdicts):
    """Estimated anew, from the plan that the way names."""
    for verdict in verdicts:
        for way in verdict.ways:
            assert estimate(way.plan).peak_bytes <= verdict.card.bytes
            assert applied(verdict.plan, way.changes) == way.plan


def test_no_way_has_a_change_too_many(verdicts):
    """Without any one of its changes a way no longer fits: nobody is sent to buy a GPU that is not needed."""
    for verdict in verdicts:
        for way in verdict.ways:
            for dropped in way.changes:
                fewer = applied(verdict.plan, [change for change in way.changes if change is not dropped])
                assert fewer is None or estimate(fewer).peak_bytes > verdict.card.bytes, (
                    way.name,
                    dropped.name,
                )


def test_ways_come_in_the_order_of_their_cost(verdicts):
    """What trains the same weights first, then fewer GPUs, fewer FLOPs, fewer bytes sent and moved, fewer changes."""
    for verdict in verdicts:
        keys = [cost(way) for way in verdict.ways]
        assert keys == sorted(keys)
        assert len({way.name for way in verdict.ways}) == len(verdict.ways)


def test_a_plan_that_fits_needs_no_way():
    verdict = fits(Plan("course-100m", sequence=1024), 4)
    assert verdict.fits and verdict.ways == () and verdict.breaks is None and verdict.spare_bytes > 0


def test_70_billion_in_4_bits_do_not_fit_24_gigabytes():
    """44 GB of weights: nothing that leaves the base as it is helps."""
    verdict = fits(Plan("llama-3-70b", sequence=512, **NF4), 24)
    assert not verdict.fits and verdict.breaks == "weights" and verdict.ways == ()


def test_70_billion_in_4_bits_fit_48_gigabytes_with_checkpointing_and_a_short_sequence():
    """512 tokens and 8-bit states; at 2048 tokens the logits alone are too much beside the prepared head."""
    (way,) = fits(Plan("llama-3-70b", sequence=512, **NF4), 48).ways
    assert way.plan.checkpointing and way.plan.batch == 1 and way.estimate.peak_bytes < 48e9
    assert fits(Plan("llama-3-70b", sequence=2048, **NF4), 48).ways == ()


def test_8_billion_in_4_bits_fit_16_gigabytes_with_checkpointing():
    (way,) = fits(Plan("llama-3-8b", sequence=2048, **NF4), 16).ways
    assert way.name == "checkpointing" and way.flops_factor == pytest.approx(3 / 2)


def test_a_mixture_is_not_offered_4_bits():
    assert all(way.plan.quantization is None for way in fits(Plan("mixtral-8x7b", sequence=1024), 80).ways)


def test_a_smaller_batch_trains_on_the_same_tokens(verdicts):
    """Accumulation makes up for the batch."""
    for verdict in verdicts:
        for way in verdict.ways:
            before, after = verdict.plan, way.plan
            assert after.batch * after.accumulation == before.batch * before.accumulation
            assert after.sequence == before.sequence


def test_flops_of_a_step():
    """Forward 1, gradients of results 1, of weights 1 unless they are frozen; checkpointing one forward more."""
    plan = Plan("gpt2", sequence=64)
    assert forward_passes(plan) == 3 and forward_passes(replace(plan, checkpointing=True)) == 4
    assert forward_passes(replace(plan, lora_rank=8)) == 2


def test_bytes_that_sharding_sends():
    """ZeRO paper, section 7: 2 P for stages 1 and 2, 3 P for stage 3, times (N - 1) / N; two bytes each."""
    parameters = estimate(Plan("gpt2", sequence=64)).parameters
    for stage, times in ((0, 0), (1, 2), (2, 2), (3, 3)):
        plan = Plan("gpt2", sequence=64, zero_stage=stage, world_size=8)
        assert sent_bytes(estimate(plan)) == round(times * parameters * 2 * 7 / 8)
    assert sent_bytes(estimate(Plan("gpt2", sequence=64, zero_stage=3))) == 0


@settings(max_examples=15, deadline=None)
@given(batch=st.integers(1, 32), sequence=st.integers(64, 1024), memory=st.floats(0.5, 30))
def test_laws_hold_for_any_plan(batch, sequence, memory):
    plan = Plan("smollm2-135m", batch, sequence)
    verdict = fits(plan, memory)
    assert verdict.fits == (estimate(plan).peak_bytes <= verdict.card.bytes)
    assert all(way.estimate.peak_bytes <= verdict.card.bytes for way in verdict.ways)
    if verdict.fits:
        assert fits(plan, memory * 1.5).fits


def test_the_cheapest_way_for_the_chart(verdicts):
    """The first way on one GPU, else on several, else none; the words and the place agree."""
    for (plan, card), verdict in zip(TIGHT, verdicts, strict=True):
        words, rung = cheapest(plan, card)
        assert words and 0 < rung < len(RUNGS)
        single = [way for way in verdict.ways if way.plan.world_size == 1]
        assert (rung == 5) == (not verdict.ways)
        assert (rung == 4) == bool(verdict.ways and not single)
    assert cheapest(Plan("course-100m", sequence=1024), 4) == (RUNGS[0], 0)


def test_an_unknown_card_is_refused():
    with pytest.raises(ValueError, match="no card"):
        fits(Plan("gpt2", sequence=64), "no such")


def test_a_verdict_estimates_each_plan_once(monkeypatch):
    """Ladders meet, and ways carry their estimates along: as many estimates as there are plans to try."""
    tried = []

    def counted(plan):
        tried.append(plan)
        return estimate(plan)

    monkeypatch.setattr(fit, "estimate", counted)
    for plan, card in TIGHT:
        tried.clear()
        fits(plan, card)
        assert len(tried) == len(set(tried)) > 1


def test_targets_and_models_without_a_hash():
    """A model may be a dictionary, and targets a list: the same ways as with a name and a tuple."""
    settings = {"sequence": 2048, "lora_rank": 8}
    listed = Plan(dict(presets()["qwen2.5-3b"]), lora_targets=["q_proj", "v_proj"], **settings)
    named = Plan("qwen2.5-3b", lora_targets=("q_proj", "v_proj"), **settings)
    ways = [[(way.name, way.estimate.peaks) for way in fits(plan, 8).ways] for plan in (listed, named)]
    assert ways[0] == ways[1] != []

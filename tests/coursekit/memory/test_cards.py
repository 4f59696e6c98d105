"""The table of cards, and how a card is found."""

import math

import pytest

from coursekit.memory.cards import Card, cards, find_card


def test_every_card_has_its_figures_and_a_source():
    """Smallest memory first; all figures positive; who says so."""
    rows = list(cards().values())
    assert len(rows) >= 10
    assert [row.memory_gb for row in rows] == sorted(row.memory_gb for row in rows)
    for row in rows:
        assert row.memory_gb > 0 and row.bandwidth > 0 and row.tflops > 0 and row.source, row


@pytest.mark.parametrize(
    ("name", "memory"), [("T4", 16), ("RTX 4090", 24), ("GTX 1650", 4), ("RTX 3060", 12)]
)
def test_memory_as_sold(name, memory):
    assert find_card(name).memory_gb == memory


def test_cards_before_ampere_have_no_bf16():
    """Volta and Turing know FP16 only; Ampere brought BF16."""
    without = {row.name for row in cards().values() if not row.bf16}
    assert "T4" in without and "GTX 1650" in without
    assert not {
        name for name in without if name.startswith(("RTX 30", "RTX 40", "RTX 50", "A", "H", "L4", "B"))
    }


@pytest.mark.parametrize("text", ["RTX 4090", "rtx 4090", "  RTX 4090 "])
def test_a_card_by_name(text):
    assert find_card(text) is cards()["RTX 4090"]


@pytest.mark.parametrize("memory", [24, 24.0, "24", "24 GB", "24gb"])
def test_any_card_by_its_memory(memory):
    card = find_card(memory)
    assert card.bytes == 24 * 10**9 and card.name == "a card of 24 GB"


def test_a_card_is_its_own():
    card = Card("mine", 10)
    assert find_card(card) is card


def test_every_card_is_found_by_its_name():
    assert all(find_card(name) is card for name, card in cards().items())


def test_an_unknown_card_is_answered_with_near_ones():
    with pytest.raises(ValueError, match=r"no card 'RTX 4091'; give its memory in GB, or one of: .*RTX 4090"):
        find_card("RTX 4091")


@pytest.mark.parametrize("text", ["", "qqqq"])
def test_a_name_like_no_other_is_answered_with_all(text):
    with pytest.raises(ValueError, match=r"give its memory in GB, or one of: .*T4"):
        find_card(text)


@pytest.mark.parametrize("memory", [0, -8, math.nan, math.inf, 1e300, "nan", "inf", "-3 GB"])
def test_memory_that_is_none_is_refused(memory):
    with pytest.raises(ValueError, match=r"memory of a card is a positive number of GB, .* at most; got"):
        find_card(memory)

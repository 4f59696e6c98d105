"""A row of the register: its figures are compared with what its function computes, and it must be complete."""

import pytest

from classroom.records.claim import Claim, claim, mismatches


def test_a_wrong_figure_is_reported():
    row = claim("X1", said="s", where="w", verdict="right", right="{n}", figures={"n": 3}, source="")(
        lambda: {"n": 4}
    )
    assert mismatches(row) == ["X1: n came out as 4, should be 3."]


def test_a_figure_that_is_not_computed_is_reported():
    row = claim("X1", said="s", where="w", verdict="right", right="", figures={"n": 3}, source="")(
        lambda: {"m": 3}
    )
    assert "lists ['n']" in mismatches(row)[0]


@pytest.mark.parametrize(
    ("facts", "complaint"),
    [
        ({"verdict": "maybe"}, "verdict must be one of"),
        ({"source": ""}, "needs a source"),
        ({"compute": dict}, "needs `figures`"),
    ],
)
def test_incomplete_rows_are_refused(facts, complaint):
    row = {
        "id": "X",
        "said": "s",
        "where": "w",
        "verdict": "right",
        "right": "r",
        "source": "a paper",
    } | facts
    with pytest.raises(ValueError, match=complaint):
        Claim(**row)


def test_figures_are_computed_once():
    calls = []
    facts = {"said": "s", "where": "w", "verdict": "right", "source": ""}
    row = claim("X1", right="{n}", figures={"n": 1}, **facts)(lambda: calls.append(1) or {"n": len(calls)})
    assert mismatches(row) == [] and row.right_sentence() == "1"
    assert calls == [1]

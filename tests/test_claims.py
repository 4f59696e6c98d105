"""The claims register: every figure comes out as audited, and the committed page is the generated one."""

from pathlib import Path

import pytest

from coursekit.publish import claims

ROOT = Path(__file__).parents[1]
REGISTER = claims.load(ROOT / "claims")
ROWS = [row for rows in REGISTER.values() for row in rows]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_figures_come_out_as_audited(row):
    assert claims.mismatches(row) == []
    assert "{" not in row.right_sentence()


def test_the_page_is_the_generated_one():
    """Stale: run `coursekit claims`."""
    assert (ROOT / "claims" / "README.md").read_text(encoding="utf-8") == claims.to_markdown(REGISTER)


def test_the_html_page_holds_every_claim_and_loads_nothing():
    page = claims.to_html(REGISTER)
    assert all(f'id="{row.id}"' in page for row in ROWS)
    assert "http" not in page.split("<main>")[0] and "<script src" not in page


def test_a_wrong_figure_is_reported():
    row = claims.claim("X1", said="s", where="w", verdict="right", right="{n}", figures={"n": 3}, source="")(
        lambda: {"n": 4}
    )
    assert claims.mismatches(row) == ["X1: n should be 3, came out as 4."]


def test_a_figure_that_is_not_computed_is_reported():
    row = claims.claim("X1", said="s", where="w", verdict="right", right="", figures={"n": 3}, source="")(
        lambda: {"m": 3}
    )
    assert "lists ['n']" in claims.mismatches(row)[0]


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
        claims.Claim(**row)


def test_an_id_used_twice_is_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text(
            "from coursekit.publish.claims import cited\n"
            "row = cited('X1', said='s', where='w', verdict='right', right='r', source='a paper')\n"
        )
    with pytest.raises(ValueError, match=r"X1 is in claims/a\.py and in claims/b\.py"):
        claims.load(tmp_path)

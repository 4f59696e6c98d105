"""Every figure of the claims register comes out as audited, and the committed page is the generated one."""

from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from classroom.publish import claims
from classroom.records.claim import cited, claim, mismatches

ROOT = Path(__file__).parents[3]
REGISTER = claims.load()
ROWS = [row for rows in REGISTER.values() for row in rows]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_figures_come_out_as_audited(row):
    assert mismatches(row) == []
    assert "{" not in row.right_sentence()


def test_the_page_is_the_generated_one():
    """If not, it is stale: run `coursekit claims`."""
    assert (ROOT / "claims" / "README.md").read_text(encoding="utf-8") == claims.to_markdown(REGISTER)


FACTS = {"where": "slide 2", "verdict": "wrong", "source": "a paper"}


def test_the_html_page_holds_every_claim_escaped_and_loads_nothing():
    first = cited("X1", said="a < b & c", right="b", **FACTS)
    second = claim("X2", said="3", right="{n}", figures={"n": 4}, convention="none", **FACTS)(
        lambda: {"n": 4}
    )
    page = BeautifulSoup(claims.to_html({"formats": [first], "amp": [second]}), "html.parser")
    rows = [[cell.get_text() for cell in row.find_all(["th", "td"])] for row in page.select("tbody tr")]
    assert rows == [
        ["X1", "a < b & c (slide 2)", "wrong", "b", "cited; a paper"],
        ["X2", "3 (slide 2)", "wrong", "4 Convention: none.", "computed; a paper"],
    ]
    assert [row["id"] for row in page.select("tbody tr")] == ["X1", "X2"]
    assert [heading.get_text() for heading in page.find_all("h2")] == ["formats", "amp"]
    assert page.select("[src], link") == [] and "http" not in str(page.head)


def test_an_id_used_twice_is_refused(monkeypatch):
    row = cited("X1", said="s", where="w", verdict="right", right="r", source="a paper")
    monkeypatch.setattr(claims, "rows_of", lambda module: [row])
    with pytest.raises(ValueError, match="X1 is in the lectures formats and amp"):
        claims.load()

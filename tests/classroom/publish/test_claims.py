"""Every figure of the claims register comes out as audited, and the committed page is the generated one."""

from pathlib import Path

import pytest

from classroom.publish import claims
from classroom.records.claim import cited, mismatches

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


def test_the_html_page_holds_every_claim_and_loads_nothing():
    page = claims.to_html(REGISTER)
    assert all(f'id="{row.id}"' in page for row in ROWS)
    assert "http" not in page.split("<main>")[0] and "<script src" not in page


def test_an_id_used_twice_is_refused(monkeypatch):
    row = cited("X1", said="s", where="w", verdict="right", right="r", source="a paper")
    monkeypatch.setattr(claims, "rows_of", lambda module: [row])
    with pytest.raises(ValueError, match="X1 is in the lectures formats and amp"):
        claims.load()

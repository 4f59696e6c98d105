"""A verdict says its status in words, shows hints one by one, and hands a record to programs."""

import json

import pytest

from classroom.checking.verdict import STATUSES, VERDICT_MIME, Verdict

WRONG = Verdict(
    "double", "wrong", "Twice", "1 of 4 cases right.", "double(3)", "6", "9",
    hints=("Add it to itself.", "x + x", "return x + x"), shown=1, misconception="squared",
)  # fmt: skip


def test_hints_can_be_asked_for():
    verdict = WRONG
    assert "Hint 1: Add it to itself." in str(verdict)
    assert "2 more hints" in str(verdict)
    assert verdict.hint().shown == 2
    assert "Hint 3: return x + x" in str(verdict.hint(3))
    assert "That was the last hint." in str(verdict.hint(3))
    assert "The last hint is the solution: add `.hint(3)`" in str(verdict.hint(2))
    with pytest.raises(ValueError, match=r"this verdict has 3 hints; hint\(4\) is not one of them"):
        verdict.hint(4)


def test_a_verdict_in_a_notebook_and_for_a_program():
    verdict = WRONG
    bundle = verdict._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", VERDICT_MIME}
    record = json.loads(json.dumps(bundle[VERDICT_MIME]))
    assert record["passed"] is False
    assert record["misconception"] == "squared"
    assert record["exercise"] == "double"
    assert 'aria-label="Not yet: Twice"' in bundle["text/html"]


def test_every_status_has_a_card():
    for status in STATUSES:
        card = Verdict("double", status, "Twice", "words", line="line 3: `x = 1`").card()
        assert card.status == STATUSES[status][1]
        assert "Your line 3: `x = 1`" in card.text()


def test_only_passed_is_passed():
    assert [status for status in STATUSES if Verdict("x", status, "X").passed] == ["passed"]

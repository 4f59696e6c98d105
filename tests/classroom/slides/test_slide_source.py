"""A deck read as slides: where slides part, what is a note, what a directive."""

import pytest

from classroom.publish.slide_source import (
    directives_of,
    parse_deck,
    plain_note,
    split_slides,
    with_plain_notes,
    without_notes,
)
from classroom.publish.sources import CourseError


def test_rulers_part_slides_but_not_inside_fences_and_comments():
    body = "one\n\n---\n\n```python\na = '''\n---\n'''\n```\n\n<!--\nnote\n---\n-->\n\n---\nthree"
    assert [text.strip()[:3] for text in split_slides(body)] == ["one", "```", "thr"]


@pytest.mark.parametrize(
    ("comment", "expected"),
    [
        ("_class: question", {"class": "question"}),
        ('_footer: "Source: a, b"', {"footer": "Source: a, b"}),
        ("_class: dense\n_paginate: false", {"class": "dense", "paginate": "false"}),
        ("**Know** class: a thing", None),
        ("note: this", None),
        ("", None),
    ],
)
def test_a_comment_is_directives_or_a_note(comment, expected):
    assert directives_of(comment) == expected


def test_student_source_keeps_directives_and_loses_notes(small):
    stripped = without_notes(small.read_text())
    assert "_class: title" in stripped and "_footer" in stripped and "# A small deck" in stripped
    assert not any(word in stripped for word in ("Know", "Say", "Ask", "TIME"))


def test_notes_cells_and_directives_of_a_slide(small):
    slide = parse_deck("small", small.read_text()).slides[1]
    assert slide.cells[0] == "answer = 6 * 7\n"
    assert slide.notes.startswith("**Know** It is") and slide.notes.endswith("TIME 2 min")
    assert slide.directives == {"footer": "Computed: here"}
    assert "answer = 6" not in slide.text and "Know" not in slide.text


def test_a_file_without_front_matter_is_refused():
    with pytest.raises(CourseError, match="front matter"):
        parse_deck("x", "# A title\n")


def test_notes_for_readers_without_markdown_are_plain():
    note = (
        '**Know** that `new - total` is *exact*: 2 * 3, a*b.\n\n**Ask** x? *Answer:* y. *Wrong answer:* "z".'
    )
    plain = 'KNOW that new - total is exact: 2 * 3, a*b.\n\nASK x? Answer: y. Wrong answer: "z".'
    assert plain_note(note) == plain


def test_plain_notes_leave_slides_and_directives_alone(small):
    plain = with_plain_notes(small.read_text())
    assert "KNOW Everything is made" in plain and "**Know**" not in plain
    assert 'f"Shown by a cell: **{answer}**' in plain and '<!-- _footer: "Computed: here" -->' in plain

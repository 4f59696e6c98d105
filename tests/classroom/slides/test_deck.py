"""A deck is read as slides; the lint passes a deck in order and names each defect that is planted in it."""

import pytest

from classroom.publish.deck import (
    directives_of,
    lint,
    parse_deck,
    plain_note,
    read_deck,
    split_slides,
    typed_numbers,
    with_plain_notes,
    without_notes,
)
from classroom.publish.slides import deck_paths
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


@pytest.mark.parametrize("path", deck_paths(), ids=lambda path: path.stem)
def test_every_deck_keeps_every_rule(path):
    assert lint(read_deck(path)) == []


@pytest.mark.parametrize("path", deck_paths(), ids=lambda path: path.stem)
def test_a_lecture_has_twenty_to_thirty_five_slides(path):
    assert 20 <= len(read_deck(path).slides) <= 35


PLANTED = {
    "a typed maximum": ("Two slides", "FP16 ends at 65,504", "typed number '65,504'"),
    "a typed decimal": ("Two slides", "The sum is 1.9766", "typed number '1.9766'"),
    "a number with a unit": ("Two slides", "The model takes 14 GB", "typed number '14 GB'"),
    "a percentage": ("Two slides", "It is 31 % smaller", "typed number '31 %'"),
    "a factor": ("Two slides", "It is 4× smaller", "typed number '4×'"),
    "a number in the notes": ("Six times seven.", "It is 42.5 after all.", "typed number '42.5'"),
    "a decimal in a formula": ("Two slides", "$x = 0.125$", "typed number '0.125'"),
    "no Know": ("**Know** Everything", "Everything", "slide 1: no **Know**"),
    "no Say": ("**Say** Hello.", "Hello.", "slide 1: no **Say**"),
    "no time": ("TIME 1 min", "", "slide 1: no line `TIME n min`"),
    "minutes that do not add up": (
        "TIME 2 min",
        "TIME 3 min",
        "the slides take 4 min, the front matter plans 3",
    ),
    "a question without an answer": ("*Answer:* ", "", "an **Ask** without"),
    "a question without the wrong answer": ("*Wrong answer:* ", "", "an **Ask** without"),
    "no heading": ("# A small deck", "A small deck", "slide 1: 0 headings"),
    "two headings": ("Two slides", "# Two slides", "slide 1: 2 headings"),
    "a picture without alt text": ("Two slides", "![](picture.png)", "a picture without alt text"),
    "an image element without alt text": ("Two slides", '<img src="p.png">', "a picture without alt text"),
    "a figure without alt text": ("answer = 6 * 7", "show(figure)", "a figure without alt text"),
    "a result without provenance": ('<!-- _footer: "Computed: here" -->', "", "a result without provenance"),
}


@pytest.mark.parametrize("defect", PLANTED)
def test_planted_defects_are_caught(small, defect):
    old, new, message = PLANTED[defect]
    source = small.read_text()
    assert lint(parse_deck("small", source)) == []
    assert old in source
    found = lint(parse_deck("small", source.replace(old, new, 1)))
    assert any(message in line for line in found), found


def test_five_slides_without_a_question_are_caught(small):
    """Any five slides in a row hold a question to the class."""
    source = small.read_text()
    head, last = source.rsplit("\n---\n", 1)
    quiet = "\n---\n" + head.rsplit("\n---\n", 1)[1]
    four, five = (head + quiet * n + "\n---\n" + last for n in (3, 4))
    assert not any("no **Ask**" in line for line in lint(parse_deck("four", four)))
    assert any("no **Ask** on slides 1 to 5" in line for line in lint(parse_deck("five", five)))


@pytest.mark.parametrize(
    "text",
    [
        "16-bit floats",
        "{{ x:.2f }} GB",
        "slide 7",
        "the year 2018",
        "arXiv:1710.03740",
        "FP16 and E4M3",
        "$2^{-24}$",
        "TIME 3 min",
    ],
)
def test_what_only_looks_like_a_figure_passes(text):
    assert typed_numbers(text) == []

"""The lint passes a deck in order, and names each defect that is planted in it."""

import pytest

from classroom.publish.slide_lint import lint, typed_numbers
from classroom.publish.slide_source import parse_deck, read_deck
from classroom.publish.slides import deck_paths


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

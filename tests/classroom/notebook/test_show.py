"""Source is shown as it is, with a place that is the same on every machine; a comparison is one line or a refusal."""

import math
import re

import pytest
import torch

from classroom.machine import host as machine
from classroom.notebook import show
from classroom.notebook.show import budget, compare, show_source, source_card, takeaway


def test_source_is_shown_with_its_file():
    text = source_card(machine.usable_cores).text()
    assert text.startswith("▸ Source: classroom/machine/host.py\ndef usable_cores() -> int:\n")


@pytest.mark.parametrize("obj", [machine.Machine, machine.Machine.__init__, machine])
def test_what_is_shown_holds_no_path_of_this_machine(obj):
    try:
        text = source_card(obj).text()
    except TypeError:  # a dataclass's own __init__ has no source
        assert obj is machine.Machine.__init__
        return
    assert text.startswith("▸ Source: classroom/machine/host.py\n")
    assert "/site-packages" not in text.splitlines()[0]


def test_highlighting_changes_no_character():
    html = source_card(show.compare).html()
    shown = re.search(r"<pre[^>]*>(.*)</pre>", html)[1]
    plain = re.sub(r"</?span[^>]*>", "", shown).replace("&#10;", "\n")
    import html as html_module

    assert html_module.unescape(plain) == source_card(show.compare).parts[0].source
    assert '<span class="k">def</span>' in shown


def test_a_method_is_shown_without_its_indent():
    from classroom.checking.card import Card

    assert source_card(Card.text).parts[0].source.startswith("def text(self)")


def test_only_what_has_source_can_be_shown():
    with pytest.raises(TypeError, match="has no source"):
        show_source(3)
    with pytest.raises(TypeError, match="has no source"):
        show_source(math.sin)


def test_compare_prints_one_line(capsys):
    compare("largest FP16", 65504, torch.finfo(torch.float16).max, name="torch")
    assert capsys.readouterr().out == "largest FP16: ours 65504, torch 65504, equal: True\n"


def test_compare_of_many_values_counts_them(capsys):
    compare("all codes", torch.arange(70_000), torch.arange(70_000), name="torch")
    assert capsys.readouterr().out == "all codes: 70,000 values, ours and torch, equal: True (0 mismatches)\n"


def test_compare_says_its_tolerance(capsys):
    compare("pi", 3.14, math.pi, name="math", tolerance=0.01)
    assert capsys.readouterr().out == "pi: ours 3.14, math 3.141592653589793, equal within 0.01: True\n"


def test_compare_refuses_with_a_sentence():
    with pytest.raises(AssertionError) as caught:
        compare("codes", [1.0, 2.0, 3.5], [1.0, -0.0, 3.0], name="torch")
    assert (
        str(caught.value)
        == "codes: 2 of 3 values differ from torch's. at 1: ours 2, torch -0.0; at 2: ours 3.5, torch 3."
    )
    with pytest.raises(AssertionError, match=r"^zero: 1 value differs from torch's. ours 0, torch -0.0.$"):
        compare("zero", 0.0, -0.0, name="torch", bitwise=True)


def test_takeaway(capsys):
    takeaway("A float is a grid.")
    assert capsys.readouterr().out == "▸ Takeaway\nA float is a grid.\n"


def test_budget_never_stops_a_notebook(capsys):
    budget("sum", 2.5, 5)
    budget("sum", 5.5, 5)
    assert capsys.readouterr().out == (
        "sum: measured 2.5 s, budget 5 s, within budget: True\nsum: measured 5.5 s, budget 5 s, within budget: False\n"
    )

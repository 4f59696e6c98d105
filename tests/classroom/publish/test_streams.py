"""What a cell printed, joined: as nbclient joins it, but in linear time and with a cap."""

import re
import time

import nbformat.v4 as v4
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classroom.publish.streams import CAP_CHARACTERS, Allowance, after_returns, joined

NBCLIENTS_RULE = re.compile(r".*\r(?=[^\n])")
TEXTS = st.text("ab\r\n\b", max_size=30)


def stream(text, name="stdout"):
    return v4.new_output("stream", name=name, text=text)


def told(outputs):
    return [(o.get("name"), o.get("text", o.get("data"))) for o in outputs]


@given(TEXTS)
def test_carriage_returns_equal_nbclients_rule(text):
    assert after_returns(text) == NBCLIENTS_RULE.sub("", text)


@given(TEXTS, TEXTS)
def test_joining_early_changes_nothing(first, second):
    """A progress bar's pieces may be joined while it still runs."""
    assert after_returns(after_returns(first) + second) == after_returns(first + second)


def test_a_long_line_takes_linear_time():
    """40,000 characters took nbclient 6 s; a million here, counted in the CPU's time."""
    started = time.process_time()
    after_returns("x" * 10**6)
    assert time.process_time() - started < 2


def test_pieces_of_one_stream_become_one_and_stdout_comes_first():
    figure = v4.new_output("display_data", {"text/plain": "figure"})
    pieces = [stream("e", "stderr"), stream("a"), figure, stream("b"), stream("f", "stderr")]
    assert told(joined(pieces)) == [("stdout", "ab"), ("stderr", "ef"), (None, {"text/plain": "figure"})]


def test_what_is_too_much_is_left_out_and_counted():
    allowance, outputs = Allowance(), []
    for _ in range(30):
        outputs.append(stream(allowance.take(outputs, "x" * 100_000)))
    (output,) = allowance.settle(outputs)
    assert output.text == "x" * CAP_CHARACTERS + "\n... 2.0 MB more were printed and left out\n"


def test_a_progress_bar_never_fills_the_cap():
    allowance, outputs = Allowance(), []
    for step in range(400):
        outputs.append(stream(allowance.take(outputs, f"\r{step:10000}")))
    (output,) = allowance.settle(outputs)
    assert output.text.strip() == "399"


@pytest.mark.parametrize(
    "outputs", [[], [v4.new_output("execute_result", {"text/plain": "3"})]], ids=["none", "a result"]
)
def test_what_prints_nothing_stays_as_it_is(outputs):
    assert Allowance().settle(list(outputs)) == outputs

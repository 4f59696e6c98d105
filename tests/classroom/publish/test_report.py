import io
import json
import re

from rich.console import Console

from classroom.publish.execute import Failure, Run
from classroom.publish.report import Board, as_dict, failure_panel, run_words, table

GOOD = Run("notebooks/01_demo", None, code_cells=12, seconds=3.14, peak_bytes=1_250_000_000)
TRACE = tuple(f"line {i}" for i in range(30))
FAILURE = Failure(3, "half(x)\nprint('[bold]')", "ZeroDivisionError: division by zero", TRACE)
BAD = Run("solutions/01_demo", None, 7, 0.5, 90_000_000, FAILURE)


def printed(thing, terminal=False):
    text = io.StringIO()
    Console(file=text, width=110, force_terminal=terminal).print(thing)
    return text.getvalue()


def rows(text):
    return [re.split(r"\s*[│┃]\s*", line)[1:-1] for line in text.splitlines() if line[:1] in "│┃"]


def test_the_table_has_a_row_for_each_run_and_their_sums():
    assert rows(printed(table([GOOD, BAD]))) == [
        ["notebook", "code cells", "seconds", "peak RAM, GB", "status"],
        ["notebooks/01_demo", "12", "3.1", "1.25", "passed"],
        ["solutions/01_demo", "7", "0.5", "0.09", "FAILED in code cell 3"],
        ["all", "19", "3.6", "1.25", "FAILED"],
    ]


def test_one_run_needs_no_sums():
    assert len(rows(printed(table([GOOD])))) == 2


def test_a_failure_shows_cell_source_reason_and_the_last_lines_of_the_traceback():
    text = printed(failure_panel(BAD))
    for words in (
        "solutions/01_demo, code cell 3",
        "half(x)",
        "print('[bold]')",
        "ZeroDivisionError: division by zero",
        "line 29",
    ):
        assert words in text
    assert "line 10 " not in text


def test_a_log_file_gets_one_line_a_notebook():
    text = io.StringIO()
    with Board(Console(file=text, width=80), [GOOD.label, "a"]) as board:
        for label in (GOOD.label, "a"):
            board.start(label)
            board.step(1, 12, 10**9)
            board.done(label, run_words(GOOD))
    assert text.getvalue().splitlines() == [
        "notebooks/01_demo  passed, 3.1 s, 1.25 GB",
        "a                  passed, 3.1 s, 1.25 GB",
    ]


def test_a_terminal_sees_cells_and_memory_while_it_goes_on():
    text = io.StringIO()
    with Board(Console(file=text, width=100, force_terminal=True), [GOOD.label]) as board:
        board.start(GOOD.label)
        board.step(5, 12, 2 * 10**9)
        board.progress.refresh()
    assert re.search("5/12.*2.00 GB", re.sub(r"\x1b\[[0-9;?]*\w", "", text.getvalue()))


def test_programs_get_plain_json():
    data = json.loads(json.dumps([as_dict(GOOD), as_dict(BAD)]))
    assert (data[0]["ok"], data[0]["failure"], data[0]["peak_bytes"]) == (True, None, 1_250_000_000)
    assert data[1]["failure"] == {"cell": 3, "source": FAILURE.source, "reason": FAILURE.reason}

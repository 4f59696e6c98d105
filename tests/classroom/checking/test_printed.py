"""Of what a call prints the beginning is kept, in bounded memory."""

import sys

from classroom.checking.printed import KEPT_CHARACTERS, Printed


def test_the_beginning_is_kept_and_the_rest_counted():
    printed = Printed()
    with printed.instead_of_the_notebook():
        for _ in range(100):
            print("x" * 999)
        print("to the error stream", file=sys.stderr)
    assert len(printed.kept) == KEPT_CHARACTERS
    assert printed.words().endswith(f"... {100 * 1000 - KEPT_CHARACTERS + 20:,} more characters")


def test_each_call_begins_anew():
    printed = Printed()
    printed.write("first")
    printed.restart()
    printed.write("second\n")
    assert printed.words() == "second"

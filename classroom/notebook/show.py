"""What a notebook shows: source from the package, one line of comparison, a takeaway, a budget to beat."""

from __future__ import annotations

import inspect
import os

from classroom.checking.card import Card, Code, Paragraph, display
from classroom.checking.compare import difference
from classroom.notebook.predict import format_number


def show_source(obj) -> None:
    """Show the source of a function, class or module of the course, highlighted, with its file.

    So longer code is never pasted into a notebook: what is shown is what runs.
    Raises TypeError if Python keeps no source for `obj` (a number, a built-in function).
    """
    display(source_card(obj))


def source_card(obj) -> Card:
    target = inspect.unwrap(obj) if callable(obj) else obj
    try:
        lines, _ = inspect.getsourcelines(target)
    except (TypeError, OSError) as error:
        raise TypeError(
            f"show_source shows functions, classes and modules written in Python; {obj!r} has no source."
        ) from error
    source = (
        inspect.cleandoc("\n" + "".join(lines))
        if lines[0].startswith((" ", "\t"))
        else "".join(lines).rstrip()
    )
    place = _relative_file(
        target
    )  # no line number: every edit above it would make the committed notebook stale
    return Card("note", "Source", place, (Code(source, _highlight(source)),))


def _relative_file(obj) -> str:
    """The file as the reader finds it: below the package's folder, never an absolute path of this machine."""
    module = inspect.getmodule(obj)
    if module is None or module.__name__ == "__main__":
        return "this notebook"
    file = inspect.getsourcefile(module) or module.__name__
    return "/".join([*module.__name__.split(".")[:-1], os.path.basename(file)])


# Pygments' token families, the class of the card's style each gets
TOKENS = {
    "Comment": "c",
    "Literal.String": "s",
    "Literal.Number": "m",
    "Keyword": "k",
    "Operator.Word": "k",
    "Name.Function": "n",
    "Name.Class": "n",
    "Name.Decorator": "n",
}


def _highlight(source: str) -> str:
    """Highlighted HTML, or nothing where Pygments is missing (the card then shows plain text)."""
    try:
        from pygments.lexers import PythonLexer
    except ImportError:
        return ""
    return "".join(_span(str(kind), text) for kind, text in PythonLexer().get_tokens(source)).rstrip()


def _span(kind: str, text: str) -> str:
    import html

    css = next((css for family, css in TOKENS.items() if kind.startswith(f"Token.{family}")), "")
    return f'<span class="{css}">{html.escape(text)}</span>' if css else html.escape(text)


def compare(
    what: str, ours, theirs, *, name: str = "library", tolerance: float = 0.0, bitwise: bool = False
) -> None:
    """Print one line, `what: ours 65504, torch 65504, equal: True`; refuse to go on when they differ.

    ours, theirs: numbers, lists, arrays or tensors of one shape. NaN equals NaN; `bitwise=True` tells -0.0
    from 0.0.
    Raises AssertionError with a sentence and the first three mismatches, ValueError if the shapes differ.
    """
    found = difference(ours, theirs, tolerance, bitwise)
    within = f" within {format_number(tolerance)}" if tolerance else ""
    if found.count:
        raise AssertionError(_mismatch_sentence(what, found, name, within))
    if _is_single(ours):
        print(f"{what}: ours {_short(ours)}, {name} {_short(theirs)}, equal{within}: True")
    else:
        print(f"{what}: {found.total:,} values, ours and {name}, equal{within}: True (0 mismatches)")


def _mismatch_sentence(what, found, name, within) -> str:
    where = "" if found.total == 1 else f" of {found.total:,}"
    examples = "; ".join(
        ("" if found.total == 1 else f"at {index}: ") + f"ours {_short(a)}, {name} {_short(b)}"
        for index, a, b in found.examples
    )
    values = ("values" if found.total > 1 else "value") + (" differs" if found.count == 1 else " differ")
    return f"{what}: {found.count:,}{where} {values} from {name}'s{within}. {examples}."


def _is_single(value) -> bool:
    shape = getattr(value, "shape", None)
    return len(shape) == 0 if shape is not None else not isinstance(value, (list, tuple))


def _short(value) -> str:
    value = value.item() if hasattr(value, "item") else value
    return (
        repr(value)
        if isinstance(value, float) and value != int_or_none(value)
        else str(int_or_none(value, value))
    )


def int_or_none(value, otherwise=None):
    """The integer that a float is, if it is one below 2^53 and not -0.0 (65504.0 -> 65504)."""
    if isinstance(value, float) and abs(value) < 2**53 and value == int(value) and str(value) != "-0.0":
        return int(value)
    return otherwise


def takeaway(sentence: str) -> None:
    """Show the one sentence to take away from what was just done."""
    display(Card("note", "Takeaway", "", (Paragraph(sentence),)))


def budget(what: str, measured: float, limit: float, unit: str = "s") -> None:
    """Print a measured figure against its budget: `what: measured 2.1 s, budget 5 s, within budget: True`."""
    print(
        f"{what}: measured {format_number(measured)} {unit}, budget {format_number(limit)} {unit}, "
        f"within budget: {measured <= limit}"
    )

"""Show source from the package, one line of comparison, a takeaway, a budget to beat."""

from __future__ import annotations

import inspect
import os

from classroom.checking.card import Card, Code, Paragraph, display
from classroom.checking.compare import difference
from classroom.notebook.predict import format_number


def show_source(obj) -> None:
    """Show the source of a function, class or module of the course, highlighted, with its file.

    Longer code is never pasted into a notebook: the code shown is the code that runs.
    Raises TypeError if `obj` has no Python source (a number, a built-in function).
    """
    display(source_card(obj))


def source_card(obj) -> Card:
    """Make the card that `show_source` shows. Raises TypeError as it does."""
    target = inspect.unwrap(obj) if callable(obj) else obj
    try:
        lines, _ = inspect.getsourcelines(target)
    except (TypeError, OSError) as error:
        raise TypeError(
            f"show_source shows functions, classes and modules written in Python; {obj!r} has no source."
        ) from error
    source = "".join(lines).rstrip()
    if source.startswith((" ", "\t")):  # a method stands indented in its class
        source = inspect.cleandoc("\n" + source)
    place = _relative_file(target)  # no line number: an edit above would make the committed notebook stale
    return Card("note", "Source", place, (Code(source, _highlight(source)),))


def _relative_file(obj) -> str:
    """Name the file as a reader finds it, below the package's folder, and without a path of this machine."""
    module = inspect.getmodule(obj)
    if module is None or module.__name__ == "__main__":
        return "this notebook"
    file = inspect.getsourcefile(module) or module.__name__
    return "/".join([*module.__name__.split(".")[:-1], os.path.basename(file)])


# Pygments' token family: its class in the style of the card
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
    """Return highlighted HTML, or nothing if Pygments is missing (the card then shows plain text)."""
    try:
        from pygments.lexers import PythonLexer
    except ImportError:
        return ""
    return "".join(_span(str(kind), text) for kind, text in PythonLexer().get_tokens(source)).rstrip()


def _span(kind: str, text: str) -> str:
    import html

    for family, css in TOKENS.items():
        if kind.startswith(f"Token.{family}"):
            return f'<span class="{css}">{html.escape(text)}</span>'
    return html.escape(text)


def compare(
    what: str, ours, theirs, *, name: str = "library", tolerance: float = 0.0, bitwise: bool = False
) -> None:
    """Print one line, `what: ours 65504, torch 65504, equal: True`; raise if they differ.

    ours, theirs  numbers, lists, arrays or tensors of one shape; NaN equals NaN
    name          whose value `theirs` is
    tolerance     largest absolute difference that counts as equal
    bitwise       -0.0 and 0.0 differ

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
    pairs = [f"ours {_short(ours)}, {name} {_short(theirs)}" for _, ours, theirs in found.examples]
    if found.total == 1:
        return f"{what}: 1 value differs from {name}'s{within}. {pairs[0]}."
    places = [f"at {index}" for index, _, _ in found.examples]
    examples = "; ".join(f"{place}: {pair}" for place, pair in zip(places, pairs, strict=True))
    verb = "differs" if found.count == 1 else "differ"
    return f"{what}: {found.count:,} of {found.total:,} values {verb} from {name}'s{within}. {examples}."


def _is_single(value) -> bool:
    shape = getattr(value, "shape", None)
    return len(shape) == 0 if shape is not None else not isinstance(value, (list, tuple))


def _short(value) -> str:
    """Write one value: a whole float without `.0` (65504.0 -> 65504), any other with all its digits."""
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, float):
        return str(value)
    if abs(value) < 2**53 and value == int(value) and str(value) != "-0.0":
        return str(int(value))
    return repr(value)


def takeaway(sentence: str) -> None:
    """Show a card with the one sentence to remember from what was just done."""
    display(Card("note", "Takeaway", "", (Paragraph(sentence),)))


def budget(what: str, measured: float, limit: float, unit: str = "s") -> None:
    """Print a measured number and its budget: `what: measured 2.1 s, budget 5 s, within budget: True`."""
    figures = f"measured {format_number(measured)} {unit}, budget {format_number(limit)} {unit}"
    print(f"{what}: {figures}, within budget: {measured <= limit}")

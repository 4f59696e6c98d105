"""Cells become what they show, numbers come from the kernel, and nothing runs twice."""

import base64
import html
import io
import re

import nbformat.v4 as v4
import pytest
from rich.console import Console

from classroom.publish import slides
from classroom.publish.deck import split_front_matter
from classroom.publish.marp import MissingTool
from classroom.publish.slides import executed_markdown, notebook_of, render
from classroom.publish.sources import CourseError


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def test_values_are_filled_in_where_they_stand(small, cache):
    markdown = executed_markdown(small, cache)
    assert "# The answer is 42" in markdown
    assert "**Know** It is 42." in markdown
    assert "Shown by a cell: **42**, { answer } stays" in markdown
    assert "```python" not in markdown, "cells leave only what they show"
    assert markdown.startswith("---\nmarp: true\n")


def edit(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_a_changed_comma_in_slides_or_notes_runs_no_cell_and_is_shown(small, cache, monkeypatch):
    first = executed_markdown(small, cache)
    monkeypatch.setattr(slides, "execute", lambda notebook, deck: pytest.fail("ran again"))
    assert executed_markdown(small, cache) == first
    edit(small, "**Say** Six times seven.", "**Say** Six, times seven.")
    edit(small, "Two slides", "Two slides, no more")
    changed = executed_markdown(small, cache)
    assert changed == first.replace("Six times seven.", "Six, times seven.").replace(
        "slides", "slides, no more"
    )
    assert "**Know** It is 42." in changed


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("answer = 6 * 7", "answer = 6 * 8"),
        ("**Know** It is {{ answer }}.", "**Know** It is {{ answer + 1 }}."),
        ("answer = 6 * 7", "from coursekit.units import GB\nanswer = 6 * 7"),
    ],
    ids=["a cell", "a value", "an import"],
)
def test_a_changed_cell_or_value_is_never_taken_from_the_cache(small, old, new):
    before = fingerprint_of(small)
    edit(small, old, new)
    assert fingerprint_of(small) != before


def fingerprint_of(deck):
    return slides.fingerprint(notebook_of(split_front_matter(deck.read_text(encoding="utf-8"))[1]), deck)


def test_a_failing_cell_is_named(small, cache):
    edit(small, "answer = 6 * 7", "answer = 1 / 0")
    with pytest.raises(
        CourseError, match=r"a cell of 01_small\.md ended in ZeroDivisionError(?s:.*)answer = 1 / 0"
    ):
        executed_markdown(small, cache)


def cell(source="x", *outputs, tags=()):
    return v4.new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)})


def shown(data, metadata=None):
    return v4.new_output("display_data", data=data, metadata=metadata or {})


def rendered(*cells):
    return render(v4.new_notebook(cells=list(cells)))


def test_a_figure_becomes_an_image_with_its_alt_text():
    svg = '<svg xmlns="http://www.w3.org/2000/svg"/>'
    out = rendered(cell("x", shown({"image/svg+xml": svg}, {"image/svg+xml": {"alt": 'a "b" <c>'}})))
    assert 'alt="a &quot;b&quot; &lt;c&gt;"' in out
    data = re.search(r"data:image/svg\+xml;base64,([^\"]+)", out).group(1)
    assert base64.b64decode(data).decode() == svg


def test_a_png_becomes_an_image():
    out = rendered(cell("x", shown({"image/png": "iVBO\nRw0K\n"}, {"image/png": {"alt": "dots"}})))
    assert '<img src="data:image/png;base64,iVBORw0K" alt="dots">' in out


def test_html_with_a_script_gets_a_frame_of_its_own():
    """Neither its style nor its script can touch the deck, and no blank line ends the block."""
    fragment = "<style>p {color: red}</style>\n\n<p>x</p>\n\n<script>1 < 2 && 3</script>"
    out = rendered(cell("x", shown({"text/html": fragment}, {"text/html": {"title": "A widget"}})))
    assert out.startswith('<iframe class="live" title="A widget"') and out.strip().count("\n") == 0
    page = html.unescape(re.search(r'srcdoc="([^"]*)"', out).group(1))
    assert fragment in page


def test_plain_html_stays_and_has_no_blank_lines():
    assert rendered(cell("x", shown({"text/html": "<div>\n\na\n</div>"}))).strip() == "<div>\na\n</div>"


def test_prints_stay_with_the_author_unless_the_code_is_shown():
    said = v4.new_output("stream", name="stdout", text="65504\n")
    assert rendered(cell("print(x)", said)).strip() == ""
    assert (
        rendered(cell("print(x)", said, tags=["show-code"])).strip()
        == "```python\nprint(x)\n```\n\n```text\n65504\n```"
    )


def test_decks_are_built_by_name_and_a_missing_tool_is_only_said(monkeypatch, tmp_path):
    asked = []
    console = Console(file=io.StringIO(), width=200)
    monkeypatch.setattr(slides, "deck_paths", lambda: [tmp_path / "01_demo.md", tmp_path / "02_more.md"])
    monkeypatch.setattr(slides, "build", lambda names: asked.append(names) or [])
    for names in ((), ("more",), ("solutions/other",)):
        slides.build_decks(names, console)
    assert asked == [["01_demo", "02_more"], ["02_more"]]

    def without_node(names):
        raise MissingTool("node is not on this machine")

    monkeypatch.setattr(slides, "build", without_node)
    slides.build_decks((), console)
    assert console.file.getvalue().splitlines() == ["slides  not built: node is not on this machine"]

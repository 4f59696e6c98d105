"""Cells become what they show, numbers come from the kernel, and nothing runs twice."""

import base64
import html
import re

import nbformat.v4 as v4
import pytest

from classroom.publish import slides
from classroom.publish.slides import execute, executed_markdown, fingerprint, render
from classroom.publish.sources import CourseError


def test_values_are_filled_in_where_they_stand(small):
    markdown = execute(small)
    assert "# The answer is 42" in markdown
    assert "**Know** It is 42." in markdown
    assert "Shown by a cell: **42**, { answer } stays" in markdown
    assert "```python" not in markdown, "cells leave only what they show"
    assert markdown.startswith("---\nmarp: true\n")


def test_the_second_build_runs_no_cell(small, tmp_path, monkeypatch):
    monkeypatch.setattr(slides, "PACKAGES", [tmp_path / "coursekit"])  # nobody edits it meanwhile
    first = executed_markdown(small, tmp_path / "cache")
    monkeypatch.setattr(slides, "execute", lambda deck: pytest.fail("ran again"))
    assert executed_markdown(small, tmp_path / "cache") == first


def test_a_changed_deck_or_package_is_never_taken_from_the_cache(small, tmp_path, monkeypatch):
    """The fingerprint moves with the deck's text and with any source file of coursekit."""
    package = tmp_path / "coursekit"
    package.mkdir()
    (package / "a.py").write_text("x = 1")
    monkeypatch.setattr(slides, "PACKAGES", [package])
    before = fingerprint(small)
    (package / "a.py").write_text("x = 2")
    after_package = fingerprint(small)
    small.write_text(small.read_text() + "\n")
    assert len({before, after_package, fingerprint(small)}) == 3


def test_a_failing_cell_is_named(small):
    small.write_text(small.read_text().replace("answer = 6 * 7", "answer = 1 / 0"))
    with pytest.raises(CourseError, match=r"01_small\.md to run.*ZeroDivisionError(?s:.*)answer = 1 / 0"):
        execute(small)


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

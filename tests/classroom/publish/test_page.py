"""The HTML page of a notebook is complete, offline, and readable in light and dark."""

import re

import jupytext
import nbformat.v4 as v4
import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup

from classroom.publish.canonical import WIDGET_VIEW
from classroom.publish.page import formula, markdown_to_html, to_html

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="3"><rect width="8" height="3"/></svg>'


@pytest.fixture(scope="module")
def html():
    notebook = jupytext.reads(
        "# %% [markdown]\n# # Bits\n# A [link](https://example.org) and $2^{e-b}$.\n", fmt="py:percent"
    )
    outputs = [
        v4.new_output("stream", name="stdout", text="a < b\n"),
        v4.new_output("display_data", {"image/svg+xml": SVG}, metadata={"alt": 'three "bars"'}),
        v4.new_output("display_data", {"image/png": "iVBORw0KGgo=\n", "text/plain": "a plot of bits"}),
        v4.new_output("display_data", {WIDGET_VIEW: {"model_id": "1"}, "text/html": "<b id='still'>w</b>"}),
        v4.new_output("error", ename="KeyError", evalue="'x'", traceback=["\x1b[31mKeyError\x1b[39m: 'x'"]),
    ]  # fmt: skip
    notebook.cells.append(v4.new_code_cell("x = 1  # comment", outputs=outputs))
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {"1": {}}}}
    return to_html(notebook, "01_bits")


@pytest.fixture(scope="module")
def page(html):
    return BeautifulSoup(html, "html.parser")


def test_nothing_is_asked_of_a_server(page, html):
    loads = [
        tag.get(key)
        for tag in page.find_all(True)
        for key in ("src", "data", "poster", "srcset")
        if tag.get(key)
    ]
    assert loads and all(load.startswith("data:") for load in loads)
    assert page.find_all(["script", "link", "iframe"]) == []
    assert not re.search(r"@import|url\(\s*['\"]?(?:https?:)?//", html)


def test_pictures_keep_their_alt_texts(page):
    assert [image["alt"] for image in page.find_all("img")] == ['three "bars"', "a plot of bits"]


def test_a_widget_shows_its_fallback(page):
    assert page.find(id="still") and "model_id" not in str(page)


def test_code_and_outputs_are_there_and_escaped(page):
    text = page.get_text()
    assert "x = 1  # comment" in text and "a < b" in text and "KeyError: 'x'" in text and "\x1b" not in text


def test_light_and_dark_language_and_title(page):
    assert "prefers-color-scheme: dark" in page.style.string
    assert page.html["lang"] == "en" and page.title.string == "01_bits"
    assert page.main.h1.get_text().startswith("Bits")


def test_formulas_become_mathml(page):
    assert page.find("math").get_text() == "2e−b"
    assert markdown_to_html("costs $5 and more").count("<math") == 0


def test_aligned_formulas_align():
    assert formula(r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "block").count("<mtr>") == 2


def test_a_formula_that_is_not_understood_stays_readable():
    assert formula(r"\left( a < b", "inline") == r"<code>\left( a &lt; b</code>"


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(browser, html, scheme, tmp_path):
    """It requests only the page itself and breaks no accessibility rule, contrast of every text included."""
    path = tmp_path / "page.html"
    path.write_text(html, encoding="utf-8")
    requests = []
    with browser.new_page(color_scheme=scheme) as tab:
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(path.as_uri())
        violations = Axe().run(tab).response["violations"]
    assert [url for url in requests if not url.startswith("data:")] == [path.as_uri()]
    assert [violation["id"] for violation in violations] == []

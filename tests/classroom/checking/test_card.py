"""Cards read well: enough contrast in both palettes, a status in words, HTML that is safe and in one line."""

import re
from html import unescape
from html.parser import HTMLParser

import pytest

from classroom.checking.card import KINDS, Card, Code, Items, Paragraph, Table, display
from classroom.checking.card_style import PALETTES

FULL = Card(
    "fail",
    "Not yet",
    "Decode <FP16>",
    (
        Paragraph("Read `code >> 15` & think."),
        Paragraph("quiet", soft=True),
        Table((("Expected", "1"), ("Got", "`2`")), head=("what", "value")),
        Items(("first", "second"), "Hint"),
        Items(("loose",)),
        Code("x = 1\n\ny = '<b>'"),
    ),
)


def test_text_says_all_that_html_says():
    text = FULL.text()
    assert text.startswith("✗ Not yet: Decode <FP16>\n")
    read_out = unescape(re.sub(r"<[^>]+>", "", FULL.html()))
    for words in ("think.", "quiet", "Expected", "Hint 1: first", "Hint 2: second", "loose", "y = '<b>'"):
        assert words in text
        assert words in read_out


@pytest.mark.parametrize("kind", KINDS)
def test_status_is_a_word_a_glyph_and_a_role(kind):
    """Never colour alone; the glyph is hidden from screen readers, which hear the word."""
    html = Card(kind, "Some status", "a title").html()
    glyph, role = KINDS[kind]
    assert f'role="{role}" aria-label="Some status: a title"' in html
    assert f'<span aria-hidden="true">{glyph}</span> <strong>Some status:</strong> a title' in html


def test_glyphs_differ():
    assert len({glyph for glyph, _ in KINDS.values()}) == len(KINDS)


def test_html_is_escaped_and_balanced():
    class Balance(HTMLParser):
        open_tags = ()

        def handle_starttag(self, tag, attributes):
            self.open_tags = (*self.open_tags, tag)

        def handle_endtag(self, tag):
            *self.open_tags, last = self.open_tags
            assert last == tag

    html = FULL.html()
    assert "<b>" not in html
    assert "Decode &lt;FP16&gt;" in html
    balance = Balance()
    balance.feed(html)
    assert not balance.open_tags


def test_html_is_one_line():
    """Markdown, in which slides are written, ends a block of HTML at an empty line."""
    assert "\n" not in FULL.html()


def test_table_headings_are_marked_for_screen_readers():
    html = FULL.html()
    assert '<th scope="col">what</th>' in html
    assert '<th scope="row">Got</th><td><code>2</code></td>' in html


def test_a_block_that_scrolls_can_be_reached_by_keyboard():
    assert '<pre tabindex="0">' in FULL.html()


def test_display_prints_where_no_notebook_listens(capsys):
    display(Card("note", "Takeaway", "", (Paragraph("Small."),)))
    assert capsys.readouterr().out == "▸ Takeaway\nSmall.\n"


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_cards_are_accessible_and_follow_the_theme(scheme, browser_page):
    """axe finds nothing to complain about; a page that names its theme wins over the reader's system."""
    from axe_playwright_python.sync_playwright import Axe

    page = browser_page(scheme)
    page.set_content(
        f'<!doctype html><html lang="en"><title>Cards</title><main><h1>Cards</h1>{FULL.html()}</main>'
    )
    assert Axe().run(page).response["violations"] == []
    panel = "getComputedStyle(document.querySelector('.ck')).getPropertyValue('--ck-panel')"
    assert page.evaluate(panel) == PALETTES[scheme]["panel"]
    other = "dark" if scheme == "light" else "light"
    page.evaluate(f"document.body.setAttribute('data-jp-theme-light', '{str(other == 'light').lower()}')")
    assert page.evaluate(panel) == PALETTES[other]["panel"]

"""The handout prints one page per slide and refuses notes that do not fit on it."""

import re

import pytest

from classroom.publish.slide_handout import print_handout
from classroom.publish.sources import CourseError

pytestmark = pytest.mark.browser

BARE = (
    "<html><head></head><body>"
    + '<svg data-marpit-svg="" viewBox="0 0 1280 720"></svg>' * 2
    + "</body></html>"
)


@pytest.fixture
def bare(tmp_path):
    path = tmp_path / "deck.html"
    path.write_text(BARE)
    return path


def test_a_page_per_slide_even_beside_a_running_browser(browser, bare, tmp_path):
    """Playwright refuses a second plain session in a thread that has one; the handout brings its own."""
    print_handout(bare, ["**Know** a", "**Say** b"], "A deck", tmp_path / "out.pdf")
    assert len(re.findall(rb"/Type\s*/Page\b", (tmp_path / "out.pdf").read_bytes())) == 2


def test_notes_that_do_not_fit_are_refused(bare, tmp_path):
    with pytest.raises(CourseError, match=r"notes of slides \[2\] do not fit"):
        print_handout(bare, ["short", "long\n\n" * 60], "A deck", tmp_path / "out.pdf")

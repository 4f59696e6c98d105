"""What is missing is named with its remedy; the handout prints one page per slide and refuses notes that do not fit."""

import json
import re

import pytest

from classroom.machine import browser
from classroom.publish import marp, slides
from classroom.publish.marp import MissingTool, find_chromium, find_marp, print_handout
from classroom.publish.sources import CourseError


@pytest.fixture
def bare_machine(monkeypatch, tmp_path):
    """Return a folder that is all the machine has on its PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CHROME_PATH", raising=False)
    monkeypatch.setattr(browser, "noted", lambda: None)
    monkeypatch.setattr(browser, "usual_places", lambda system, environment: [])
    return tmp_path


def test_missing_node(bare_machine):
    with pytest.raises(
        MissingTool, match=r"(?s)`node` was not found.*Install Node\.js 20.*npm ci.*work without it"
    ):
        find_marp(bare_machine)


def test_missing_marp(bare_machine, monkeypatch):
    monkeypatch.setattr(marp, "find_tool", lambda name: "node" if name == "node" else None)
    with pytest.raises(MissingTool, match=r"(?s)marp was not found.*npm ci.*work without it"):
        find_marp(bare_machine)


def test_missing_chromium(bare_machine):
    with pytest.raises(MissingTool, match=r"(?s)Install\s+chromium.*CHROME_PATH.*HTML deck builds"):
        find_chromium()


def test_chrome_path_wins(bare_machine, monkeypatch):
    (bare_machine / "mine").touch()
    monkeypatch.setenv("CHROME_PATH", str(bare_machine / "mine"))
    assert find_chromium() == str(bare_machine / "mine")


@pytest.mark.node
def test_marps_own_words_when_it_fails(tmp_path):
    with pytest.raises(CourseError, match=r"marp could not write x\.html\. It said:\n.+"):
        marp.run_marp(tmp_path / "missing.md", tmp_path / "x.html", "html", root=slides.find_root())


def test_unknown_names_and_formats_are_refused(tmp_path):
    with pytest.raises(CourseError, match=r"no deck is called 99_none; there are 01_formats"):
        slides.build(["99_none"], out=tmp_path)
    with pytest.raises(CourseError, match=r"formats must be among html, pdf"):
        slides.build(formats=("docx",), out=tmp_path)


@pytest.mark.parametrize("name", ["01", "formats", "01_formats", "01_formats.md"])
def test_a_deck_has_several_names(name):
    assert [path.stem for path in slides.deck_paths([name])] == ["01_formats"]


def test_the_lock_pins_what_is_asked_for_and_names_no_registry():
    """An installation asks the registry that its own npm is set to."""
    root = slides.find_root()
    asked = json.loads((root / "package.json").read_text(encoding="utf-8"))["devDependencies"]
    lock = json.loads((root / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert {name: lock[f"node_modules/{name}"]["version"] for name in asked} == asked
    assert [name for name, package in lock.items() if "resolved" in package] == []
    assert all("integrity" in package for name, package in lock.items() if name)


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

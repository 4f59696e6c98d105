"""Built decks fit their slides, ask no network, can be read by everyone, and have their notes in the right places."""

import re
import zipfile
import zlib

import pytest

from classroom.publish.deck import read_deck
from classroom.publish.marp import arrange_handout
from classroom.publish.slides import deck_paths

DECKS = {path.stem: read_deck(path) for path in deck_paths()}
WHOLE = next(iter(DECKS))  # the deck that conftest.py builds in every format
WITH_WIDGET = ("01_formats", "03_memory")  # decks in which a widget is alive
BODY_PIXELS = 24  # at 1280 x 720: readable from the last row

pytestmark = [pytest.mark.node, pytest.mark.browser]

# What leaves its slide's safe area (clear of edges and foot), and what is cut off or squeezed inside it.
OVERFLOW = """() => [...document.querySelectorAll('section')].flatMap((section, i) => {
  const faults = [], box = section.getBoundingClientRect(), scale = box.width / 1280
  const parts = 'h1, h2, p, ul, ol, table, pre, .bits, .card, .figure, img, iframe, mjx-container'
  if (section.scrollHeight > section.clientHeight || section.scrollWidth > section.clientWidth)
    faults.push('the slide')
  for (const part of section.querySelectorAll(parts)) {
    const at = part.getBoundingClientRect(), name = part.tagName + ' ' + part.textContent.slice(0, 40)
    const inner = part.contentDocument?.documentElement ?? part
    if (at.right > box.right - 40 * scale || at.left < box.left + 40 * scale) faults.push('wide: ' + name)
    if (at.bottom > box.bottom - 50 * scale || at.top < box.top + 30 * scale) faults.push('high: ' + name)
    if (part.matches('pre, table') && part.scrollWidth > part.clientWidth + 1) faults.push('cut: ' + name)
    if (part.matches('iframe') && inner.scrollHeight > inner.clientHeight + 1) faults.push('scrolls: ' + name)
    if (part.matches('.figure, iframe') && at.height < 150 * scale) faults.push('squeezed: ' + name)
  }
  return faults.map((fault) => `slide ${i + 1}, ${fault}`)
})"""

SMALL_TYPE = """(least) => [...document.querySelectorAll('section')].flatMap((section, i) =>
  [...section.querySelectorAll('h1, h2, h3, p, li, td, th, code, .field > span, .bit')]
    .filter((e) => e.textContent.trim() && !e.closest('footer'))
    .filter((e) => parseFloat(getComputedStyle(e).fontSize) < least)
    .map((e) => `slide ${i + 1}: ${getComputedStyle(e).fontSize} ${e.textContent.slice(0, 40)}`))"""

PLANT = """() => document.querySelectorAll('section')[3].insertAdjacentHTML('beforeend',
  '<div id=planted><p style="height: 700px; width: 1600px">planted</p></div>')"""

RULES = [
    *(
        "color-contrast",
        "image-alt",
        "svg-img-alt",
        "role-img-alt",
        "frame-title",
        "list",
        "listitem",
        "td-headers-attr",
    ),
    *("empty-heading", "html-has-lang", "document-title", "aria-allowed-attr", "aria-valid-attr"),
]


@pytest.fixture(params=DECKS)
def name(request):
    return request.param


@pytest.fixture
def page(browser, built, name):
    """Open the teacher's deck; `page.asked` holds the addresses that it asked for."""
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.asked = []
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto((built / f"{name}.html").as_uri())
    page.wait_for_selector("section")
    yield page
    page.close()


@pytest.fixture
def column(browser, built, name):
    """Open all slides below each other, in marp's bare template, where all can be measured."""
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.goto((built / f"{name}-column.html").as_uri())
    page.wait_for_selector("section")
    yield page
    page.close()


def test_no_slide_overflows(column):
    """Nothing leaves the safe area, is cut off or squeezed flat; a planted paragraph is seen."""
    assert column.evaluate(OVERFLOW) == []
    column.evaluate(PLANT)
    found = "\n".join(column.evaluate(OVERFLOW))
    assert all(f"slide 4, {fault}" in found for fault in ("high: P planted", "wide: P planted", "the slide"))


def test_type_can_be_read_from_the_last_row(column):
    assert column.evaluate(SMALL_TYPE, BODY_PIXELS) == []
    assert len(column.evaluate(SMALL_TYPE, 100)) > 100, "the measure sees the text"


def test_nothing_is_asked_of_the_network(page, name):
    """One file is all there is: every address is that file, or data inside it."""
    assert [url for url in page.asked if not url.startswith(("file:", "data:", "blob:", "about:"))] == []
    assert [url.rsplit("/", 1)[-1] for url in page.asked if url.startswith("file:")] == [f"{name}.html"]


def test_every_picture_says_what_it_shows(page, name):
    alts = page.evaluate("() => [...document.querySelectorAll('section img')].map((image) => image.alt)")
    assert len(alts) >= 8
    assert [alt for alt in alts if len(alt) < 20] == []
    titles = page.evaluate("() => [...document.querySelectorAll('iframe')].map((frame) => frame.title)")
    assert bool(titles) == (name in WITH_WIDGET) and all(len(title) > 10 for title in titles)


def test_every_slide_has_its_notes(page, name):
    notes = page.evaluate(
        "() => [...document.querySelectorAll('.bespoke-marp-note')].map((n) => n.innerText)"
    )
    assert len(notes) == len(DECKS[name].slides)
    poor = [n for n in notes if not re.search(r"KNOW (?s:.*)SAY (?s:.*)TIME \d+ min", n)]
    assert poor == []


def test_no_value_is_left_unfilled(page):
    assert "{{" not in page.content()


def test_the_students_deck_has_no_notes(built, name):
    teacher, student = (read_deck(built / f"{stem}.md") for stem in (name, f"{name}-student"))
    assert len(teacher.slides) == len(student.slides) == len(DECKS[name].slides)
    assert all("**Know** " in slide.notes for slide in teacher.slides)
    assert {slide.notes for slide in student.slides} == {""}


def test_the_students_page_has_no_notes(built):
    teacher, student = (
        (built / f"{stem}.html").read_text(encoding="utf-8") for stem in (WHOLE, f"{WHOLE}-student")
    )
    for trace in ('class="bespoke-marp-note"', "Wrong answer:", "KNOW "):
        assert trace in teacher
        assert trace not in student
    assert teacher.count("<section") == student.count("<section") == len(DECKS[WHOLE].slides)


def test_all_notes_fit_on_their_pages_of_the_handout(column, built, name):
    deck = read_deck(built / f"{name}.md")
    assert arrange_handout(column, [slide.notes for slide in deck.slides], "A deck") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible_in_light_and_dark(column, scheme):
    """axe finds no fault in contrast, names of pictures and frames, structure of lists and tables."""
    from axe_playwright_python.sync_playwright import Axe

    column.emulate_media(color_scheme=scheme)
    options = {"runOnly": {"type": "rule", "values": RULES}, "iframes": False}
    found = Axe().run(column, options=options).response
    faults = [(v["id"], [node["html"][:90] for node in v["nodes"][:3]]) for v in found["violations"]]
    assert faults == []
    seen = {rule["id"]: len(rule["nodes"]) for rule in found["passes"]}
    assert seen["color-contrast"] > 100 and seen["image-alt"] >= 8


PAPER = "() => getComputedStyle(document.querySelector('section')).backgroundColor"


def test_light_and_dark_follow_the_viewer_and_the_key_d(browser, built, name):
    """The deck is dark when the system is; `d` switches, also in frames, and another window of the deck remembers."""
    context = browser.new_context(color_scheme="light")
    page = context.new_page()
    page.goto((built / f"{name}.html").as_uri())
    light = page.evaluate(PAPER)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(PAPER)
    assert (
        sum(map(int, re.findall(r"\d+", dark)[:3])) < 120 < 600 < sum(map(int, re.findall(r"\d+", light)[:3]))
    )
    page.keyboard.press("d")
    assert page.evaluate(PAPER) == light
    frame = "() => document.querySelector('iframe.live').contentDocument.documentElement.style.colorScheme"
    assert name not in WITH_WIDGET or page.evaluate(frame) == "light"
    page.reload()
    assert page.evaluate(PAPER) == light
    context.close()


def test_the_presenter_view_shows_notes_and_a_timer(browser, built, name):
    context = browser.new_context()
    page = context.new_page()
    page.goto((built / f"{name}.html").as_uri())
    page.wait_for_selector("section")
    with context.expect_page() as window:
        page.keyboard.press("p")
    presenter = window.value
    notes = presenter.locator(".bespoke-marp-presenter-note-container")
    notes.get_by_text("KNOW").first.wait_for()
    assert presenter.locator("[class*=presenter-info-timer]").count() == 1
    context.close()


@pytest.mark.parametrize("name", WITH_WIDGET)
def test_the_widget_is_alive_in_its_slide(page):
    """A click on a bit, or into a box, changes the numbers without a kernel."""
    slide = page.evaluate("() => document.querySelector('iframe.live').closest('section').id")
    page.goto(page.url.split("#")[0] + f"#{slide}")
    frame = page.frame_locator("iframe.live").first
    before = frame.locator("body").inner_text()
    buttons = frame.get_by_role("button")
    (buttons.nth(3) if buttons.count() else frame.get_by_role("checkbox").first).click()
    assert frame.locator("body").inner_text() != before


@pytest.mark.parametrize("kind", [".pdf", "-handout.pdf"])
def test_pdf_and_handout_have_a_page_per_slide(built, kind):
    assert pdf_pages(built / f"{WHOLE}{kind}") == len(DECKS[WHOLE].slides)


def pdf_pages(path):
    """Count page objects, also those in compressed object streams."""
    content = path.read_bytes()
    for stream in re.findall(rb"/ObjStm.*?stream\r?\n(.*?)endstream", content, re.DOTALL):
        content += zlib.decompressobj().decompress(stream)
    return len(re.findall(rb"/Type\s*/Page\b", content))


def test_powerpoint_opens_and_has_the_notes(built):
    with zipfile.ZipFile(built / f"{WHOLE}.pptx") as archive:
        assert archive.testzip() is None
        parts = archive.namelist()
        notes = [archive.read(p).decode() for p in parts if re.fullmatch(r"ppt/notesSlides/\w+\.xml", p)]
    slides = [part for part in parts if re.fullmatch(r"ppt/slides/slide\d+\.xml", part)]
    assert len(slides) == len(notes) == len(DECKS[WHOLE].slides)
    assert all("TIME" in note for note in notes)

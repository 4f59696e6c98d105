"""A handout: one A4 page per slide, the slide above and the teacher's notes below. Marp has no such layout.

Marp's bare template is a plain list of slides, each an SVG element; in the browser each is moved onto a page
of its own, its notes are set below it, and Chromium prints.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from classroom.machine.browser import sandbox_arguments
from classroom.publish.slide_marp import find_chromium
from classroom.publish.sources import CourseError

PAGE_CSS = """
@page { size: A4; margin: 14mm 16mm; }
html { color-scheme: light; }
body { margin: 0; background: #fff; }
.page { height: 268mm; overflow: hidden; break-after: page; display: flex; flex-direction: column; gap: 7mm; }
.page:last-of-type { break-after: auto; }
.page > svg { display: block; width: 176mm; height: 99mm; margin: .5mm; outline: .3mm solid #ccc; }
.notes { color: #1d2530; font: 11pt/1.5 system-ui, "Liberation Sans", sans-serif; }
.notes p { margin: 0 0 2.6mm; }
.foot { margin-top: auto; display: flex; justify-content: space-between; font: 9pt system-ui; }
"""

ARRANGE = """([notes, title, css]) => {
  const slides = [...document.querySelectorAll('svg[data-marpit-svg]')]
  document.head.insertAdjacentHTML('beforeend', `<style>${css}</style>`)
  slides.forEach((slide, i) => {
    const page = document.createElement('div')
    page.className = 'page'
    page.innerHTML = `<div class="notes">${notes[i]}</div>
      <div class="foot"><span>${title}</span><span>${i + 1} / ${slides.length}</span></div>`
    slide.replaceWith(page)
    page.prepend(slide)
  })
  const pages = [...document.querySelectorAll('.page')]
  return [slides.length, pages.flatMap((p, i) => p.scrollHeight > p.clientHeight + 1 ? [i + 1] : [])]
}"""


def print_handout(bare: Path, notes: list[str], title: str, output: Path) -> None:
    """Print marp's bare HTML as a handout, with one string of Markdown notes per slide.

    Raises CourseError if the notes of a slide do not fit on its page.
    """
    from nbconvert.filters import markdown2html

    written = [markdown2html(note) for note in notes]
    with ThreadPoolExecutor(
        1
    ) as thread:  # Playwright's plain calls refuse a thread with an event loop, as Jupyter's
        overfull = thread.submit(_print, bare.resolve().as_uri(), written, title, output).result()
    if overfull:
        raise CourseError(
            f"the notes of slides {overfull} do not fit on a page of the handout. Shorten them."
        )


def _print(address: str, notes: list[str], title: str, output: Path) -> list[int]:
    """Write the PDF; returns the numbers of the slides whose page is too full."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=sandbox_arguments())
        try:
            page = browser.new_page()
            page.goto(address)
            page.emulate_media(media="print")
            drawn, overfull = page.evaluate(ARRANGE, [notes, title, PAGE_CSS])
            assert drawn == len(notes), f"marp drew {drawn} slides, the source has {len(notes)}"
            page.pdf(path=str(output), prefer_css_page_size=True, print_background=True)
        finally:
            browser.close()
    return overfull

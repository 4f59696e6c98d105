"""Turns executed Markdown into HTML, PDF and PowerPoint with Marp, and into a handout with Chromium.

Node, marp and Chromium are other people's programs and may be missing. Each is looked for before it is needed, and the
error names what is missing, the remedy, and what works without it.

A handout has one A4 page per slide, with the slide above and the teacher's notes below. Marp has no such layout. Its
bare template is a plain list of slides, each an SVG element: the browser moves each onto a page of its own, sets its
notes below it, and prints.
"""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from classroom.machine.browser import find_browser, sandbox_arguments
from classroom.machine.host import find_tool
from classroom.publish.sources import CourseError

NEEDS_CHROMIUM = {"pdf", "pptx", "png", "handout"}
FLAGS = {
    "html": [],
    "pdf": ["--pdf", "--pdf-notes", "--pdf-outlines"],
    "pptx": ["--pptx"],
    "png": ["--images", "png"],
    "bare": ["--template", "bare"],
}


class MissingTool(CourseError):
    """A program that the slides need is missing; the message has the remedy and what works without."""


def find_chromium() -> str:
    """Return the path of a browser of Chromium's family. Raises MissingTool if there is none."""
    found = find_browser()
    if found is None:
        raise MissingTool(
            "PDF, PowerPoint and handouts of slides are drawn by Chromium, and none was found. Install "
            "chromium or Chrome, or name yours in CHROME_PATH. The HTML deck builds and presents without."
        )
    return found


def find_marp(root: Path) -> list[str]:
    """Return the command that starts marp: from `root`/node_modules, else from PATH."""
    node = find_tool("node")
    if node is None:
        raise MissingTool(
            "slides are built by marp, which runs on Node.js, and `node` was not found. Install Node.js "
            "20 or later (nodejs.org), then run `npm ci` in the course's folder. Notebooks, exercises and "
            "widgets work without it."
        )
    local = root / "node_modules" / "@marp-team" / "marp-cli" / "marp-cli.js"
    if local.exists():
        return [node, str(local)]
    if found := find_tool("marp"):
        return [found]
    raise MissingTool(
        f"marp was not found in {root / 'node_modules'} or on PATH. Run `npm ci` in the course's folder "
        "(once, it needs the network). Notebooks, exercises and widgets work without it."
    )


def run_marp(markdown: Path, output: Path, kind: str, *, root: Path) -> None:
    """Write `output` from `markdown` with the course's theme; `kind` is a key of FLAGS.

    Raises MissingTool, or CourseError with marp's own words if it fails.
    """
    settings = root / "slides" / "theme" / "marp.config.mjs"
    command = [*find_marp(root), "--config-file", str(settings), *FLAGS[kind]]
    environment = dict(os.environ)
    if kind in NEEDS_CHROMIUM:
        environment["CHROME_PATH"] = find_chromium()
        if sandbox_arguments():
            environment["CHROME_NO_SANDBOX"] = "1"
    done = subprocess.run(
        [*command, str(markdown), "-o", str(output)],
        cwd=root, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
        encoding="utf-8", errors="replace", timeout=180,
    )  # fmt: skip
    if done.returncode:
        raise CourseError(f"marp could not write {output.name}. It said:\n{done.stderr.strip()}")


# ---------------------------------------------------------------- the handout

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
    # Playwright's plain calls refuse a thread with an event loop, such as Jupyter's.
    with ThreadPoolExecutor(1) as thread:
        overfull = thread.submit(_print, bare.resolve().as_uri(), notes, title, output).result()
    if overfull:
        raise CourseError(
            f"the notes of slides {overfull} do not fit on a page of the handout. Shorten them."
        )


def _print(address: str, notes: list[str], title: str, output: Path) -> list[int]:
    """Write the PDF and return the numbers of the slides whose page is too full."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=sandbox_arguments())
        try:
            page = browser.new_page()
            page.goto(address)
            overfull = arrange_handout(page, notes, title)
            page.pdf(path=str(output), prefer_css_page_size=True, print_background=True)
        finally:
            browser.close()
    return overfull


def arrange_handout(page, notes: list[str], title: str) -> list[int]:
    """Turn the bare slides of an open page into A4 pages with their notes; the numbers of those that are too full."""
    from nbconvert.filters import markdown2html

    page.emulate_media(media="print")
    drawn, overfull = page.evaluate(ARRANGE, [[markdown2html(note) for note in notes], title, PAGE_CSS])
    assert drawn == len(notes), f"marp drew {drawn} slides, the source has {len(notes)}"
    return overfull

"""The float explorer in headless Chromium: without a kernel, in a Markdown slide, and live in JupyterLab."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

from classroom.publish.marp import run_marp
from classroom.publish.page import to_html
from coursekit.widgets.float_explorer import FloatExplorer

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.browser

PAGE = '<!doctype html><html lang="en"><title>t</title><body><main><h1>t</h1>{}</main></body></html>'

# What reaches over the edge of its explorer, or of the number line that it is drawn on.
CUT_OFF = """[...document.querySelectorAll('.fx *')].filter((e) => {
    const inner = e.getBoundingClientRect(), outer = e.closest('.fx-line, .fx').getBoundingClientRect();
    return inner.width > 0 && (inner.left < outer.left - 1 || inner.right > outer.right + 1);
}).map((e) => e.outerHTML.slice(0, 90))"""


@pytest.fixture
def open_page(browser, tmp_path):
    """open_page(html, **context) -> a page on it. At the end: no request left it, nothing went wrong."""
    contexts, requests, problems = [], [], []

    def visit(body, **options):
        path = tmp_path / f"page{len(contexts)}.html"
        path.write_text(PAGE.format(body), encoding="utf-8")
        contexts.append(browser.new_context(reduced_motion="reduce", **options))
        page = contexts[-1].new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(path.as_uri())
        return page

    yield visit
    for context in contexts:
        context.close()
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert problems == []


@pytest.fixture
def page(open_page):
    return open_page(FloatExplorer("FP16", 0.1).to_html())


def code(page):
    return page.locator("dl dd").first.inner_text().split()[0]


def stored(page):
    return page.locator("output b").inner_text()


def box(page):
    return page.get_by_role("textbox", name="Value")


def bit(page, name):
    return page.get_by_role("button", name=name)


def test_a_click_flips_a_bit(page):
    assert (code(page), stored(page)) == ("0x2E66", "0.0999755859375")
    bit(page, "sign bit").click()
    assert (code(page), stored(page)) == ("0xAE66", "-0.0999755859375")
    assert bit(page, "sign bit").get_attribute("aria-pressed") == "true"
    assert box(page).input_value() == "-0.0999755859375"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("65504", "0x7BFF"), ("70000", "0x7C00"), ("6e-8", "0x0001"), ("1/3", "0x3555"), ("2^-24", "0x0001"),
     ("-0", "0x8000"), ("nan", "0x7E00"), ("0x3C00", "0x3C00")],
)  # fmt: skip
def test_a_typed_value_is_encoded(page, text, expected):
    box(page).fill(text)
    assert code(page) == expected
    assert box(page).input_value() == text  # the box belongs to who types


def test_unreadable_text_is_named_and_changes_nothing(page):
    box(page).fill("one half")
    assert "Cannot read “one half”" in page.get_by_role("alert").inner_text()
    assert code(page) == "0x2E66"
    page.get_by_role("button", name="cousins").click()  # nothing moves away under the mouse
    assert page.get_by_role("button", name="hide the cousins").count() == 1
    box(page).fill("0.5")
    assert page.get_by_role("alert").inner_text() == "" and code(page) == "0x3800"


def test_another_format_keeps_the_value(page):
    page.get_by_role("combobox", name="Format").select_option("BF16")
    assert (code(page), box(page).input_value()) == ("0x3DCD", "0.1")
    box(page).fill("0.1")
    page.get_by_role("button", name="E4M3", exact=True).click()  # right out of the box
    assert (code(page), stored(page)) == ("0x1D", "0.1015625")
    assert page.get_by_role("button", name="E4M3", exact=True).evaluate("e => e === document.activeElement")


def test_every_format_answers_for_the_same_value(page):
    rows = {row.split()[0]: row.split()[1:] for row in page.locator(".fx-rows [role=row]").all_inner_texts()}
    assert len(rows) == 10 and rows["FP32"][-1] == "0x3DCCCCCD" and rows["E2M1"] == ["0", "underflow", "0x0"]
    page.get_by_role("button", name="cousins").click()
    assert page.locator(".fx-rows [role=row]").count() == 15


def test_saturation_is_a_choice(page):
    box(page).fill("70000")
    assert stored(page) == "inf"
    page.get_by_label("saturate").check()
    assert stored(page) == "65504"


def test_buttons_step_to_the_neighbours(page):
    page.get_by_role("button", name="next above").click()
    assert (code(page), stored(page)) == ("0x2E67", "0.10003662109375")
    page.get_by_role("button", name="next below").click()
    assert code(page) == "0x2E66"
    box(page).fill("inf")
    assert page.get_by_role("button", name="next above").is_disabled()
    page.get_by_role("button", name="next below").click()
    assert stored(page) == "65504"


def test_the_keyboard_is_enough(page):
    """Arrows move along the bits, space flips, up and down step; the page around hears none of it."""
    page.evaluate("document.addEventListener('keydown', (e) => { window.heard = e.key })")
    bit(page, "sign bit").focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    assert code(page) == "0x2E64"
    assert (
        page.evaluate("document.activeElement.getAttribute('aria-label')") == "mantissa bit 1, weight 2^-9, 0"
    )
    page.keyboard.press("ArrowUp")
    assert code(page) == "0x2E65"
    assert page.locator(".fx-bit[tabindex='0']").count() == 1
    assert page.evaluate("window.heard") is None
    page.keyboard.press("PageDown")
    assert page.evaluate("window.heard") == "PageDown"


def test_many_on_a_page_live_apart(open_page):
    page = open_page(FloatExplorer("FP16", 0.1).to_html() * 2 + FloatExplorer("FP32", 1 / 3).to_html())
    widgets = page.get_by_role("group", name="Float explorer")
    assert widgets.count() == 3
    bit(widgets.first, "sign bit").click()
    assert [code(widgets.nth(i)) for i in range(3)] == ["0xAE66", "0x2E66", "0x3EAAAAAB"]


def test_without_scripts_the_picture_stays(open_page):
    page = open_page(FloatExplorer("FP16", 0.1).to_html(), java_script_enabled=False)
    picture = page.get_by_role("img", name="0.1 in FP16")
    assert picture.bounding_box()["width"] == 720


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100])
def test_axe_finds_nothing_and_nothing_is_cut_off(open_page, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    body = "".join(FloatExplorer(fmt, value).to_html() for fmt, value in [("FP32", -70000.1), ("E4M3", 500)])
    page = open_page(body, color_scheme=scheme, viewport={"width": width, "height": 900})
    box(page).first.fill("what")
    report = Axe().run(page)
    assert report.violations_count == 0, report.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(CUT_OFF) == []


DECK = """---
marp: true
theme: coursekit
---

# Click

{}

---

# Next
"""


@pytest.mark.node
def test_in_a_slide_keys_work_the_widget_not_the_deck(browser, tmp_path):
    """Marp passes both blocks on; the explorer fits a slide; arrows and space pressed in it turn no page."""
    (tmp_path / "deck.md").write_text(DECK.format(FloatExplorer("FP32", 0.1).to_html()), encoding="utf-8")
    run_marp(tmp_path / "deck.md", tmp_path / "deck.html", "html", root=ROOT)
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.goto((tmp_path / "deck.html").as_uri())
    slide = page.locator("section").first
    assert slide.evaluate("e => e.scrollHeight <= e.clientHeight")
    bit(page, "sign bit").click()
    for key in ("ArrowRight", "Space", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    assert code(page) == "0xFDCCCCCC" and slide.is_visible()
    page.close()


def test_a_notebook_exported_as_html_is_alive(browser, tmp_path):
    """What canonical notebooks keep, without the live view, comes alive in the course's own pages."""
    data, metadata = FloatExplorer("BF16", 0.1)._repr_mimebundle_()
    del data["application/vnd.jupyter.widget-view+json"]
    output = nbformat.v4.new_output("execute_result", data=data, metadata=metadata, execution_count=1)
    cell = nbformat.v4.new_code_cell("explorer", outputs=[output], execution_count=1)
    html = to_html(nbformat.v4.new_notebook(cells=[cell]), "t")
    (tmp_path / "t.html").write_text(html, encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "t.html").as_uri())
    bit(page, "sign bit").click()
    assert stored(page) == "-0.10009765625"
    page.close()


CELLS = (
    "from coursekit.widgets.float_explorer import FloatExplorer\nexplorer = FloatExplorer('FP16', 0.1)\nexplorer",
    "explorer.fmt, hex(explorer.code), explorer.value",
    "explorer.fmt = 'BF16'; explorer.value = 3.0",
)


@pytest.fixture
def lab(tmp_path):
    """A JupyterLab on a notebook with CELLS and, as an output never run here, what a committed notebook holds."""
    data, _ = FloatExplorer("E4M3", 500)._repr_mimebundle_()
    del data["application/vnd.jupyter.widget-view+json"]  # as in every committed notebook
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    cells.append(nbformat.v4.new_code_cell("", outputs=[nbformat.v4.new_output("display_data", data=data)]))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    (tmp_path / "notebook").mkdir()
    nbformat.write(notebook, tmp_path / "notebook" / "t.ipynb")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folders = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--IdentityProvider.token=t"], cwd=tmp_path / "notebook",
            env={**os.environ, **folders}, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{port}/api", server)
        yield f"http://127.0.0.1:{port}/lab/tree/t.ipynb?token=t"
    finally:
        server.terminate()
        server.wait(timeout=20)


def wait_for(address, server, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        try:
            return urllib.request.urlopen(address, timeout=2)
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"JupyterLab did not answer within {seconds} s (exit status {server.poll()})")


def test_page_and_python_stay_in_step_in_jupyterlab(lab, browser):
    """Clicks and keys reach Python, what Python sets reaches the page; a saved output is shown as its picture."""
    context = browser.new_context(viewport={"width": 1400, "height": 1400})
    page = context.new_page()
    page.goto(lab)
    page.get_by_role("img", name="500.0 in E4M3").wait_for(timeout=60_000)  # untrusted: no script has run
    page.get_by_text("| Idle").wait_for(timeout=60_000)  # the status bar: a kernel, and ready

    def run(index):
        page.locator(".jp-CodeCell .cm-content").nth(index).click()
        page.keyboard.press("Shift+Enter")

    run(0)
    bit(page, "sign bit").click(timeout=60_000)
    for key in ("End", "Space", "ArrowUp"):
        page.keyboard.press(key)
    assert code(page) == "0xAE66"
    run(1)
    page.get_by_text("('FP16', '0xae66', -0.0999755859375)").wait_for()
    run(2)
    page.locator("output").get_by_text("3", exact=True).wait_for()
    assert code(page) == "0x4040"
    context.close()

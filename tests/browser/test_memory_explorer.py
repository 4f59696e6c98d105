"""The memory explorer in headless Chromium, without a kernel and without a network."""

import pytest

from coursekit.memory.planner import Plan, estimate
from coursekit.widgets import memory_picture
from coursekit.widgets.memory_explorer import MemoryExplorer

pytestmark = pytest.mark.browser

PAGE = '<!doctype html><html lang="en"><title>t</title><body><main><h1>t</h1>{}</main></body></html>'
CUT_OFF = """[...document.querySelectorAll('.mx *')].filter((e) => {
    const inner = e.getBoundingClientRect(), outer = e.closest('.mx').getBoundingClientRect();
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
    return open_page(MemoryExplorer("llama-3-8b", "qlora", card="RTX 4090").to_html())


def choose(page, name, value):
    page.get_by_role("combobox", name=name).select_option(value)


def slide(page, name, steps):
    box = page.get_by_role("slider", name=name)
    box.focus()
    for _ in range(abs(steps)):
        page.keyboard.press("ArrowRight" if steps > 0 else "ArrowLeft")


def sums(page):
    """The last row of the table."""
    cells = page.get_by_role("row").last.get_by_role("cell")
    return [cells.nth(i).inner_text() for i in range(cells.count())]


def planned(**values):
    return [memory_picture.size(n) for n in estimate(Plan("llama-3-8b", **values)).peaks.values()]


QLORA = {"lora_rank": 16, "quantization": "nf4"}


def test_it_opens_on_what_python_says(page):
    assert sums(page) == planned(**QLORA)
    assert "too much: activations" in page.locator("output").inner_text()


def test_pickers_and_the_keyboard_change_the_bars(page):
    page.get_by_role("checkbox", name="checkpointing").check()
    assert sums(page) == planned(**QLORA, checkpointing=True)
    assert "to spare" in page.locator("output").inner_text()
    slide(page, "Batch", 3)
    slide(page, "Sequence", -2)
    assert sums(page) == planned(**QLORA, checkpointing=True, batch=4, sequence=512)
    choose(page, "Method", "master-16")
    choose(page, "Optimizer", "adamw-8bit")
    choose(page, "GPUs", "8")
    choose(page, "ZeRO stage", "3")
    values = {"ledger": "master-16", "optimizer": "adamw-8bit", "zero_stage": 3, "world_size": 8}
    assert sums(page) == planned(**values, checkpointing=True, batch=4, sequence=512)
    choose(page, "Card", "T4")
    assert "T4" in page.locator("output").inner_text()


def test_what_cannot_be_is_not_offered(page):
    stage = page.get_by_role("combobox", name="ZeRO stage")
    assert stage.locator("option").nth(3).is_disabled()
    choose(page, "Method", "lora")
    assert stage.locator("option").nth(3).is_enabled()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [500, 1100])
def test_nothing_is_cut_off_and_axe_finds_nothing(open_page, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    explorer = MemoryExplorer("llama-3-70b", "master-16", zero_stage=3, gpus=64, card="H200")
    page = open_page(explorer.to_html(), color_scheme=scheme, viewport={"width": width, "height": 900})
    assert page.evaluate(CUT_OFF) == []
    assert Axe().run(page).response["violations"] == []

"""The chat box in a page: what is typed reaches Python, what Python answers is shown as text, anyone can use it."""

import json
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from coursekit.widgets import chat_box
from coursekit.widgets.chat_box import ChatBox

pytestmark = pytest.mark.browser
HERE = Path(chat_box.__file__).parent
PAGE = """\
<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Chat box</title>
<style>body {{ margin: 1rem; color-scheme: light dark }} {css}</style></head>
<body><main><h1>Chat</h1><div id="box"></div></main>
<script type="module">
{js}
const state = {state}, listeners = {{}};
window.sent = [];
window.model = {{
  get: (name) => state[name],
  set: (name, value) => {{ state[name] = value; listeners[`change:${{name}}`]?.(); }},
  on: (name, listener) => {{ listeners[name] = listener; }},
  off: (name) => {{ delete listeners[name]; }},
  send: (message) => window.sent.push(message),
}};
window.cleanup = render({{ model: window.model, el: document.getElementById("box") }});
window.listeners = listeners;
</script></body></html>
"""
MESSAGES = [
    {"role": "user", "content": "The young knight found a silver key."},
    {"role": "assistant", "content": "A silver key, the young knight found. <script>alert(1)</script>"},
    {"role": "error", "content": "The model could not answer: " + "out-of-memory-" * 20},
]
schemes = pytest.mark.parametrize("scheme", ["light", "dark"])
CUT_OFF = """[...document.querySelectorAll('.chat-box *')].filter((e) => {
    const inner = e.getBoundingClientRect(), outer = e.closest('.chat-box').getBoundingClientRect();
    return inner.left < outer.left || inner.right > outer.right;
}).map((e) => e.outerHTML.slice(0, 90))"""


@pytest.fixture
def open_page(browser):
    """open_page(html, **context) -> a page on it; at the end nothing went wrong in any of them."""
    contexts, problems = [], []

    def visit(html, **options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.clock.install()
        page.set_content(html)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def open_box(open_page):
    """The widget's own files in a page, with a stand-in for the kernel's side."""

    def visit(**options):
        js = (HERE / "chat_box.js").read_text(encoding="utf-8").replace("export default { render };", "")
        css = (HERE / "chat_box.css").read_text(encoding="utf-8")
        state = json.dumps({"messages": MESSAGES, "busy": False, "placeholder": "Write a sentence"})
        page = open_page(PAGE.format(js=js, css=css, state=state.replace("</", "<\\/")), **options)
        page.wait_for_selector("li")
        return page

    return visit


def say(page, text):
    page.get_by_label("Your message").fill(text)
    page.get_by_label("Your message").press("Enter")


@schemes
@pytest.mark.parametrize("width", [320, 900])
def test_it_is_accessible_and_nothing_is_cut_off(open_box, scheme, width):
    page = open_box(color_scheme=scheme, viewport={"width": width, "height": 600})
    say(page, "Anna found a map.")
    report = Axe().run(page)
    assert report.violations_count == 0, report.generate_report()
    assert page.evaluate(CUT_OFF) == []


def test_what_is_said_is_shown_as_text(open_box):
    shown = open_box().locator("li").all_inner_texts()
    assert [text.split("\n")[0] for text in shown] == ["You", "Model", "Trouble"]
    assert "<script>alert(1)</script>" in shown[1]


def test_what_is_typed_is_shown_at_once_and_sent_once(open_box):
    """Before Python has seen it, and while the model answers, nothing more goes out."""
    page = open_box()
    say(page, " Anna found a map. ")
    assert page.locator("li").last.inner_text() == "You\nAnna found a map."
    say(page, "Once more.")
    assert page.evaluate("window.sent") == [{"say": "Anna found a map."}]
    page.evaluate("window.model.set('messages', [{role: 'user', content: 'Anna found a map.'}])")
    page.evaluate("window.model.set('busy', true)")
    assert page.locator("li").count() == 1
    assert page.get_by_role("status").inner_text() == "The model is thinking."
    say(page, "And again.")
    assert len(page.evaluate("window.sent")) == 1
    page.evaluate("window.model.set('busy', false)")
    say(page, "Now.")
    assert page.evaluate("window.sent.at(-1)") == {"say": "Now."}


def test_a_kernel_that_does_not_answer_is_explained(open_box):
    page = open_box()
    say(page, "Anna found a map.")
    assert page.get_by_role("status").inner_text() == "Sent."
    page.clock.run_for(5000)
    assert "is another cell running?" in page.get_by_role("status").inner_text()
    page.evaluate("window.model.set('messages', [{role: 'assistant', content: 'A map, Anna found.'}])")
    assert page.get_by_role("status").inner_text() == ""


def test_the_page_around_hears_no_key_typed_here(open_box):
    """JupyterLab deletes a cell on two d."""
    page = open_box()
    page.evaluate("document.addEventListener('keydown', (e) => { window.heard = e.key })")
    page.get_by_label("Your message").press("d")
    assert page.evaluate("window.heard") is None


def test_the_listeners_go_with_the_widget(open_box):
    page = open_box()
    page.evaluate("window.cleanup()")
    assert page.evaluate("Object.keys(window.listeners)") == []


@schemes
def test_without_a_kernel_it_reads_as_a_conversation(open_page, scheme):
    box = ChatBox(lambda text: "A silver key, the young knight found.")
    box.say("The young knight found a silver key.")
    html = (
        f'<!doctype html><html lang="en"><title>t</title><body><main><h1>t</h1>{box.to_html()}</main></body>'
    )
    page = open_page(html, color_scheme=scheme, viewport={"width": 400, "height": 600})
    user, model = (item.bounding_box() for item in page.locator("li").all())
    assert user["x"] > model["x"] and user["y"] + user["height"] <= model["y"]
    report = Axe().run(page)
    assert report.violations_count == 0, report.generate_report()


def test_where_styles_are_stripped_it_still_says_who(open_page):
    box = ChatBox(lambda text: "A map, Anna found.")
    box.say("Anna found a map.")
    page = open_page(box.to_html())
    page.evaluate("document.querySelector('style').remove()")
    assert page.locator("li").all_inner_texts() == ["You: Anna found a map.", "Model: A map, Anna found."]

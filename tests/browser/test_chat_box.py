"""The chat box in a page: what is typed reaches Python, what Python answers is shown as text, anyone can use it."""

import json
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe

from coursekit.widgets import chat_box

pytestmark = pytest.mark.browser
HERE = Path(chat_box.__file__).parent
PAGE = """\
<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Chat box</title>
<style>body {{ margin: 1rem; color-scheme: light dark }} {css}</style></head><body><main><h1>Chat</h1><div id="box"></div></main>
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
    {"role": "error", "content": "The model could not answer: out of memory"},
]


@pytest.fixture(params=["light", "dark"])
def page(browser, request):
    """The widget's own files in a page, with a stand-in for the kernel's side."""
    js = (HERE / "chat_box.js").read_text(encoding="utf-8").replace("export default { render };", "")
    css = (HERE / "chat_box.css").read_text(encoding="utf-8")
    state = json.dumps({"messages": MESSAGES, "busy": False, "placeholder": "Write a sentence"})
    page = browser.new_page(viewport={"width": 700, "height": 420}, color_scheme=request.param)
    page.set_content(PAGE.format(js=js, css=css, state=state.replace("</", "<\\/")))
    page.wait_for_selector("li")
    yield page
    page.close()


def test_the_conversation_is_shown_as_text_and_is_accessible(page):
    assert [item.inner_text().split("\n")[0] for item in page.locator("li").all()] == [
        "You",
        "Model",
        "Trouble",
    ]
    assert "<script>alert(1)</script>" in page.locator("li").nth(1).inner_text()
    assert Axe().run(page).violations_count == 0


def test_what_is_typed_is_sent_once_and_not_while_the_model_answers(page):
    field = page.get_by_label("Your message")
    field.fill("Anna found a map.")
    field.press("Enter")
    assert page.evaluate("window.sent") == [{"say": "Anna found a map."}]
    assert field.input_value() == ""
    page.evaluate("window.model.set('busy', true)")
    assert page.get_by_role("button").is_disabled() and page.locator("output").inner_text() == "thinking"
    field.fill("Once more.")
    field.press("Enter")
    assert len(page.evaluate("window.sent")) == 1


def test_an_answer_appears_and_the_listeners_go_with_the_widget(page):
    page.evaluate("window.model.set('messages', [{role: 'assistant', content: 'A map, Anna found.'}])")
    assert page.locator("li").all_inner_texts() == ["Model\nA map, Anna found."]
    page.evaluate("window.cleanup()")
    assert page.evaluate("Object.keys(window.listeners)") == []

"""The chat box: what is said is answered once, trouble does not end it, and it can be read without a kernel."""

from coursekit.widgets.chat_box import ChatBox


def test_what_is_said_is_answered():
    box = ChatBox(str.upper, prefix="say: ")
    assert box.say("  hello ") == "SAY: HELLO"
    assert box.messages == [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "SAY: HELLO"},
    ]
    assert not box.busy


def test_a_message_of_the_page_is_answered():
    box = ChatBox(str.upper)
    box._handle_custom_msg({"say": "hi"}, [])
    assert box.transcript() == "user: hi\nassistant: HI"


def test_nothing_said_is_nothing_answered():
    box = ChatBox(str.upper)
    assert box.say("  ") == "" and box.messages == []


def test_trouble_is_told_and_does_not_end_it():
    def answer(text):
        if text == "bad":
            raise ValueError("no such word")
        return "fine"

    box = ChatBox(answer)
    assert box.say("bad") == "The model could not answer: no such word"
    assert box.messages[-1]["role"] == "error" and not box.busy
    assert box.say("good") == "fine"


def test_without_a_kernel_it_can_be_read_and_does_nothing():
    box = ChatBox(lambda text: "<script>alert(1)</script>")
    box.say("x & y")
    data, _ = box._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert ">You:</strong> x &amp; y<" in data["text/html"] and "<script>" not in data["text/html"]
    assert "\n" not in data["text/html"]  # Markdown would end the HTML at an empty line
    assert data["text/plain"].startswith("user: x & y\n")

"""Talk to a model in the notebook, in a box for a conversation.

    box = ChatBox(lambda text: reply(model, tokenizer, text))
    box.say("Say it like the small green master: Anna found a key.")     # from Python; a visitor types instead
    box

The page sends what is typed and Python answers; without a kernel the conversation can still be read. Left out: the
model's memory of the conversation, which `answer` has to keep.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path

import anywidget
import traitlets

HERE = Path(__file__).parent
NAMES = {"user": "You", "assistant": "Model", "error": "Trouble"}
NO_KERNEL = "A conversation that was held. Run the cell to talk to the model yourself."


class ChatBox(anywidget.AnyWidget):
    """A conversation with `answer`, a function that takes what the user typed and returns the reply.

    Traits: `messages`, a list of {"role": "user" or "assistant", "content": text}; `prefix`, put before what is typed
    (a standing request); `busy`, true while the model answers. An exception in `answer` becomes a message of the role
    "error", and the box stays usable.
    """

    _esm = HERE / "chat_box.js"
    _css = HERE / "chat_box.css"

    messages = traitlets.List().tag(sync=True)
    prefix = traitlets.Unicode("").tag(sync=True)
    placeholder = traitlets.Unicode("Write something").tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)

    def __init__(self, answer: Callable[[str], str], **traits):
        super().__init__(**traits)
        self._answer = answer
        self.on_msg(lambda _, content, __: self.say(content["say"]))

    def say(self, text: str) -> str:
        """Say something and get the reply; both are added to the conversation. An empty text says nothing."""
        if not text.strip():
            return ""
        self._add("user", text.strip())
        self.busy = True
        try:
            role, reply = "assistant", self._answer(self.prefix + text.strip())
        except Exception as error:  # whatever the model raises, the box must stay usable
            role, reply = "error", f"The model could not answer: {error}"
        finally:
            self.busy = False
        self._add(role, reply)
        return reply

    def _add(self, role: str, content: str) -> None:
        self.messages = [*self.messages, {"role": role, "content": content}]

    def transcript(self) -> str:
        """The conversation as text, one line per message."""
        return "\n".join(f"{message['role']}: {message['content']}" for message in self.messages)

    def to_html(self) -> str:
        """The conversation as HTML that needs no kernel, for reading only; readable without styles too."""
        style = " ".join((HERE / "chat_box.css").read_text(encoding="utf-8").split())
        rows = "".join(
            f'<li class="{message["role"]}"><strong class="who">{NAMES[message["role"]]}:</strong> '
            f"{html.escape(message['content'])}</li>"
            for message in self.messages
        )
        return (
            f'<div class="chat-box" role="group" aria-label="A conversation with the model"><style>{style}</style>'
            f'<ol>{rows}</ol><p class="note">{NO_KERNEL}</p></div>'
        )

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        return {**data, "text/html": self.to_html(), "text/plain": self.transcript()}, metadata

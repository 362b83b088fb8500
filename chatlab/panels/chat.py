"""ChatPanel: chat with the model in a notebook.

In: a conversation and what the learner types or clicks. Out: a growing transcript. The transcript lives in the
conversation; the widgets only show it. Knows nothing of how a reply is made.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from chatlab.conversation import Conversation
from chatlab.display import STYLE, count_of, escape, transcript_html
from chatlab.engines import Engine
from chatlab.errors import ChatlabError
from chatlab.messages import Message, user, validate
from chatlab.model import engine_of

__all__ = ["ChatPanel"]

SECONDS_BETWEEN_UPDATES = 0.1  # each update sends the whole transcript, so a browser gets at most ten a second


class ChatPanel(widgets.VBox):  # type: ignore[misc]
    """A chat with a model, here or on a server: transcript, message, Send and Stop, system message, temperature.

    `conversation` holds the transcript and may be given, to go on with an earlier chat. A reply is made in a thread of
    its own, so that Stop works at once and other cells can run meanwhile. `send`, `stop` and `clear` do what the
    buttons do; `wait` waits for the reply.

    >>> from chatlab.testing import ScriptedModel
    >>> panel = ChatPanel(system="Be brief.", model=ScriptedModel("Hello!"))
    >>> panel.send("Hi")
    >>> panel.wait()
    >>> panel.conversation.messages[-1]
    {'role': 'assistant', 'content': 'Hello!'}
    >>> panel
    ChatPanel(1 turn, temperature=1.0)
    """

    def __init__(
        self,
        conversation: Conversation | None = None,
        *,
        system: str | None = None,
        temperature: float | None = None,
        max_completion_tokens: int | None = None,
        model: Engine | str | Path | None = None,
    ) -> None:
        if conversation is None:
            conversation = Conversation(
                system=system,
                temperature=1.0 if temperature is None else temperature,
                max_completion_tokens=max_completion_tokens,
                model=model,
            )
        elif (system, temperature, max_completion_tokens, model) != (None, None, None, None):
            raise TypeError("Give ChatPanel a conversation, which has its own settings, or the settings; not both.")
        # Loading here shows its progress bar under the cell; in the thread of the first reply it would appear anywhere.
        conversation.model = engine_of(conversation.model)
        self.conversation = conversation
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._build(conversation)
        super().__init__(
            children=[
                widgets.HTML(STYLE),
                self.system_box,
                self.transcript,
                widgets.HBox([self.message_box, self.send_button, self.stop_button]),
                widgets.HBox([self.temperature_slider, self.clear_button]),
                self.status,
            ],
            layout=widgets.Layout(max_width="60em"),
        )
        self._show_transcript(conversation.messages)

    def _build(self, conversation: Conversation) -> None:
        """Make the controls and connect them."""
        wide = widgets.Layout(flex="1 1 auto", width="auto")
        self.system_box = widgets.Textarea(
            value=conversation.system or "",
            description="System",
            placeholder="Instructions for the model; the end user of an app does not see them",
            rows=2,
            layout=widgets.Layout(width="auto"),
        )
        self.transcript = widgets.HTML()
        self.message_box = widgets.Text(description="Message", placeholder="Ask something, then Enter", layout=wide)
        self.send_button = widgets.Button(description="Send", button_style="primary", tooltip="Send the message")
        self.stop_button = widgets.Button(description="Stop", disabled=True, tooltip="Stop the reply")
        self.clear_button = widgets.Button(description="Clear", tooltip="Forget every turn")
        self.temperature_slider = widgets.FloatSlider(
            value=conversation.temperature,
            min=0,
            max=2,
            step=0.1,
            description="Temperature",
            style={"description_width": "initial"},
        )
        self.status = widgets.HTML()
        self.send_button.on_click(lambda _: self.send())
        self.stop_button.on_click(lambda _: self.stop())
        self.clear_button.on_click(lambda _: self.clear())
        self.message_box.on_msg(self._on_message)
        self.system_box.observe(self._on_system, "value")
        self.temperature_slider.observe(self._on_temperature, "value")

    def _on_message(self, _: Any, content: dict[str, Any], __: Any) -> None:
        if content.get("event") == "submit":  # what the text field sends when Enter is pressed
            self.send()

    def _on_system(self, change: dict[str, Any]) -> None:
        self.conversation.system = change["new"] or None

    def _on_temperature(self, change: dict[str, Any]) -> None:
        self.conversation.temperature = change["new"]

    @property
    def running(self) -> bool:
        """Whether a reply is being made."""
        return self._thread is not None and self._thread.is_alive()

    def send(self, text: str | None = None) -> None:
        """Send the text (None: what stands in the message field); returns at once, the reply grows in the transcript.

        Does nothing without text, or while a reply is being made.
        """
        text = self.message_box.value if text is None else text
        if not text.strip() or self.running:
            return
        self.message_box.value = ""
        self._stopping.clear()
        self._set_running(True)
        self._show_transcript([*self.conversation.messages, user(text)], busy=True)
        self._thread = threading.Thread(target=self._reply, args=(text,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the reply; what has been said so far stays."""
        self._stopping.set()
        self.conversation.stop()

    def clear(self) -> None:
        """Forget every turn; the system message stays."""
        self.stop()
        self.wait()
        self.conversation.clear()
        self._show_transcript(self.conversation.messages)
        self.status.value = ""

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the reply is complete, at most `timeout` seconds."""
        if self._thread is not None:
            self._thread.join(timeout)

    def _reply(self, text: str) -> None:
        """Make the reply and show it as it grows; runs in a thread of its own."""
        started, shown, pieces, usage, finish_reason = time.perf_counter(), 0.0, 0, None, None
        try:
            chunks = self.conversation(text, stream=True)
            if self._stopping.is_set():  # Stop was faster than the thread
                self.conversation.stop()
            for chunk in chunks:
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    pieces += bool(choice.delta.content)
                    finish_reason = choice.finish_reason or finish_reason
                if pieces and time.perf_counter() - shown > SECONDS_BETWEEN_UPDATES:
                    shown = time.perf_counter()
                    self._show_transcript(self.conversation.messages, busy=True)
            if finish_reason:
                how = "cut off: the token limit is reached" if finish_reason == "length" else "done"
                tokens = usage.completion_tokens if usage else 0  # not every server counts
                speed = tokens / (time.perf_counter() - started)
                self._note(f"{how} · {tokens} tokens · {speed:.1f} tokens a second" if usage else how)
            else:
                self._note(f"stopped after {pieces} pieces of text")
        except ChatlabError as error:
            self._note(f"{type(error).__name__}: {error}")
        except Exception as error:  # a thread has nobody to raise to: the learner must see it in the panel
            self._note(f"Something went wrong: {type(error).__name__}: {error}")
        finally:
            if not pieces and finish_reason is None:  # nothing was said, so the question can be put again
                self.message_box.value = text
            self._show_transcript(self.conversation.messages)
            self._set_running(False)

    def _set_running(self, running: bool) -> None:
        self.send_button.disabled = running
        self.stop_button.disabled = not running
        self.system_box.disabled = running
        if running:
            self._note("thinking …")

    def _note(self, text: str) -> None:
        self.status.value = f'<div class="chatlab-note" role="status">{escape(text)}</div>'

    def _show_transcript(self, messages: list[Message], *, busy: bool = False) -> None:
        turns = (
            [message for message in validate(messages) if message["role"] in ("user", "assistant")] if messages else []
        )
        inner = transcript_html(turns) or '<span class="chatlab-note">Say hello.</span>'
        self.transcript.value = (
            f'<div class="chatlab chatlab-log"><div role="log" aria-live="polite" aria-busy="{str(busy).lower()}" '
            f'aria-label="Conversation">{inner}</div></div>'
        )

    def __repr__(self) -> str:
        turns, temperature = self.conversation.turns, self.conversation.temperature
        return f"ChatPanel({count_of(turns, 'turn')}, temperature={temperature:.1f})"

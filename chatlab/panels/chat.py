"""ChatPanel: chat with a model in a notebook.

In: a conversation and what the learner types or clicks. Out: a growing transcript. The transcript lives in the
conversation, and in a file of its cell; the widgets only show it. Knows nothing of how a reply is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ipywidgets as widgets
from openai.types.chat import ChatCompletionChunk

from chatlab.conversation import Conversation
from chatlab.display import count_of
from chatlab.engines import Engine
from chatlab.messages import Message, role_of, user
from chatlab.panels.chat_export import ChatExport
from chatlab.panels.chat_log import ChatLog, turns_html
from chatlab.panels.chat_progress import Progress
from chatlab.panels.chat_settings import ChatSettings
from chatlab.panels.message_box import MessageBox
from chatlab.panels.panel import LABELLED, Panel, Throttle
from chatlab.panels.saved import SavedChat
from chatlab.remote import engine_of

__all__ = ["ChatPanel"]

SECONDS_BETWEEN_SAVES = 2.0


class ChatPanel(Panel):
    """A chat with a model, here or on a server: what was said, a field for what to say, and all that one may set.

    `conversation` holds the transcript and may be given, to go on with an earlier chat. A reply is made in a thread of
    its own, so that Stop works at once and other cells can run meanwhile. `send`, `stop`, `regenerate`, `edit`, `undo`
    and `clear` do what the buttons do; `wait` waits for the reply.

    In a notebook the chat is saved in a file of its cell, or of its `name` if it has one. It comes back when the cell
    runs again, after a restart as well; `clear` removes it.

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
        name: str | None = None,
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
        self._editing: int | None = None  # the message that Send replaces
        self.settings = ChatSettings(conversation, changed=self._save)  # what the code asks for is what Reset goes to
        self._given = {"system": conversation.system, **self.settings.values()}
        self.saved = SavedChat.here(name)
        restored = self.saved.restore(conversation, given=self._given)
        self._build()
        super().__init__(
            [
                widgets.HBox(
                    [self.system_toggle, self.settings_toggle, self.export_toggle], layout={"flex_flow": "row wrap"}
                ),
                self.system_box,
                self.settings,
                self.export,
                self.transcript,
                self.budget,
                self.message_box,
                widgets.HBox(
                    [self.regenerate_button, self.undo_button, self.clear_button, self.turn_field, self.edit_button],
                    layout={"flex_flow": "row wrap"},
                ),
            ]
        )
        self.refresh()
        if restored:
            self.note(f"{count_of(conversation.turns, 'turn')} of an earlier run; Clear forgets them.")

    def _build(self) -> None:
        """Make the controls and connect them."""
        self.transcript, self.budget = ChatLog(), widgets.HTML()
        self.message_box = MessageBox(send=lambda _: self.send(), stop=lambda _: self.stop())
        self.export = ChatExport(self.conversation)
        self.system_box = widgets.Textarea(
            description="System",
            placeholder="Instructions for the model; the end user of an app does not see them",
            rows=2,
            layout={"width": "auto"},
        )
        self.system_toggle = _toggle("system message", self.system_box, shown=self.conversation.system is not None)
        self.settings_toggle = _toggle("settings", self.settings, shown=False)
        self.export_toggle = _toggle("export", self.export, shown=False)
        self.export_toggle.observe(lambda _: self.export.refresh(), "value")
        self.regenerate_button = widgets.Button(description="Regenerate", tooltip="Ask for the last reply again")
        self.undo_button = widgets.Button(description="Undo", tooltip="Forget the last turn")
        self.clear_button = widgets.Button(description="Clear", tooltip="Forget every turn")
        self.turn_field = widgets.Dropdown(description="Turn", style=LABELLED, layout={"width": "30ch"})
        self.edit_button = widgets.Button(description="Edit", tooltip="Change what you said in this turn")
        self.regenerate_button.on_click(lambda _: self.regenerate())
        self.undo_button.on_click(lambda _: self.undo())
        self.clear_button.on_click(lambda _: self.clear())
        self.edit_button.on_click(lambda _: self._begin_edit())
        self.system_box.observe(self._on_system, "value")

    def send(self, text: str | None = None) -> None:
        """Send the text (None: what stands in the message field); returns at once, the reply grows in the transcript.

        Where a turn is being edited, the text takes its place. Does nothing without text, or while a reply is being
        made.
        """
        text = self.message_box.text if text is None else text
        if not text.strip() or self.running:
            return
        index, self._editing = self._editing, None
        self.message_box.text = ""
        if index is None or index >= len(self.conversation.messages):
            self._reply(lambda: self.conversation(text, stream=True), [*self.conversation.messages, user(text)])
        else:
            self.edit(index, text)

    def edit(self, index: int, text: str) -> None:
        """Put another text in the place of the user message at `conversation.messages[index]`, and reply anew."""
        if not self.running:
            before = self.conversation.messages[:index]
            self._reply(lambda: self.conversation.edit(index, text, stream=True), [*before, user(text)])

    def regenerate(self) -> None:
        """Ask for the last reply again. Does nothing before the first question, or while a reply is being made."""
        places = self._questions()
        if places and not self.running:
            asked = self.conversation.messages[: places[-1] + 1]
            self._reply(lambda: self.conversation.regenerate(stream=True), asked)

    def stop(self) -> None:
        """Stop the reply; what has been said so far stays."""
        super().stop()
        self.conversation.stop()

    def undo(self) -> None:
        """Forget the last turn; its question stands in the message field again, to be asked in another way."""
        self.stop()
        self.wait()
        places = self._questions()
        if places:
            self.message_box.text = self.conversation.messages[places[-1]]["content"]
            self.conversation.undo()
            self.conversation.fitted = None
            self.note("The last turn is forgotten.")
        self.refresh()
        self._save()

    def clear(self) -> None:
        """Forget every turn; the system message stays."""
        self.stop()
        self.wait()
        self.conversation.clear()
        self.conversation.fitted = None
        self._editing = None
        self.saved.forget()
        self.note("")
        self.refresh()

    def refresh(self) -> None:
        """Show the conversation as it is now, where code has changed it."""
        self.transcript.show(self.conversation.messages)
        self.system_box.value = self.conversation.system or ""
        self.settings.refresh()
        if self.export_toggle.value:
            self.export.refresh()
        fitted = self.conversation.fitted
        self.budget.value = f'<div class="chatlab-note">{fitted.bar_html()}</div>' if fitted is not None else ""
        places = self._questions()
        self.turn_field.options = [
            (f"{number}: {self.conversation.messages[place]['content'][:20]}", place)
            for number, place in enumerate(places, start=1)
        ]
        if places:
            self.turn_field.value = places[-1]
        self.on_running(self.running)

    def on_running(self, running: bool) -> None:
        """Enable what can be used now."""
        self.message_box.busy = running
        asked = bool(self._questions())
        for control in (self.regenerate_button, self.undo_button, self.edit_button, self.turn_field):
            control.disabled = running or not asked
        self.system_box.disabled = running

    def static_html(self) -> str:
        """Return the turns as they stand."""
        return turns_html(self.conversation.messages) or "A chat without turns: run the cell to talk with the model."

    def _reply(self, make: Callable[[], Iterator[ChatCompletionChunk]], asked: list[Message]) -> None:
        """Make the reply to what is asked, in the background, and show it as it grows."""
        self.transcript.show(asked)
        self.note("thinking …")

        def work() -> None:
            told = Progress()
            try:
                if not self.stopping.is_set():
                    self._follow(make(), told)
            finally:
                if not told.pieces and told.finish_reason is None:  # nothing was said: the question can be put again
                    self.message_box.text = asked[-1]["content"]
                self.refresh()
                self._save()
            self.note(told.in_words())

        self.run(work)

    def _follow(self, chunks: Iterator[ChatCompletionChunk], told: Progress) -> None:
        """Show the chunks of a reply as they come."""
        shown, saved = Throttle(), Throttle(SECONDS_BETWEEN_SAVES)
        if self.stopping.is_set():  # Stop was faster than this thread
            self.conversation.stop()
        for chunk in chunks:
            told.add(chunk)
            if told.pieces and shown.due():
                self.transcript.grow(self.conversation.messages[-1])
                if saved.due():
                    self._save()

    def _questions(self) -> list[int]:
        """Return where the user's messages are."""
        return [place for place, each in enumerate(self.conversation.messages) if role_of(each) == "user"]

    def _begin_edit(self) -> None:
        place = self.turn_field.value
        if place is not None:
            self._editing = place
            self.message_box.text = self.conversation.messages[place]["content"]
            self.note(
                "Change the text above, then Send: it takes the place of this turn, and what came after is forgotten."
            )

    def _on_system(self, change: dict[str, Any]) -> None:
        if (self.conversation.system or "") != change["new"]:
            self.conversation.system = change["new"] or None
            self._save()

    def _save(self) -> None:
        if self.conversation.turns:
            self.saved.save(self.conversation, given=self._given)

    def __repr__(self) -> str:
        turns, temperature = self.conversation.turns, self.conversation.temperature
        return f"ChatPanel({count_of(turns, 'turn')}, temperature={temperature:.1f})"


def _toggle(name: str, part: widgets.Widget, *, shown: bool) -> widgets.ToggleButton:
    """Return a button that shows and hides a part of the panel, and says which of the two."""
    button = widgets.ToggleButton(value=shown, tooltip="Show or hide it")

    def show(_: Any = None) -> None:
        part.layout.display = None if button.value else "none"
        button.description = f"{'Hide' if button.value else 'Show'} {name}"

    button.observe(show, "value")
    show()
    return button

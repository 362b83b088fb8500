"""StreamPanel: one request that streams beside the same one that waits, with their raw events.

In: a prompt. Out: two answers over real HTTP, each with its clock, its text and the very lines that came. Knows nothing
of how a server makes them.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import ipywidgets as widgets

from chatlab.checks import LOOPBACK_NAMES
from chatlab.display import count_of, escape, view
from chatlab.engines import Engine
from chatlab.model import resolve
from chatlab.panels.panel import LABELLED, WIDE, Panel, number_field
from chatlab.panels.receipts import Receipt, receive
from chatlab.remote import RemoteModel, engine_of
from chatlab.server.running import serve

__all__ = ["StreamPanel"]

SECONDS_BETWEEN_LOOKS = 0.1  # at the clocks, and at whether the connection is to be cut
SECONDS_TO_NOTICE = 2.0  # that a server may take to see that a client has left
NAMES = ("stream=True", "stream=False")


class StreamPanel(Panel):
    """The same request twice, at the same moment, to one server: streamed on the left, waited for on the right.

    The first `send` starts a server for the model (`chatlab.serve`), unless the model is on a server already
    (`chatlab.connect`). `receipts` are what came, the streamed one first; empty before the first `send`. `send` and
    `stop` do what the buttons do; `wait` waits for both answers, `close` stops the server.

    >>> from chatlab.testing import ScriptedModel
    >>> panel = StreamPanel("Hi", model=ScriptedModel("Hello!"))
    >>> panel.send()
    >>> panel.wait()
    >>> [receipt.text for receipt in panel.receipts], panel
    (['Hello!', 'Hello!'], StreamPanel(10 events and 1, complete))
    >>> panel.close()
    """

    def __init__(
        self,
        prompt: str = "Tell me a short story about the sea.",
        *,
        seed: int = 1,
        max_completion_tokens: int = 80,
        model: Engine | str | Path | None = None,
    ) -> None:
        self.model = engine_of(model)
        self.receipts: list[Receipt] = []
        self.server: Any = None
        self._build(prompt, seed, max_completion_tokens)
        wrapped = {"flex_flow": "row wrap"}
        super().__init__(
            [
                self.explanation,
                self.prompt_box,
                widgets.HBox([self.seed_field, self.limit_field], layout=wrapped),
                widgets.HBox([self.send_button, self.cut_button, self.raw_box], layout=wrapped),
                widgets.HBox(self.columns, layout=wrapped),
            ]
        )
        self._show()

    def _build(self, prompt: str, seed: int, limit: int) -> None:
        """Make the controls and connect them."""
        self.explanation = widgets.HTML()
        self.prompt_box = widgets.Text(prompt, description="Prompt", style=LABELLED, layout=WIDE)
        self.seed_field = number_field("Seed", seed, minimum=0, maximum=2**31 - 1, step=1)
        self.limit_field = number_field("Max completion tokens", limit, minimum=1, maximum=2000, step=1)
        self.send_button = widgets.Button(
            description="Send both", button_style="primary", tooltip="Send the request with and without stream"
        )
        self.cut_button = widgets.Button(
            description="Cut the connection", tooltip="Hang up in the middle", layout={"width": "auto"}
        )
        self.raw_box = widgets.Checkbox(
            False, description="Show raw events", indent=False, style=LABELLED, layout={"width": "auto"}
        )
        self.columns = [widgets.HTML(layout={"flex": "1 1 18em", "width": "auto"}) for _ in NAMES]
        self.prompt_box.on_msg(self._on_message)
        self.send_button.on_click(lambda _: self.send())
        self.cut_button.on_click(lambda _: self.stop())
        self.raw_box.observe(lambda _: self._show(), "value")

    def _on_message(self, _: Any, content: dict[str, Any], __: Any) -> None:
        if content.get("event") == "submit":  # what the text field sends when Enter is pressed
            self.send()

    @property
    def base_url(self) -> str | None:
        """The address of the endpoint that is asked; None until a server of its own is up."""
        if isinstance(self.model, RemoteModel):
            return self.model.base_url
        return None if self.server is None else str(self.server.base_url)

    def send(self) -> None:
        """Send the request twice, with and without `stream`, in the background."""
        self.run(self._exchange)

    def stop(self) -> None:
        """Cut both connections within a tenth of a second; what came stays."""
        if self.running:
            super().stop()
        else:
            self.note("There is no open connection to cut: press Send both first.")

    def close(self) -> None:
        """Cut the connections, stop the panel's own server, and take the panel away."""
        self.stopping.set()
        if self.server is not None:
            self.server.stop()
        super().close()

    def static_html(self) -> str:
        """Return both answers as they stand, one below the other."""
        about = f'<div class="chatlab-note">StreamPanel. Prompt: {escape(self.prompt_box.value)}</div>'
        return about + "".join(self._column_html(number) for number in range(len(NAMES)))

    def _exchange(self) -> None:
        """Send both and take in what comes; runs in a thread of its own."""
        if self.base_url is None:
            self.note("starting a server …")
            self.server = serve(resolve(self.model))
        self.note("sent: the left shows each piece as it comes, the right waits for the whole …")
        self.receipts = [Receipt(), Receipt()]
        asyncio.run(self._receive_both())
        self._show()
        self.note(self._conclusion())

    async def _receive_both(self) -> None:
        url = f"{self.base_url}/chat/completions"
        body: dict[str, Any] = {
            "model": self.model.name,
            "messages": [{"role": "user", "content": self.prompt_box.value}],
            "seed": self.seed_field.value,
            "max_completion_tokens": self.limit_field.value,
        }
        bodies = [
            {**body, "stream": True, "stream_options": {"include_usage": True}},
            {**body, "stream": False},
        ]
        key = self.model.client.api_key if isinstance(self.model, RemoteModel) else "no-key-needed"
        here = urlsplit(url).hostname in LOOPBACK_NAMES  # where a proxy would look for it on its own machine
        async with httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {key}"}, timeout=None, trust_env=not here
        ) as client:
            tasks = [
                asyncio.create_task(receive(client, url, each, receipt))
                for each, receipt in zip(bodies, self.receipts, strict=True)
            ]
            open_ones = set(tasks)
            while open_ones:
                _, open_ones = await asyncio.wait(open_ones, timeout=SECONDS_BETWEEN_LOOKS)
                if self.stopping.is_set():
                    for task in open_ones:
                        task.cancel()
                self._show()

    def _conclusion(self) -> str:
        """Say what there was to see."""
        streamed, waited = self.receipts
        if "cut" in (streamed.state, waited.state):
            kept = f"{len(streamed.text)} characters had come on the left and stay, on the right {len(waited.text)}"
            missing = "The usage, which stands in the last event, never came. " if streamed.usage is None else ""
            return f"Cut after {streamed.elapsed:.1f} s: {kept}. {missing}{self._what_the_server_does()}"
        if "failed" in (streamed.state, waited.state):
            return f"Not answered: {streamed.error or waited.error}"
        same = "The same text in both" if streamed.text == waited.text else "The two texts differ here"
        return (
            f"{same}: first text after {streamed.seconds_to_text or 0:.2f} s with stream=True, after "
            f"{waited.seconds_to_text or 0:.2f} s without. Streaming makes a reply appear earlier, not end earlier."
        )

    def _what_the_server_does(self) -> str:
        """Ask the panel's own server whether it has stopped working on what nobody waits for."""
        if self.server is None:
            return "A server that notices stops making the reply; many bill what they had made."
        deadline = time.monotonic() + SECONDS_TO_NOTICE
        with httpx2.Client(trust_env=False) as client:
            while True:
                at_work = client.get(f"{self.server.url}/health").json()["running"]
                if at_work == 0:
                    return "The server noticed and stopped as well: it says that it is working on 0 requests."
                if time.monotonic() > deadline:
                    return f"The server has not stopped yet: it is working on {count_of(at_work, 'request')}."
                time.sleep(SECONDS_BETWEEN_LOOKS)

    def _show(self) -> None:
        where = f"a server on this machine ({self.base_url})" if self.base_url else "a server that the first one starts"
        if isinstance(self.model, RemoteModel):
            where = f"{self.base_url}"
        self.explanation.value = (
            '<div class="chatlab-note">Both requests go out at the same moment, over real HTTP, to '
            f"{escape(where)}, which works on both side by side. They ask for the same with the same seed.</div>"
        )
        for number, column in enumerate(self.columns):
            column.value = view(self._column_html(number))

    def _column_html(self, number: int) -> str:
        """Return one answer: its clock, its text, and its raw lines if they are wanted."""
        title = f"<div><b><code>{NAMES[number]}</code></b></div>"
        if not self.receipts:
            return f'{title}<div class="chatlab-note">not sent yet</div>'
        receipt = self.receipts[number]
        first = "–" if receipt.seconds_to_text is None else f"{receipt.seconds_to_text:.2f} s"
        usage = receipt.usage and (
            f"{receipt.usage['prompt_tokens']} prompt + {receipt.usage['completion_tokens']} completion tokens"
        )
        facts = [
            ("state", receipt.state),
            ("time to first text", first),
            ("time in all" if receipt.seconds is not None else "time so far", f"{receipt.elapsed:.2f} s"),
            ("events", str(len(receipt.events))),
            ("finish_reason", receipt.finish_reason or "–"),
            ("usage", usage or ("not yet" if receipt.state == "open" else "missing: it never came")),
        ]
        rows = "".join(f'<tr><th scope="row">{name}</th><td>{escape(value)}</td></tr>' for name, value in facts)
        text = escape(receipt.text) or '<span class="chatlab-note">nothing yet</span>'
        if receipt.error:
            text = f"<b>Error:</b> {escape(receipt.error)}"
        raw = ""
        if self.raw_box.value:
            lines = escape("\n".join(receipt.lines))
            raw = (
                f'<div class="chatlab-note">What came over the wire</div><div class="chatlab-raw" tabindex="0" '
                f'role="region" aria-label="Raw events of {NAMES[number]}">{lines}</div>'
            )
        return f'{title}<table class="chatlab-words">{rows}</table><div class="chatlab-text">{text}</div>{raw}'

    def __repr__(self) -> str:
        if not self.receipts:
            return "StreamPanel(nothing sent)"
        streamed, waited = self.receipts
        return f"StreamPanel({count_of(len(streamed.events), 'event')} and {len(waited.events)}, {streamed.state})"

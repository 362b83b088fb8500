"""Snippets: a turn of a chat as a program that asks for the same reply.

In: a conversation. Out: Python with the official client, or a curl command, to be copied out of a notebook. Knows
nothing of widgets.
"""

from __future__ import annotations

import json
import pprint
import shlex
from typing import Any

from chatlab.conversation import Conversation
from chatlab.messages import role_of
from chatlab.remote import RemoteModel, engine_of
from chatlab.remote_answers import key_variable

__all__ = ["as_curl", "as_python"]

LOCAL = "http://127.0.0.1:8000/v1"  # where `chatlab serve` answers unless told otherwise
WIDTH = 88


def as_python(conversation: Conversation) -> str:
    """Return a program that asks for the last reply again, with OpenAI's client.

    A model on this machine is asked by way of `chatlab serve`. Raises `ValueError` when nothing has been asked yet.

    >>> from chatlab.testing import ScriptedModel
    >>> chat = Conversation(temperature=0, model=ScriptedModel("Hello!"))
    >>> _ = chat("Hi")
    >>> print(as_python(chat))  # doctest: +ELLIPSIS
    # Start the server first, in a terminal: chatlab serve
    from openai import OpenAI
    <BLANKLINE>
    client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="no-api-key")
    response = client.chat.completions.create(
        model='scripted',
        messages=[{'role': 'user', 'content': 'Hi'}],
        temperature=0,
        top_p=1.0,
    )
    print(response.choices[0].message.content)
    <BLANKLINE>
    """
    url, key = _address(conversation)
    arguments = "".join(f"    {name}={_python(value, name)},\n" for name, value in _request(conversation).items())
    lines = [] if key else ["# Start the server first, in a terminal: chatlab serve"]
    lines += ["import os", ""] if key else []
    lines += [
        "from openai import OpenAI",
        "",
        f'client = OpenAI(base_url="{url}", api_key={key or chr(34) + "no-api-key" + chr(34)})',
        f"response = client.chat.completions.create(\n{arguments})",
        "print(response.choices[0].message.content)",
    ]
    return "\n".join(lines) + "\n"


def as_curl(conversation: Conversation) -> str:
    """Return a curl command that asks for the last reply again. Raises `ValueError` when nothing has been asked yet."""
    url, key = _address(conversation)
    body = json.dumps(_request(conversation), ensure_ascii=False, indent=2)
    lines = [f"curl {shlex.quote(url + '/chat/completions')}", '-H "Content-Type: application/json"']
    if key:
        lines.append(f'-H "Authorization: Bearer ${key_variable(url)}"')
    lines.append(f"-d {shlex.quote(body)}")
    first = "" if key else "# Start the server first, in another terminal: chatlab serve\n"
    return first + " \\\n  ".join(lines) + "\n"


def _address(conversation: Conversation) -> tuple[str, str]:
    """Return the address to ask, and for a server elsewhere the expression that finds the key."""
    engine = engine_of(conversation.model)
    if isinstance(engine, RemoteModel):
        return engine.base_url, f'os.environ.get("{key_variable(engine.base_url)}", "no-api-key")'
    return LOCAL, ""


def _request(conversation: Conversation) -> dict[str, Any]:
    """Return the arguments of the request that the last reply answered."""
    messages = list(conversation.messages)
    while messages and role_of(messages[-1]) != "user":
        messages.pop()
    if not messages:
        raise ValueError("Nothing has been asked yet.")
    settings = {
        "temperature": conversation.temperature,
        "top_p": conversation.top_p,
        "seed": conversation.seed,
        "max_completion_tokens": conversation.max_completion_tokens,
    }
    given = {name: value for name, value in settings.items() if value is not None}
    return {"model": engine_of(conversation.model).name, "messages": messages, **given}


def _python(value: Any, name: str) -> str:
    """Return a value as Python, its further lines below the first."""
    indent = " " * (5 + len(name))
    return pprint.pformat(value, width=WIDTH - len(indent), sort_dicts=False).replace("\n", f"\n{indent}")

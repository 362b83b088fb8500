"""The terminal: a chat line by line, and a server with its log.

In: a conversation, or a model and settings. Out: text on the screen, until the person leaves or Ctrl-C. Knows nothing
of how a command is typed.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Iterable

from openai.types.chat import ChatCompletionChunk

from chatlab.conversation import Conversation
from chatlab.errors import ChatlabError
from chatlab.model import load
from chatlab.remote import engine_of
from chatlab.server import Server, ServerSettings
from chatlab.server.replicas import Replicas, serve_replicas

__all__ = ["converse", "say", "serve_model", "serve_model_in_replicas"]

HELP = """\
/system TEXT     change the system message (no text: remove it)
/again           ask for the last reply again
/undo            forget the last turn
/save FILE       save the conversation (.json or .md)
/exit            leave (Ctrl-D does too); Ctrl-C stops a reply"""


def converse(conversation: Conversation) -> None:
    """Read lines and answer them until the end of input or /exit."""
    with contextlib.suppress(ImportError):  # line editing and history, where the platform has it
        import readline  # noqa: F401
    print("Loading the model ...", end=" ", flush=True)
    conversation.model = engine_of(conversation.model)
    print("ready. /help lists the commands, Ctrl-D leaves.")
    while True:
        try:
            line = input("you> ").strip()
        except KeyboardInterrupt:
            print("\n(Ctrl-D or /exit leaves.)")
            continue
        except EOFError:
            print()
            return
        if line == "/exit":
            return
        if line:
            _answer(conversation, line)


def _answer(conversation: Conversation, line: str) -> None:
    """Carry out a command, or say the line to the model; what is refused is told and changes nothing."""
    command, _, argument = line.partition(" ")
    try:
        if command == "/system":
            conversation.system = argument or None
        elif command == "/again":
            _stream(conversation.regenerate(stream=True))
        elif command == "/undo":
            conversation.undo()
        elif command == "/save":
            print(f"Saved: {conversation.save(argument)}")
        elif command.startswith("/"):
            print(HELP)
        else:
            say(conversation, line)
    except KeyboardInterrupt:
        print(" (stopped)")
    except (ChatlabError, ValueError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)


def say(conversation: Conversation, text: str) -> None:
    """Say something to the model and print its reply as it comes."""
    _stream(conversation(text, stream=True))


def _stream(chunks: Iterable[ChatCompletionChunk]) -> None:
    """Print a reply as it comes."""
    for chunk in chunks:
        for choice in chunk.choices:
            print(choice.delta.content or "", end="", flush=True)
    print()


def serve_model(name: str | None, settings: ServerSettings) -> None:
    """Serve a model until Ctrl-C, with a line in the log for each request."""
    print("Loading the model ...", end=" ", flush=True)
    model = load(name)
    print("ready.", flush=True)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    logging.getLogger("chatlab.server").setLevel(logging.INFO)
    server = Server(model, settings)
    _tell(server, "Ctrl-C stops it when the replies being made have ended; a second one stops it at once.")
    with contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises again when all is closed
        server.run()
    print("The server has stopped.")


def serve_model_in_replicas(name: str | None, settings: ServerSettings, *, replicas: int, cluster: str) -> None:
    """Serve a model in several copies on a Ray cluster, until Ctrl-C."""
    print(f"Loading the model, and starting {replicas} replicas of it ...", end=" ", flush=True)
    with serve_replicas(load(name), settings, replicas=replicas, cluster=cluster) as server:
        print("ready.", flush=True)
        _tell(server, "Ctrl-C stops it.")
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    print("The server has stopped.")


def _tell(server: Server | Replicas, how_to_stop: str) -> None:
    """Print where the server is, and how it is used."""
    wants_key = " -H 'Authorization: Bearer YOUR_KEY'" if server.settings.wants_key else ""
    print(
        f"""\
{server.model.name} is served at {server.base_url}
  documentation to try out: {server.url}/docs
  from Python: openai.OpenAI(base_url="{server.base_url}", api_key="{"YOUR_KEY" if wants_key else "any"}")
  from a shell: curl {server.base_url}/chat/completions{wants_key} -H 'Content-Type: application/json' \\
    -d '{{"model": "{server.model.name}", "messages": [{{"role": "user", "content": "Hello!"}}]}}'
{how_to_stop}""",
        flush=True,
    )

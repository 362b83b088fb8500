"""The command line: `chatlab lab`, `chatlab chat`, `chatlab serve`, `chatlab bench`, `chatlab progress`,
`chatlab review`, `chatlab classroom`, `chatlab models`.

In: what is typed in a terminal. Out: calls of the same functions a notebook uses. Knows nothing of its own, and imports
PyTorch only when a command needs a model.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated

import typer

import chatlab
from chatlab.classroom_commands import classroom_app
from chatlab.key_commands import app as keys_app
from chatlab.learner_commands import progress, review

__all__ = ["app", "main"]

app = typer.Typer(
    help="Learn how chat completions really work, on a real chat model on your own laptop.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(classroom_app, name="classroom")
app.command()(progress)
app.command()(review)
app.add_typer(keys_app, name="keys")
models_app = typer.Typer(help="List, fetch, locate and remove models. Alone: list.")
app.add_typer(models_app, name="models")


def main() -> None:
    """Run the command line; an error of chatlab's own is told in plain words, without a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no emoji must not end the program
    try:
        app()
    except Exception as error:
        # Importing the errors brings the client library; only a failing command pays for that.
        from chatlab.errors import ChatlabError

        if not isinstance(error, ChatlabError):
            raise
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def _version(wanted: bool) -> None:
    if wanted:
        print(f"chatlab {chatlab.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = (
        False
    ),
) -> None:
    pass


@app.command()
def lab(
    folder: Annotated[
        Path | None,
        typer.Option(
            help="Where your lessons are; by default the checkout you are in, else a folder 'chatlab' at home."
        ),
    ] = None,
    port: Annotated[int | None, typer.Option(help="The port of the lab; the next free one if it is taken.")] = None,
    host: Annotated[
        str, typer.Option(help="Where the lab listens; 0.0.0.0 lets other machines in, with the token in the address.")
    ] = "localhost",
    browser: Annotated[bool, typer.Option(help="Open the browser.")] = True,
) -> None:
    """Fetch the model if need be, and open JupyterLab on the lessons."""
    from chatlab import course
    from chatlab.errors import ModelFilesError
    from chatlab.lab import open_lab

    own = folder or course.checkout() or Path.home() / "chatlab"
    if folder or course.checkout() is None:
        copied = course.copy_course(own)
        print(f"Lessons: {own} ({len(copied.written)} files written)")
        if copied.kept:
            print(f"Kept as you changed them: {', '.join(copied.kept)}")
    try:
        _prepare_default_model()
    except ModelFilesError as error:
        print(f"Warning: {error}\nThe lab opens all the same; the lessons need the model to run.", file=sys.stderr)
    open_lab(own, host=host, port=port, browser=browser)


@app.command()
def chat(
    prompt: Annotated[str | None, typer.Argument(help="What to say; without it a conversation starts.")] = None,
    system: Annotated[str | None, typer.Option(help="The system message.")] = None,
    temperature: Annotated[float, typer.Option(help="0 to 2; 0 always takes the likeliest token.")] = 1.0,
    top_p: Annotated[float, typer.Option(help="Keep the likeliest tokens up to this probability.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same reply.")] = None,
    max_completion_tokens: Annotated[int | None, typer.Option(help="The most tokens a reply may have.")] = None,
    model: Annotated[
        str | None, typer.Option(help="A hub id, a folder or a GGUF file; default: the one at hand.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option(help="Take the model from an OpenAI-compatible server; --model is its name there.")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(help="The server's key; default: the environment variable CHATLAB_API_KEY.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the whole response as JSON (with a prompt only).")
    ] = False,
) -> None:
    """Chat with the model: one question, or a conversation."""
    from chatlab.conversation import Conversation
    from chatlab.terminal import converse, say

    if json and prompt is None:
        raise typer.BadParameter("--json needs a prompt: chatlab chat 'Hello!' --json")
    if api_key is not None and base_url is None:
        raise typer.BadParameter("--api-key needs the server it is for: --base-url http://...")
    conversation = Conversation(
        system=system,
        model=model if base_url is None else chatlab.connect(base_url, model=model, api_key=api_key),
        temperature=temperature,
        top_p=top_p,
        seed=seed,
        max_completion_tokens=max_completion_tokens,
    )
    if prompt is None:
        converse(conversation)
    elif json:
        print(conversation(prompt).model_dump_json(indent=2, exclude_unset=True))
    else:
        say(conversation, prompt)


@app.command()
def serve(
    model: Annotated[
        str | None, typer.Option(help="A hub id, a folder or a GGUF file; default: the one at hand.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where the server listens; 0.0.0.0 lets other machines in and needs a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 for any that is free.")] = 8000,
    api_key: Annotated[
        list[str] | None,
        typer.Option(envvar="CHATLAB_API_KEY", help="A key that opens the server; may be given several times."),
    ] = None,
    api_keys: Annotated[
        Path | None, typer.Option(help="A file with a key and a budget for each learner: `chatlab keys add` makes it.")
    ] = None,
    any_model_name: Annotated[bool, typer.Option("--any-model-name", help="Answer to every model name.")] = False,
    side_by_side: Annotated[int, typer.Option(help="How many requests are worked on at the same time.")] = 8,
    queue_length: Annotated[int, typer.Option(help="How many more may wait; the next one gets a 429.")] = 64,
    grace: Annotated[float, typer.Option(help="How many seconds replies may take to end when the server stops.")] = 30,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help="A web page whose scripts may call the server: http://localhost:3000")
    ] = None,
    allowed_host: Annotated[list[str] | None, typer.Option(help="A further name the server may be called by.")] = None,
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Write every message to the log.")] = False,
    replicas: Annotated[
        int | None, typer.Option(min=1, help="How many copies of the model, a core each, answer; needs Ray.")
    ] = None,
    cluster: Annotated[str, typer.Option(help="The Ray cluster for --replicas; 'local' starts one here.")] = "local",
) -> None:
    """Serve the model over HTTP, as a hosted chat completions service would."""
    from chatlab.server import ServerSettings
    from chatlab.terminal import serve_model, serve_model_in_replicas

    try:
        settings = ServerSettings(
            host=host,
            port=port,
            api_keys=tuple(api_key or ()),
            key_file=api_keys,
            any_model_name=any_model_name,
            side_by_side=side_by_side,
            queue_length=queue_length,
            grace=grace,
            cors_origins=tuple(cors_origin or ()),
            allowed_hosts=tuple(allowed_host or ()),
            log_prompts=log_prompts,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if replicas is None:
        serve_model(model, settings)
    else:
        serve_model_in_replicas(model, settings, replicas=replicas, cluster=cluster)


@app.command()
def bench(
    model: Annotated[
        str | None, typer.Option(help="A hub id, a folder or a GGUF file; default: the one at hand.")
    ] = None,
    runs: Annotated[
        int | None, typer.Option(help="How often each thing is measured; default: 5, with --quick 2.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Shorter texts: about a minute.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print every single figure, as JSON.")] = False,
) -> None:
    """Measure how fast this machine runs the model, beside the other engines that are installed."""
    from json import dumps

    from chatlab import benchmark

    report = benchmark.run(model, runs=runs, quick=quick)
    print(dumps(report.to_dict(), indent=2) if json else report)


@models_app.callback(invoke_without_command=True)
def _models(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        models_list()


@models_app.command("list")
def models_list() -> None:
    """List the models that are stored on this machine."""
    from chatlab.weights.home import home
    from chatlab.weights.inventory import stored_models

    print(f"chatlab's folder: {home()}")
    stored = stored_models()
    for each in stored:
        print(f"  {each.name:<48} {each.kind:<10} {each.size / 1e6:7.0f} MB")
    if not stored:
        print("  nothing yet: `chatlab models fetch` gets the default model")


@models_app.command("fetch")
def models_fetch(
    name: Annotated[str | None, typer.Argument(help="A hub id or a GGUF file; without it the default model.")] = None,
) -> None:
    """Download a model and get it ready, so that later loads are quick and need no network."""
    if name is None:
        _prepare_default_model()
        return
    print(f"{chatlab.load(name).name} is ready.")


@models_app.command("path")
def models_path(
    name: Annotated[
        str | None, typer.Argument(help="A name that `chatlab models` lists; without it the default model.")
    ] = None,
) -> None:
    """Print the folder with a model's files; fetches the default model if need be."""
    from chatlab.weights.conversion import converted
    from chatlab.weights.download import fetch
    from chatlab.weights.inventory import stored_models

    if name is None:
        print(converted(fetch()))
        return
    paths = [model.path for model in stored_models() if model.name == name]
    if not paths:
        raise _unknown_model(name)
    print(paths[0])


@models_app.command("remove")
def models_remove(name: Annotated[str, typer.Argument(help="A name that `chatlab models` lists.")]) -> None:
    """Delete a model from this machine, and what was converted from it."""
    from chatlab.weights.inventory import remove

    try:
        freed = remove(name)
    except KeyError:
        raise _unknown_model(name) from None
    print(f"Removed {name}: {freed / 1e6:.0f} MB freed.")


def _unknown_model(name: str) -> typer.BadParameter:
    from chatlab.weights.inventory import stored_models

    known = ", ".join(model.name for model in stored_models()) or "none"
    return typer.BadParameter(f"There is no model {name!r} on this machine. There is: {known}.")


def _prepare_default_model() -> None:
    from chatlab.kernels import prepare
    from chatlab.weights.conversion import converted
    from chatlab.weights.download import DEFAULT_MODEL, fetch

    converted(fetch())
    prepare()
    print(f"{DEFAULT_MODEL.name} is ready.")

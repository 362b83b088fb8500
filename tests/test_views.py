"""Every view of every object: no text that a person or a model wrote may become markup, and each repr is one."""

from __future__ import annotations

import importlib
import inspect
import re
import socket
from html.parser import HTMLParser

import pytest
import torch
from openai.types.chat import ChatCompletion
from test_package import IMPORTABLE
from tiny_networks import TINY

import chatlab
from chatlab import Conversation, assistant, system, user
from chatlab.benchmark.measures import Sample
from chatlab.benchmark.report import Report
from chatlab.confidence import Calibration
from chatlab.display import completion_html
from chatlab.draws import Draws
from chatlab.exercises.exercise import Exercise
from chatlab.exercises.exercises import Code, Task
from chatlab.experiments.comparing import Comparison
from chatlab.fitted import Fitted
from chatlab.guesses import Reveal
from chatlab.magics import _Transcript
from chatlab.messages import developer
from chatlab.panels import ChatPanel, ContextPanel, SamplingPanel
from chatlab.plots.budget import budget_bar
from chatlab.progress import Score, Summary
from chatlab.questions.placements import Placed
from chatlab.questions.question import Choice, Question, Topic
from chatlab.questions.verdict import Verdict
from chatlab.testing import ScriptedModel, byte_tokenizer
from chatlab.token_table import Token, TokenTable
from chatlab.transformers_model import TransformersModel

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"><svg onload='alert(1)'>",
    "' onmouseover='alert(1)' x='",
    '" autofocus onfocus="alert(1)',
    "</style></script></title></textarea><script>alert(1)</script>",
    "</span></div></td></tr></table><iframe srcdoc='<script>alert(1)</script>'>",
    "<a href=javascript:alert(1)>x</a>",
    "<!-- --><![CDATA[<b>]]>",
    "&lt;b&gt;&#60;b&#62;",
    "<|im_end|>\n<|im_start|>system\n<b>",
    "$\\frac{<b>}$ <math><mi>",
    "<style>*{display:none}</style>",
]


with socket.create_server(("127.0.0.1", 0)) as free:
    PORT = free.getsockname()[1]  # the same each time, as a server tells it


class Markup(HTMLParser):
    """The tags of a page, each with the names of its attributes, and every text that stands between them."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.texts, self.odd = set(), [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.add((tag, *sorted(name for name, _ in attributes)))

    def handle_data(self, data):
        self.texts.append(data)

    def handle_comment(self, data):
        self.odd.append(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return TINY["llama"]()


def objects(text, network):
    """One object of every class that shows itself, with the text in every place where somebody's text can stand."""
    scripted = ScriptedModel(text, name=text)
    tiny = TransformersModel(text, network, byte_tokenizer())
    messages = [system(text), developer(text), user(text), assistant(text), user(text)]
    prompt = chatlab.render(messages, model=scripted)
    trace = chatlab.trace(messages, model=scripted, temperature=0, max_completion_tokens=60).what_if(1, "<")
    forward = chatlab.inspect_forward(text, model=tiny)
    fitted = chatlab.fit(
        [user(text + "x" * 400), assistant(text), user(text)],
        chatlab.count_tokens([user(text)], model=scripted) + 300,
        strategy="summarise",
        model=ScriptedModel(text, name=text),
    )
    assert fitted.summary == text
    yield prompt
    yield chatlab.render(messages, model=scripted, allow_control_tokens=True)
    yield chatlab.tokenize(prompt, model=scripted)
    yield chatlab.tokenize(text, encoding="cl100k_base")
    yield TokenTable((Token(1, text, None, 0, 1),), text)
    yield chatlab.lint([*messages, {"role": text, "content": text}, {text: text}, text], model=scripted)
    yield fitted
    yield Fitted(messages, dropped=(), tokens_before=9, tokens_after=9, token_limit=9, reserve=0, summary=text)
    yield chatlab.next_token(text, model=scripted, temperature=0.5, logit_bias={60: 99}, top=4)
    draws = Draws(chatlab.next_token(text, model=scripted, temperature=0.5, top_k=3, top=4))
    draws.draw(10)
    yield draws
    yield trace
    yield from trace
    yield chatlab.sample_replies(text, model=scripted, temperatures=[0, 1], samples=2, max_completion_tokens=40)
    yield forward
    yield forward.logit_lens()
    yield chatlab.kv_cache_table([1, 10**9], model=tiny)
    yield Conversation(messages)
    yield _Transcript(messages, text)
    yield trace.plot()
    yield budget_bar(fitted)
    question = Question(text, text, "single", "easy", text, text, "A", text, choices=(Choice("A", text),), code=text)
    verdict = Verdict(False, text, text)
    yield question
    yield verdict
    task = Exercise(text, text, text, text, 1, text, text, text, (text,), text, ())
    yield task
    yield Task(task)
    yield Code(text)
    yield Reveal(text, text, predicted=text, confidence=50, right=False)
    yield Calibration([(90, True), (50, False)])
    yield Placed([(Topic(text, text, text, ()), False), (Topic(text, text, text, ()), True)])
    yield Comparison(text, text, text, 1.0, 2.0, 0.5, 1.5, 0.95, 2, text)
    yield chatlab.sweep({text: text}, {text: scripted}, system={text: text}, store=False, progress=False)
    yield Summary([Score(text, 1, 1, 1)], [], [], [(text, 1)], text, text)
    yield Report({text: text}, samples=[Sample("cold", text, 1.0, 1)], absent={text: text})
    with chatlab.serve(scripted, port=PORT) as server:
        yield server


def shown(text, network):
    """The page of each of the objects, by its kind; and of the two that show themselves in another way."""
    for each in objects(text, network):
        yield type(each).__name__, each._repr_html_()
    response = chatlab.chat_completions([user(text)], ScriptedModel(text, name=text), temperature=0)
    yield ChatCompletion.__name__, completion_html(response)
    panel = ChatPanel(Conversation([user(text), assistant(text)], model=ScriptedModel(text, name=text)))
    panel.note(text)
    for kind in (ContextPanel, SamplingPanel):
        prompt = [user(text), assistant(text), user(text)]
        yield kind.__name__, kind(prompt, model=ScriptedModel(text, name=text)).static_html()
    yield ChatPanel.__name__, panel.transcript.complete.value + panel.status.value + panel.static_html()


def test_every_class_that_shows_itself_is_tried(network):
    classes = {
        value
        for name in IMPORTABLE
        for value in vars(importlib.import_module(name)).values()
        if inspect.isclass(value) and value.__module__.startswith("chatlab.") and "_repr_html_" in vars(value)
    }
    assert len(classes) >= 14 and classes == {type(each) for each in objects("Hi", network)}


@pytest.mark.parametrize("payload", PAYLOADS)
def test_text_never_becomes_markup(network, payload):
    allowed = {}
    for text in ("Hi <|im_end|> you", "a\nb  c"):
        for kind, page in shown(text, network):
            allowed.setdefault(kind, set()).update(Markup(page).tags)
    for kind, page in shown(payload, network):
        found = Markup(page)
        assert found.tags <= allowed[kind], kind
        assert not found.odd and not any(name.startswith("on") for tag in found.tags for name in tag[1:])


def test_payloads_reach_the_views(network):
    """Else the test above would pass on views that show nothing; some show a text token by token."""
    bodies: dict[str, str] = {}
    for kind, page in shown("QJX", network):
        bodies[kind] = bodies.get(kind, "") + re.sub(r'src="[^"]*"', "", page.rpartition("</style>")[2])
    without_text = {Calibration.__name__}  # numbers only
    assert {kind for kind, body in bodies.items() if not any(letter in body for letter in "QJX")} == without_text


@pytest.mark.parametrize("text", ["Hi", *PAYLOADS[:2]])
def test_repr_is_the_same_each_time(network, text):
    first, second = ([repr(each) for each in objects(text, network)] for _ in range(2))
    assert [one for one in first if "seed" not in one] == [one for one in second if "seed" not in one]
    assert all("0x" not in one and " object at " not in one for one in first)

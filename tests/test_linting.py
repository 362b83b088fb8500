from __future__ import annotations

import copy
import html
import pickle
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from templates import INJECTED, templated

from chatlab.errors import BadRequestError, ModelNotFoundError
from chatlab.linting import DEFAULT_SYSTEM, lint
from chatlab.messages import ROLES, assistant, system, user, validate
from chatlab.testing import ScriptedModel
from chatlab.tokens import count_tokens

FINE = [system("s"), user("u")]
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}


def rules(findings):
    return [finding.rule for finding in findings]


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (FINE, []),
        ([*FINE, assistant("a"), user("u")], []),
        ([user("u")], ["no-system"]),
        ([user("u"), system("s"), user("v")], ["system-not-first"]),
        ([system("s"), system("t"), user("u")], ["several-systems"]),
        ([{"role": "developer", "content": "d"}, user("u")], []),
        ([*FINE, user("v")], ["same-role-twice"]),
        ([*FINE, assistant("a")], ["last-not-user"]),
        ([system("s"), user(" \n")], ["blank-content"]),
        ([*FINE, assistant("Sure, ")], ["last-not-user", "trailing-space-in-prefill"]),
        ([system("s"), assistant("a"), user("u")], ["history-dropped"]),
        ([system("s"), user("a<|im_end|>b")], ["control-token"]),
        ([*FINE, CALL, {"role": "tool", "content": "4"}], []),
        ([*FINE, {"role": "tool", "content": "4"}], ["tool-without-call"]),
        ([{"content": "Hello!"}], ["missing-role", "no-system"]),
        ([{"user": "Hello!"}], ["role-keyed-dict", "no-system"]),
        (["Hello"], ["bare-string", "no-system"]),
        ("Hello", ["bare-string"]),
        (user("Hello"), ["wrong-type"]),
        ([5], ["wrong-type"]),
        ([system("s"), {"role": "user", "content": 5}], ["wrong-type"]),
        ([system("s"), {"role": "user"}], ["missing-content"]),
        ([system("s"), {"role": "bot", "content": "a"}], ["unknown-role", "history-dropped", "last-not-user"]),
        ([system("s"), user([{"type": "image_url", "image_url": {}}])], ["unsupported-part"]),
        ([system("s"), user("\ud800")], ["broken-character", "blank-content"]),
        ([], ["empty-list"]),
        (None, ["wrong-type"]),
    ],
)
def test_rules(messages, expected):
    assert rules(lint(messages)) == expected


def test_all_mistakes_at_once():
    broken = [user("a"), {"role": "bot", "content": "b"}, {"content": 4}, {"system": "Be brief."}]
    assert rules(lint(broken)) == [
        *("unknown-role", "missing-role", "wrong-type", "role-keyed-dict", "system-not-first", "last-not-user")
    ]
    assert lint(broken).fix() == [system("Be brief."), user("a"), assistant("b"), user("4")]


@pytest.mark.parametrize(
    ("messages", "fixed"),
    [
        ("Hi", [user("Hi")]),
        (user("Hi"), [user("Hi")]),
        ([{"user": "a", "assistant": "b"}, {"user": "c"}], [user("a"), assistant("b"), user("c")]),
        ([user("a"), {"content": "b"}, user("c")], [user("a"), assistant("b"), user("c")]),
        ([{"role": "Human", "content": "a"}, {"role": "assitant", "text": "b"}], [user("a"), assistant("b")]),
        ([user("a"), user(["b", {"text": "c"}])], [user("a\n\nb\nc")]),
        ([user("a"), assistant(" "), user("b")], [user("a\n\nb")]),
        ([user("a<|im_<|im_end|>end|>")], [user("a")]),
        ([user("a"), assistant("Sure, \n")], [user("a"), assistant("Sure,")]),
        ([user("a"), system("s"), assistant("b"), system("t"), user("c")],
         [system("s\n\nt"), user("a"), assistant("b"), user("c")]),
        ([{"user": "Hi", "content": "a"}], [{"user": "Hi", "content": "a", "role": "user"}]),
        ([{"role": "user", "content": "a", "name": "Ana"}], [{"role": "user", "content": "a", "name": "Ana"}]),
        ([user("a\ud800")], [user("a")]),
    ],
)  # fmt: skip
def test_fix(messages, fixed):
    if fixed[0]["role"] != "system":
        fixed = [system(DEFAULT_SYSTEM), *fixed]
    before = copy.deepcopy(messages)
    assert lint(messages).fix() == fixed
    assert messages == before


@pytest.mark.parametrize("messages", [None, 5, [], [{"role": "narrator", "content": "x"}], [*FINE, {"role": "user"}]])
def test_what_only_the_writer_can_mend_is_left(messages):
    fixed = lint(messages).fix()
    assert lint(fixed) and not any(finding.fixable for finding in lint(fixed))


def test_fixed_messages_are_new():
    fixed = lint(FINE).fix()
    assert fixed == FINE and fixed is not FINE and fixed[0] is not FINE[0]


@pytest.mark.parametrize("text", ["And of Japan?", "What is my name?", "As I said, no.", "Tell me more.", "Why?"])
def test_a_question_that_refers_back_needs_earlier_turns(text):
    assert rules(lint([system("s"), user(text)])) == ["history-dropped"]
    assert rules(lint([*FINE, assistant("a"), user(text)])) == []


@pytest.mark.parametrize("text", ["My name is Ana.", "And now for something.", "Why is the sky blue?", "Hello!"])
def test_other_questions_do_not_refer_back(text):
    assert lint([system("s"), user(text)]) == []


def test_findings_show_themselves():
    findings = lint([*FINE, user("v")])
    (finding,) = findings
    assert (finding.severity, finding.place) == ("warning", "messages[2]")
    assert finding.reason and finding.mend
    assert repr(findings) == str(finding)
    assert str(finding) == f"warning at messages[2] (same-role-twice): {finding.reason} {finding.mend}"
    assert repr(lint(FINE)) == "nothing to mend" and "nothing to mend" in lint(FINE)._repr_html_()
    copied = pickle.loads(pickle.dumps(findings))
    assert copied == findings and copied.fix() == findings.fix()


@pytest.mark.parametrize("payload", ["<script>alert(1)</script>", "\"><img src=x onerror='alert(1)'>", "</td><b>&lt;"])
def test_table_escapes_text(payload):
    short = payload[:30]
    findings = lint([{"role": short, "content": {short: 1}}, {short: 1}, {"role": "user", short: "x"}, user(payload)])
    view = re.sub(r"<style>.*?</style>", "", findings._repr_html_(), flags=re.DOTALL)
    assert set(re.findall(r"</?(\w+)", view)) <= {"div", "table", "thead", "tbody", "tr", "th", "td"}
    words = html.unescape(re.sub(r"<[^>]*>", "", view))
    assert all(finding.reason in words for finding in findings)


# With a model


def test_quotes_what_the_template_adds():
    (finding,) = lint([user("Hi")], model=templated("smollm"))
    assert finding.rule == "no-system" and repr(INJECTED) in finding.reason and finding.fixable
    (finding,) = lint([user("Hi")], model=templated("chatml"))
    assert finding.reason.endswith("the template of chatml adds none.")
    (finding,) = lint([user("Hi"), system("s"), user("v")], model=templated("smollm"))
    assert finding.rule == "system-not-first" and repr(INJECTED) in finding.reason


def test_real_model(model):
    (finding,) = lint([user("Hi")], model=model)
    assert repr(INJECTED) in finding.reason
    assert rules(lint([system("s"), user("see <file_sep>")], model=model)) == ["control-token"]


def test_control_tokens_are_the_models():
    messages = [user("a [INST] <|eot_id|> </s>")]
    findings = lint(messages, model=templated("mistral"))
    assert rules(findings) == ["no-system", "control-token"]
    assert "[INST], </s>," in findings[1].reason and "eot_id" not in findings[1].reason
    assert findings.fix()[1] == user("a  <|eot_id|> ")


def test_template_that_refuses():
    findings = lint(FINE, model=templated("gemma"))
    assert rules(findings) == ["template-refuses"] and "System role not supported" in findings[0].reason
    assert rules(lint(FINE, model=ScriptedModel("", chat_template=None))) == ["template-refuses"]


@pytest.mark.parametrize(
    ("over", "expected"),
    [(-1, ["over-token-limit"]), (0, ["over-token-limit"]), (1, ["near-token-limit"]), (100, [])],
)
def test_token_limit(over, expected):
    model = ScriptedModel("")
    tokens = count_tokens(FINE, model=model)
    assert rules(lint(FINE, model=model, token_limit=tokens + over)) == expected
    model.context_length = tokens + over
    assert rules(lint(FINE, model=model)) == expected


def test_nine_tenths_is_near():
    model = ScriptedModel("")
    messages = [system("s"), user("u" * (90 - count_tokens(FINE, model=model) + 1))]
    assert count_tokens(messages, model=model) == 90
    assert rules(lint(messages, model=model, token_limit=100)) == ["near-token-limit"]
    assert rules(lint(messages, model=model, token_limit=101)) == []


def test_wrong_options_are_refused():
    with pytest.raises(BadRequestError, match="token_limit must be at least 1"):
        lint(FINE, token_limit=0)
    with pytest.raises(ModelNotFoundError):
        lint(FINE, model="nonsense")


# Properties

words = st.sampled_from(
    ["", " ", "Hi", "a ", "<|im_end|>", "<|im_", "end|>", "And of Japan?", "text", "content", "type", "image_url"]
)
roles = st.sampled_from([*ROLES, "bot", "User", "narrator"])
json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | words | roles,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(words | roles | st.sampled_from(["role", "content", "tool_calls"]), inner, max_size=4)
    ),
    max_leaves=12,
)
nearly = st.fixed_dictionaries(
    {}, optional={"role": roles | json_like, "content": words | json_like, "tool_calls": json_like}
)
lists = st.lists(st.builds(user, words) | st.builds(assistant, words) | nearly | json_like, max_size=6)


@given(json_like | lists)
@example([{"user": "a", "assistant": " "}])
@example([user(" "), user("")])
def test_fix_mends_all_it_can_and_never_raises(messages):
    fixed = lint(messages).fix()
    assert not any(finding.fixable for finding in lint(fixed))
    assert lint(fixed).fix() == fixed or messages != messages  # NaN
    assert all(isinstance(finding.reason, str) and finding.reason and finding.mend for finding in lint(messages))


@given(json_like | lists)
def test_errors_are_what_a_server_refuses(messages):
    errors = [finding for finding in lint(messages) if finding.severity == "error"]
    try:
        validate(messages)
    except BadRequestError:
        assert errors
    else:
        assert not errors


@given(lists)
def test_a_model_changes_nothing_but_what_it_knows(messages):
    with_model = lint(messages, model=MODEL)
    assert not any(finding.fixable for finding in lint(with_model.fix(), model=MODEL))
    known = {"over-token-limit", "near-token-limit", "template-refuses"}
    assert [rule for rule in rules(with_model) if rule not in known] == rules(lint(messages))


MODEL = templated("chatml")

import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatlab import BadRequestError, ContextLengthError, assistant, system, user
from chatlab.context import SUMMARY, fit
from chatlab.messages import developer
from chatlab.plots.budget import budget_bar
from chatlab.testing import ScriptedModel
from chatlab.tokens import count_tokens

HISTORY = [
    system("Be brief."),
    user("I am Ana."),
    assistant("Hello, Ana!"),
    user("I like tea."),
    assistant("Noted."),
    user("What is my name?"),
]
PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "</style><script>alert(1)</script>",
    "<|im_end|><b>",
    "javascript:alert(1)\x00'",
    "<!-- --><iframe srcdoc='<script>'>",
]

messages = st.lists(
    st.builds(
        lambda role, content: {"role": role, "content": content},
        st.sampled_from(["system", "developer", "user", "assistant"]),
        st.text(max_size=40),
    ),
    min_size=1,
    max_size=12,
)
own = {
    "own: last": lambda messages, fits: messages[-1:],
    "own: greedy": lambda messages, fits: next((messages[n:] for n in range(len(messages)) if fits(messages[n:])), []),
    "own: all": lambda messages, fits: messages,
}
strategies = st.sampled_from(["drop-oldest", "keep-last", "summarise", *own])


def arguments(strategy, keep_last):
    return {"strategy": own.get(strategy, strategy), "keep_last": keep_last if strategy == "keep-last" else None}


@settings(max_examples=300, deadline=None)
@given(messages, st.integers(1, 400), st.integers(0, 100), strategies, st.integers(1, 4), st.text(max_size=200))
def test_never_over_the_limit_and_nothing_else_is_lost(messages, limit, reserve, strategy, keep_last, summary):
    model = ScriptedModel(summary)
    try:
        fitted = fit(messages, limit, reserve=reserve, model=model, **arguments(strategy, keep_last))
    except ContextLengthError:
        rest = [index for index, message in enumerate(messages) if message["role"] not in ("system", "developer")]
        last_user = max((index for index in rest if messages[index]["role"] == "user"), default=0)
        needed = [message for index, message in enumerate(messages) if index not in rest or index >= last_user]
        assert count_tokens(needed, model=model) + reserve > limit or strategy in own
        return
    except BadRequestError as error:
        assert strategy == "own: greedy" and error.code == "empty_array"
        return
    assert fitted.tokens_after == count_tokens(fitted, model=model)
    assert fitted.tokens_after + reserve <= limit and fitted.free >= 0
    assert fitted.tokens_before == count_tokens(messages, model=model)
    gone = [dropped.index for dropped in fitted.dropped]
    assert all(messages[dropped.index] == dropped.message for dropped in fitted.dropped)
    kept = [message for index, message in enumerate(messages) if index not in gone]
    if fitted.summary is not None:
        assert system(SUMMARY + fitted.summary) in fitted
        fitted.remove(system(SUMMARY + fitted.summary))
    assert list(fitted) == kept
    if strategy in own:
        return
    roles = [messages[index]["role"] for index in gone]
    assert "system" not in roles and "developer" not in roles
    users = [index for index, message in enumerate(messages) if message["role"] == "user"]
    assert not users or users[-1] not in gone
    for index in range(len(messages) - 1):  # a reply goes exactly when what it replies to goes
        if (messages[index]["role"], messages[index + 1]["role"]) == ("user", "assistant"):
            assert (index in gone) == (index + 1 in gone)


@settings(max_examples=100, deadline=None)
@given(messages, st.integers(30, 400))
def test_drop_oldest_drops_no_more_than_it_must(messages, limit):
    model = ScriptedModel("")
    try:
        fitted = fit(messages, limit, model=model)
    except ContextLengthError:
        return
    gone = [dropped.index for dropped in fitted.dropped]
    users = [index for index in gone if messages[index]["role"] == "user"]
    if gone:
        last_turn = [index for index in gone if not users or index >= users[-1]]
        one_more = [message for index, message in enumerate(messages) if index not in gone or index in last_turn]
        assert count_tokens(one_more, model=model) > limit


def test_everything_stays_where_there_is_room():
    fitted = fit(HISTORY, model=ScriptedModel(""))
    assert list(fitted) == HISTORY and fitted.dropped == () and fitted.token_limit == 8192
    assert fitted.tokens_before == fitted.tokens_after


def test_keep_last_keeps_that_many_turns():
    fitted = fit(HISTORY, strategy="keep-last", keep_last=2, model=ScriptedModel(""))
    assert list(fitted) == [HISTORY[0], *HISTORY[3:]]
    assert [(each.index, each.reason) for each in fitted.dropped] == [
        (1, "older than the last 2 turns"),
        (2, "older than the last 2 turns"),
    ]


def test_keep_last_keeps_fewer_when_they_do_not_fit():
    fitted = fit(HISTORY, 80, strategy="keep-last", keep_last=2, model=ScriptedModel(""))
    assert list(fitted) == [HISTORY[0], HISTORY[-1]]
    assert [each.reason.split()[0] for each in fitted.dropped] == ["older", "older", "among", "among"]


def test_summary_stands_after_the_system_message_and_covers_what_went():
    model = ScriptedModel("The user is Ana.")
    long = [*HISTORY[:-1], user("x" * 30), assistant("y" * 100), HISTORY[-1]]
    fitted = fit(long, 260, strategy="summarise", model=model)
    assert fitted[:2] == [HISTORY[0], system(SUMMARY + "The user is Ana.")] and fitted[-1] == HISTORY[-1]
    assert fitted.summary == "The user is Ana."
    assert len(model.prompts) == 1 and "user: I am Ana.\nassistant: Hello, Ana!" in model.prompts[0]
    assert all(each.reason.startswith("summarised") for each in fitted.dropped) and fitted.dropped


def test_summary_is_only_made_when_it_is_needed():
    model = ScriptedModel("x")
    fit(HISTORY, strategy="summarise", model=model)
    assert model.prompts == []


def test_summary_that_is_too_long_is_shortened_and_an_empty_one_left_out():
    least = count_tokens([HISTORY[0], HISTORY[-1]], model=ScriptedModel(""))
    fitted = fit(HISTORY, least + 75, strategy="summarise", model=ScriptedModel("word " * 50))
    assert fitted.summary and fitted.summary.count("word") < 10
    for reply, limit in (("", least + 75), ("word", least)):
        fitted = fit(HISTORY, limit, strategy="summarise", model=ScriptedModel(reply))
        assert fitted.summary is None and "among the oldest" in fitted.dropped[0].reason


def test_history_too_long_to_read_at_once_is_summarised_from_its_newest_part():
    model = ScriptedModel("Short.", context_length=300)
    long = [user("old " * 100), assistant("x"), user("new"), assistant("y"), user("Hi")]
    fitted = fit(long, strategy="summarise", model=model)
    assert fitted.summary == "Short." and "user: old" not in model.prompts[0] and "assistant: x" in model.prompts[0]
    assert [each.reason.split()[0] for each in fitted.dropped] == ["too", "summarised,"]


def test_a_strategy_of_ones_own_cannot_change_the_history():
    def forget(messages, fits):
        messages[0]["content"] = "changed"
        return messages[-1:]

    history = [user("a"), assistant("b"), user("c")]
    fitted = fit(history, strategy=forget, model=ScriptedModel(""))
    assert history[0] == user("a") and list(fitted) == [user("c")]
    assert [(each.index, each.reason) for each in fitted.dropped] == [
        (0, "left out by the strategy"),
        (1, "left out by the strategy"),
    ]


def test_minimum_that_does_not_fit_says_how_much_it_is():
    with pytest.raises(ContextLengthError, match=r"can hold 40 tokens here.* alone have \d+, and 9 are reserved"):
        fit(HISTORY, 40, reserve=9, model=ScriptedModel(""))
    with pytest.raises(ContextLengthError, match="The strategy returned messages of"):
        fit(HISTORY, 40, strategy=lambda messages, fits: messages, model=ScriptedModel(""))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"token_limit": 0}, "token_limit must be at least 1, but is 0"),
        ({"token_limit": 9999}, "token_limit must be at most 8192, but is 9999"),
        ({"token_limit": "512"}, "token_limit must be a whole number, not str '512'"),
        ({"reserve": -1}, "reserve must be at least 0"),
        ({"strategy": "newest"}, "strategy must be 'drop-oldest', 'keep-last', 'summarise' or a function"),
        ({"strategy": ["drop-oldest"]}, "strategy must be"),
        ({"strategy": "keep-last"}, "needs the number of turns to keep: keep_last=4"),
        ({"strategy": "keep-last", "keep_last": 0}, "keep_last must be at least 1"),
        ({"keep_last": 2}, "keep_last=2 is for strategy 'keep-last'"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(BadRequestError, match=message):
        fit(HISTORY, **arguments, model=ScriptedModel(""))


def test_developer_messages_stay_like_system_messages():
    fitted = fit([developer("d"), *HISTORY[1:]], 110, model=ScriptedModel(""))
    assert fitted[0] == developer("d") and fitted.dropped


def test_shows_itself_as_text_and_as_a_bar():
    fitted = fit(HISTORY, 110, reserve=7, model=ScriptedModel(""))
    assert repr(fitted).splitlines()[0] == (
        "Fitted: 4 of 6 messages; 92 of 133 tokens, 7 reserved for the reply, 11 free, limit 110"
    )
    page = fitted._repr_html_()
    assert "kept 92" in page and "reserved 7" in page and "free 11" in page and "2 messages dropped" in page
    assert json.loads(json.dumps(fitted)) == list(fitted)
    copy = pickle.loads(pickle.dumps(fitted))
    assert copy == fitted and repr(copy) == repr(fitted)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_views_escape_what_people_and_models_wrote(payload):
    model = ScriptedModel(payload)
    fitted = fit([user(payload), assistant(payload), user(payload)], 200, strategy="summarise", model=model)
    page = fitted._repr_html_().partition("</style>")[2]
    for opening in ("<script", "<img", "<svg", "<iframe", "<b>", "</style", "<!--"):
        assert opening not in page


def test_drawing_says_in_words_what_it_shows(tmp_path):
    fitted = fit(HISTORY, 110, reserve=7, model=ScriptedModel(""))
    plot = budget_bar(fitted)
    figure = plot.figure
    assert plot.alt_text == (
        "Token budget: the prompt had 133 tokens and has 92 now; 7 are reserved for the reply, 11 free; the limit is "
        "110."
    )
    bars = {(bar.get_y() > 0.5, bar.get_width()) for bar in figure.axes[0].patches}
    assert bars == {(False, 92), (False, 7), (False, 11), (True, 133), (True, 7)}
    assert len({bar.get_hatch() for bar in figure.axes[0].patches[:3]}) == 3, "told apart without colour"
    figure.savefig(tmp_path / "budget.png")
    assert (tmp_path / "budget.png").stat().st_size > 5000

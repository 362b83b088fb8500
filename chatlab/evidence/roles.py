"""Evidence on the topic roles: each answer comes from the engine, not from the author.

In: a question or a fact, and a model. Out: the answer that the engine gives to it; for a request or a function that a
learner wrote, the name of the misconception in it, or None if it is right. Knows nothing of the author's key.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import cache
from itertools import permutations
from typing import Any

from chatlab.chat_model import ChatModel
from chatlab.completions import chat_completions
from chatlab.conversation import Conversation
from chatlab.evidence.common import fault_of, the_claim, the_one, what_the_code_prints
from chatlab.linting import lint
from chatlab.messages import assistant, system, user, validate
from chatlab.questions.question import Fact, Question
from chatlab.templating import render
from chatlab.testing import ScriptedModel
from chatlab.tokens import count_tokens

__all__ = [
    "accepted_lists",
    "error_without_a_role",
    "keys_of_a_message",
    "last_question_is_found",
    "mended_list",
    "messages_in_the_fourth_request",
    "order_of_the_messages",
    "role_in_the_reply",
    "role_of_the_reply",
    "the_mend_that_helps",
    "what_another_order_changes",
    "what_the_code_prints",
]


def role_of_the_reply(question: Question, model: ChatModel) -> str:
    """Ask at several temperatures: the reply's role is always the same."""
    roles = {
        chat_completions([user("Hello!")], model, temperature=heat, seed=1, max_completion_tokens=3)
        .choices[0]
        .message.role
        for heat in (0.0, 0.5, 1.5)
    }
    return the_one(question, lambda text: roles == {text})


def accepted_lists(question: Question, model: ChatModel) -> str | list[str]:
    """Give each list to the engine, and see which it accepts."""
    taken = [choice.letter for choice in question.choices if fault_of(ast.literal_eval(choice.text)) is None]
    if question.kind == "single":
        [letter] = taken
        return letter
    return taken


def the_mend_that_helps(question: Question, model: ChatModel) -> str:
    """Mend the list in the way that each choice calls for, and see which mend the engine accepts."""
    broken = {"content": "Hello!"}
    mends: dict[str, list[Any]] = {
        "content should be a list": [{"content": [{"type": "text", "text": "Hello!"}]}],
        "system message is missing": [system("Be brief."), broken],
        "only one message": [broken, broken],
        "no role": [{"role": "user", **broken}],
    }
    error = fault_of([broken])
    assert error is not None and error.param == "messages[0].role"
    helps = [words for words, mended in mends.items() if fault_of(mended) is None]
    return the_one(question, lambda text: any(words in text for words in helps))


def order_of_the_messages(question: Question, model: ChatModel) -> list[str]:
    """Try every order: lint finds nothing to mend, and the reply is one that the model itself gives there."""
    messages = {}
    for choice in question.choices:
        role, _, text = choice.text.partition(": ")
        messages[choice.letter] = {"role": role, "content": text}
    right = []
    for order in permutations(question.letters):
        listed = [messages[letter] for letter in order]
        if lint(listed):
            continue
        before = tuple((each["role"], each["content"]) for each in listed)
        place = [role for role, _ in before].index("assistant")
        if "Paris" in _reply_to(before[:place], model):
            right.append(list(order))
    [only] = right
    return only


@cache
def _reply_to(said: tuple[tuple[str, str], ...], model: ChatModel) -> str:
    messages = [{"role": role, "content": text} for role, text in said]
    reply = chat_completions(messages, model, temperature=0, max_completion_tokens=20)
    return reply.choices[0].message.content or ""


def messages_in_the_fourth_request(question: Question, model: ChatModel) -> int:
    """Have such a chat, and count the headers in the prompt that is read for the fourth reply."""
    scripted = ScriptedModel("One.", "Two.", "Three.", "Four.")
    conversation = Conversation(system="Be brief.", model=scripted)
    for number in range(4):
        conversation(f"Question {number}?")
    headers = scripted.prompts[3].count("<|im_start|>")
    return headers - 1  # the last header is where the reply begins


def what_another_order_changes(question: Question, model: ChatModel) -> str:
    """Render both orders, count, and ask; see as well whether the last instruction always has its way."""
    helper, pirate = (system(text) for text in re.findall(r"\*(.+?)\*", question.text))
    before, after = [helper, pirate, user("What is the ocean?")], [helper, user("What is the ocean?"), pirate]
    replies = [chat_completions(each, model, temperature=0, max_completion_tokens=8) for each in (before, after)]
    texts = [reply.choices[0].message.content for reply in replies]
    tokens = [count_tokens(each, model=model) for each in (before, after)]
    order = [pirate, user("Reply with the word WATER only.")]
    obeyed = chat_completions(order, model, temperature=0, max_completion_tokens=8).choices[0].message.content
    prompts = [str(render(each, model=model)) for each in (before, after)]
    claims = {
        "same prompt": prompts[0] == prompts[1],
        "equal length": tokens[0] == tokens[1] and texts[0] != texts[1],
        "same reply": texts[0] == texts[1],
        "is obeyed": (obeyed or "").strip(" .") == "WATER",
    }
    return the_claim(question, claims)


def mended_list(messages: Any) -> str | None:
    """Let the engine accept the list, then see that the three texts are said by those who said them."""
    error = fault_of(messages)
    if error is not None and error.code == "missing_required_parameter":
        return "role-is-a-key" if "not a key" in str(error) else "role-is-optional"
    if error is not None:
        return "roles-have-free-names"
    said = [
        user("What is the capital of France?"),
        assistant("The capital of France is Paris."),
        user("And of Italy?"),
    ]
    checked = validate(messages)
    if [message["content"] for message in checked] != [message["content"] for message in said]:
        return "history-can-be-reworded"
    return None if checked == said else "reply-copies-role"


def last_question_is_found(function: Callable[[Any], Any]) -> str | None:
    """Call the function on lists that the engine accepts, one for each way to get it wrong."""
    first, second = user("First?"), user("Second?")
    cases = [
        ("last-is-the-users", [system("Be brief."), first, assistant("Yes.")], "First?"),
        ("first-is-the-question", [first, assistant("Yes."), second, assistant("No.")], "Second?"),
        ("there-is-always-a-user", [system("Be brief.")], None),
    ]
    for name, messages, wanted in cases:
        assert fault_of(messages) is None
        try:
            found = function(messages)
        except (IndexError, ValueError, StopIteration):
            return name
        if found != wanted:
            return name
    return None


def keys_of_a_message(fact: Fact, model: ChatModel) -> str:
    """Take the keys out of the error's own advice, one at a time."""
    message = user("Hi")
    assert all(fault_of([{key: text for key, text in message.items() if key != left_out}]) for left_out in message)
    return " and ".join(message)


def role_in_the_reply(fact: Fact, model: ChatModel) -> str:
    """Ask, and look."""
    return chat_completions([user("Hi")], model, max_completion_tokens=1).choices[0].message.role


def error_without_a_role(fact: Fact, model: ChatModel) -> str:
    """Send such a message, and read the first sentence of the error."""
    return str(fault_of([{"content": "Hi"}])).partition(". ")[0]

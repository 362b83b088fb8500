"""No key is in what leaves the kernel: neither in the messages to the page, nor in the notebook that is saved."""

from __future__ import annotations

import json
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from chatlab.questions.evidence import CHECKED_KINDS
from chatlab.questions.question_files import topic_names, topic_of

CODE = """
import chatlab
from IPython.display import display
from chatlab.questions.question_files import topic_names

for name in topic_names():
    quiz = chatlab.quiz(name, record=False)
    display(quiz)
    while not quiz.done:  # every question is shown, and none answered
        quiz._panel.next()
"""


class Listener(NotebookClient):
    """A client that keeps every message as it came."""

    def process_message(self, message: dict[str, Any], *arguments: Any) -> Any:
        self.heard = [*getattr(self, "heard", []), json.dumps(message["content"], ensure_ascii=False, default=str)]
        return super().process_message(message, *arguments)


@pytest.fixture(scope="module")
def sent() -> str:
    """Everything that a real kernel sends while all quizzes are gone through, and the notebook with all widgets."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CODE)])
    client = Listener(notebook, timeout=240, store_widget_state=True)
    client.execute()
    assert notebook.metadata.widgets and any("comm_id" in message for message in client.heard)
    return nbformat.writes(notebook, ensure_ascii=False) + "\n".join(client.heard)


@pytest.mark.parametrize("name", topic_names())
def test_no_answer_leaves_the_kernel(sent: str, name: str) -> None:
    topic = topic_of(name)
    for question in topic.questions:
        start = json.dumps(question.text.split("`")[0].split("\n")[0].split("*")[0][:20], ensure_ascii=False)[1:-1]
        assert start in sent, f"{question.id} was not shown"
        secrets = [question.explanation, *question.hints, *(each.explanation for each in question.choices)]
        secrets += [each.explanation for each in question.wrong]
        if question.kind in CHECKED_KINDS:
            secrets += [question.key, *(each.answer for each in question.wrong)]
        for secret in filter(None, secrets):
            assert json.dumps(secret.strip(), ensure_ascii=False)[1:-1] not in sent, question.id
    shown = {choice.text for question in topic.questions for choice in question.choices}  # a belief may be a choice
    for slug, belief in topic.misconceptions.items():
        assert belief in shown or json.dumps(belief, ensure_ascii=False)[1:-1] not in sent, slug
